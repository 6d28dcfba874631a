"""The outputs of networks that find faces are decoded as their authors define them."""

import numpy as np
import pytest

from tgdfer.core.errors import UserError
from tgdfer.media.faces import networks
from tgdfer.media.faces.detection import Detector, detector

SIZE = (64, 96)
BOX = np.array([20.0, 8.0, 40.0, 48.0])
POINTS = np.array([[32, 24], [48, 24], [40, 32], [34, 44], [46, 44]], float)
ROW, COLUMN = 4, 5
CENTRE = np.array([COLUMN, ROW]) * 8


def grids(*widths: int, anchors: int = 1) -> list[np.ndarray]:
    """Empty outputs: for each kind of value the grids of 8, 16 and 32 pixels."""
    cells = [SIZE[0] // step * (SIZE[1] // step) * anchors for step in (8, 16, 32)]
    return [np.zeros((count, width), np.float32) for width in widths for count in cells]


def scrfd() -> list[np.ndarray]:
    out = grids(1, 4, 10, anchors=2)
    place = 2 * (ROW * SIZE[1] // 8 + COLUMN) + 1
    out[0][place] = 0.9
    out[3][place] = np.array([*(CENTRE - BOX[:2]), *(BOX[:2] + BOX[2:] - CENTRE)]) / 8
    out[6][place] = ((POINTS - CENTRE) / 8).ravel()
    return out


def yunet() -> list[np.ndarray]:
    out = grids(1, 1, 4, 10)
    place = ROW * SIZE[1] // 8 + COLUMN
    out[0][place], out[3][place] = 1.0, 0.81
    out[6][place] = [*((BOX[:2] + BOX[2:] / 2 - CENTRE) / 8), *np.log(BOX[2:] / 8)]
    out[9][place] = ((POINTS - CENTRE) / 8).ravel()
    return out


def centerface() -> list[np.ndarray]:
    heat, scale, offset = (np.zeros((count, SIZE[0] // 4, SIZE[1] // 4), np.float32) for count in (1, 2, 2))
    landmarks = np.zeros((10, SIZE[0] // 4, SIZE[1] // 4), np.float32)
    row, column = 8, 10
    heat[0, row, column] = 0.9
    scale[:, row, column] = np.log(BOX[[3, 2]] / 4)
    offset[:, row, column] = (BOX[[1, 0]] + BOX[[3, 2]] / 2) / 4 - (row, column) - 0.5
    landmarks[:, row, column] = ((POINTS - BOX[:2]) / BOX[2:])[:, ::-1].ravel()
    return [heat, scale, offset, landmarks]


@pytest.mark.parametrize(
    ("decode", "outputs"),
    [(networks.scrfd, scrfd()), (networks.yunet, yunet()), (networks.centerface, centerface())],
)
def test_a_face_is_read_from_the_outputs(decode: networks.Decode, outputs: list[np.ndarray]) -> None:
    ((box, score, points),) = decode(outputs, SIZE, 0.5)
    assert box == pytest.approx(BOX, abs=1e-4)
    assert score == pytest.approx(0.9)
    assert points == pytest.approx(POINTS, abs=1e-4)


def test_a_missing_file_and_one_that_is_no_network_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        detector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(UserError, match=r"text\.onnx: not an ONNX file"):
        Detector(tmp_path / "text.onnx")
