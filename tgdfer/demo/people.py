"""People: what stays the same from clip to clip, colours, proportions, and how a face rests and moves."""

from dataclasses import dataclass

import numpy as np

from tgdfer.demo.units import INDEX, UNITS, Floats

Colour = Floats

SKIN = np.array(
    [[247, 218, 196], [234, 192, 160], [214, 163, 122], [188, 132, 92], [150, 98, 66], [112, 72, 50], [78, 50, 38]],
    np.float32,
)
HAIR = np.array(
    [[24, 20, 20], [52, 34, 24], [96, 62, 36], [150, 100, 50], [214, 178, 112], [150, 150, 152], [128, 54, 28]],
    np.float32,
)
IRIS = np.array([[52, 32, 20], [84, 56, 32], [88, 112, 68], [74, 110, 150], [96, 104, 110]], np.float32)
HAIRCUTS = ("bald", "short", "parted", "fringe", "long", "curly", "bun", "scarf")


@dataclass(frozen=True)
class Identity:
    """A person: lengths in face units, colours in RGB, and how this face rests and moves."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    cloth: Colour
    haircut: str
    glasses: str
    beard: float
    moustache: float
    age: float
    width: float
    height: float
    jaw: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    brow_y: float
    brow_thick: float
    brow_arch: float
    nose_width: float
    nose_length: float
    mouth_y: float
    mouth_width: float
    lip_thick: float
    fringe: float
    rest: Floats  # [U] offsets that the face has when it shows nothing
    reach: Floats  # [U] how far this person moves each unit
    sides: Floats  # [2, U] gains of the left and the right half
    freckles: int


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a person."""

    def near(centre: float, spread: float) -> float:
        return float(centre + spread * np.clip(rng.normal(), -2.2, 2.2))

    tone = rng.uniform(0, len(SKIN) - 1)
    low = int(tone)
    skin = SKIN[low] + (SKIN[min(low + 1, len(SKIN) - 1)] - SKIN[low]) * (tone - low)
    skin = np.clip(skin * rng.uniform(0.94, 1.06, 3), 0, 255)
    dark = tone > 2.5
    hair = HAIR[rng.choice(3) if dark and rng.random() < 0.85 else rng.choice(len(HAIR))] * rng.uniform(0.8, 1.15)
    lips = skin * np.array([0.86, 0.62, 0.62]) * rng.uniform(0.85, 1.0) + np.array([rng.uniform(0, 34), 0, 8])
    haircut = str(rng.choice(HAIRCUTS, p=[0.07, 0.22, 0.16, 0.15, 0.17, 0.1, 0.07, 0.06]))
    bearded = rng.random() + 0.9 * (haircut in ("long", "bun", "scarf"))
    rest = np.zeros(len(UNITS), np.float32)
    for name, spread in (
        ("inner_brow_raise", 0.16),
        ("outer_brow_raise", 0.18),
        ("brow_lower", 0.20),
        ("lid_tighten", 0.14),
        ("upper_lid_raise", 0.12),
        ("lip_corner_pull", 0.14),
        ("lip_corner_depress", 0.16),
        ("lip_press", 0.14),
        ("lips_part", 0.08),
        ("cheek_raise", 0.08),
        ("nose_wrinkle", 0.05),
    ):
        rest[INDEX[name]] = near(0, spread)
    return Identity(
        skin=skin.astype(np.float32),
        hair=np.clip(hair, 0, 255).astype(np.float32),
        iris=(IRIS[rng.choice(2) if dark else rng.choice(len(IRIS))] * rng.uniform(0.8, 1.2)).astype(np.float32),
        lips=np.clip(lips, 0, 255).astype(np.float32),
        cloth=rng.uniform(20, 235, 3).astype(np.float32),
        haircut=haircut,
        glasses=str(rng.choice(["none", "round", "square"], p=[0.74, 0.13, 0.13])),
        beard=float(rng.uniform(0.35, 1)) if bearded < 0.22 else 0.0,
        moustache=float(rng.uniform(0.4, 1)) if bearded < 0.28 and rng.random() < 0.8 else 0.0,
        age=float(np.clip(rng.beta(1.3, 2.2), 0, 1)),
        width=near(0.76, 0.045),
        height=near(1.0, 0.04),
        jaw=near(0.26, 0.09),
        eye_x=near(0.33, 0.022),
        eye_y=near(-0.08, 0.03),
        eye_width=near(0.155, 0.014),
        eye_open=near(0.07, 0.009),
        brow_y=near(-0.3, 0.03),
        brow_thick=near(0.05, 0.014),
        brow_arch=near(0.05, 0.022),
        nose_width=near(0.15, 0.022),
        nose_length=near(0.36, 0.03),
        mouth_y=near(0.56, 0.03),
        mouth_width=near(0.27, 0.026),
        lip_thick=near(0.06, 0.016),
        fringe=near(-0.58, 0.07),
        rest=rest,
        reach=rng.uniform(0.8, 1.15, len(UNITS)).astype(np.float32),
        sides=np.clip(1 + 0.1 * rng.normal(size=(2, len(UNITS))), 0.75, 1.25).astype(np.float32),
        freckles=int(rng.integers(0, 2**31)) if rng.random() < 0.15 else 0,
    )
