"""What the rules share: the parameters, fingerprints of code, and how resources grow with the attempt."""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job

# the package next to this Snakefile, whatever is installed
sys.path.insert(0, workflow.basedir)

from tgdfer.config import ahead
from tgdfer.config.params import SET_VARIABLE, load_params
from tgdfer.core import devices, paths
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.datasets import fold_numbers
from tgdfer.datasets.size import clip_count
from tgdfer.media import sources
from tgdfer.runs import outputs, state
from tgdfer.runs.files import Key

# `python` in a rule is the Python that runs Snakemake, whether or not its environment is activated. It replaces the
# shell, because a scheduler's SIGTERM kills a shell at once, and with it the stage before it has saved its state
BIN = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(f'export PATH={BIN}:"$PATH"; exec ')


def dvc_process():
    """The process of a DVC that works in this folder, by its own record; None if there is none."""
    try:
        locked = json.loads(Path(".dvc/tmp/rwlock").read_text()).values()
    except (OSError, ValueError):
        return None
    holders = [[lock.get("write"), *lock.get("read", [])] for lock in locked]
    pids = [holder["pid"] for listed in holders for holder in listed if holder]
    return next((pid for pid in pids if psutil.pid_exists(pid)), None)


if "--target-jobs" not in sys.argv and (pid := dvc_process()):  # else it is a job
    raise WorkflowError(
        f"dvc is working in this folder (process {pid}), and both would write the same files: wait until it has ended"
    )


def check_target(target):
    """Raise a UserError if a file below data/ or runs/ is asked for whose data set, variant, fold or seed is unknown."""
    path, home = Path(target), paths.RUNS.parent
    inside = path.relative_to(home) if path.is_relative_to(home) else path
    top, dataset, *rest = [*inside.parts, "", ""]
    if top not in ("data", "runs") or dataset in ("", "raw"):
        return
    PARAMS.dataset(dataset)
    if top == "runs" and rest[0]:
        PARAMS.run(rest[0])
        asked = re.match(r"fold(\d+)/seed\d+/", "/".join(rest[1:]))
        if asked and int(asked[1]) not in FOLDS[dataset]:
            known = ", ".join(map(str, FOLDS[dataset]))
            raise UserError(
                f"{target}: data set {dataset} has no fold {asked[1]}; its folds are {known}"
            )


EXPECTED = {
    "study": ("the name of a file in studies/, without .yaml", ".*"),
    "set": (
        "KEY=VALUE, such as set=model.top_k=1; several separated by blanks",
        ".+=.*",
    ),
    "grid": ("'all', or variants separated by commas", ".+"),
    "seeds": ("whole numbers separated by commas", "[0-9]+(,[0-9]+)*"),
    "gpus": ("'auto'", "auto"),
    "jobs_per_gpu": ("a whole number from 1", "[1-9][0-9]*"),
    "frames_jobs": ("a whole number from 1", "[1-9][0-9]*"),
    "features_jobs": ("a whole number from 1", "[1-9][0-9]*"),
    "train_jobs": ("'run' (a job for each fold and seed) or 'variant'", "run|variant"),
}
for key, value in config.items():
    expected, pattern = EXPECTED.get(
        key, (f"one of the keys {', '.join(EXPECTED)}", "(?!)")
    )
    if not re.fullmatch(pattern, str(value)):
        raise WorkflowError(f"--config {key}={value}: expected {expected}")

# jobs and the commands that rules start read these from the environment
CHANGES = shlex.split(os.environ.get(SET_VARIABLE, ""))
CHANGES += shlex.split(str(config.get("set", "")))
CHANGES += [
    f"{key}=[{config[key]}]"
    for key in ("grid", "seeds")
    if config.get(key, "all") != "all"
]
os.environ[SET_VARIABLE] = shlex.join(dict.fromkeys(CHANGES))

try:
    if "study" in config:
        paths.choose_study(str(config["study"]))
    PARAMS = load_params()
    FOLDS = {dataset: fold_numbers(PARAMS, dataset) for dataset in PARAMS.datasets}
    for target in sys.argv[1:]:
        check_target(target)
except UserError as error:
    raise WorkflowError(str(error)) from None


def grow(base, more=lambda wildcards: 0):
    """A resource that doubles with every attempt, for jobs that were killed for lack of it.

    `more` is what a job needs of it besides `base`, by the size of its input.
    """
    return lambda wildcards, attempt: (base + int(more(wildcards))) * 2 ** (attempt - 1)


clips_of = functools.cache(functools.partial(clip_count, PARAMS))


def memory(per_clip_kb):
    """MB for the clips of a data set, in whole GB."""
    return lambda wildcards: clips_of(wildcards.dataset) * per_clip_kb // 10**6 * 1000


def frames_minutes(wildcards):
    """For the frames of a data set, or of a part of its shards, at half the rate of docs/scaling.md."""
    chosen = PARAMS.frames_of(wildcards.dataset)
    frames = clips_of(wildcards.dataset) * chosen.max_frames
    return (
        frames
        / int(wildcards.get("parts", 1))
        / (100 if chosen.crop == "face" else 600)
        / 60
    )


def features_minutes(wildcards):
    """For their features, at 200 a second: more than a CPU encodes, and less than a GPU."""
    frames = (
        clips_of(wildcards.dataset) * PARAMS.frames_of(wildcards.dataset).max_frames
    )
    return (
        frames * (1 + PARAMS.features.views) / int(wildcards.get("parts", 1)) / 200 / 60
    )


def training_minutes(wildcards):
    """For one run, or for all of a variant, by the times of docs/scaling.md; at most a day, for it can be continued."""
    run = PARAMS.run(wildcards.variant, wildcards.dataset)
    seconds = 0.011 if run.model.uses_text and run.model.context_tokens else 0.002
    runs = (
        1
        if hasattr(wildcards, "fold")
        else len(FOLDS[wildcards.dataset]) * len(PARAMS.seeds)
    )
    return min(
        1440,
        runs * run.training.epochs * clips_of(wildcards.dataset) * seconds / 60,
    )


GRID = list(PARAMS.variants) if config.get("grid") == "all" else PARAMS.grid
if refused := ahead.refusals(PARAMS, GRID):
    raise WorkflowError("\n".join(map(str, refused)))
PARTS = {stage: int(config.get(f"{stage}_jobs", 1)) for stage in ("frames", "features")}
"""The most jobs of a data set that share the shards of a stage."""
SPLIT = {stage: count > 1 for stage, count in PARTS.items()}
SPLIT["train"] = config.get("train_jobs") == "run"
"""Whether a stage is split into jobs, which leave the stage's own job only to collect what they made."""


def summaries(wildcards):
    """The summary of every variant of the grid on every data set."""
    return [
        paths.variant(dataset, variant)
        for dataset in PARAMS.datasets
        for variant in GRID
    ]


def transfers(wildcards):
    """The predictions of the runs of every variant of `transfer`, for each pair of data sets."""
    return [
        paths.transfer(source, target, variant)
        for source in PARAMS.datasets
        for target in PARAMS.datasets
        for variant in PARAMS.transfer
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
        clips = Path(dataset.annotations)
        if clips in PARAMS.rendered:
            made |= {clips, clips.with_name(paths.DEMO_TRUTH.name)}
    return [*sorted(made), *summaries(wildcards), *transfers(wildcards)]


def items(wildcards):
    """The tables and figures that the report has made, for `snakemake --report`."""
    tables = (paths.REPORTS / "tables").glob("*.md")
    return [*sorted(tables), *sorted((paths.REPORTS / "figures").glob("*.png"))]


def truths(wildcards):
    """The true intensities per frame of the data sets that have them; only the report reads them."""
    return [dataset.truth for dataset in PARAMS.datasets.values() if dataset.truth]


def encoder_of(wildcards):
    """The description of a data set's encoder."""
    return paths.encoder(PARAMS.datasets[wildcards.dataset].encoder)


def features_of(wildcards):
    """The manifest of a data set's feature cache."""
    return paths.features(wildcards.dataset, PARAMS.datasets[wildcards.dataset].encoder)


def parts_of(stage, manifest):
    """The lists that the jobs of a stage write, as a function of the wildcards; none where one job does it all."""

    def lists(wildcards):
        shards = PARAMS.frames_of(wildcards.dataset).shards
        count = min(PARTS[stage], shards) if SPLIT[stage] else 0
        made = Path(str(manifest).format(**wildcards))
        return [Part(number, count).list_of(made) for number in range(1, count + 1)]

    return lists


def training_inputs(wildcards):
    """What a training reads. The manifest of the features names the encoder, so a new one arrives here through them."""
    dataset = wildcards.dataset
    return [paths.clips(dataset), paths.folds(dataset), features_of(wildcards)]


def summary_inputs(wildcards):
    """The metrics of every run of a variant, or what its trainings read where its own job trains them all."""
    if not SPLIT["train"]:
        return training_inputs(wildcards)
    return [
        paths.run(wildcards.dataset, wildcards.variant, fold, seed) / "metrics.json"
        for fold in FOLDS[wildcards.dataset]
        for seed in PARAMS.seeds
    ]


@functools.cache
def expected(dataset):
    """What the runs of a data set are made from now."""
    return state.Expected(PARAMS, dataset)


def outdated_run(wildcards):
    """No input: makes Snakemake train a run again that is not current. Its files say so; Snakemake's records do not."""
    key = Key(
        wildcards.dataset, wildcards.variant, int(wildcards.fold), int(wildcards.seed)
    )
    metrics = key.folder / "metrics.json"
    if metrics.exists() and not expected(key.dataset).state(key).done:
        workflow.dag.forcefiles.add(str(metrics))
    return []


def outdated_summary(wildcards):
    """No input: makes Snakemake write a summary again whose runs are not current, or not those asked for."""
    summary = paths.variant(wildcards.dataset, wildcards.variant)
    current = state.is_listed if SPLIT["train"] else state.is_current
    if summary.exists() and not current(PARAMS, *wildcards):
        workflow.dag.forcefiles.add(str(summary))
    return []


def outdated(stage, *made):
    """No input: makes Snakemake make an output again that was made with other parameters or code, or is damaged.

    Its files say so. Times of files do not show it, and Snakemake's records know only what Snakemake made.
    """

    def look(wildcards):
        for pattern in made:
            path = Path(str(pattern).format(**wildcards))
            if outputs.damages(path) or outputs.is_outdated(
                path, PARAMS, stage, **wildcards
            ):
                workflow.dag.forcefiles.add(str(path))
        return []

    return look


def replaced_sources(wildcards):
    """No input: makes Snakemake make frames again whose sources have changed, of which its records know nothing."""
    manifest = paths.frames(wildcards.dataset)
    if sources.changed(PARAMS, wildcards.dataset):
        workflow.dag.forcefiles.add(str(manifest))
    return []


def refused(job):
    """Whether a job ended with one line for its user, as bad input or a full disk does: no retry changes that."""
    logs = [Path(log) for log in job.log if Path(log).is_file()]
    last = [
        log.read_text(errors="replace").rstrip().rpartition("\n")[2] for log in logs
    ]
    return any(line.startswith("error: ") for line in last)


Job.restart_times = property(lambda job: 0 if refused(job) else job.rule.restart_times)


async def oldest_output(job):
    """When the oldest output of a job was written; its benchmark is not one: DVC leaves it as it was."""
    times = [await file.mtime() for file in job.output if await file.exists()]
    return min((time.local_or_storage() for time in times), default=None)


Job.output_mintime = property(oldest_output)


def broken_node(slurm_job):
    """The node of a SLURM job that could not even start Python there: no environment, or no file system."""
    shown = subprocess.run(
        ["scontrol", "-o", "show", "job", slurm_job], capture_output=True, text=True
    ).stdout
    found = re.search(r" ExitCode=12[67]:.* BatchHost=(\S+)", shown)
    return found and found[1]


def avoiding_broken_nodes(report_job_error):
    """Let the retries of failed jobs, and all later jobs, run on other nodes than those where none can start."""

    @functools.wraps(report_job_error)
    def report(executor, job, msg=None, **about):
        if node := broken_node(job.external_jobid):
            executor._failed_nodes.add(node)
            msg = f"{msg} No job can start on {node}, which is avoided from now on: is {sys.executable} there?"
        report_job_error(executor, job, msg=msg, **about)

    return report


def waiting_for_an_answer(query):
    """Let a scheduler that does not answer mean that nothing has changed: the executor would forget its jobs."""

    @functools.wraps(query)
    async def ask(command, logger):
        found, seconds = await query(command, logger)
        return ({}, 0.0) if found is None else (found, seconds)

    return ask


if slurm := sys.modules.get("snakemake_executor_plugin_slurm"):
    slurm.Executor.report_job_error = avoiding_broken_nodes(
        slurm.Executor.report_job_error
    )
    slurm.query_job_status = waiting_for_an_answer(slurm.query_job_status)


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
