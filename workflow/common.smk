"""What the rules share: the parameters, fingerprints of code, and how resources grow with the attempt."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# the package next to this Snakefile, whatever is installed
sys.path.insert(0, workflow.basedir)

from tgdfer.config import dependencies
from tgdfer.config.params import load_params
from tgdfer.core import devices, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.runs import state

# `python` in a rule is the Python that runs Snakemake, whether or not its environment is activated. It replaces the
# shell, because a scheduler's SIGTERM kills a shell at once, and with it the stage before it has saved its state
BIN = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(f'export PATH={BIN}:"$PATH"; exec ')

try:
    PARAMS = load_params()
except UserError as error:
    raise WorkflowError(str(error)) from None


def code(stage):
    """The fingerprint of a stage's code, for a training of its architecture's: `shell:` hides the code from Snakemake."""

    def fingerprint(wildcards):
        if stage != "train":
            return dependencies.code_fingerprint(stage)
        return dependencies.code_fingerprint(
            stage, PARAMS.run(wildcards.variant).model.architecture
        )

    return fingerprint


def settings(stage):
    """The parameters of a stage as a function of the wildcards: a change remakes its outputs."""
    return lambda wildcards: dependencies.settings(PARAMS, stage, **dict(wildcards))


def grow(base):
    """A resource that doubles with every attempt, for jobs that were killed for lack of it."""
    return lambda wildcards, attempt: base * 2 ** (attempt - 1)


EXPECTED = {
    "grid": (
        "'all', or nothing for the variants that `grid` in params.yaml names",
        "all",
    ),
    "gpus": ("'auto'", "auto"),
    "jobs_per_gpu": ("a whole number from 1", "[1-9][0-9]*"),
}
for key, value in config.items():
    expected, pattern = EXPECTED.get(
        key, (f"one of the keys {', '.join(EXPECTED)}", "(?!)")
    )
    if not re.fullmatch(pattern, str(value)):
        raise WorkflowError(f"--config {key}={value}: expected {expected}")
GRID = list(PARAMS.variants) if "grid" in config else PARAMS.grid


def summaries(wildcards):
    """The summary of every variant of the grid on every data set."""
    return [
        paths.variant(dataset, variant)
        for dataset in PARAMS.datasets
        for variant in GRID
    ]


def products(wildcards):
    """All that is made on the way to the report, as separate targets.

    Of an output that a failed job took away Snakemake says nothing as long as the report that was made from an earlier
    one is there: it would call that up to date.
    """
    made = set()
    for name, dataset in PARAMS.datasets.items():
        made |= {paths.clips(name), paths.folds(name), paths.frames(name)}
        made |= {
            paths.features(name, dataset.encoder),
            paths.encoder(dataset.encoder),
        }
        if Path(dataset.annotations) == paths.DEMO_CLIPS:
            made |= {paths.DEMO_CLIPS, paths.DEMO_TRUTH}
    return [*sorted(made), *summaries(wildcards)]


def truths(wildcards):
    """The true intensities per frame of the data sets that have them; only the report reads them."""
    return [dataset.truth for dataset in PARAMS.datasets.values() if dataset.truth]


def encoder_of(wildcards):
    """The description of a data set's encoder."""
    return paths.encoder(PARAMS.datasets[wildcards.dataset].encoder)


def features_of(wildcards):
    """The manifest of a data set's feature cache."""
    return paths.features(wildcards.dataset, PARAMS.datasets[wildcards.dataset].encoder)


def words_of(wildcards):
    """The fingerprint of the texts that a variant reads, on this data set, of descriptions.yaml."""
    return storage.fingerprint(dependencies.words(PARAMS, **dict(wildcards)))


def outdated(wildcards):
    """No input: makes Snakemake train a variant again whose runs are not current, which its own records cannot show.

    A training by hand with other words, a damaged file or a deleted folder leave summary.json where it was.
    """
    summary = paths.variant(**dict(zip(("dataset", "name"), wildcards)))
    if summary.exists() and not state.is_current(PARAMS, *wildcards):
        workflow.dag.forcefiles.add(str(summary))
    return []


def update_mlflow():
    """Update MLflow from the files of runs and stages; a failure is a warning."""
    log = Path("logs/tracking.log")
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "tgdfer", "tracking"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        print(
            f"warning: MLflow is not up to date: see {log}, then run `tgdfer tracking`",
            file=sys.stderr,
        )


def gpus_here():
    """The NVIDIA GPUs that this process may use: those of CUDA_VISIBLE_DEVICES if it is set, else all of this machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name != "-1"]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU .*\(UUID: (\S+)\)", listing, re.MULTILINE)


if config.get("gpus") == "auto":
    # the scheduler counts the GPUs, and each job takes one (tgdfer/core/devices.py); without a GPU jobs ask for none
    shared = gpus_here() * int(config.get("jobs_per_gpu", 1))
    workflow.register_resource("gpu", len(shared))
    os.environ[devices.SHARED_GPUS] = ",".join(shared)
