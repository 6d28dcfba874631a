"""Clips as they come: videos through ffmpeg, folders of images, which frames to take, and where the face is."""
