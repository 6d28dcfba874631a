"""The vocabulary of runs: which run, its files, whether it is current, its results."""
