"""The stages of the graph, one file each: what `snakemake` and `dvc repro` run."""
