"""The training of one run: folds, engine, optimiser, evaluation, resume."""
