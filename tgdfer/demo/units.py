"""Facial action units, and what the seven expressions are made of.

Units and their numbers follow the Facial Action Coding System (Ekman, Friesen and Hager 2002); the combinations are
the prototypes and the common variants of its EMFACS tables, as weights of full intensity.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

UNITS = (
    "inner_brow_raise",  # 1
    "outer_brow_raise",  # 2
    "brow_lower",  # 4
    "upper_lid_raise",  # 5
    "cheek_raise",  # 6
    "lid_tighten",  # 7
    "nose_wrinkle",  # 9
    "upper_lip_raise",  # 10
    "lip_corner_pull",  # 12
    "lip_corner_depress",  # 15
    "chin_raise",  # 17
    "lip_stretch",  # 20
    "lip_press",  # 23 and 24
    "lips_part",  # 25
    "jaw_drop",  # 26
    "eyes_closed",  # 43 and 45
)
"""The units that a face is drawn from; intensities run from 0 (absent) to 1 (as strong as it gets)."""

INDEX = MappingProxyType({name: position for position, name in enumerate(UNITS)})
AU1, AU2, AU4, AU5, AU6, AU7, AU9, AU10, AU12, AU15, AU17, AU20, AU23, AU25, AU26, AU43 = range(len(UNITS))
"""Positions of the units by their number in the coding system."""

EXPRESSIONS: MappingProxyType[str, tuple[dict[str, float], ...]] = MappingProxyType(
    {
        "happy": (
            {"cheek_raise": 0.9, "lip_corner_pull": 1.0},
            {"cheek_raise": 1.0, "lip_corner_pull": 1.0, "lips_part": 0.8},
            {"cheek_raise": 0.8, "lip_corner_pull": 1.0, "lips_part": 0.9, "jaw_drop": 0.4},
        ),
        "sad": (
            {"inner_brow_raise": 1.0, "brow_lower": 0.4, "lip_corner_depress": 1.0, "chin_raise": 0.5},
            {"inner_brow_raise": 0.9, "lip_corner_depress": 0.9, "eyes_closed": 0.35},
            {"inner_brow_raise": 0.8, "brow_lower": 0.5, "lip_corner_depress": 0.8, "chin_raise": 1.0},
        ),
        "neutral": ({},),
        "angry": (
            {"brow_lower": 1.0, "upper_lid_raise": 0.4, "lid_tighten": 0.7, "lip_press": 1.0},
            {"brow_lower": 1.0, "lid_tighten": 0.9, "lip_press": 0.8, "chin_raise": 0.5},
            {"brow_lower": 1.0, "upper_lid_raise": 0.5, "lid_tighten": 0.5, "upper_lip_raise": 0.4, "lips_part": 0.8},
        ),
        "surprise": (
            {"inner_brow_raise": 1.0, "outer_brow_raise": 1.0, "upper_lid_raise": 0.8, "lips_part": 0.8, "jaw_drop": 1},
            {"inner_brow_raise": 0.9, "outer_brow_raise": 1.0, "lips_part": 0.8, "jaw_drop": 0.8},
            {"inner_brow_raise": 1.0, "outer_brow_raise": 0.9, "upper_lid_raise": 0.6, "jaw_drop": 0.6, "lips_part": 1},
        ),
        "disgust": (
            {"nose_wrinkle": 1.0, "upper_lip_raise": 0.9, "brow_lower": 0.3, "lid_tighten": 0.3},
            {"nose_wrinkle": 0.9, "upper_lip_raise": 0.6, "lip_corner_depress": 0.6, "chin_raise": 0.6},
            {"nose_wrinkle": 0.8, "upper_lip_raise": 1.0, "lips_part": 0.6, "cheek_raise": 0.3},
        ),
        "fear": (
            {
                "inner_brow_raise": 1.0,
                "outer_brow_raise": 0.6,
                "brow_lower": 0.6,
                "upper_lid_raise": 1.0,
                "lip_stretch": 1.0,
                "lips_part": 0.6,
            },
            {"inner_brow_raise": 0.9, "brow_lower": 0.6, "upper_lid_raise": 0.9, "lip_stretch": 0.9, "lips_part": 0.3},
            {
                "inner_brow_raise": 0.9,
                "outer_brow_raise": 0.8,
                "brow_lower": 0.5,
                "upper_lid_raise": 0.9,
                "lip_stretch": 0.8,
                "lips_part": 0.8,
                "jaw_drop": 0.5,
            },
        ),
    }
)
"""Weights of the units per class: one prototype and its variants; people do not all show a feeling alike."""


def vector(weights: dict[str, float]) -> Floats:
    """Named intensities as a vector float32 [U] in the order of ``UNITS``."""
    values = np.zeros(len(UNITS), np.float32)
    for name, weight in weights.items():
        values[INDEX[name]] = weight
    return values


def sample_expression(label: str, rng: np.random.Generator, spread: float = 0.25) -> Floats:
    """One way to show ``label`` at full intensity, float32 [U]: a variant, its units weakened by up to ``spread``."""
    variants = EXPRESSIONS[label]
    chosen = vector(variants[rng.integers(len(variants))])
    return (chosen * rng.uniform(1 - spread, 1, len(UNITS))).astype(np.float32)
