"""The command line: subcommands without logic. Heavy imports happen inside the commands."""

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tgdfer.config.params import SET_VARIABLE, load_params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.core.progress import setup_logging

app = typer.Typer(
    help="Text-guided dynamic facial expression recognition: from raw clips to the paper's tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters file.")]
Dataset = Annotated[str, typer.Option("--dataset", help="A data set named under `datasets` in the parameters.")]
PartOf = Annotated[str | None, typer.Option("--part", help="Process only this part of the shards, such as 2/8.")]
Lists = Annotated[list[Path] | None, typer.Argument(help="The lists that the jobs of all parts wrote, to join them.")]
DEFAULT = Path("params.yaml")
OF_THE_PLACE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
)
"""Errors of the disk or of permissions, which a traceback would not explain."""


@app.callback(epilog="Documentation: make docs, then site/index.html. To check this machine: tgdfer doctor.")
def common(
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only warnings and errors.")] = False,
    log: Annotated[
        Literal["text", "json"], typer.Option("--log", help="Format of the log; json writes an object per line.")
    ] = "text",
    study: Annotated[
        str | None, typer.Option("--study", help="Change parameters by studies/NAME.yaml; or set TGDFER_STUDY.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a parameter, such as model.top_k=1 (may be repeated).")
    ] = None,
) -> None:
    """Text-guided dynamic facial expression recognition: from raw clips to the paper's tables.

    Each step is a subcommand. The options above come before it:
    tgdfer --study low-shot --set training.epochs=5 train --dataset demo --variant tgdfer
    """
    setup_logging(quiet, log == "json")
    if study is not None:
        paths.choose_study(study)
    if changes:
        os.environ[SET_VARIABLE] = shlex.join([*shlex.split(os.environ.get(SET_VARIABLE, "")), *changes])


@app.command("render-demo", epilog="Example: tgdfer render-demo")
def render_demo(params: ParamsFile = DEFAULT) -> None:
    """Render the embedded data set: faces from action units, as H.264 clips with labels and folds."""
    from tgdfer.stages.render_demo import run

    run(load_params(params))


@app.command("render", epilog="Example: TGDFER_STUDY=transfer tgdfer render --name demo-dim")
def render(
    name: Annotated[str, typer.Option("--name", help="A data set named under `renders` in the parameters.")],
    params: ParamsFile = DEFAULT,
) -> None:
    """Render another data set like the embedded one, with other people, light or shares of the classes."""
    from tgdfer.stages.render import run

    run(load_params(params), name)


@app.command("train-demo-encoder", epilog="Example: tgdfer train-demo-encoder")
def train_demo_encoder(params: ParamsFile = DEFAULT) -> None:
    """Train the small CLIP of the embedded data set, on rendered faces of other identities with captions."""
    from tgdfer.stages.train_demo_encoder import run

    run(load_params(params))


@app.command("import-encoder", epilog="Example: tgdfer import-encoder --name vit-b-32")
def import_encoder(
    name: Annotated[str, typer.Option("--name", help="An encoder named under `encoders` in the parameters.")],
    params: ParamsFile = DEFAULT,
) -> None:
    """Load an open_clip model once, check it, and store it under models/ for jobs without a network."""
    from tgdfer.stages.import_encoder import run

    run(load_params(params), name)


@app.command("tracking", epilog="Example: tgdfer tracking")
def tracking(
    follow: Annotated[bool, typer.Option("--follow", help="Repeat every few seconds until interrupted.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Update MLflow from the files of runs and stages, at any time, even while trainings run."""
    from tgdfer.tracking import follow as keep_following
    from tgdfer.tracking import update

    if follow:
        keep_following(lambda: load_params(params))
    update(load_params(params))


@app.command("clips", epilog="Example: tgdfer clips --dataset demo")
def clips(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """List a data set's clips, labels and folds as two Parquet tables."""
    from tgdfer.stages.clips import run

    run(load_params(params), dataset)


@app.command("frames", epilog="Example: tgdfer frames --dataset demo")
def frames(dataset: Dataset, part: PartOf = None, lists: Lists = None, params: ParamsFile = DEFAULT) -> None:
    """Extract the frames of every clip into Parquet shards; clips that cannot be read go to the rejects."""
    from tgdfer.stages.frames import run

    run(load_params(params), dataset, Part.parse(part) if part else None, lists or ())


@app.command("features", epilog="Example: tgdfer features --dataset demo")
def features(dataset: Dataset, part: PartOf = None, lists: Lists = None, params: ParamsFile = DEFAULT) -> None:
    """Encode every frame once with the data set's CLIP image encoder."""
    from tgdfer.stages.features import join, run

    if lists:
        join(load_params(params), dataset, lists)
    else:
        run(load_params(params), dataset, Part.parse(part) if part else None)


@app.command("train", epilog="Example: tgdfer train --dataset demo --variant tgdfer --fold 1")
def train(
    dataset: Dataset,
    variant: Annotated[str, typer.Option("--variant", help="A variant named under `variants` in the parameters.")],
    fold: Annotated[list[int] | None, typer.Option("--fold", help="Only this fold (may be repeated).")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Only this seed (may be repeated).")] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Do not train: write the summary if all runs are finished.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Train finished runs again, from their first epoch.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Train and evaluate one variant on every fold and seed; finished runs are kept, killed ones resumed.

    Exit codes: 0 done, 1 a run failed (the others are done), 2 bad input, 75 stopped by a signal (call it again).
    """
    if collect:
        from tgdfer.runs.state import collect as write_summary

        return write_summary(load_params(params), dataset, variant)

    from tgdfer.stages.train import run

    code = run(load_params(params), dataset, variant, folds=fold, seeds=seed, again=again)
    if code == 1:
        typer.echo(f"error: {dataset}/{variant}: a run has no result, for the reason above", err=True)
    raise typer.Exit(code)


@app.command("transfer", epilog="Example: tgdfer transfer --source dfew --target mafw --variant tgdfer")
def transfer(
    source: Annotated[str, typer.Option("--source", help="The data set of the runs.")],
    target: Annotated[str, typer.Option("--target", help="The data set of the test clips.")],
    variant: Annotated[str, typer.Option("--variant", help="A variant named under `variants` in the parameters.")],
    params: ParamsFile = DEFAULT,
) -> None:
    """Test the runs of a variant on one data set on the clips of another, over the classes that both have."""
    from tgdfer.stages.transfer import run

    run(load_params(params), source, target, variant)


@app.command("report", epilog="Example: tgdfer report")
def report(
    tracking: Annotated[bool, typer.Option(help="Update MLflow afterwards, which Snakemake does at its end.")] = True,
    params: ParamsFile = DEFAULT,
) -> None:
    """Make the tables, figures and the page in reports/ from the files of all runs."""
    from tgdfer.stages.report import run

    chosen = load_params(params)
    run(chosen)
    if tracking:
        from tgdfer.tracking import update_after

        update_after(chosen)


@app.command("predict")
def predict(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos, folders of videos, or folders of images (a clip each).")
    ] = None,
    run: Annotated[
        str,
        typer.Option(
            "--run",
            help="runs/<data set>/<variant>/fold<k>/seed<s>, an --export folder, runs:/<id>, models:/<name>/<version>.",
        ),
    ] = "",
    output: Annotated[Path, typer.Option("--output", help="The folder for JSON, CSV, pictures and pages.")] = Path(
        "predictions"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row for each window.")] = False,
    crop: Annotated[
        str,
        typer.Option("--crop", help="face: crop faces; none: whole pictures; auto: as in training, see docs."),
    ] = "auto",
    person: Annotated[
        str, typer.Option("--person", help="largest: the person with the largest face; all: everyone.")
    ] = "largest",
    window: Annotated[
        float | None,
        typer.Option(
            "--window", help="Seconds of a window; 0: the video is one clip. Default: a median training clip."
        ),
    ] = None,
    stride: Annotated[
        float | None, typer.Option("--stride", help="Seconds from one window to the next. Default: half a window.")
    ] = None,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw the timeline.")] = True,
    page: Annotated[
        str,
        typer.Option("--page", help="link: the page links to the video; embed: it contains a copy; none: no page."),
    ] = "link",
    annotate: Annotated[Path | None, typer.Option("--annotate", help="Write an annotated mp4 of the video.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the model into a folder to share.")] = None,
    models: Annotated[Path, typer.Option("--models", help="The folder of the encoders.")] = Path("models"),
    device: Annotated[str, typer.Option("--device", help="auto, cpu, mps, cuda or cuda:<number>.")] = "auto",
    params: ParamsFile = DEFAULT,
) -> None:
    """Predict videos with a trained model: probabilities, the frames that decided, uncertainty; see docs/predict.md.

    tgdfer predict holiday.mp4 --run runs/demo/tgdfer/fold1/seed0

    tgdfer predict videos/ --run models:/tgdfer-demo@fold1-seed0 --crop face --output out

    The result is a guess at how onlookers would label a face, not at what somebody feels. Exit codes: 0 done, 1 a
    video could not be used (the others are done), 2 bad input.
    """
    from tgdfer.prediction import Predictor
    from tgdfer.prediction.command import Options, predict_all

    asked = Options(run, crop, person, page, window, stride, output, picture, annotate, as_json, as_csv)
    predictor = Predictor.from_run(run, models, device, params)
    if export is not None:
        predictor.save(export)
    if videos or export is None:
        text, code = predict_all(predictor, videos or [], asked)
        typer.echo(text, nl=False)
        raise typer.Exit(code)


@app.command("export", epilog="Example: tgdfer export runs/demo/tgdfer/fold1/seed0 --format onnx")
def export(
    run: Annotated[str, typer.Argument(help="A run's folder, or a name in MLflow, as for predict.")],
    form: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    output: Annotated[Path, typer.Option("--output", help="The file to write.")] = Path("model.onnx"),
    models: Annotated[Path, typer.Option("--models", help="The folder of the encoders.")] = Path("models"),
    params: ParamsFile = DEFAULT,
) -> None:
    """Write the image encoder and the model as one ONNX file, and compare it with PyTorch; see docs/predict.md."""
    from tgdfer.prediction import Predictor
    from tgdfer.prediction.onnx import export_onnx

    if form != "onnx":
        raise UserError(f"--format {form}: expected onnx")
    typer.echo(export_onnx(Predictor.from_run(run, models, "cpu", params).saved, output))


@app.command("validate", epilog="Example: tgdfer validate --dataset demo")
def validate(
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything differs or is faulty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every file; slow.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Check the parameters and the data sets on disk without running anything."""
    from tgdfer.datasets.validate import validate as run

    ok = run(load_params(params), dataset, strict=strict, as_json=as_json, deep=deep)
    if strict and not ok:
        raise typer.Exit(1)


@app.command("doctor", epilog="Example: tgdfer doctor")
def doctor(params: ParamsFile = DEFAULT) -> None:
    """Check this machine and project, and name the command that fixes each problem. Exit code 1 if there is one."""
    from tgdfer.tools.doctor import BAD, as_text, examine

    findings = examine(params)
    typer.echo(as_text(findings))
    raise typer.Exit(int(any(finding.verdict == BAD for finding in findings)))


@app.command("status", epilog="Example: tgdfer status --folds")
def status(
    folds: Annotated[bool, typer.Option("--folds", help="A line for every fold and seed.")] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Hash every file that stages wrote; exit with 1 if one is damaged or its source changed."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Show which runs are done, outdated, damaged, running, failed or missing, and which clips are rejected."""
    from tgdfer.tools import status as project

    found = project.look(load_params(params), verify)
    typer.echo(project.as_json(found) if as_json else project.as_text(found, folds))
    bad = found.damages or found.changed or any(run.state == "damaged" for run in found.runs)
    raise typer.Exit(int(bool(verify and bad)))


@app.command("explain", epilog="Example: tgdfer explain demo/tgdfer")
def explain(
    run: Annotated[
        str, typer.Argument(help="runs/<data set>/<variant>/fold<k>/seed<s>, or <data set>/<variant>: a table's row.")
    ],
    params: ParamsFile = DEFAULT,
) -> None:
    """Show where a number of the tables comes from and how to reproduce it. Exit code 1 if its files have changed."""
    from tgdfer.tools.explain import explain as run_explain

    text, fits = run_explain(load_params(params), run)
    typer.echo(text)
    raise typer.Exit(int(not fits))


@app.command("tune", epilog="Example: tgdfer tune --dataset demo")
def tune(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Rank the variants by the inner validation splits, without reading results on the test folds."""
    from tgdfer.tools.tune import tune as run_tune

    typer.echo(run_tune(load_params(params), dataset))


@app.command("new-dataset", epilog="Example: tgdfer new-dataset mine --csv videos/list.csv")
def new_dataset(
    name: Annotated[str, typer.Argument(help="The data set's name: letters, digits, - and _.")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="A CSV that lists videos and labels, with any usual column names.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Or a folder with a folder for each class.")] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="The folder that the CSV's paths are relative to; default: the CSV's."),
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="vit-b-32, vit-b-16, or one under `encoders` in the parameters.")
    ] = "vit-b-32",
    module: Annotated[
        bool, typer.Option("--module", help="Make a module that reads the CSV unchanged, and its test.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the list; default: ROOT/clips.csv.")] = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Add your own data set: its entry in the parameters, a card, a test, and the list of clips with folds."""
    from tgdfer.tools.scaffold import new_dataset as make

    made = make(params, name, csv, folder, root, encoder, module, out)
    typer.echo("\n".join([*map(str, made.files), "", made.summary, "", f"next: tgdfer validate --dataset {name}"]))


@app.command("download", epilog="Example: tgdfer download ravdess --accept-licence")
def download(
    name: Annotated[Literal["ravdess", "crema_d"], typer.Argument(help="A data set that is open to everyone.")],
    to: Annotated[Path | None, typer.Option("--to", help="The folder to use; default: data/raw/NAME.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="I have read the licence, which is printed, and agree to it.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A mirror: a web folder with the same files under the same names.")
    ] = None,
    part: Annotated[
        Literal["speech", "song", "both"] | None, typer.Option("--part", help="A part of ravdess; default: speech.")
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep unpacked archives; the folder can then serve as a mirror.")
    ] = False,
) -> None:
    """Download an open data set and check its published checksums; a further call fetches what is missing."""
    from tgdfer.tools.download import download as run

    run(name, to, accept_licence, base_url, part, keep_archives)


def main() -> None:
    """Entry point. A UserError or an error of the disk becomes one line on standard error and exit code 2."""
    # waiting threads should soon sleep: while they spin, they take cores from others on a busy machine, and the demo
    # encoder trains half as fast; on a free machine this costs 2 %. GNU's OpenMP reads it when torch is loaded
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _refuse_two_graphs()
        app([_without_tilde(one) for one in sys.argv[1:]])
    except UserError as error:
        sys.exit(_complain(error))
    except OSError as error:
        if error.errno not in OF_THE_PLACE:
            raise
        sys.exit(_complain(UserError(f"{error.filename or Path.cwd()}: {error.strerror}")))


def _without_tilde(argument: str) -> str:
    """A path, also after an option's name, in the home folder: shells expand neither --output=~/out nor '~/out'."""
    option, mark, path = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + mark + os.path.expanduser(path)  # noqa: PTH111 (of "" it is "")


def _refuse_two_graphs() -> None:
    """Raise a UserError in a stage of DVC while Snakemake holds its lock on this folder: both write the same files."""
    if os.environ.get("DVC_STAGE") and any(Path(".snakemake/locks").glob("*")):
        raise UserError(
            "Snakemake is working in this folder, and both would write the same files: wait until it ends, "
            "or run snakemake --unlock if it was killed"
        )


def _complain(error: UserError) -> int:
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)
    return 2
