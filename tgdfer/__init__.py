"""TG-DFER: text-guided, weakly supervised dynamic facial expression recognition, from clips to tables."""

from typing import TYPE_CHECKING

from tgdfer.core.version import __version__

if TYPE_CHECKING:
    from tgdfer.prediction import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "__version__"]


def __getattr__(name: str) -> object:
    """``from tgdfer import Predictor``: loaded when it is asked for, for it brings torch with it."""
    if name in ("Prediction", "Predictor"):
        from tgdfer import prediction

        return getattr(prediction, name)
    raise AttributeError(f"module 'tgdfer' has no attribute '{name}'")
