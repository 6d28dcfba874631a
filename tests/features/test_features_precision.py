"""The number format of the image tower: a rule that is the same on every call, guarded by agreement with float32."""

import pytest
import torch
from features_project import make_encoder

from tgdfer.encoders import VisionTower, load_encoder, precision
from tgdfer.encoders.precision import candidates, choose_dtype, probe_images

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_encoder()
    return load_encoder("demo-clip", "cpu")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), [torch.float32]),
        ((7, 5), [torch.float16, torch.float32]),
        ((9, 0), [torch.float16, torch.bfloat16, torch.float32]),
    ],
)
def test_formats_of_gpus(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert candidates(CUDA) == expected


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ({"avx512_bf16": True}, [torch.bfloat16, torch.float32]),
        ({"avx512_bf16": False, "amx_bf16": True}, [torch.bfloat16, torch.float32]),
        ({"avx512_f": True}, [torch.float32]),
    ],
)
def test_formats_of_cpus(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: native)
    assert candidates(CPU) == expected


def test_auto_takes_the_first_format_that_agrees(encoder, monkeypatch):
    monkeypatch.setattr(precision, "candidates", lambda *_: [torch.float16, torch.bfloat16, torch.float32])
    assert choose_dtype(encoder, "auto", CPU) == torch.float16
    plain = VisionTower.forward

    def overflow(self, images):
        return plain(self, images) * (float("nan") if self.dtype == torch.float16 else 1)

    monkeypatch.setattr(VisionTower, "forward", overflow)
    assert choose_dtype(encoder, "auto", CPU) == torch.bfloat16
    monkeypatch.setattr(precision, "AGREEMENT", 1.1)
    assert choose_dtype(encoder, "auto", CPU) == torch.float32


def test_a_format_that_is_asked_for_is_taken(encoder, monkeypatch):
    assert choose_dtype(encoder, "bfloat16", CPU) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_dtype(encoder, "auto", CPU) == torch.float32


def test_probe_images_are_always_the_same_and_vary():
    images = probe_images(48, 64)
    assert images.shape == (8, 3, 48, 64)
    assert torch.equal(images, probe_images(48, 64))
    deviation = images.float().std((1, 2, 3))
    assert (deviation > 30).all()
    rough = (images[..., 1:].float() - images[..., :-1].float()).abs().mean()
    assert rough < 0.7 * deviation.mean()  # neighbours are alike; in noise this ratio is 1.13
