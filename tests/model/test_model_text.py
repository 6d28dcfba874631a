"""Prompts and label features against open_clip's own text encoder; building and its refusals; what a state holds."""

import copy
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from model_tools import DIM, VARIANTS, clip, encoder, frames, mask_of, model, params

from tgdfer.config.words import DESCRIPTIONS, Words, load_words, prompts
from tgdfer.core.classes import ELEVEN, SEVEN
from tgdfer.core.errors import UserError
from tgdfer.encoders.text_tower import TextTower
from tgdfer.model import build_model, losses
from tgdfer.model.text import LabelText


def test_the_words_cover_all_classes_in_order():
    words = load_words()
    assert tuple(words.classes) == ELEVEN
    for label, about in words.classes.items():
        assert len(about.descriptions) == len(set(about.descriptions)) >= 3, label


def test_descriptions_say_what_the_face_does_and_never_name_an_emotion():
    words = load_words()
    names = {name for label in ELEVEN for name in (label, words.classes[label].name)}
    for label in ELEVEN:
        for line in words.classes[label].descriptions:
            assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", line)], (label, line)


def test_prompts_of_each_kind():
    said = {"happy": {"name": "joy", "descriptions": ["a", "b"]}, "sad": {"name": "grief", "descriptions": ["c", "d"]}}
    words = Words.model_validate({"template": "a {name} face", "prefix": "with", "classes": said})
    classes = ("sad", "happy")

    def made(**changes):
        return prompts(params(**changes), classes, words)

    assert made(text="class-name", context_tokens=0) == [["grief"], ["joy"]]
    assert made(text="template", context_tokens=0) == [["a grief face"], ["a joy face"]]
    assert made(context_tokens=0, descriptions_per_class=1) == [["with c"], ["with a"]]
    # learnt tokens replace the prefix
    assert made(context_tokens=4, descriptions_per_class=2) == [["c", "d"], ["a", "b"]]
    after = {"context_tokens": 4, "context_place": "after", "descriptions_per_class": 1}
    assert made(**after) == [["with c"], ["with a"]]
    with pytest.raises(UserError, match=r"descriptions_per_class: 3, but descriptions\.yaml has 2 of the class 'sad'"):
        made(descriptions_per_class=3)
    assert made(text="class-name", descriptions_per_class=3) == [["grief"], ["joy"]]


def by_open_clip(net, texts, embed=None, after=False):
    """Normalised mean of open_clip's own features of ``texts``, over all its context.

    The tokens ``embed`` [n, M, width] are put in behind the start of each text or, with ``after``, before its end.
    """
    tokens = clip()[1](texts, context_length=net.context_length)
    if embed is None:
        features = net.encode_text(tokens, normalize=True)
    else:
        places = (tokens.argmax(-1) if after else torch.ones(len(tokens))).int().tolist()
        rows = zip(net.token_embedding(tokens), embed, places, strict=True)
        x = torch.stack([torch.cat([row[:place], new, row[place:]])[: net.context_length] for row, new, place in rows])
        x = x + net.positional_embedding
        x = net.ln_final(net.transformer(x, attn_mask=net.attn_mask))
        end = tokens.argmax(-1) + embed.shape[1]
        features = F.normalize(x[torch.arange(len(x)), end] @ net.text_projection, dim=-1)
    return F.normalize(features.mean(0), dim=-1)


@pytest.mark.parametrize("text", ["class-name", "template", "descriptions"])
def test_label_features_without_learnt_tokens_are_open_clip_s(text):
    chosen = params(text=text, context_tokens=0)
    labels, (net, _), groups = LabelText(chosen, SEVEN, encoder()), clip(), prompts(chosen, SEVEN, load_words())
    with torch.no_grad():
        for c, group in enumerate(groups):
            torch.testing.assert_close(labels()[c], by_open_clip(net, group), rtol=1e-4, atol=1e-5)
    assert not list(labels.parameters())


@pytest.mark.parametrize("context", ["shared", "per-class"])
@pytest.mark.parametrize(("tokens", "place"), [(4, "before"), (16, "before"), (4, "after")])
def test_learnt_tokens_against_open_clip_at_full_length(context, tokens, place):
    chosen = params(context_tokens=tokens, context=context, context_place=place)
    labels, (net, _), groups = LabelText(chosen, SEVEN, encoder()), clip(), prompts(chosen, SEVEN, load_words())
    with torch.no_grad():
        labels.context += 0.02 * torch.randn_like(labels.context)
        assert labels.context.shape == (7 if context == "per-class" else 1, tokens, 32)
        for c, group in enumerate(groups):
            learnt = labels.context[c if context == "per-class" else 0].expand(len(group), -1, -1)
            expected = by_open_clip(net, group, learnt, place == "after")
            torch.testing.assert_close(labels()[c], expected, rtol=1e-4, atol=1e-5)


def test_tokens_after_the_words_have_the_gradient_of_whole_texts():
    tower, classes = encoder().text_tower(), ("happy", "fear")
    chosen = params(context_place="after", descriptions_per_class=1)
    labels = LabelText(chosen, classes, SimpleNamespace(name="tiny", text_tower=lambda: tower))
    weight = torch.randn(2, DIM)
    (labels() * weight).sum().backward()
    context = labels.context.detach().requires_grad_()
    for c, (text,) in enumerate(prompts(chosen, classes, load_words())):
        words = tower.embed(tower.tokenize([text]))
        whole = torch.cat([words[:, :-1], context, words[:, -1:]], dim=1)
        (tower(whole, torch.tensor([whole.shape[1] - 1])) * weight[c]).sum().backward()
    torch.testing.assert_close(labels.context.grad, context.grad, rtol=1e-4, atol=1e-5)


def test_the_tower_s_own_way_has_the_gradient_of_open_clip_s():
    tower = encoder().text_tower()
    assert tower._plain
    other = copy.copy(tower)
    other._plain = False
    start, eot = torch.randn(3, 9, tower.width) / 10, torch.tensor([4, 8, 6])
    weight = torch.randn(3, DIM)
    found = []
    for way in (tower, other):
        embeddings = start.clone().requires_grad_()
        features = way(embeddings, eot)
        (features * weight).sum().backward()
        found.append((features.detach(), embeddings.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    # causal: nothing after the end of a text has a share in it
    assert not found[0][1][0, 5:].any() and found[0][1][0, :5].abs().sum(-1).all()


def without_start(texts, context_length):
    """As mT5's tokenizer: the first token is the first word's."""
    return F.pad(clip()[1](texts, context_length=context_length)[:, 1:], (0, 1))


@pytest.mark.parametrize("start", [1, 0])
def test_as_many_tokens_as_the_prefix_has_start_from_the_fixed_prompt(start):
    def made(tokens):
        tower = TextTower(clip()[0], clip()[1] if start else without_start, "tiny")
        return LabelText(params(context_tokens=tokens), SEVEN, SimpleNamespace(name="tiny", text_tower=lambda: tower))

    count = encoder().text_tower().tokenize([load_words().prefix]).shape[1] - 2
    with torch.no_grad():
        learnt = made(count)
        torch.testing.assert_close(learnt(), made(0)(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(learnt.embeddings()[:, start : start + count], learnt.context.expand(14, -1, -1))


def test_what_is_kept_in_evaluation_follows_every_way_to_change_the_tokens():
    labels = LabelText(params(), SEVEN, encoder())
    with torch.no_grad():
        seen = [labels()]
        assert labels() is seen[0]
        labels.context += 0.1
        seen.append(labels())
        labels.context.data.copy_(labels.context.data * 2)
        seen.append(labels())
        labels.load_state_dict({"context": torch.zeros_like(labels.context)})
        seen.append(labels())
    for one, other in pairwise(seen):
        assert not torch.equal(one, other)
    assert labels().requires_grad


def test_gradients_reach_the_tokens_and_not_the_tower():
    net = model("full")
    tower = net.labels._tower.module
    output = net(frames(2, 4), mask_of([4, 3], 4))
    losses.loss(output, torch.tensor([0, 1]), params(), torch.ones(7))[0].backward()
    assert net.labels.context.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tower.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_holds_what_is_trained_and_restores_the_model(variant):
    net = model(variant)
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}
    other = model(variant, seed=1)
    other.load_state_dict(net.state_dict())
    x, mask = frames(2, 4), mask_of([4, 3], 4)
    with torch.no_grad():
        assert torch.equal(other(x, mask).logits, net(x, mask).logits)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "zero-shot"])
def test_every_parameter_is_used(variant):
    net, chosen = model(variant), params(variant)
    output = net(frames(4, 5), mask_of([5, 3, 4, 5], 5))
    losses.loss(output, torch.tensor([0, 1, 2, 3]), chosen, torch.ones(7))[0].backward()
    assert net.trainable
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    # a bias of all scores alike, or a shift of all frames alike, may have no effect; nothing else
    silent = {name for name, p in net.named_parameters() if p.grad.eq(0).all()}
    assert silent <= {"temporal.offset_bias"} if variant == "window-1" else not silent


def test_zero_shot_has_nothing_to_train():
    net = model("zero-shot")
    assert not net.trainable and not list(net.parameters())
    with pytest.raises(UserError, match=r"model\.text: the architecture 'zero-shot'"):
        build_model(params("zero-shot", text="none"), SEVEN, DIM, None)


def test_a_copy_shares_the_frozen_tower():
    net = model("full")
    with torch.no_grad():
        before = net(frames(1, 3), mask_of([3], 3)).logits
        twin = copy.deepcopy(net)
        assert twin.labels._tower.module is net.labels._tower.module
        twin.labels.context += 1
        assert torch.equal(net(frames(1, 3), mask_of([3], 3)).logits, before)
        assert not torch.equal(twin(frames(1, 3), mask_of([3], 3)).logits, before)


def test_same_seed_same_start():
    one, same, other = (model("full", seed=seed, shake=False).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, r"model\.heads: 3 heads do not divide 8 channels"),
        ({"heads": 1}, r"model\.heads: temporal 'both' gives half .* expected an even number, got 1"),
        ({"architecture": "bilstm-dmin", "heads": 5}, r"model\.heads: 5 heads do not divide 16 channels"),
        ({"context_tokens": 32, "context_place": "after"}, r"model\.context_tokens: 32 learnt tokens"),
        ({"context_tokens": 32}, r"model\.context_tokens: 32 learnt tokens .* exceed the 40 that encoder 'tiny' reads"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        build_model(params(**changes), SEVEN, DIM, encoder())


def test_text_needs_the_encoder_of_the_features():
    assert params().uses_text and params("transformer-cls").uses_text
    assert not any(params(name).uses_text for name in ("no-text", "linear-probe", "transformer-cls-no-text"))
    with pytest.raises(UserError, match=r"needs the encoder's text tower"):
        build_model(params(), SEVEN, DIM, None)
    with pytest.raises(UserError, match=r"encoder 'tiny': makes 16 dimensions, the features have 12"):
        build_model(params(), SEVEN, 12, encoder())
    for variant in ("no-text", "linear-probe", "bilstm-dmin", "attention-mil", "transformer-cls-no-text"):
        build_model(params(variant), SEVEN, DIM, None)
    with pytest.raises(UserError, match="no words for the class 'bored'"):
        build_model(params(), ("happy", "bored"), DIM, encoder())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("template:", "templates:"), "templates: unknown key"),
        (("{name}", "{word}"), r"template: String should match .*\{name"),
        (("name: sadness", "title: sadness"), r"classes\.sad\.title: unknown key"),
        (("name: sadness", "name: 3"), r"classes\.sad\.name: Input should be a valid string, got 3"),
        (("name: sadness", "name: ' '"), r"classes\.sad\.name: String should match"),
        (
            ("- lip corners pulled down, chin pushed up #", "- 7 #"),
            r"sad\.descriptions\.\d: Input should be",
        ),
        (("classes:", "classes: ["), "not valid YAML"),
    ],
)
def test_broken_words_are_named(tmp_path, change, message):
    path = tmp_path / "descriptions.yaml"
    text = DESCRIPTIONS.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_words(path)
