"""The parts of a face as polygons and lines, each moved by its action units.

Face coordinates: x to the right, y down, the chin near 1, the eyes near 0. ``halves`` [2, U] are the intensities of the
left and the right half of the image, ``moved`` [U] those of the whole; ``pixel`` is the width of a fine line.
"""

import numpy as np

from tgdfer.demo.people import Identity
from tgdfer.demo.sheet import BLACK, COS, SIN, WHITE, Sheet, curve, mix
from tgdfer.demo.units import (
    AU1,
    AU2,
    AU4,
    AU5,
    AU6,
    AU7,
    AU9,
    AU10,
    AU12,
    AU15,
    AU17,
    AU20,
    AU23,
    AU25,
    AU26,
    AU43,
    Floats,
)

T = np.linspace(-1, 1, 17, dtype=np.float32)  # along the mouth
HUMP = 1 - T * T
BOW = np.exp(-((T / 0.2) ** 2))
E = np.linspace(-1, 1, 13, dtype=np.float32)  # along an eye or a brow
ARC = 1 - E * E
RIGHT = T > 0
BROW = np.linspace(0, 1, 11, dtype=np.float32)
BROW_WIDTH = 0.5 + 0.75 * np.sin(np.pi * (0.15 + 0.8 * BROW))
TEETH = np.array([236, 232, 222], np.float32)
MOUTH = np.array([66, 22, 24], np.float32)
TONGUE = np.array([176, 84, 84], np.float32)


def lines(sheet: Sheet, person: Identity, halves: Floats, moved: Floats, pixel: float) -> None:
    """Furrows: forehead, between the brows, crow's feet, cheeks, nose to mouth, chin."""
    skin, dark = person.skin, person.skin * 0.52

    def furrow(amount: float, *points: tuple[float, float], thick: float = 1.6) -> None:
        if amount > 0.12:
            sheet.line(*curve(*points), mix(skin, dark, min(0.85, amount)), thick * pixel)

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
            *curve(
                (sign * wide * 0.82, y - 0.07 - up),
                (sign * wide * 1.08, y - 0.01 - up),
                (sign * wide * 0.7, y + 0.03 - 0.4 * up),
            ),
            shade,
            2.2 * pixel,
            0.1,
        )
        sheet.fill(sign * wide * 0.48 + 0.034 * COS, y + 0.022 + 0.018 * SIN, person.skin * 0.42, 0.16)
    sheet.line(*curve((-wide * 0.4, y + 0.03), (0, y + 0.05), (wide * 0.4, y + 0.03)), shade, 1.8 * pixel, 0.18)


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
