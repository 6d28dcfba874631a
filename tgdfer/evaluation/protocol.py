"""What is measured of every run: the epochs whose weights are tested, and the rates that are compared."""

SELECTIONS = {
    "last": "last epoch, no selection",
    "best_val": "best epoch on an inner validation split of the training fold",
    "best_test": "best epoch on the test fold: common in the literature, optimistic",
}
"""The selections of an epoch, with their description in print; no selection takes part in the first."""
METRICS = ("uar", "war")
