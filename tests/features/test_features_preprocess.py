"""Preprocessing on tensors against open_clip's own PIL transform, and the views of clips."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from sklearn.datasets import load_sample_image

from tgdfer.encoders.preprocess import Preprocess, View, draw_view

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
NEUTRAL = View(1, 1, 0, 0, False, 1, 1, 1)


def natural() -> list[Image.Image]:
    with get_sample_data("grace_hopper.jpg") as stream:
        portrait = Image.open(stream).convert("RGB")
    return [portrait, *(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))]


def difference(image: Image.Image, **config) -> torch.Tensor:
    """Absolute difference from open_clip's transform, in grey levels (0..255)."""
    cfg = PreprocessCfg(mean=MEAN, std=STD, **config)
    expected = image_transform_v2(cfg, is_train=False)(image)
    expected = (expected * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    found = Preprocess.from_config({**cfg.__dict__})(tensor)
    assert found.dtype == torch.uint8
    return (found - expected).abs()


@pytest.mark.parametrize("size", [(480, 360), (256, 256), (224, 224), (100, 160), (640, 213), (60, 60)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_natural_images_equal_open_clips_transform(size, mode, interpolation):
    for image in natural():
        found = difference(image.resize(size), resize_mode=mode, interpolation=interpolation)
        # both resize along one axis and then the other, and round after each, with weights of different precision
        assert found.max() < 2.01
        assert found.mean() < 0.02


@settings(max_examples=60)
@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.sampled_from([32, (32, 32), (24, 40)]),
    st.sampled_from(["shortest", "longest", "squash"]),
)
def test_any_size_is_cut_as_open_clip_cuts_it(height, width, size, mode):
    image = natural_noise(height, width)
    if mode == "longest" and size == (24, 40):
        return  # open_clip's crop takes (height, width), its resize the same: covered by the square sizes
    # a pixel to the side would be 7 on average; single pixels of small images drawn large differ by up to 5
    assert difference(image, size=size, resize_mode=mode).mean() < 0.5


def natural_noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def test_without_antialias_the_difference_would_be_seen():
    image = natural()[1]
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    preprocess = Preprocess.from_config({"size": 64, "mean": MEAN, "std": STD})
    plain = torch.nn.functional.interpolate(tensor[None].float(), preprocess.resized(*tensor.shape[1:]), mode="bicubic")
    left = round((plain.shape[-1] - 64) / 2)
    plain = plain[0, :, :, left : left + 64]
    assert (plain - preprocess(tensor).float()).abs().max() > 50


IMAGE = torch.from_numpy(np.asarray(natural_noise(50, 40)).copy()).permute(2, 0, 1)
PREPROCESS = Preprocess((32, 32), MEAN, STD)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(360, 640), (640, 360), (500, 500)])
def test_neutral_view_is_the_plain_one(mode, size):
    preprocess = Preprocess((64, 64), MEAN, STD, resize_mode=mode)
    image = torch.from_numpy(np.asarray(natural()[0].resize(size)).copy()).permute(2, 0, 1)
    plain, view = preprocess(image), preprocess.view(image, NEUTRAL)
    # the one is resized and then cropped, the other the other way round: half a pixel apart; squashed it would be 40
    assert (view.float() - plain.float()).abs().mean() < 9
    flipped = View(1, 1, 0, 0, True, 1, 1, 1)
    assert torch.equal(preprocess.view(image, flipped), view.flip(-1))


def test_views_of_squashed_images_are_squashed_too():
    preprocess = Preprocess((32, 32), MEAN, STD, resize_mode="squash")
    assert torch.equal(preprocess.view(IMAGE, NEUTRAL), preprocess(IMAGE))


@settings(max_examples=100)
@given(st.integers(0, 2**31), st.text(max_size=20), st.integers(1, 9), st.floats(0.05, 1), st.floats(0, 0.9))
def test_views_stay_within_their_limits(seed, clip_id, number, scale, jitter):
    view = draw_view(seed, clip_id, number, scale, jitter)
    assert view == draw_view(seed, clip_id, number, scale, jitter)
    assert 0 < view.height <= 1
    assert 0 < view.width <= 1
    # a crop that would be longer than the image is cut at its border
    assert scale * 0.75 - 1e-9 <= view.height * view.width <= 1
    assert all(abs(factor - 1) <= jitter for factor in (view.brightness, view.contrast, view.saturation))
    found = PREPROCESS.view(IMAGE, view)
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.uint8


def test_views_differ_between_clips_numbers_and_seeds_and_flip_half_the_time():
    views = [
        draw_view(seed, f"c{clip}", number, 0.7, 0.2) for seed in (0, 1) for clip in range(100) for number in (1, 2)
    ]
    assert len(set(views)) == 400
    assert 150 < Counter(view.flip for view in views)[True] < 250
    assert np.mean([view.brightness for view in views]) == pytest.approx(1, abs=0.03)


def test_colour_changes_do_what_they_say():
    plain = PREPROCESS.view(IMAGE, NEUTRAL).float()
    darker = PREPROCESS.view(IMAGE, View(1, 1, 0, 0, False, 0.5, 1, 1)).float()
    grey = PREPROCESS.view(IMAGE, View(1, 1, 0, 0, False, 1, 1, 0)).float()
    flat = PREPROCESS.view(IMAGE, View(1, 1, 0, 0, False, 1, 0.1, 1)).float()
    torch.testing.assert_close(darker, plain / 2, atol=0.51, rtol=0)
    assert (grey[0] - grey[1]).abs().max() == 0
    assert flat.std() < 0.2 * plain.std()
