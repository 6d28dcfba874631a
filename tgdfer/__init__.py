"""TG-DFER: text-guided, weakly supervised dynamic facial expression recognition, from clips to tables."""

__version__ = "0.1.0"
