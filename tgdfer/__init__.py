"""TG-DFER: text-guided, weakly supervised dynamic facial expression recognition, from clips to tables."""

from importlib import import_module
from typing import TYPE_CHECKING

from tgdfer.core.version import __version__

if TYPE_CHECKING:
    from tgdfer.prediction import Prediction, Predictor
    from tgdfer.runs.dataframes import load_predictions, load_runs

__all__ = ["Prediction", "Predictor", "__version__", "load_predictions", "load_runs"]

LAZY = {
    "Prediction": "tgdfer.prediction",
    "Predictor": "tgdfer.prediction",
    "load_predictions": "tgdfer.runs.dataframes",
    "load_runs": "tgdfer.runs.dataframes",
}
"""Where each name is found; it is imported when it is asked for, because torch or pandas comes with it."""


def __getattr__(name: str) -> object:
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'tgdfer' has no attribute '{name}'")
