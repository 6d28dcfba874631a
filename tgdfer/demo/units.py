"""Facial action units, and what the seven expressions are made of.

Units and their numbers follow the Facial Action Coding System (Ekman, Friesen and Hager 2002); ``expressions.yaml`` has
the prototypes and the common variants of its EMFACS tables.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
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

INDEX = {name: position for position, name in enumerate(UNITS)}
AU1, AU2, AU4, AU5, AU6, AU7, AU9, AU10, AU12, AU15, AU17, AU20, AU23, AU25, AU26, AU43 = range(len(UNITS))
"""Positions of the units by their number in the coding system."""

EXPRESSIONS: dict[str, list[dict[str, float]]] = yaml.safe_load(
    Path(__file__).with_name("expressions.yaml").read_text(encoding="utf-8")
)
"""Weights of the units by class: a prototype and its variants, because people do not all show a feeling alike."""


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
