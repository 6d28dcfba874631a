"""A model as an ONNX file gives what PyTorch gives, for every kind of model; what does not is not kept."""

from pathlib import Path

import onnxruntime
import pytest
from prediction_project import RUN

from tgdfer.core.errors import UserError
from tgdfer.prediction import onnx
from tgdfer.prediction.saved import load_saved


@pytest.mark.parametrize("variant", ["words", "probe", "lora"])
def test_onnx_is_pytorch(inside: Path, variant: str, tmp_path: Path) -> None:
    saved = load_saved(Path(str(RUN).replace("words", variant)), Path("models"), "cpu")
    file = tmp_path / "model.onnx"
    assert "over 100 frames" in onnx.export_onnx(saved, file)
    length, classes = saved.description.bags.frames, len(saved.description.classes)
    session = onnxruntime.InferenceSession(str(file))
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes["frames"][:2] == [length, 3] and shapes["probabilities"] == [classes]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"], "one file, with its weights"
    with pytest.raises(UserError, match=r"model\.onnx: exists already; name another file"):
        onnx.export_onnx(saved, file)


def test_a_file_that_differs_is_not_kept(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = load_saved(RUN, Path("models"), "cpu")
    monkeypatch.setattr(onnx, "TOLERANCE", dict.fromkeys(onnx.TOLERANCE, 0.0))
    with pytest.raises(UserError, match="differs from PyTorch"):
        onnx.export_onnx(saved, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
