"""How large a data set is, for what its jobs ask of a cluster."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.datasets.published import published


def clip_count(params: Params, name: str) -> int:
    """The clips of data set ``name``: of its clips table, or about as many as are known before it is written."""
    section, table = params.dataset(name), paths.clips(name)
    annotations = Path(section.annotations)
    try:
        return int(pq.read_metadata(table).num_rows)
    except (pa.ArrowException, OSError):  # missing or damaged
        pass
    if annotations in params.rendered:
        return params.rendered[annotations].clips
    if (known := published(section.layout, section.options)) and known.clips:
        return known.clips
    if not annotations.is_file():
        return 0
    with annotations.open("rb") as lines:
        return sum(1 for _ in lines)
