"""The version of tgdfer, below everything that records it."""

from importlib.metadata import version

__version__ = version("tgdfer")
