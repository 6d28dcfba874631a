"""Any video through a trained model, with the decisive frames and the uncertainty. See docs/predict.md."""

from tgdfer.prediction.predictor import Predictor
from tgdfer.prediction.result import NOTICE, FaceCounts, FrameScore, Prediction, Window

__all__ = ["NOTICE", "FaceCounts", "FrameScore", "Prediction", "Predictor", "Window"]
