"""Any video through a trained model, with the frames that decided and the uncertainty. See docs/predict.md."""

from tgdfer.prediction.predictor import Predictor
from tgdfer.prediction.result import NOTICE, Faces, FrameScore, Prediction, Window

__all__ = ["NOTICE", "Faces", "FrameScore", "Prediction", "Predictor", "Window"]
