"""The feature cache: every frame goes through the image encoder once, and is read back in one pass."""
