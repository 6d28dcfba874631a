"""What faces are drawn with: shapes in order, colours, and the curves that the parts of a face share."""

import numpy as np

from tgdfer.demo.people import Colour
from tgdfer.demo.units import Floats

CIRCLE = np.linspace(0, 2 * np.pi, 16, endpoint=False, dtype=np.float32)
COS, SIN = np.cos(CIRCLE), np.sin(CIRCLE)
_S = np.linspace(0, 1, 9, dtype=np.float32)
_PARABOLA = np.stack(((1 - _S) * (1 - 2 * _S), 4 * _S * (1 - _S), _S * (2 * _S - 1)))
BEHIND = -1.0  # a bulge that means: flat, behind the head
BLACK = np.zeros(3, np.float32)
WHITE = np.array([244, 242, 236], np.float32)


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


def curve(*points: tuple[float, float]) -> tuple[Floats, Floats]:
    """A smooth line through three points (a parabola in its own parameter), 9 points."""
    x, y = zip(*points, strict=True)
    return _through(x), _through(y)


def _through(value: tuple[float, ...]) -> Floats:
    return _PARABOLA[0] * value[0] + _PARABOLA[1] * value[1] + _PARABOLA[2] * value[2]
