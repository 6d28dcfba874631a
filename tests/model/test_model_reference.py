"""The model's layers against slow re-implementations of their formulas in float64, hand-computed values, gradients."""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tools import DIM, encoder, frames, mask_of, model, params

from tgdfer.core.classes import SEVEN
from tgdfer.model import build_model, relevance
from tgdfer.model.alignment import Alignment
from tgdfer.model.bilstm_dmin import DMIN
from tgdfer.model.layers import masked_softmax
from tgdfer.model.mil import aggregate
from tgdfer.model.output import ModelOutput
from tgdfer.model.temporal import TemporalNetwork
from tgdfer.model.visual_prompt import VisualPrompt

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def test_every_equation_of_the_page_is_named_in_the_code():
    root = Path(__file__).parents[2]
    tags = [int(number) for number in re.findall(r"\\tag\{(\d+)\}", (root / "docs/model.md").read_text())]
    assert tags == list(range(1, len(tags) + 1))
    code = "".join(
        path.read_text() for path in [root / "tgdfer/features/bags.py", *(root / "tgdfer/model").glob("*.py")]
    )
    named = set()
    for first, glue, last in re.findall(r"eqs?\. \((\d+)\)(?:(-|, )\((\d+)\))?", code):
        named |= {int(first), *(range(int(first), int(last) + 1) if glue == "-" else [int(last or first)])}
    assert named == set(tags)


def shake(module, seed=0):
    torch.manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return module


def norm_of(x, layer):
    mean, var = x.mean(), x.var(unbiased=False)
    return (x - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias


def softmax(scores):
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    return [weight / sum(weights) for weight in weights]


def slow_temporal(net, x, count, place):
    """H of one clip, frame by frame and head by head, from eqs. (2)-(5)."""
    d, (hq, _, hv) = net.head_dim, net.heads
    weight, bias = net.project.weight, net.project.bias
    valid = x[:count]
    u = [norm_of(frame, net.norm) for frame in valid]
    projected = [weight @ frame + bias for frame in u]
    spacing = (place[count - 1] - place[0]) / max(count - 1, 1) or 1.0
    result = []
    for t in range(count):
        heads = []
        for head in range(hv):
            windowed, distant = head < net.short, head >= hq
            seen = [j for j in range(count) if not windowed or abs(j - t) <= net.reach]
            scores = []
            for j in seen:
                if distant:
                    decay = math.exp(net.log_decay[head - hq].item())
                    scores.append(-abs(place[t] - place[j]) / spacing / decay)
                    continue
                query = projected[t][head * d : (head + 1) * d]
                key = projected[j][(hq + head) * d : (hq + head + 1) * d]
                score = (query @ key).item() / math.sqrt(d)
                if windowed:
                    score += net.offset_bias[head, j - t + net.reach].item()
                scores.append(score)
            mixed = torch.zeros(d, dtype=torch.float64)
            for a, j in zip(softmax(scores), seen, strict=True):
                mixed += a * projected[j][(2 * hq + head) * d : (2 * hq + head + 1) * d]
            if net.gate is not None:
                g = torch.sigmoid(net.gate.weight[0] @ u[t] + net.gate.bias[0])
                mixed = mixed * (g if windowed else 1 - g)
            heads.append(mixed)
        result.append(valid[t] + (net.out.weight @ torch.cat(heads) + net.out.bias) / math.sqrt(net.dim))
    return torch.stack(result)


@pytest.mark.parametrize("kind", ["short", "long", "both"])
@given(st.integers(1, 7), st.sampled_from([1, 3, 5]), st.integers(0, 100), st.booleans())
@settings(max_examples=15)
def test_temporal_network_against_the_slow_formula(kind, length, window, seed, timed):
    net = shake(TemporalNetwork(DIM, 8, 4, window, kind, 0.0), seed)
    counts = [length, max(1, length - 2)]
    x, mask = frames(2, length, seed), mask_of(counts, length)
    place = torch.rand(2, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).cumsum(1)
    with torch.no_grad():
        result = net(x, mask, place if timed else None)
        for b, count in enumerate(counts):
            times = place[b].tolist() if timed else list(range(length))
            torch.testing.assert_close(result[b, :count], slow_temporal(net, x[b], count, times), **EXACT)


@pytest.mark.parametrize(
    ("kind", "heads", "parts"),
    [
        ("short", (4, 4, 4), {"offset_bias"}),
        ("long", (2, 2, 4), {"log_decay"}),
        ("both", (6, 6, 8), {"offset_bias", "log_decay", "gate.weight", "gate.bias"}),
    ],
)
def test_a_temporal_network_has_the_heads_and_parameters_of_its_branches(kind, heads, parts):
    net = TemporalNetwork(DIM, 8, 4, 3, kind, 0.0)
    shared = {f"{layer}.{what}" for layer in ("norm", "project", "out") for what in ("weight", "bias")}
    assert net.heads == heads
    assert {name for name, _ in net.named_parameters()} == parts | shared


@pytest.mark.parametrize(
    ("kind", "window", "seen"),
    [("short", 1, [4]), ("short", 3, [3, 4, 5]), ("short", 5, [2, 3, 4, 5, 6]), ("long", 3, list(range(9)))],
)
def test_a_window_of_n_frames_is_seen_by_n_frames(kind, window, seen):
    net = shake(TemporalNetwork(DIM, 8, 2, window, kind, 0.0))
    x, mask = frames(1, 9), mask_of([9], 9)
    y = x.clone()
    y[0, 4] = frames(1, 1, 5)[0, 0]
    with torch.no_grad():
        changed = (net(x, mask) - net(y, mask)).abs().sum(-1)[0] > 1e-9
    assert changed.nonzero().flatten().tolist() == seen


def test_visual_prompt_by_hand():
    for kind in ("pooled", "per-class"):
        net = shake(VisualPrompt(DIM, kind, 0.5, 0.0))
        h, mask = frames(2, 4), mask_of([4, 2], 4)
        text = frames(1, 3, 1)[0]
        a = masked_softmax(torch.randn(2, 4).double(), mask)
        with torch.no_grad():
            result = net(h, mask, text, a)
            for b, count in enumerate([4, 2]):
                for c in range(3):
                    cosine = [(h[b, t] @ text[c]).item() / 0.5 for t in range(count)]
                    weights = softmax(cosine) if kind == "per-class" else a[b, :count].tolist()
                    pooled = sum(w * h[b, t] for t, w in enumerate(weights))
                    u = norm_of((text[c] + pooled / pooled.norm()) * math.sqrt(DIM), net.norm)
                    ffn = net.outer.weight @ F.gelu(net.inner.weight @ u + net.inner.bias) + net.outer.bias
                    torch.testing.assert_close(result[b, c], text[c] + ffn / math.sqrt(DIM), **EXACT)


SCORES = torch.tensor([[[1.0, 4.0], [3.0, 0.0], [2.0, -1.0], [9.0, 9.0]]]).double()
MASK = torch.tensor([[True, True, True, False]])


def test_aggregations_by_hand():
    a = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).double()
    expected = {
        ("mean", 1): [2.0, 1.0],
        ("max", 1): [3.0, 4.0],
        ("top-k", 1): [3.0, 4.0],
        ("top-k", 2): [2.5, 2.0],
        ("top-k", 3): [2.0, 1.0],
        ("top-k", 8): [2.0, 1.0],  # fewer valid frames than k
        ("attention", 1): [0.5 + 0.75 + 0.5, 2.0 - 0.25],
        ("log-sum-exp", 1): [
            math.log((math.e + math.e**3 + math.e**2) / 3),
            math.log((math.e**4 + 1 + math.e**-1) / 3),
        ],
    }
    for (how, k), value in expected.items():
        result = aggregate(SCORES, MASK, how, k=k, attention=a)
        torch.testing.assert_close(result, torch.tensor([value], dtype=torch.float64), **EXACT)


def test_log_sum_exp_is_between_mean_and_maximum():
    soft = aggregate(SCORES, MASK, "log-sum-exp", sharpness=1e-4)
    hard = aggregate(SCORES, MASK, "log-sum-exp", sharpness=1e3)
    torch.testing.assert_close(soft, aggregate(SCORES, MASK, "mean"), atol=1e-3, rtol=0)
    torch.testing.assert_close(hard, aggregate(SCORES, MASK, "max"), atol=2e-3, rtol=0)


def test_unknown_aggregation():
    with pytest.raises(ValueError, match="unknown aggregation 'median'"):
        aggregate(SCORES, MASK, "median")
    with pytest.raises(ValueError, match="needs the instance confidence"):
        aggregate(SCORES, MASK, "attention")


def test_dmin_by_hand():
    # instances (1, 3) and (5, 7): means 2 and 6, variances 1 and 1; the bag: mean 4, variance 5; the third is padding
    x = torch.tensor([[[1.0, 3.0], [5.0, 7.0], [100.0, -100.0]]]).double()
    mask = torch.tensor([[True, True, False]])
    net = DMIN(2, eps=0.0).double()
    half = torch.tensor([[-2.0, 0.0], [0.0, 2.0]]).double() / math.sqrt(3)  # means 3 and 5, variances 3
    with torch.no_grad():
        torch.testing.assert_close(net(x, mask)[0, :2], half, **EXACT)
        net.mean_mix.copy_(torch.tensor([50.0, -50.0]))
        net.var_mix.copy_(torch.tensor([-50.0, 50.0]))
        only = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]).double() / math.sqrt(5)
        torch.testing.assert_close(net(x, mask)[0, :2], only, **EXACT)
        net.weight.copy_(torch.tensor([2.0, 3.0]))
        net.bias.copy_(torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(net(x, mask)[0, :2], only * torch.tensor([2.0, 3.0]) + torch.tensor([0.0, 1.0]))


def test_cls_transformer_against_the_formula():
    net, x, counts = model("transformer-cls"), frames(2, 5), [5, 3]
    heads, d = net.heads, DIM // net.heads
    with torch.no_grad():
        result = net(x, mask_of(counts, 5))
        text = net.labels()
        for b, count in enumerate(counts):
            tokens = [net.cls * math.sqrt(DIM)]
            for t in range(count):
                position = torch.tensor(
                    [(math.sin if i % 2 == 0 else math.cos)(t * 10000 ** (-(i // 2) / (DIM // 2))) for i in range(DIM)]
                )
                tokens.append(x[b, t] * math.sqrt(DIM) + net.position_scale * position)
            u = [norm_of(token, net.norm_attention) for token in tokens]
            q, k, v = (
                [net.project.weight[i * DIM : (i + 1) * DIM] @ w + net.project.bias[i * DIM : (i + 1) * DIM] for w in u]
                for i in range(3)
            )
            for t in range(count + 1):
                joined = []
                for head in range(heads):
                    part = slice(head * d, (head + 1) * d)
                    a = softmax([(q[t][part] @ key[part]).item() / math.sqrt(d) for key in k])
                    joined.append(sum(w * value[part] for w, value in zip(a, v, strict=True)))
                state = tokens[t] + net.out.weight @ torch.cat(joined) + net.out.bias
                inner = F.gelu(net.inner.weight @ norm_of(state, net.norm_ffn) + net.inner.bias)
                state = norm_of(state + net.outer.weight @ inner + net.outer.bias, net.norm)
                scores = min(100.0, net.align.log_scale.exp().item()) * (text @ state) / state.norm()
                mine = result.logits[b] if t == 0 else result.alignment[b, t - 1]
                torch.testing.assert_close(mine, scores, rtol=1e-6, atol=1e-6)


def test_the_cls_transformer_s_positions_start_small_beside_the_frames():
    assert model("transformer-cls", shake=False).position_scale.item() == pytest.approx(0.1)


@pytest.mark.parametrize("start", [18.0, 100.0, 150.0])
def test_the_scale_is_at_most_100_and_can_always_be_learnt(start):
    align, h, text = Alignment(start).double(), frames(2, 3), frames(1, 4, 1)[0]
    scores = align(h, text)
    torch.testing.assert_close(scores, min(start, 100.0) * h @ text.T, rtol=1e-6, atol=1e-6)
    # d scores / d log s = scores: OpenAI's models come with s = 100
    (scores[0, 0, 0]).backward()
    torch.testing.assert_close(align.log_scale.grad, scores[0, 0, 0].detach(), rtol=1e-6, atol=1e-6)


def test_bilstm_reads_backwards_from_the_last_valid_frame():
    net, x = model("bilstm-dmin"), frames(2, 6)
    both = torch.nn.LSTM(DIM, DIM // 2, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for name, parameter in net.forwards.named_parameters():
            getattr(both, name).copy_(parameter)
            getattr(both, f"{name}_reverse").copy_(getattr(net.backwards, name))
        seen = []
        net.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        net(x, mask_of([6, 4], 6))
        for b, count in enumerate([6, 4]):
            torch.testing.assert_close(seen[0][b, :count], both(x[b : b + 1, :count] * math.sqrt(DIM))[0][0], **EXACT)


def test_attention_mil_against_the_formula():
    net, x = model("attention-mil"), frames(1, 4)
    with torch.no_grad():
        result = net(x, mask_of([4], 4))
        norm, linear = net.embed[0], net.embed[1]
        h = [F.gelu(linear.weight @ norm_of(frame, norm) + linear.bias) for frame in x[0]]
        value, gate = net.pool.both.weight.chunk(2), net.pool.both.bias.chunk(2)
        scores = [
            (
                net.pool.score.weight[0]
                @ (torch.tanh(value[0] @ frame + gate[0]) * torch.sigmoid(value[1] @ frame + gate[1]))
            ).item()
            for frame in h
        ]
        a = softmax(scores)
        pooled = sum(w * frame for w, frame in zip(a, h, strict=True))
        torch.testing.assert_close(result.logits[0], net.classifier(pooled), **EXACT)
        torch.testing.assert_close(relevance(result)[0], torch.tensor(a, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("prompt", ["none", "pooled", "per-class"])
@pytest.mark.parametrize("temporal", ["none", "short", "long", "both"])
def test_training_starts_from_zero_shot_clip(temporal, prompt):
    changes = {"context_tokens": 0, "temporal": temporal, "visual_prompt": prompt, "aggregation": "mean"}
    x, mask = frames(3, 5).float(), mask_of([5, 2, 4], 5)
    full = build_model(params(**changes), SEVEN, DIM, encoder()).eval()
    zero = build_model(params(architecture="zero-shot"), SEVEN, DIM, encoder()).eval()
    with torch.no_grad():
        one, other = full(x, mask), zero(x, mask)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.alignment, other.alignment, rtol=1e-5, atol=1e-5)
    assert other.logits.abs().max() > 0.1


def test_relevance_is_the_share_in_all_classes_times_the_information():
    net, x = model("no-prompt"), frames(1, 4)
    with torch.no_grad():
        result = net(x, mask_of([3], 4))
    probabilities, scores = softmax(result.logits[0].tolist()), result.alignment[0, :3]
    share = [sum(p * scores[:, c].softmax(0)[t].item() for c, p in enumerate(probabilities)) for t in range(3)]
    each = [softmax(row.tolist()) for row in scores]
    average = [sum(column) / 3 for column in zip(*each, strict=True)]
    divergence = [sum(p * math.log(p / q) for p, q in zip(row, average, strict=True)) for row in each]
    expected = torch.tensor([s * (d + 1e-4) for s, d in zip(share, divergence, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(relevance(result)[0, :3], expected / expected.sum(), rtol=1e-6, atol=1e-9)


def scored(alignment, logits):
    alignment = torch.tensor([alignment])
    return ModelOutput(
        torch.tensor([logits]), None, alignment, None, None, mask_of([len(alignment[0])], len(alignment[0]))
    )


def test_a_wrong_answer_does_not_hide_the_frame_that_differs():
    # six frames of class 0 and one of class 1, in a clip that is narrowly taken for class 0
    found = relevance(scored([[5.0, 0.0]] * 6 + [[0.0, 4.8]], [5.0, 4.8]))[0]
    assert found.argmax() == 6


def test_relevance_of_equal_and_of_single_frames():
    torch.testing.assert_close(relevance(scored([[90.0, -90.0]] * 4, [90.0, -90.0])), torch.full((1, 4), 0.25))
    torch.testing.assert_close(relevance(scored([[90.0, -90.0]], [90.0, -90.0])), torch.ones(1, 1))


@pytest.mark.parametrize("variant", ["full", "prompt-per-class", "attention", "log-sum-exp", "bilstm-dmin"])
def test_gradients_of_the_models(variant):
    net, mask = model(variant), mask_of([3, 2], 3)
    x = frames(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x, mask).logits, (x,), fast_mode=True)


def test_gradients_of_parts():
    mask = mask_of([4, 2], 4)
    x = frames(2, 4).requires_grad_()
    for kind in ("short", "long", "both"):
        net = shake(TemporalNetwork(DIM, 8, 2, 3, kind, 0.0))
        tuned = [p for p in net.parameters() if p.numel() < 200]
        assert torch.autograd.gradcheck(
            lambda x, *_, net=net: net(x, mask) * mask[..., None], (x, *tuned), fast_mode=True
        )
    dmin = shake(DMIN(DIM))
    assert torch.autograd.gradcheck(
        lambda x, *_: dmin(x, mask) * mask[..., None], (x, *dmin.parameters()), fast_mode=True
    )
    scores = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    for how in ("top-k", "log-sum-exp", "max", "mean"):
        assert torch.autograd.gradcheck(lambda s, how=how: aggregate(s, mask, how, k=2), (scores,))
