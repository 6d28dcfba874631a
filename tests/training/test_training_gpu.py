"""Training on a GPU, on a machine without one: fake tensors have a device and a type, and refuse to be mixed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import model_tools
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tgdfer.config.training import BagsParams, RunParams, TrainingParams
from tgdfer.core import determinism
from tgdfer.core.classes import SEVEN
from tgdfer.features.bags import BagBatch, Bags
from tgdfer.features.cache import FeatureCache
from tgdfer.features.shards import Shard
from tgdfer.model import build_model
from tgdfer.model.temporal import TemporalNetwork
from tgdfer.training.engine import Engine
from tgdfer.training.evaluation import batches
from tgdfer.training.folds import FoldBags

GPU = torch.device("cuda", 0)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.backends.cudnn.flags(enabled=False):
        yield


class RealBags(Bags):
    """Bags whose frames are read as real tensors; what follows happens to fake ones."""

    def _frames(self, indices: torch.Tensor, generator: torch.Generator | None, view: int) -> BagBatch:
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            return super()._frames(torch.arange(len(indices)), generator, view)


def bags(count: int) -> Bags:
    offsets = np.cumsum([0, *(np.arange(count) % 6 + 1)])
    rows = int(offsets[-1])
    features = np.random.default_rng(0).normal(size=(2, rows, model_tools.DIM)).astype(np.float16)
    names = pa.array(f"{i:02d}" for i in range(count))
    cache = FeatureCache.of([Shard(names, offsets, np.arange(rows, dtype=np.int32), features)], "f", "e")
    return RealBags(cache, torch.arange(count), torch.arange(count) % len(SEVEN), 4, 2)


def engine(variant: str, ema: float = 0.0, **changes: Any) -> Engine:
    params = RunParams(
        bags=BagsParams(frames=4, instance_frames=2),
        model=model_tools.params(variant, **changes),
        training=TrainingParams(batch_size=8, ema=ema),
    )
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_model(params.model, SEVEN, model_tools.DIM, model_tools.encoder())
        part, counts = bags(14), torch.full((len(SEVEN),), 2)
        labels = part.labels.numpy()
    fold = FoldBags(1, part, part, part, labels, labels, counts)
    return Engine(model, fold, params, 0, GPU, Path("none"), "f")


def step(built: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of training; the way back, for which torch wants a driver, gives zeros."""

    def backward(_: torch.Tensor) -> None:
        for parameter in built.trainable:
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    types: set[tuple[type, torch.dtype]] = set()
    for module in built.model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.LSTM):
            module.register_forward_hook(
                lambda module, _, out: types.add(
                    (type(module), (out if isinstance(out, torch.Tensor) else out[0]).dtype)
                )
            )
    built._train_step(torch.arange(8))
    # mixed precision, without loss scaling: never float16, which CUDA's own cast of LSTMs is to
    assert types <= {(torch.nn.Linear, torch.bfloat16), (torch.nn.LSTM, torch.float32)}


def tensors(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """Every tensor below ``value``, in whatever attribute."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors(one, seen)
    elif type(value).__module__.startswith("tgdfer.model") or isinstance(value, torch.nn.Module):
        yield from tensors(vars(value), seen)


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize("variant", model_tools.VARIANTS)
def test_no_tensor_is_left_on_the_processor(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = engine(variant)
    assert {one.device for one in tensors(built.model, set())} <= {GPU}
    with torch.no_grad():
        (part,) = batches(built.fold.test, GPU)
        output = built.model.eval()(part.x, part.mask, part.frame_index.to(part.x.dtype))
        assert (output.logits.device, output.logits.dtype) == (GPU, torch.float32)
    if built.epochs:
        built.model.train()
        step(built, monkeypatch)
        assert built.records[0].device == GPU


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize("imbalance", ["class-balanced", "logit-adjustment"])
def test_with_an_average_and_weights_of_classes(imbalance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = engine("full", ema=0.9, imbalance=imbalance)
    step(built, monkeypatch)
    assert built.average is not None
    built.average.swap()
    assert {one.device for one in built.average.shadow} == {GPU}


def test_mixed_precision_tells_late_frames_apart() -> None:
    torch.manual_seed(0)
    network = TemporalNetwork(16, 16, 4, 5, "long", 0.0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x, mask = torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool)
    position = torch.tensor([[0.0, 3, 4, 8, 9, 10], [1, 2, 3, 4, 5, 6]])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(x, mask, position), network(x, mask, position + 701))


def test_float32_is_no_tensorfloat32() -> None:
    before = torch.backends.cudnn.allow_tf32
    with determinism.deterministic(1):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_random_state_of_a_gpu_is_kept(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"now": torch.tensor([3])}
    module = getattr(torch, kind)
    monkeypatch.setattr(module, "get_rng_state", lambda *_: states["now"])
    monkeypatch.setattr(module, "set_rng_state", lambda state, *_: states.update(now=state))
    device = torch.device(kind)
    kept = determinism.random_state(device)
    first, states["now"] = torch.rand(1), torch.tensor([4])
    determinism.set_random_state(device, kept)
    assert (states["now"].item(), torch.rand(1)) == (3, first)
