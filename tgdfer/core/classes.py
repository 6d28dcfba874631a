"""Emotion classes. Labels travel as names everywhere; the order of the classes is fixed here and nowhere else."""

SEVEN = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""The classes of DFEW and FERV39k, in DFEW's order."""

ELEVEN = (*SEVEN, "contempt", "anxiety", "helplessness", "disappointment")
"""The single-label classes of MAFW: the seven, then its four extra ones."""
