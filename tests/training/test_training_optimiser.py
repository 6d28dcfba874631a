"""The optimiser against torch's own, the schedule, and the moving average."""

import copy
import itertools
import math

import model_tools
import pytest
import torch
from torch import nn

from tgdfer.config.training import TrainingParams
from tgdfer.training.optimiser import AdamW, Average, parameter_groups, rate


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 3))


def groups(model: nn.Module) -> list[dict]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [
        {"params": matrices, "lr": 0.01, "weight_decay": 0.1},
        {"params": vectors, "lr": 0.003, "weight_decay": 0.0},
    ]


def backward(model: nn.Module, step: int) -> None:
    model.zero_grad(set_to_none=True)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
    model(x).square().sum().backward()


def test_the_same_bits_as_torch():
    mine, theirs = network(), network()
    one = AdamW(groups(mine))
    other = torch.optim.AdamW(groups(theirs), fused=True)
    peaks = [group["lr"] for group in other.param_groups]
    for step in range(12):
        share = rate(step, 12, 3)
        backward(mine, step)
        backward(theirs, step)
        for group, peak in zip(other.param_groups, peaks, strict=True):
            group["lr"] = share * peak
        if step == 5:  # a parameter without a gradient does not change
            mine[0].bias.grad = theirs[0].bias.grad = None
        one.step(share)
        other.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_trained_parameter_is_in_one_group():
    net = model_tools.model("template")
    net.coarse[2].weight.requires_grad_(False)
    params = TrainingParams(learning_rate=3e-3, prompt_learning_rate=1e-4, weight_decay=0.05)
    weights, rest, prompt = parameter_groups(net, params)
    assert [(g["lr"], g["weight_decay"]) for g in (weights, rest, prompt)] == [(3e-3, 0.05), (3e-3, 0), (1e-4, 0)]
    assert prompt["params"] == [net.labels.context]
    assert {p.ndim for p in weights["params"]} == {2} and {p.ndim for p in rest["params"]} == {0, 1}
    ids = [id(p) for group in (weights, rest, prompt) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in net.parameters() if p is not net.coarse[2].weight)


def test_state_goes_on_exactly():
    model = network()
    optimiser = AdamW(groups(model))
    for step in range(3):
        backward(model, step)
        optimiser.step(1.0)
    twin, state = copy.deepcopy(model), copy.deepcopy(optimiser.state_dict())
    again = AdamW(groups(twin))
    again.load_state_dict(state)
    for one, chosen in ((model, optimiser), (twin, again)):
        backward(one, 9)
        chosen.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_warm_up_then_cosine():
    shares = [rate(step, 100, 10) for step in range(100)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10] == 1
    assert shares[55] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b > 0 for a, b in itertools.pairwise(shares[10:]))


@pytest.mark.parametrize(("total", "warmup"), [(1, 3), (2, 30), (7, 0), (4, 100)])
def test_short_trainings_have_a_rate(total, warmup):
    shares = [rate(step, total, warmup) for step in range(total)]
    assert all(0 < share <= 1 for share in shares)
    assert max(shares) == 1


def test_average_by_hand_and_swap():
    weight = nn.Parameter(torch.tensor([0.0]))
    frozen = nn.Parameter(torch.tensor([5.0]), requires_grad=False)
    average = Average([weight, frozen], 0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]):
        weight.data.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    average.swap()
    assert weight.item() == pytest.approx(expected)
    average.swap()
    assert weight.item() == 10
    assert frozen.item() == 5
