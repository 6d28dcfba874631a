"""The truth table of a data set: the true intensity of the labelled expression in every frame."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.core import checksums
from tgdfer.core.errors import UserError
from tgdfer.core.storage import SCHEMAS, damaged

EXPECTED = (
    "expected a Parquet file with the columns clip_id (text), frame_index (whole numbers, the first frame of the clip "
    "is 0) and intensity (numbers from 0 on)"
)


TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
"""Some programs write text as bytes."""
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
"""pandas makes numbers of a column floating if a value was ever missing; frame numbers must be whole all the same."""


def read_truth(path: Path) -> pa.Table:
    """The truth table, in the types of ``SCHEMAS["truth"]`` whichever program wrote it.

    Raises:
        UserError: the file is missing, damaged or not Parquet, or a column is missing or holds something else.
    """
    schema = SCHEMAS["truth"]
    if path.is_file() and checksums.intact(path) is False:  # a rendered one is sealed, one of the user's own is not
        raise damaged(path)
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; correct `truth` in params.yaml, or leave it out") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({' '.join(str(error).split())[:100]}); {EXPECTED}") from None
    for name in schema.names:
        if table.schema.names.count(name) != 1:
            raise UserError(f"{path}: no column '{name}' among {', '.join(table.schema.names)}; {EXPECTED}")
        column = table[name]
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise UserError(f"{path}, row {row + 1}: '{name}' is empty; {EXPECTED}")
    table = table.select(schema.names)
    types = [table[name].type for name in ("clip_id", "frame_index", "intensity")]
    text, *numbers = (one.value_type if pa.types.is_dictionary(one) else one for one in types)
    if not any(is_text(text) for is_text in TEXTS):
        raise UserError(f"{path}: column 'clip_id' is {text}; {EXPECTED}")
    if not all(any(is_number(one) for is_number in NUMBERS) for one in numbers):
        raise UserError(f"{path}: frame_index is {types[1]}, intensity is {types[2]}; {EXPECTED}")
    try:
        table = pa.table({field.name: table[field.name].cast(field.type) for field in schema}, schema=schema)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: {' '.join(str(error).split())[:100]}; {EXPECTED}") from None
    index, intensity = table["frame_index"].to_numpy(), table["intensity"].to_numpy()
    wrong = np.flatnonzero((index < 0) | ~np.isfinite(intensity) | (intensity < 0))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"{path}, row {row + 1}: frame_index {index[row]}, intensity {intensity[row]:g} of clip "
            f"'{table['clip_id'][row].as_py()}'; {EXPECTED}"
        )
    twice = np.flatnonzero(table.select(["clip_id", "frame_index"]).to_pandas().duplicated())
    if len(twice):
        row = int(twice[0])
        raise UserError(
            f"{path}, row {row + 1}: frame {index[row]} of clip '{table['clip_id'][row].as_py()}' is in an earlier row "
            "already; remove one of them"
        )
    return table
