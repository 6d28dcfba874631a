"""The look of every figure: colours that colour-blind readers tell apart, and Matplotlib's settings."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without yellow, which is too light for lines on white."""
GREY = "#6b7280"
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "tgdfer",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply Matplotlib's settings of all figures."""
    with matplotlib.rc_context(SETTINGS):
        yield
