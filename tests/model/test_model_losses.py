"""Losses and remedies against imbalance: values by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_tools import frames, mask_of, model, params

from tgdfer.model import losses
from tgdfer.model.losses import apart, class_weights, cross_entropy, log_prior
from tgdfer.model.output import ModelOutput

LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
TARGET = torch.tensor([0, 2])
COUNTS = torch.tensor([6, 3, 1])
LOG_SUM = [math.log(math.e**2 + 1 + math.e), math.log(2 + math.e)]


def plain(**changes):
    return params(label_smoothing=0.0, **changes)


def close(value, expected):
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy():
    close(cross_entropy(LOGITS, TARGET, plain(), COUNTS), ((LOG_SUM[0] - 2) + LOG_SUM[1]) / 2)


def test_label_smoothing():
    # of 0.3, each of three classes gets 0.1
    first = LOG_SUM[0] - (0.8 * 2 + 0.1 * 0 + 0.1 * 1)
    second = LOG_SUM[1] - (0.1 * 0 + 0.1 * 1 + 0.8 * 0)
    close(cross_entropy(LOGITS, TARGET, params(label_smoothing=0.3), COUNTS), (first + second) / 2)


def test_class_balanced_weights():
    # (1 - b) / (1 - b^n) with b = 1/2: 1, 4/7, 0 for no clips; their mean over the four clips is made 1
    weights = class_weights(torch.tensor([1, 3, 0]), beta=0.5)
    scale = 4 / (1 + 3 * 4 / 7)
    torch.testing.assert_close(weights, torch.tensor([scale, scale * 4 / 7, 0.0]))
    w = class_weights(COUNTS)
    expected = (w[0].item() * (LOG_SUM[0] - 2) + w[2].item() * LOG_SUM[1]) / 2
    close(cross_entropy(LOGITS, TARGET, plain(imbalance="class-balanced"), COUNTS), expected)


@pytest.mark.parametrize("imbalance", ["none", "class-balanced", "logit-adjustment"])
def test_shares_of_classes_weigh_the_losses_of_the_classes(imbalance):
    settings = params(label_smoothing=0.2, imbalance=imbalance)
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.25, 0.75]], dtype=torch.float64)
    expected = 0.0
    for clip in range(2):
        for name in range(3):
            one = cross_entropy(LOGITS[clip : clip + 1], torch.tensor([name]), settings, COUNTS)
            expected += shares[clip, name].item() * one.item() / 2
    close(cross_entropy(LOGITS, shares, settings, COUNTS), expected)


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=11).filter(any))
def test_class_balanced_weights_favour_the_rare_and_keep_the_scale(counts):
    counts = torch.tensor(counts)
    weights = class_weights(counts)
    assert weights.isfinite().all() and weights[counts == 0].eq(0).all() and weights[counts > 0].gt(0).all()
    assert ((weights * counts).sum() / counts.sum()).item() == pytest.approx(1, rel=1e-4)
    present = counts > 0
    order = counts[present].argsort()
    assert (weights[present][order].diff() <= 1e-6).all()


def test_logit_adjustment():
    torch.testing.assert_close(log_prior(COUNTS), torch.tensor([0.6, 0.3, 0.1]).log())
    assert log_prior(torch.tensor([9, 0])).tolist() == pytest.approx([math.log(0.9), math.log(0.1)])
    shifted = LOGITS + torch.tensor([0.6, 0.3, 0.1]).log()
    expected = torch.nn.functional.cross_entropy(shifted, TARGET)
    close(cross_entropy(LOGITS, TARGET, plain(imbalance="logit-adjustment"), COUNTS), expected.item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_makes_no_class_more_likely_under_logit_adjustment(smoothing):
    # clips without information have labels as often as the classes occur: no logit should be above another
    logits = torch.zeros(10, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0] * 6 + [1] * 3 + [2])
    cross_entropy(logits, target, params(imbalance="logit-adjustment", label_smoothing=smoothing), COUNTS).backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-7)


def test_apart():
    close(apart(torch.eye(3)), 0.0)
    close(apart(torch.ones(3, 4)), 1.0)
    close(apart(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])), 0.0)  # opposite is as good as at right angles
    close(apart(torch.tensor([[1.0, 0.0], [3.0, 3.0]])), math.sqrt(0.5))
    close(apart(torch.stack([torch.eye(3), torch.ones(3, 3)])), 0.5)


def test_the_whole_is_the_weighted_sum_of_its_parts():
    text = torch.tensor([[1.0, 0.0], [3.0, 3.0]], dtype=torch.float64, requires_grad=True)
    mask = mask_of([1, 1], 1)
    output = ModelOutput(LOGITS, LOGITS.flip(1), torch.zeros(2, 1, 3), None, text, mask)
    chosen = plain(coarse_weight=0.5, apart_weight=0.25)
    total, parts = losses.loss(output, TARGET, chosen, COUNTS)
    coarse = ((LOG_SUM[0] - 1) + (LOG_SUM[1] - 0)) / 2
    close(parts["coarse"], coarse)
    close(parts["apart"], math.sqrt(0.5))
    close(total, ((LOG_SUM[0] - 2) + LOG_SUM[1]) / 2 + 0.5 * coarse + 0.25 * math.sqrt(0.5))
    assert not any(part.requires_grad for part in parts.values())


def test_parts_that_a_model_lacks_are_left_out():
    mask = mask_of([1, 1], 1)
    fixed = ModelOutput(LOGITS, None, torch.zeros(2, 1, 3), None, torch.eye(3), mask)
    assert set(losses.loss(fixed, TARGET, params(), COUNTS)[1]) == {"aligned"}
    without = params(coarse_weight=0.0, apart_weight=0.0)
    output = model("full", coarse_weight=0.0)(frames(2, 3), mask_of([3, 2], 3))
    assert output.coarse is None
    assert set(losses.loss(output, TARGET, without, torch.ones(7))[1]) == {"aligned"}


@pytest.mark.parametrize("imbalance", ["none", "class-balanced", "logit-adjustment"])
def test_an_empty_class_gives_a_finite_loss_and_gradient(imbalance):
    logits = torch.randn(4, 3, requires_grad=True)
    value = cross_entropy(logits, torch.tensor([0, 0, 1, 1]), params(imbalance=imbalance), torch.tensor([2, 2, 0]))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_gradients():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    text = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    target, counts = torch.tensor([0, 3, 1]), torch.tensor([5, 2, 1, 9])
    for imbalance in ("none", "class-balanced", "logit-adjustment"):
        chosen = params(imbalance=imbalance)
        assert torch.autograd.gradcheck(lambda s, p=chosen: cross_entropy(s, target, p, counts), (logits,))
    assert torch.autograd.gradcheck(apart, (text,))
