"""The encoder's adapted last blocks: equal to the whole encoder, in features and in gradients."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from features_project import CONFIG, PREPROCESS

from tgdfer.config.training import ModelParams, TrainingParams
from tgdfer.core.errors import UserError
from tgdfer.encoders import Encoder
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.model import build_model
from tgdfer.model.adaptation import Adaptation
from tgdfer.training.optimiser import parameter_groups
from tgdfer.training.weights import load_own_state, own_state

VIT = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "layers": 4}}
TOWERS = {
    "vit": (VIT["vision_cfg"], 2),
    "vit pooled by its mean": ({**VIT["vision_cfg"], "pool_type": "avg", "final_ln_after_pool": True}, 2),
    "vit with attentional pooling": ({**VIT["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 4}, 2),
    "resnet": ({"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": 64}, 3),
}
ADAPTED = [("blocks", 1), ("blocks", 2), ("lora", 1)]


def encoder(vision: dict, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**{**CONFIG, "vision_cfg": vision})
    with torch.no_grad():
        for name, value in model.visual.named_parameters():
            if name.endswith("bn3.weight"):  # zero at the start, which would leave a ResNet's blocks without gradients
                value.fill_(0.5)
    preprocess = Preprocess.from_config({**PREPROCESS, "size": [vision["image_size"]] * 2})
    tokenizer = open_clip.SimpleTokenizer(context_length=24)
    return Encoder("tiny", model, tokenizer, preprocess, 32, "f", torch.device("cpu"))


def pictures(one: Encoder, count: int = 8, frames: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count * frames, 3, *one.preprocess.size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", TOWERS)
def test_tokens_and_last_blocks_are_the_whole_tower(name: str) -> None:
    one, block = encoder(TOWERS[name][0]), TOWERS[name][1]
    images = pictures(one)
    whole = one.vision_tower()(images)
    both = one.token_tower(block, features=True)(images)
    torch.testing.assert_close(both[:, :32], whole, rtol=0, atol=0)
    for how, blocks in (("blocks", 1), ("lora", 1)):
        adapted = Adaptation(ModelParams(adapt=how, adapt_blocks=blocks), one, block)
        assert adapted.dim == both.shape[1] - 32 == one.token_tower(block)(images).shape[1]
        torch.testing.assert_close(adapted(both[None, :, 32:])[0], whole, rtol=0, atol=1e-6)
        # from the cache, whose numbers are float16
        torch.testing.assert_close(adapted(both[None, :, 32:].half().float())[0], whole, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "tokens"), [("vit", 1), ("vit pooled by its mean", 17), ("vit with attentional pooling", 17)]
)
def test_the_last_block_computes_only_the_token_that_is_used(name: str, tokens: int) -> None:
    one, seen = encoder(TOWERS[name][0]), []
    last = one.cut(2)[1]
    last.blocks[-1].mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    x = torch.randn(3, *one.token_shape(2))
    torch.testing.assert_close(last(x), last(x, whole=True), rtol=0, atol=1e-6)
    assert seen == [tokens, 17]


@pytest.mark.parametrize(("how", "blocks"), ADAPTED)
@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_the_whole_encoder(name: str, how: str, blocks: int, recompute: bool) -> None:
    one, block = encoder(TOWERS[name][0]), TOWERS[name][1]
    if len(one.cut(block)[1].blocks) < blocks:
        pytest.skip("the tower has one block there")
    images = pictures(one)
    params = ModelParams(architecture="linear-probe", dropout=0.0, adapt=how, adapt_blocks=blocks, adapt_rank=3)
    torch.manual_seed(2)
    model = build_model(params, ["a", "b"], 32, one, block)
    assert model.adaptation is not None
    model.adaptation.recompute = recompute
    if how == "lora":
        for key, value in model.adaptation.learnt.items():
            if key.endswith("B"):
                torch.nn.init.normal_(value, std=0.1)
    y, mask = torch.arange(8) % 2, torch.ones(8, 3, dtype=torch.bool)
    x = one.token_tower(block)(images).unflatten(0, (8, 3))
    F.cross_entropy(model(x, mask).logits, y).backward()

    # end to end: all blocks of one tower, with the adapted weights instead of its weights
    last = one.cut(block)[1]
    visual = one._model.visual.requires_grad_(True)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.adaptation.weights().items()}
    own = {id(value): leaves[name] for name, value in last.named_parameters() if name in leaves}
    weights = {name: own[id(value)] for name, value in visual.named_parameters() if id(value) in own}
    tower = one.vision_tower()
    features = F.normalize(torch.func.functional_call(visual, weights, (tower.normalised(images),)), dim=-1)
    adaptation, model.adaptation = model.adaptation, None
    F.cross_entropy(model(features.unflatten(0, (8, 3)), mask).logits, y).backward()
    compared = 0
    for key, value in adaptation.learnt.items():
        name = key.replace("/", ".")
        assert value.grad is not None
        if how == "lora":
            base, kind = name[:-2], name[-1]
            whole = leaves[base].grad.flatten(1)
            other = adaptation.learnt[key[:-1] + ("B" if kind == "A" else "A")]
            expected = other.T @ whole if kind == "A" else whole @ other.T
        else:
            expected = leaves[name].grad
        torch.testing.assert_close(value.grad, expected.view_as(value), rtol=1e-5, atol=1e-5)
        compared += int(bool(expected.abs().max() > 1e-4))
    assert compared > 3, "gradients that are all zero show nothing"


def test_only_what_is_learnt_is_stored_and_it_has_its_own_learning_rate() -> None:
    one = encoder(TOWERS["vit"][0])
    params = ModelParams(text="none", heads=2, adapt="lora", adapt_rank=2)
    model = build_model(params, ["a", "b"], 32, one, 2)
    state = own_state(model)
    inside = {name for name in state if name.startswith("adaptation.")}
    assert inside and all(name.endswith(("/A", "/B")) for name in inside)
    frozen = build_model(params.model_copy(update={"adapt": "none"}), ["a", "b"], 32, one)
    assert state.keys() - inside == own_state(frozen).keys()
    groups = parameter_groups(model, TrainingParams(encoder_learning_rate=0.5))
    assert [group["lr"] for group in groups] == [1e-3, 1e-3, 0.5]
    assert {id(value) for value in groups[-1]["params"]} == {id(value) for value in model.adaptation.parameters()}
    again = build_model(params, ["a", "b"], 32, encoder(TOWERS["vit"][0]), 2)
    load_own_state(again, {name: value + 0.1 for name, value in state.items()})
    assert not torch.equal(own_state(again)[min(inside)], state[min(inside)])


def test_the_rest_starts_as_that_of_the_frozen_variant() -> None:
    one = encoder(TOWERS["vit"][0])
    states = []
    for how in ("none", "blocks", "lora"):
        torch.manual_seed(5)
        states.append(own_state(build_model(ModelParams(text="none", heads=2, adapt=how), ["a", "b"], 32, one, 2)))
    for state in states[1:]:
        for name, value in states[0].items():
            assert torch.equal(state[name], value)


def test_what_cannot_be_cut_is_refused() -> None:
    one = encoder(TOWERS["vit"][0])
    for block in (4, 5):
        with pytest.raises(UserError, match=rf"features.keep: {block}, but .* has 4 blocks; expected 1 to 3"):
            one.cut(block)
    with pytest.raises(UserError, match=r"model.adapt_blocks: 3, but only 2 follow .*features.keep: 2"):
        Adaptation(ModelParams(adapt="lora", adapt_blocks=3), one, 2)
    one._model.visual = torch.nn.Identity()
    with pytest.raises(UserError, match=r"encoder 'tiny' is a Identity, which cannot be cut .* such as ViT-B-32"):
        one.cut(1)
    with pytest.raises(UserError, match=r"model\.adapt: needs the tokens of frames"):
        build_model(ModelParams(adapt="lora", text="none"), ["a", "b"], 32, one)
