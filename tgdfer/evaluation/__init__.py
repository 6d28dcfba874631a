"""Metrics of one run, and statistics over folds, seeds and clips."""
