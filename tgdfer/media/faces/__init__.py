"""Faces: found, followed through a clip as persons, cropped and aligned."""
