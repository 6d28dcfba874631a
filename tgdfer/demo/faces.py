"""Faces drawn from action units: an identity, a pose, a scene and intensities in, an RGB image out.

All shapes are polygons in face coordinates: x to the right, y down, the head about 2 units high, depth z towards the
viewer on an ellipsoid. They are turned and projected together, then drawn with OpenCV at twice the size and
averaged down, so that edges and thin lines move smoothly when an intensity does.
"""

from dataclasses import astuple, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tgdfer.demo import head, parts
from tgdfer.demo.people import Colour, Identity
from tgdfer.demo.sheet import BEHIND, Sheet
from tgdfer.demo.units import Floats

Image = NDArray[np.uint8]

SUPER = 2
FILLS = 0.46  # half a head in image heights: a crop as face aligners make it
SHIFT = 4  # fractional bits of OpenCV's coordinates
NOISE = np.random.default_rng(20).normal(0, 1, (384, 384, 3)).astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """Head position: shifts in head heights, ``scale`` relative, angles in radians; gaze in eye widths."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What is not the person: backdrop, light and camera."""

    backdrop: Image
    light: float
    slope_x: float
    slope_y: float
    tint: Colour
    contrast: float
    blur: float
    noise: float


def sample_scene(rng: np.random.Generator, hard: float = 1.0) -> Scene:
    """Draw a backdrop, a light and a camera; ``hard`` scales blur, noise and the unevenness of the light."""
    base = rng.uniform(40, 210) + rng.normal(0, 22, 3)
    coarse = base + rng.normal(0, rng.uniform(2, 20), (5, 5, 3)) + rng.normal(0, rng.uniform(5, 40), (5, 5, 1))
    return Scene(
        backdrop=np.clip(coarse, 0, 255).astype(np.uint8),
        light=float(rng.uniform(0.72, 1.14)),
        slope_x=float(hard * rng.normal(0, 0.16)),
        slope_y=float(hard * rng.normal(0, 0.1)),
        tint=np.clip(1 + rng.normal(0, 0.05, 3), 0.85, 1.15).astype(np.float32),
        contrast=float(rng.uniform(0.75, 1.12)),
        blur=float(hard * max(0.0, rng.normal(0.35, 0.4))),
        noise=float(hard * rng.gamma(1.6, 2.2)),
    )


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draw a near-frontal head pose."""
    spread = np.array([0.025, 0.025, 0.04, 0.06, 0.13, 0.07, 0.2, 0.15])
    return Pose(*(np.array(astuple(Pose())) + spread * np.clip(rng.normal(size=8), -2, 2)).tolist())


def draw(
    person: Identity, units: Floats, pose: Pose, scene: Scene, size: int, rng: np.random.Generator | None = None
) -> Image:
    """Draw ``person`` with the action units ``units`` (float32 [U], 0 to 1) as uint8 [size, size, 3], RGB.

    Camera noise is the only randomness; without ``rng`` there is none.
    """
    side = size * SUPER
    canvas = cv2.resize(scene.backdrop, (side, side), interpolation=cv2.INTER_CUBIC)
    moved = np.clip(units * person.reach, 0, 1.15) + person.rest * (1 - 0.6 * np.clip(units, 0, 1))
    halves = moved * person.sides
    pixel = side / 192
    sheet = Sheet()
    head.behind(sheet, person)
    head.head(sheet, person, moved)
    parts.lines(sheet, person, halves, moved, pixel)
    parts.mouth(sheet, person, halves, moved, pixel)
    parts.nose(sheet, person, halves, moved, pixel)
    for number, sign in enumerate((-1.0, 1.0)):
        parts.eye(sheet, person, halves[number], sign, (pose.gaze_x, pose.gaze_y), pixel)
        parts.brow(sheet, person, halves[number], sign, pixel)
    head.hair(sheet, person, pixel)
    head.glasses(sheet, person, pixel)
    _paint(canvas, sheet, pose)
    return _camera(canvas, scene, size, rng)


def _paint(canvas: Image, sheet: Sheet, pose: Pose) -> None:
    lengths = [len(points) for points in sheet.x]
    x, y = np.concatenate(sheet.x), np.concatenate(sheet.y)
    bulge = np.repeat(np.array(sheet.bulge, np.float32), lengths)
    dome = 0.62 * np.sqrt(np.maximum(0, 1 - (x / 0.92) ** 2 - (y / 1.22) ** 2))
    z = np.where(bulge == BEHIND, np.float32(-0.35), dome + bulge)
    colours = np.clip(np.stack(sheet.colours), 0, 255).astype(int).tolist()
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = np.cos(pose.yaw), np.sin(pose.yaw), np.cos(pose.pitch), np.sin(pose.pitch)
    turned_x = x * cos_yaw + z * sin_yaw
    depth = z * cos_yaw - x * sin_yaw
    turned_y = y * cos_pitch + depth * sin_pitch
    nearer = 1 + 0.08 * (depth * cos_pitch - y * sin_pitch)
    turned_x, turned_y = turned_x * nearer, turned_y * nearer
    cos_roll, sin_roll = np.cos(pose.roll), np.sin(pose.roll)
    side = canvas.shape[0]
    unit = FILLS * side * pose.scale
    u = side * (0.5 + pose.x) + unit * (turned_x * cos_roll - turned_y * sin_roll)
    v = side * (0.5 + pose.y) + unit * (turned_x * sin_roll + turned_y * cos_roll)
    pixels = np.rint(np.stack((u, v), 1) * (1 << SHIFT)).astype(np.int32)
    start = 0
    for length, colour, thick in zip(lengths, colours, sheet.thick, strict=True):
        shape = pixels[start : start + length]
        start += length
        if thick:
            cv2.polylines(canvas, [shape], False, colour, thick, cv2.LINE_AA, SHIFT)
        else:
            cv2.fillPoly(canvas, [shape], colour, cv2.LINE_AA, SHIFT)


def _camera(canvas: Image, scene: Scene, size: int, rng: np.random.Generator | None) -> Image:
    """Average down, then light, blur and noise."""
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    if scene.blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur * size / 96)
    across = np.linspace(-1, 1, size, dtype=np.float32)
    shade = (
        1
        + (scene.slope_x * across - 0.07 * across * across)[None, :]
        + (scene.slope_y * across - 0.07 * across * across)[:, None]
    )
    lit = image.astype(np.float32) * (shade[..., None] * (scene.tint * np.float32(scene.light)))
    lit = (lit - 118) * np.float32(scene.contrast) + 118
    if rng is not None and scene.noise > 0.3:
        top, left = rng.integers(0, NOISE.shape[0] - size, 2) if size < NOISE.shape[0] else (0, 0)
        lit += NOISE[top : top + size, left : left + size] * np.float32(scene.noise)
    return np.clip(lit, 0, 255).astype(np.uint8)
