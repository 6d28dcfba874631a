"""The parts of a face as polygons and lines, each moved by its action units.

Face coordinates: x to the right, y down, the chin near 1, the eyes near 0. ``halves`` [2, U] are the intensities of the
left and the right half of the image, ``moved`` [U] those of the whole; ``pixel`` is the width of a fine line.
"""

from __future__ import annotations

import numpy as np

from tgdfer.demo.people import Colour, Identity
from tgdfer.demo.units import INDEX, Floats

AU1, AU2, AU4, AU5, AU6, AU7, AU9, AU10, AU12, AU15, AU17, AU20, AU23, AU25, AU26, AU43 = range(len(INDEX))

TURN = np.linspace(0, 2 * np.pi, 40, endpoint=False, dtype=np.float32)
T = np.linspace(-1, 1, 17, dtype=np.float32)  # along the mouth
HUMP = 1 - T * T
BOW = np.exp(-((T / 0.2) ** 2))
E = np.linspace(-1, 1, 13, dtype=np.float32)  # along an eye or a brow
ARC = 1 - E * E
CIRCLE = np.linspace(0, 2 * np.pi, 16, endpoint=False, dtype=np.float32)
COS, SIN = np.cos(CIRCLE), np.sin(CIRCLE)
RIGHT = T > 0
_S = np.linspace(0, 1, 9, dtype=np.float32)
PARABOLA = np.stack(((1 - _S) * (1 - 2 * _S), 4 * _S * (1 - _S), _S * (2 * _S - 1)))
BROW = np.linspace(0, 1, 11, dtype=np.float32)
BROW_WIDTH = 0.5 + 0.75 * np.sin(np.pi * (0.15 + 0.8 * BROW))
BEHIND = -1.0  # a bulge that means: flat, behind the head
BLACK = np.zeros(3, np.float32)
WHITE = np.array([244, 242, 236], np.float32)
TEETH = np.array([236, 232, 222], np.float32)
MOUTH = np.array([66, 22, 24], np.float32)
TONGUE = np.array([176, 84, 84], np.float32)
BLUSH = np.array([196, 92, 84], np.float32)
CURLS = np.random.default_rng(7).uniform(-1, 1, (26, 2)).astype(np.float32)


class Sheet:
    """Shapes in drawing order; points are gathered first, so that they are projected in one go."""

    def __init__(self) -> None:
        self.x: list[Floats] = []
        self.y: list[Floats] = []
        self.bulge: list[float] = []
        self.colours: list[Colour] = []
        self.thick: list[int] = []
        self.flat = False

    def fill(self, x: Floats, y: Floats, colour: Colour, bulge: float = 0.0) -> None:
        """A filled polygon; ``bulge`` lifts it out of the head's ellipsoid."""
        self.line(x, y, colour, 0, bulge)

    def line(self, x: Floats, y: Floats, colour: Colour, thick: float, bulge: float = 0.0) -> None:
        """A polyline; ``thick`` in pixels of the enlarged canvas, 0 for a filled polygon."""
        self.x.append(x)
        self.y.append(y)
        self.bulge.append(BEHIND if self.flat else bulge)
        self.colours.append(colour)
        self.thick.append(max(1, round(thick)) if thick else 0)


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """``first`` at 0, ``second`` at 1."""
    return first + (second - first) * np.float32(min(max(amount, 0.0), 1.0))


def _curve(*points: tuple[float, float]) -> tuple[Floats, Floats]:
    """A smooth line through three points (a parabola in its own parameter), 9 points."""
    (x0, y0), (x1, y1), (x2, y2) = points
    return PARABOLA[0] * x0 + PARABOLA[1] * x1 + PARABOLA[2] * x2, PARABOLA[0] * y0 + PARABOLA[1] * y1 + PARABOLA[
        2
    ] * y2


def _outline(person: Identity, grow: float = 1.0, drop: float = 0.0) -> tuple[Floats, Floats]:
    """The head's outline; ``drop`` lowers the chin."""
    sine, cosine = np.sin(TURN), -np.cos(TURN)
    low = np.maximum(cosine, 0)
    x = person.width * np.sign(sine) * np.abs(sine) ** 0.86 * (1 - person.jaw * low**2.2)
    y = cosine * person.height * (1 + drop * low)
    return x * grow, y * grow


def behind(sheet: Sheet, person: Identity) -> None:
    """Shoulders, neck, and the hair that lies behind the head."""
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


def lines(sheet: Sheet, person: Identity, halves: Floats, moved: Floats, pixel: float) -> None:
    """Furrows: forehead, between the brows, crow's feet, cheeks, nose to mouth, chin."""
    skin, dark = person.skin, person.skin * 0.52

    def furrow(amount: float, *points: tuple[float, float], thick: float = 1.6) -> None:
        if amount > 0.12:
            sheet.line(*_curve(*points), mix(skin, dark, min(0.85, amount)), thick * pixel)

    old = 0.3 * person.age
    inner, outer, lower = float(moved[AU1]), float(moved[AU2]), float(moved[AU4])
    for row in range(3):
        y = person.brow_y - 0.14 - 0.085 * row - 0.05 * max(inner, outer)
        wide = 0.2 + 0.24 * max(0.0, outer)
        furrow(
            old * 0.9 + 0.75 * inner - 0.1 * row,
            (-wide, y + 0.03 * inner),
            (0, y - 0.03 * inner),
            (wide, y + 0.03 * inner),
        )
    for sign in (-1.0, 1.0):
        top = person.brow_y - 0.07
        furrow(
            0.4 * old + 0.95 * lower,
            (sign * 0.055, top),
            (sign * 0.045, top + 0.09),
            (sign * 0.06, top + 0.17),
            thick=2.0,
        )
    for number, sign in enumerate((-1.0, 1.0)):
        half = halves[number]
        cheek, wrinkle, lip = float(half[AU6]), float(half[AU9]), float(half[AU10])
        corner_x = sign * (person.eye_x + person.eye_width + 0.05)
        for slope in (-0.07, 0.0, 0.07):
            furrow(
                old * 0.8 + 0.8 * cheek,
                (corner_x, person.eye_y + 0.02 + 0.4 * slope),
                (corner_x + sign * 0.06, person.eye_y + 0.02 + slope),
                (corner_x + sign * 0.12, person.eye_y + 0.03 + 1.4 * slope),
                thick=1.3,
            )
        under = person.eye_y + 0.17 - 0.05 * cheek
        furrow(
            old + 0.7 * cheek + 0.2 * float(half[AU7]),
            (sign * (person.eye_x - 0.15), under - 0.02),
            (sign * person.eye_x, under + 0.03),
            (sign * (person.eye_x + 0.16), under - 0.03),
        )
        wing = person.nose_width + 0.05
        nose_y = person.eye_y + person.nose_length
        mouth_x = person.mouth_width * (1 + 0.25 * float(half[AU12])) + 0.09
        furrow(
            old * 1.2 + 0.75 * float(half[AU12]) + 0.85 * lip + 0.5 * wrinkle,
            (sign * wing, nose_y - 0.02 - 0.06 * lip),
            (sign * (wing + 0.12 + 0.05 * float(half[AU12])), nose_y + 0.07),
            (sign * mouth_x, person.mouth_y - 0.02),
            thick=2.0,
        )
        for step in range(3):
            y = person.eye_y + 0.05 + 0.055 * step
            furrow(
                1.1 * wrinkle - 0.05 * step,
                (sign * 0.015, y),
                (sign * 0.06, y + 0.015),
                (sign * (0.1 + 0.02 * step), y + 0.06),
                thick=1.8,
            )
    chin = float(moved[AU17])
    y = person.mouth_y + 0.2 + 0.1 * float(moved[AU26]) - 0.02 * chin
    furrow(0.2 * old + 0.9 * chin, (-0.14, y + 0.05), (0, y - 0.03), (0.14, y + 0.05), thick=2.0)
    furrow(1.1 * chin - 0.3, (-0.07, y + 0.12), (0, y + 0.09), (0.07, y + 0.12))


def mouth(sheet: Sheet, person: Identity, halves: Floats, moved: Floats, pixel: float) -> None:
    """Lips that pull, depress, stretch, press and part; teeth and tongue when the jaw drops."""
    left, right = halves
    half = np.where(RIGHT[:, None], right, left)  # [17, U]
    part, jaw = max(0.0, float(moved[AU25])), max(0.0, float(moved[AU26]))
    press, chin = float(moved[AU23]), float(moved[AU17])
    gap = 0.055 * part + 0.33 * jaw
    wide = person.mouth_width * (
        1 + 0.27 * half[:, AU12] + 0.34 * half[:, AU20] - 0.1 * press - 0.26 * jaw * (1 - half[:, AU12].clip(0, 1))
    )
    corner = np.abs(T) ** 1.8 * (-0.19 * half[:, AU12] + 0.16 * half[:, AU15] + 0.05 * half[:, AU20])
    x = T * wide
    middle = person.mouth_y + 0.04 * jaw - 0.045 * chin + 0.03 * float(moved[AU12]) - 0.03 * float(moved[AU15])
    y = middle + corner
    thin = max(0.12, 1 - 0.75 * press - 0.3 * float(moved[AU12]) - 0.35 * float(moved[AU20]))
    upper, lower = person.lip_thick * thin, person.lip_thick * thin * 1.25 * (1 + 0.35 * max(0.0, chin))
    raised = 0.1 * half[:, AU10] + 0.03 * half[:, AU9]
    round_ = HUMP**0.7
    flat = HUMP**0.42  # a raised or stretched lip is square
    square = min(1.0, max(0.0, float(moved[AU10]) + float(moved[AU20])))
    shape = round_ + (flat - round_) * square
    inner_up = y - (0.18 * gap + 0.35 * raised * (gap > 0.01)) * shape
    inner_low = y + 0.82 * gap * shape
    outer_up = inner_up - upper * HUMP**0.6 * (1 - 0.25 * BOW) - (0.65 + 0.35 * (gap <= 0.01)) * raised * shape
    outer_low = inner_low + lower * HUMP**0.8
    if person.moustache:
        top = outer_up - 0.09
        sheet.fill(
            np.concatenate((x * 0.98, (x * 0.9)[::-1])),
            np.concatenate((outer_up + 0.01, (top + 0.06 * T * T)[::-1])),
            mix(person.skin, person.hair, 0.4 + 0.5 * person.moustache),
            0.03,
        )
    around = x[::-1]
    sheet.fill(np.concatenate((x, around)), np.concatenate((outer_up, y[::-1])), person.lips * 0.86, 0.03)
    sheet.fill(np.concatenate((x, around)), np.concatenate((y, outer_low[::-1])), person.lips, 0.03)
    if gap > 0.012:
        inside = x * 0.94
        sheet.fill(np.concatenate((inside, inside[::-1])), np.concatenate((inner_up, inner_low[::-1])), MOUTH, 0.03)
        teeth = np.minimum(inner_up + 0.06, inner_low)
        sheet.fill(
            np.concatenate((inside * 0.9, (inside * 0.9)[::-1])), np.concatenate((inner_up, teeth[::-1])), TEETH, 0.03
        )
        if gap > 0.15:
            tongue = np.maximum(inner_low - 0.09 * HUMP, inner_up + 0.08)
            sheet.fill(
                np.concatenate((inside * 0.7, (inside * 0.7)[::-1])),
                np.concatenate((np.minimum(tongue, inner_low), inner_low[::-1])),
                TONGUE,
                0.03,
            )
    else:
        sheet.line(x, y, person.lips * 0.45, 2.0 * pixel, 0.03)
    sheet.line(
        np.array([-0.11, 0.0, 0.11], np.float32),
        outer_low[8] + np.array([0.03, 0.045, 0.03], np.float32),
        person.skin * 0.84,
        2 * pixel,
    )


def nose(sheet: Sheet, person: Identity, halves: Floats, moved: Floats, pixel: float) -> None:
    """Bridge, tip and nostrils; wrinkling and a raised upper lip lift and widen the wings."""
    lift = 0.07 * float(moved[AU9]) + 0.03 * float(moved[AU10])
    wide = person.nose_width * (1 + 0.16 * float(moved[AU9]))
    y = person.eye_y + person.nose_length - lift
    shade = person.skin * 0.74
    sheet.fill(
        np.array([0.02, 0.085, wide * 0.8, 0.02], np.float32),
        np.array([person.eye_y + 0.02, y - 0.12, y + 0.015, y + 0.03], np.float32),
        person.skin * 0.9,
        0.16,
    )
    sheet.fill(0.055 * COS - 0.01, y - 0.05 + 0.05 * SIN, mix(person.skin, WHITE, 0.16), 0.24)
    for number, sign in enumerate((-1.0, 1.0)):
        up = 0.05 * float(halves[number, AU9]) + 0.025 * float(halves[number, AU10])
        sheet.line(
            *_curve(
                (sign * wide * 0.82, y - 0.07 - up),
                (sign * wide * 1.08, y - 0.01 - up),
                (sign * wide * 0.7, y + 0.03 - 0.4 * up),
            ),
            shade,
            2.2 * pixel,
            0.1,
        )
        sheet.fill(sign * wide * 0.48 + 0.034 * COS, y + 0.022 + 0.018 * SIN, person.skin * 0.42, 0.16)
    sheet.line(*_curve((-wide * 0.4, y + 0.03), (0, y + 0.05), (wide * 0.4, y + 0.03)), shade, 1.8 * pixel, 0.18)


def eye(sheet: Sheet, person: Identity, half: Floats, sign: float, gaze: tuple[float, float], pixel: float) -> None:
    """One eye: the white, the iris cut by the lids, lashes and the fold above."""
    closed = min(1.0, max(0.0, float(half[AU43])))
    lifted, tight, cheek = float(half[AU5]), float(half[AU7]), float(half[AU6])
    up = person.eye_open * (1 + 1.2 * lifted - 0.42 * tight - 0.12 * cheek) * (1 - closed)
    low = (
        person.eye_open * 0.8 * (1 + 0.25 * lifted - 0.6 * max(0.0, tight) - 0.6 * max(0.0, cheek)) * (1 - 0.9 * closed)
    )
    up, low = max(up, 0.003), max(low, 0.003)
    wide = person.eye_width
    cx, cy = sign * person.eye_x, person.eye_y + 0.035 * closed
    # grief lifts the inner end of the lid, anger lowers it
    slant = sign * E * (0.022 * (float(half[AU1]) - 1.2 * float(half[AU4])) + 0.004)
    x = cx + wide * E
    upper = cy - up * ARC**0.75 + slant * (1 - closed)
    lower = cy + low * ARC**0.9 + 0.3 * slant
    socket = person.skin * 0.9
    sheet.fill(
        np.concatenate((cx + 1.2 * wide * E, (cx + 1.15 * wide * E)[::-1])),
        np.concatenate((upper - 0.05 - 0.03 * ARC, (lower + 0.035)[::-1])),
        socket,
    )
    if up + low > 0.016:
        sheet.fill(np.concatenate((x, x[::-1])), np.concatenate((upper, lower[::-1])), WHITE * 0.95)
        iris_x, iris_y = cx + gaze[0] * wide, cy - 0.004 + gaze[1] * wide * 0.5
        for radius, colour in ((0.074, person.iris * 0.7), (0.06, person.iris), (0.034, BLACK + 8)):
            px = iris_x + radius * COS
            py = iris_y + radius * SIN
            sheet.fill(px, np.clip(py, np.interp(px, x, upper), np.interp(px, x, lower)), colour)
        if iris_y - 0.03 > cy - up:
            sheet.fill(iris_x + 0.022 + 0.015 * COS[::2], iris_y - 0.026 + 0.015 * SIN[::2], WHITE)
    sheet.line(x, upper, person.skin * 0.22, (2.6 + 0.8 * closed) * pixel)
    sheet.line(x, lower, person.skin * 0.62, 1.4 * pixel)
    if lifted < 0.7:
        sheet.line(cx + 1.05 * wide * E, upper - 0.045 - 0.012 * ARC + 0.02 * lifted, person.skin * 0.72, 1.4 * pixel)


def brow(sheet: Sheet, person: Identity, half: Floats, sign: float, pixel: float) -> None:
    """One eyebrow: raised at its inner end, raised at its outer end, or drawn down and in."""
    inner, outer, lower, wrinkle = float(half[AU1]), float(half[AU2]), float(half[AU4]), float(half[AU9])
    y = person.brow_y
    t = BROW
    x0 = 0.12 - 0.045 * lower - 0.02 * wrinkle
    x = x0 + t * (0.56 - x0)
    middle = 4 * t * (1 - t)
    line = (
        y
        - person.brow_arch * middle
        + 0.03 * t
        + inner * (-0.15 * (1 - t) ** 1.3 - 0.01)
        + outer * (-0.13 * t - 0.05 * middle)
        + lower * (0.13 * (1 - t) ** 1.2 + 0.04)
        + wrinkle * 0.06 * (1 - t)
        - 0.012 * float(half[AU5])
    )
    thick = person.brow_thick * BROW_WIDTH
    sheet.fill(
        sign * np.concatenate((x, x[::-1])),
        np.concatenate((line - 0.5 * thick, (line + 0.5 * thick)[::-1])),
        mix(person.hair, person.skin, 0.12),
        0.04,
    )


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
    sheet.line(*_curve((-0.42, -0.72), (-0.2, -0.86), (0.1, -0.9)), shine, 4 * pixel, 0.05)


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
    sheet.line(*_curve((-gap, person.eye_y), (0, person.eye_y - 0.03), (gap, person.eye_y)), frame, 2.2 * pixel, 0.16)
