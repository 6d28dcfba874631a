"""The head and what a person wears on it: outline, ears, cheeks, beard, hair, glasses. Little of it moves.

Coordinates and arguments are those of ``tgdfer.demo.parts``.
"""

import numpy as np

from tgdfer.demo.people import Identity
from tgdfer.demo.sheet import BLACK, COS, SIN, WHITE, Sheet, curve, mix
from tgdfer.demo.units import AU6, AU26, Floats

TURN = np.linspace(0, 2 * np.pi, 40, endpoint=False, dtype=np.float32)
BLUSH = np.array([196, 92, 84], np.float32)
CURLS = np.random.default_rng(7).uniform(-1, 1, (26, 2)).astype(np.float32)


def _outline(person: Identity, grow: float = 1.0, drop: float = 0.0) -> tuple[Floats, Floats]:
    """The head's outline; ``drop`` lowers the chin."""
    sine, cosine = np.sin(TURN), -np.cos(TURN)
    low = np.maximum(cosine, 0)
    x = person.width * np.sign(sine) * np.abs(sine) ** 0.86 * (1 - person.jaw * low**2.2)
    y = cosine * person.height * (1 + drop * low)
    return x * grow, y * grow


def behind(sheet: Sheet, person: Identity) -> None:
    """Shoulders, neck, and the hair behind the head."""
    w = person.width
    sheet.flat = True
    sheet.fill(
        np.array([-1.5, -1.25, -0.5, 0.5, 1.25, 1.5], np.float32),
        np.array([1.9, 1.42, 1.2, 1.2, 1.42, 1.9], np.float32),
        person.cloth,
    )
    if person.haircut == "scarf":
        x, y = _outline(person, 1.2)
        sheet.fill(x, y + 0.02, person.cloth * 0.8)
        sheet.fill(
            np.array([-0.8, 0.8, 1.0, -1.0], np.float32), np.array([0.4, 0.4, 1.6, 1.6], np.float32), person.cloth * 0.8
        )
    if person.haircut == "long":
        sheet.fill(
            w * np.array([-0.9, -1.14, -1.2, -1.22, -1.1, 1.1, 1.22, 1.2, 1.14, 0.9], np.float32),
            np.array([-0.8, -0.4, 0.1, 0.8, 1.4, 1.4, 0.8, 0.1, -0.4, -0.8], np.float32),
            person.hair * 0.75,
        )
    elif person.haircut == "bun":
        sheet.fill(0.3 * COS, -1.16 + 0.26 * SIN, person.hair * 0.85)
    elif person.haircut == "curly":
        for dx, dy in CURLS:
            angle = np.pi * (0.5 + 0.5 * dx) + np.pi
            cx, cy = 1.02 * w * np.cos(angle), -0.2 + 0.85 * np.sin(angle) * (1 + 0.08 * dy)
            sheet.fill(cx + 0.22 * COS, cy + 0.22 * SIN, person.hair * (0.9 + 0.15 * dy))
    sheet.fill(
        np.array([-0.34, 0.34, 0.4, -0.4], np.float32), np.array([0.6, 0.6, 1.4, 1.4], np.float32), person.skin * 0.78
    )


def head(sheet: Sheet, person: Identity, moved: Floats) -> None:
    """Ears, the head with a soft rim, a beard, cheeks."""
    sheet.flat = False
    drop = 0.13 * float(moved[AU26])
    skin = person.skin
    if person.haircut not in ("scarf", "long"):
        for sign in (-1.0, 1.0):
            sheet.fill(sign * person.width * 0.98 + 0.1 * COS, 0.06 + 0.19 * SIN, skin * 0.86, -0.2)
    x, y = _outline(person, 1.0, drop)
    sheet.fill(x, y, skin * 0.84)
    sheet.fill(x * 0.96, y * 0.97 - 0.005, skin * 0.92)
    sheet.fill(x * 0.9, y * 0.92 - 0.01, skin * 0.97)
    sheet.fill(x * 0.8, y * 0.84 - 0.02, skin)
    if person.beard:
        low = y > 0.18
        order = np.argsort(x[low])
        bx, by = x[low][order], y[low][order]
        inner = 0.2 + 0.16 * (1 - (bx / person.width) ** 2)
        sheet.fill(
            np.concatenate((bx * 0.99, bx[::-1] * 0.8)),
            np.concatenate((by, inner[::-1] + 0.1)),
            mix(skin, person.hair, 0.3 + 0.6 * person.beard),
        )
    blush = mix(skin, BLUSH, 0.1 + 0.08 * float(moved[AU6]))
    lift = 0.07 * float(moved[AU6])
    for sign in (-1.0, 1.0):
        sheet.fill(sign * 0.42 + 0.14 * COS, 0.27 - lift + 0.1 * SIN, blush)
    if person.freckles:
        spots = np.random.default_rng(person.freckles).uniform(-1, 1, (9, 2))
        for dx, dy in spots.tolist():
            sheet.fill(0.5 * dx + 0.014 * COS[::4], 0.24 + 0.12 * dy + 0.014 * SIN[::4], skin * 0.8)


def hair(sheet: Sheet, person: Identity, pixel: float) -> None:
    """The hair in front, by haircut."""
    cut = person.haircut
    if cut == "bald":
        sheet.fill(0.16 * COS - 0.15, -0.72 + 0.07 * SIN, mix(person.skin, WHITE, 0.25))
        return
    x, y = _outline(person, 1.05)
    top = y < (0.1 if cut in ("long", "scarf") else -0.12)
    order = np.argsort(x[top])
    ox, oy = x[top][order], y[top][order]
    t = ox / np.abs(ox).max()
    line = {
        "short": person.fringe - 0.02 + 0.5 * np.abs(t) ** 4,
        "parted": person.fringe - 0.14 + 0.22 * (t + 0.35) ** 2 + 0.4 * np.abs(t) ** 5,
        "fringe": person.fringe + 0.2 + 0.03 * np.cos(9 * t) + 0.1 * np.abs(t) ** 5,
        "long": person.fringe - 0.12 + 0.75 * np.abs(t) ** 2.4,
        "curly": person.fringe + 0.03 + 0.035 * np.cos(13 * t) + 0.4 * np.abs(t) ** 4,
        "bun": person.fringe - 0.1 + 0.5 * np.abs(t) ** 3,
        "scarf": person.fringe - 0.08 + 0.7 * np.abs(t) ** 2.6,
    }[cut]
    line = np.minimum(np.maximum(line, oy + 0.02), 0.2)
    colour = person.cloth * 0.8 if cut == "scarf" else person.hair
    sheet.fill(np.concatenate((ox, (0.97 * ox)[::-1])), np.concatenate((oy, line[::-1])), colour, 0.05)
    if cut == "scarf":
        return
    shine = mix(person.hair, WHITE, 0.16)
    sheet.line(*curve((-0.42, -0.72), (-0.2, -0.86), (0.1, -0.9)), shine, 4 * pixel, 0.05)


def glasses(sheet: Sheet, person: Identity, pixel: float) -> None:
    """Rims, bridge and temples."""
    if person.glasses == "none":
        return
    power = 1.0 if person.glasses == "round" else 0.55
    frame = BLACK + 30
    for sign in (-1.0, 1.0):
        x = sign * person.eye_x + 0.23 * np.sign(COS) * np.abs(COS) ** power
        y = person.eye_y + 0.03 + 0.18 * np.sign(SIN) * np.abs(SIN) ** power
        sheet.line(np.append(x, x[0]), np.append(y, y[0]), frame, 2.4 * pixel, 0.12)
        side = np.array([sign * (person.eye_x + 0.23), sign * person.width], np.float32)
        sheet.line(side, np.array([person.eye_y, person.eye_y - 0.02], np.float32), frame, 2.2 * pixel)
    gap = person.eye_x - 0.23
    sheet.line(*curve((-gap, person.eye_y), (0, person.eye_y - 0.03), (gap, person.eye_y)), frame, 2.2 * pixel, 0.16)
