"""What is read of a run's predictions."""

from pathlib import Path

import pytest

from tgdfer.core import storage
from tgdfer.runs.files import Key
from tgdfer.runs.results import RunResult
from tgdfer.runs.state import State


def test_the_relevance_of_bags_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = Key("demo", "full", 1, 0)
    rows = [("b", "last", [3, 8], [0.25, 0.75]), ("a", "last", [5], [1.0]), ("b", "best_val", [4, 6, 7], [0.5, 0, 0.5])]
    columns = {
        "clip_id": [row[0] for row in rows],
        "fold": [1] * 3,
        "selection": [row[1] for row in rows],
        "label": ["happy"] * 3,
        "probabilities": [[1.0]] * 3,
        "frame_index": [row[2] for row in rows],
        "relevance": [row[3] for row in rows],
    }
    storage.write_table(key.folder / "predictions.parquet", "predictions", columns, {})
    found = RunResult(key, State("done")).relevance()
    assert set(found) == {"last", "best_val"}
    assert found["last"].clip_id.tolist() == ["a", "b"], "clips ascending"
    assert found["last"].frame_index.tolist() == [[5, -1, -1], [3, 8, -1]]
    assert found["last"].relevance.tolist() == [[1, 0, 0], [0.25, 0.75, 0]]
    assert found["best_val"].frame_index.tolist() == [[4, 6, 7]]
