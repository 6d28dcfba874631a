"""Every model: padding, batch composition and frame order change nothing where they must not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tools import DIM, VARIANTS, frames, mask_of, model

from tgdfer.model import relevance

EXACT = {"rtol": 1e-9, "atol": 1e-9}
MODELS = {}


def shaken(variant):
    if variant not in MODELS:
        MODELS[variant] = model(variant)
    return MODELS[variant]


bags = st.integers(1, 9).flatmap(
    lambda length: st.tuples(
        st.just(length), st.lists(st.integers(1, length), min_size=1, max_size=4), st.integers(0, 1000), st.booleans()
    )
)


def positions(counts, length, seed, given):
    if not given:
        return None
    steps = torch.rand(len(counts), length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 7 * (steps + 0.1).cumsum(1)


@pytest.mark.parametrize("variant", VARIANTS)
@given(bags)
@settings(max_examples=12)
def test_padding_never_changes_a_result(variant, bag):
    length, counts, seed, timed = bag
    net, x, mask = shaken(variant), frames(len(counts), length, seed), mask_of(counts, length)
    position = positions(counts, length, seed, timed)
    with torch.no_grad():
        result = net(x, mask, position)
        # other content in the padding, and more of it
        more = torch.cat([torch.where(mask[..., None], x, 50 * frames(len(counts), length, seed + 1)), x[:, :1]], dim=1)
        wider = torch.cat([mask, torch.zeros(len(counts), 1, dtype=torch.bool)], dim=1)
        later = None
        if position is not None:
            later = torch.cat([torch.where(mask, position, 1e4), position[:, :1] - 3], dim=1)
        other = net(more, wider, later)
    torch.testing.assert_close(other.logits, result.logits, **EXACT)
    torch.testing.assert_close(other.alignment[:, :length], result.alignment, **EXACT)
    for mine, theirs in ((result.coarse, other.coarse), (result.text, other.text)):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(theirs, mine, **EXACT)
    assert other.alignment[~wider].eq(0).all()
    relevant = relevance(other)
    assert relevant.shape == wider.shape
    assert relevant[~wider].eq(0).all() and relevant.ge(0).all()
    torch.testing.assert_close(relevant.sum(1), torch.ones(len(counts), dtype=torch.float64))
    torch.testing.assert_close(relevant[:, :length], relevance(result), **EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_s_logits_do_not_depend_on_its_batch(variant):
    net, x, mask = shaken(variant), frames(5, 7), mask_of([7, 1, 4, 6, 7], 7)
    position = positions([0] * 5, 7, 0, True)
    with torch.no_grad():
        together = net(x, mask, position).logits
        for i in range(5):
            single = net(x[i : i + 1], mask[i : i + 1], position[i : i + 1]).logits
            torch.testing.assert_close(single, together[i : i + 1], **EXACT)
        order = torch.tensor([3, 0, 4, 2, 1])
        torch.testing.assert_close(net(x[order], mask[order], position[order]).logits, together[order], **EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_gets_no_gradient_and_nothing_is_nan(variant):
    net = model(variant).train()
    x, mask = frames(3, 6).requires_grad_(), mask_of([6, 1, 3], 6)
    result = net(x, mask)
    result.logits.square().sum().backward()
    assert x.grad[~mask].eq(0).all()
    assert x.grad.isfinite().all() and x.grad[mask].ne(0).any()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("variant", ["no-temporal", "zero-shot", "linear-probe", "attention-mil"])
def test_frame_order_does_not_matter_without_time(variant):
    net, x, mask = shaken(variant), frames(2, 6), mask_of([6, 6], 6)
    order = torch.tensor([2, 5, 0, 1, 4, 3])
    with torch.no_grad():
        one, other = net(x, mask), net(x[:, order], mask)
    torch.testing.assert_close(other.logits, one.logits, **EXACT)
    torch.testing.assert_close(other.alignment, one.alignment[:, order], **EXACT)


@pytest.mark.parametrize("variant", ["full", "window-5", "long", "transformer-cls", "bilstm-dmin"])
def test_frame_order_matters_with_time(variant):
    net, x, mask = shaken(variant), frames(2, 6), mask_of([6, 6], 6)
    # distance has no direction, so the long-range branch cannot distinguish a clip from its reverse: a permutation
    order = torch.tensor([2, 5, 0, 1, 4, 3])
    with torch.no_grad():
        assert not torch.allclose(net(x, mask).logits, net(x[:, order], mask).logits, atol=1e-4)


@pytest.mark.parametrize("variant", ["full", "long"])
def test_position_is_of_any_unit_and_even_spacing_is_the_default(variant):
    net, x, mask = shaken(variant), frames(2, 6), mask_of([6, 4], 6)
    even = torch.arange(6, dtype=torch.float64).expand(2, 6)
    uneven = torch.tensor([0.0, 1, 2, 10, 11, 12]).double().expand(2, 6)
    with torch.no_grad():
        default = net(x, mask).logits
        torch.testing.assert_close(net(x, mask, 0.1 * even + 3).logits, default, **EXACT)
        torch.testing.assert_close(net(x, mask, 5 * uneven).logits, net(x, mask, uneven).logits, **EXACT)
        assert not torch.allclose(net(x, mask, uneven).logits, default, atol=1e-4)
        # all frames at one moment: no distance, no division by zero
        assert net(x, mask, torch.zeros(2, 6).double()).logits.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_holes_in_the_mask_hide_their_frames(variant):
    net, x = shaken(variant), frames(2, 6)
    mask = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1]]).bool()
    with torch.no_grad():
        one = net(x, mask)
        other = net(torch.where(mask[..., None], x, 9 * frames(2, 6, 1)), mask)
    torch.testing.assert_close(other.logits, one.logits, **EXACT)
    torch.testing.assert_close(relevance(other), relevance(one), **EXACT)


@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 3), st.integers(1, 12), st.integers(2, 11))
@settings(max_examples=40)
def test_shapes(variant, batch, length, classes):
    from tgdfer.core.classes import ELEVEN

    key = (variant, classes)
    if key not in MODELS:
        MODELS[key] = model(variant, classes=ELEVEN[:classes])
    mask = mask_of([length] * batch, length)
    with torch.no_grad():
        result = MODELS[key](frames(batch, length), mask)
    assert torch.equal(result.mask, mask)
    assert result.logits.shape == (batch, classes)
    assert result.alignment.shape == (batch, length, classes)
    assert result.coarse is None or result.coarse.shape == (batch, classes)
    assert result.attention is None or result.attention.shape == (batch, length)
    assert result.text is None or result.text.shape in ((classes, DIM), (batch, classes, DIM))


# autocast, which bilstm-dmin switches off, does not support the device meta
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "bilstm-dmin"])
def test_a_model_computes_where_its_input_is(variant):
    """The device ``meta`` has no numbers; an operation with a tensor from the CPU fails there."""
    net, device = model(variant).to("meta"), torch.device("meta")
    result = net(frames(2, 6).to(device), mask_of([6, 3], 6).to(device), positions([0] * 2, 6, 0, True).to(device))
    assert {value.device for value in (*result, relevance(result)) if isinstance(value, torch.Tensor)} == {device}
    assert net(frames(2, 6).to(device), mask_of([6, 3], 6).to(device)).logits.device == device
