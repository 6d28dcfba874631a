"""The truth table of your own data: any writer's types are read, everything else is refused with the format."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from media import listed, video

from tgdfer.core.errors import UserError
from tgdfer.core.storage import SCHEMAS, write_table
from tgdfer.datasets.truth import read_truth
from tgdfer.datasets.validate import check_dataset

TEXT, NUMBERS, SHARES = ["a", "a", "b"], [0, 1, 0], [0.0, 0.5, 1.0]


pytestmark = pytest.mark.usefixtures("new_folder")


def written(clip_id=TEXT, frame_index=NUMBERS, intensity=SHARES, **more) -> Path:
    pq.write_table(pa.table({"clip_id": clip_id, "frame_index": frame_index, "intensity": intensity, **more}), "t")
    return Path("t")


@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()]
)
def test_the_types_of_other_programs_are_read(text: pa.DataType) -> None:
    columns = pa.array(TEXT, pa.string()).cast(text), pa.array(NUMBERS, pa.int64()), pa.array(SHARES, pa.float64())
    table = read_truth(written(*columns, note=["x", "y", "z"]))
    assert table.schema.equals(SCHEMAS["truth"])
    assert table["clip_id"].to_pylist() == TEXT


@pytest.mark.parametrize("numbers", [pa.int8(), pa.uint64(), pa.float64(), pa.decimal128(25, 2)])
def test_whole_numbers_of_any_type_are_read(numbers: pa.DataType) -> None:
    columns = pa.array(NUMBERS, pa.int64()).cast(numbers), pa.array([0, 1, 2], pa.int64()).cast(numbers)
    table = read_truth(written(TEXT, *columns))
    assert table["frame_index"].to_pylist() == NUMBERS
    assert table["intensity"].to_pylist() == [0, 1, 2]


def test_a_table_of_pandas_is_read() -> None:
    pd.DataFrame({"clip_id": TEXT, "frame_index": NUMBERS, "intensity": SHARES}).to_parquet("p", index=False)
    assert read_truth(Path("p")).num_rows == 3


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"clip_id": [1, 2, 3]}, "column 'clip_id' is int64"),
        ({"frame_index": [0.0, 1.5, 2.0]}, "1.500000 was truncated"),
        ({"frame_index": [0.0, float("nan"), 2.0]}, "nan was truncated"),
        ({"intensity": [True, False, True]}, "intensity is bool"),
        ({"clip_id": [b"a", b"\xff", b"b"]}, "Invalid UTF8"),
        ({"intensity": ["0", "1", "2"]}, "intensity is string"),
        ({"frame_index": [0, None, 2]}, "row 2: 'frame_index' is empty"),
        ({"frame_index": [0, -1, 2]}, "row 2: frame_index -1, intensity 0.5 of clip 'a'"),
        ({"intensity": [0.0, float("nan"), 1.0]}, "row 2: frame_index 1, intensity nan"),
        ({"frame_index": [0, 2**40, 1]}, "not in range"),
    ],
)
def test_other_content_is_refused_with_the_format(columns: dict, said: str) -> None:
    with pytest.raises(UserError, match=r"expected a Parquet file with the columns clip_id \(text\)") as caught:
        read_truth(written(**columns))
    assert said in str(caught.value)


def test_a_frame_in_two_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"t, row 2: frame 0 of clip 'a' is in an earlier row already"):
        read_truth(written(frame_index=[0, 0, 0]))


def test_a_rendered_table_with_a_flipped_bit_is_refused() -> None:
    path = Path("data/raw/demo/truth.parquet")
    write_table(path, "truth", {"clip_id": TEXT, "frame_index": NUMBERS, "intensity": SHARES}, {})
    content = path.read_bytes()
    place = content.index(np.float32(SHARES).tobytes())
    path.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    assert pq.read_table(path)["intensity"][0].as_py() > 0
    with pytest.raises(UserError, match="not the file that its stage wrote; run: tgdfer render-demo"):
        read_truth(path)


def test_validate_refuses_what_the_report_would_refuse() -> None:
    for name in ("a", "b"):
        video(Path(f"raw/{name}.mp4"), 3)

    def later(truth: str) -> list[str]:
        params = listed(["a,a.mp4,happy,1", "b,b.mp4,sad,2"], classes=["happy", "sad"], truth=truth)
        return check_dataset(params, "mine").later_faults

    assert later(str(written())) == []
    (fault,) = later("raw/clips.csv")
    assert fault.startswith("the report: raw/clips.csv: not a Parquet file")
    (fault,) = later("gone.parquet")
    assert "gone.parquet: no such file; correct `truth` in params.yaml" in fault
    (fault,) = later(str(written(clip_id=["x", "y", "z"])))
    assert "none of its 3 clips is a clip of the list" in fault
