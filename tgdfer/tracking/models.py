"""Models in MLflow: logged with a signature, registered, and found again by their names."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.tracking.store import Store, line
from tgdfer.tracking.wanted import MODEL_FILES, Wanted

LOADER = "tgdfer.prediction.pyfunc"
"""The module that loads a model from safetensors and JSON; no pickle is involved."""
MODEL = "model"


def log_model(store: Store, run_id: str, run: Wanted) -> Any:
    """The logged model of a run, made if there is none."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    assert run.model
    client = store.client
    experiment = client.get_run(run_id).info.experiment_id
    ready = client.search_logged_models([experiment], f"source_run_id = '{run_id}' AND status = 'READY'")
    if ready:
        return ready[0]
    title, tags = run.title.replace(" ", "-"), {key: run.tags[key] for key in run.tags if key.startswith("tgdfer.")}
    logged = client.create_logged_model(experiment, title, run_id, tags, run.parameters, "tgdfer")
    classes = storage.read_json(run.model / "model.json")["classes"]
    outputs = [ColSpec("string", "path"), ColSpec("string", "label"), *(ColSpec("double", name) for name in classes)]
    signature = ModelSignature(Schema([ColSpec("string", "path")]), Schema([*outputs, ColSpec("string", "reason")]))
    about = Model(MODEL, run_id, signature=signature, model_id=logged.model_id)
    about.add_flavor("python_function", loader_module=LOADER, data=MODEL, python_version=platform.python_version())
    with TemporaryDirectory() as folder:
        data = Path(folder) / MODEL
        data.mkdir()
        for name in MODEL_FILES:
            shutil.copyfile(run.model / name, data / name)
        storage.write_json(data / "project.json", {"models": str(paths.MODELS.resolve())})
        about.save(f"{folder}/MLmodel")
        client.log_model_artifacts(logged.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def set_aliases(store: Store, name: str, runs: dict[str, Wanted]) -> None:
    """Register the models of the current runs as ``name``; the alias of a fold and seed leads to its current run."""
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:
        if not runs:
            return
        aliases = client.create_registered_model(name).aliases
    versions = {version.run_id: str(version.version) for version in client.search_model_versions(f"name = '{name}'")}
    asked = {}
    for run_id, run in runs.items():
        if run_id not in versions:
            model = log_model(store, run_id, run).model_id
            tags = {key: run.tags[key] for key in ("tgdfer.variant", "tgdfer.fold", "tgdfer.seed")}
            with _default_uri(store.uri):
                made = client.create_model_version(
                    name, f"models:/{model}", run_id, tags, description=_about(run), model_id=model
                )
            versions[run_id] = str(made.version)
        asked[f"fold{run.tags['tgdfer.fold']}-seed{run.tags['tgdfer.seed']}"] = versions[run_id]
    for alias in aliases.keys() - asked.keys():
        client.delete_registered_model_alias(name, alias)
    for alias, version in asked.items():
        if str(aliases.get(alias)) != version:
            client.set_registered_model_alias(name, alias, version)


@contextmanager
def _default_uri(uri: str) -> Iterator[None]:
    """Make ``uri`` MLflow's default, which it asks for a logged model when a version of it is registered or fetched."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _about(run: Wanted) -> str:
    rates = {key: value for key, value, _, step in run.points if step == 0 and key.split("/")[-1] in ("uar", "war")}
    said = ", ".join(f"{key} {100 * value:.1f} %" for key, value in rates.items() if not key.startswith("other/"))
    return f"{run.title} of {run.tags['tgdfer.dataset']}: {said} on the fold's test clips"


def folder_of(params: Params, uri: str) -> Path:
    """A folder with the model.safetensors, model.json and run.json of ``runs:/<id>`` or ``models:/...``.

    Raises:
        UserError: MLflow cannot be reached or does not know the run or model, or its files are nowhere.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = Store(params).client
        if uri.startswith("runs:/"):
            run = client.get_run(uri.removeprefix("runs:/").strip("/").split("/")[0])
            model = next(iter(run.outputs.model_outputs), None) if run.outputs else None
            if model is None:
                own = paths.RUNS.joinpath(
                    *(part for part in run.data.tags.get("tgdfer.run", "").split("/") if part != "..")
                )
                about = storage.read_json(own / "run.json")
                if about.get("fingerprint") != run.data.tags.get("tgdfer.fingerprint"):
                    raise UserError(f"{own}: another run than MLflow's {uri}")
                return own
            uri = f"models:/{model.model_id}"
        with _default_uri(client.tracking_uri):
            return Path(mlflow.artifacts.download_artifacts(uri)) / MODEL
    except (MlflowException, OSError) as error:
        raise UserError(f"{uri}: MLflow has no such model ({line(error)}); give a run's folder instead") from None
