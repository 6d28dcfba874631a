"""The version of tgdfer, below everything that records it."""

__version__ = "0.1.0"
