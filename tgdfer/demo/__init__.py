"""The embedded data set: faces from action units, scripts of clips, and a small CLIP trained on captioned faces."""
