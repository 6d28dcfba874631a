"""The model as a Python function of MLflow: a DataFrame with a column of video paths in, probabilities out.

MLflow finds it by its name in a model's MLmodel file. Nothing that is loaded can run: the weights are safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tgdfer.core.errors import UserError
from tgdfer.core.storage import read_json
from tgdfer.prediction.predictor import Predictor


class VideoModel:
    """What `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row per video: ``path``, ``label``, a probability per class, and why there is none in ``reason``."""
        return pd.DataFrame([self._row(str(path)) for path in data["path"]])

    def _row(self, path: str) -> dict[str, Any]:
        row = {"path": path, "label": "", **dict.fromkeys(self.predictor.classes, float("nan"))}
        try:
            found = self.predictor.predict(path)
        except UserError as error:
            return {**row, "reason": str(error)}
        return {**row, "label": found.prediction or "", **found.probabilities, "reason": found.reason or ""}


def _load_pyfunc(data_path: str) -> VideoModel:
    """Called by MLflow with the folder of the model's files."""
    folder = Path(data_path)
    # the encoder is not stored with every model; it is in the project's models/
    here = Path("models")
    models = here if here.is_dir() else Path(read_json(folder / "project.json")["models"])
    return VideoModel(Predictor.from_run(folder, models))
