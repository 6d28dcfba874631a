"""Models in MLflow: logged with a signature, registered, and found again by their names."""

import platform
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.provenance import reason
from tgdfer.tracking.server import connected
from tgdfer.tracking.wanted import MODEL_FILES, Wanted

LOADER = "tgdfer.prediction.pyfunc"
"""The module that loads a model from safetensors and JSON; no pickle is involved."""
DATA = "model"


def log_model(client: Any, experiment: str, run: Wanted) -> str:
    """The id of the logged model of a run; it is logged if it is not there."""
    found = client.search_logged_models([experiment], f"source_run_id = '{run.run_id}' AND status = 'READY'")
    if found:
        return str(found[0].model_id)
    assert run.model
    classes = storage.read_json(run.model / "model.json")["classes"]
    columns = {"path": "string", "label": "string", **dict.fromkeys(classes, "double"), "reason": "string"}
    outputs = Schema([ColSpec(kind, name) for name, kind in columns.items()])
    name = run.tags["tgdfer.run"].partition("/")[2].replace("/", "-")
    number: str = client.create_logged_model(experiment, name, run.run_id, run.tags, run.parameters).model_id
    about = Model(DATA, run.run_id, signature=ModelSignature(Schema([ColSpec("string", "path")]), outputs))
    about.add_flavor("python_function", loader_module=LOADER, data=DATA, python_version=platform.python_version())
    with TemporaryDirectory() as folder:
        data = Path(folder) / DATA
        data.mkdir()
        for file in MODEL_FILES:
            shutil.copy(run.model / file, data)
        storage.write_json(data / "project.json", {"models": str(paths.MODELS.resolve())})
        about.save(f"{folder}/MLmodel")
        client.log_model_artifacts(number, folder)
    client.log_outputs(run.run_id, [LoggedModelOutput(number, 0)])
    results = [point for point in run.points if point.step == 0]
    client.log_batch(run.run_id, [Metric(p.key, p.value, p.timestamp, 0, model_id=number) for p in results])
    client.finalize_logged_model(number, "READY")
    return number


def set_aliases(client: Any, experiment: str, name: str, runs: list[Wanted]) -> None:
    """Register the models of current ``runs`` as ``name``; the alias of a fold and seed leads to its current run."""
    found = client.search_registered_models(f"name = '{name}'")
    if not (found or runs):
        return
    aliases = (found[0] if found else client.create_registered_model(name)).aliases
    versions = {version.run_id: version.version for version in client.search_model_versions(f"name = '{name}'")}
    asked = {}
    for run in runs:
        if run.run_id not in versions:
            model = log_model(client, experiment, run)
            tags = {key: run.tags[key] for key in ("tgdfer.variant", "tgdfer.fold", "tgdfer.seed")}
            made = client.create_model_version(name, f"models:/{model}", run.run_id, tags, model_id=model)
            versions[run.run_id] = made.version
        asked[f"fold{run.tags['tgdfer.fold']}-seed{run.tags['tgdfer.seed']}"] = str(versions[run.run_id])
    for alias in aliases.keys() - asked.keys():
        client.delete_registered_model_alias(name, alias)
    for alias, version in asked.items():
        if str(aliases.get(alias)) != version:
            client.set_registered_model_alias(name, alias, version)


def folder_of(params: Params, uri: str) -> Path:
    """A folder with the model.safetensors, model.json and run.json of ``runs:/<id>`` or ``models:/...``.

    Raises:
        UserError: MLflow cannot be reached or does not know the run or model, or its files are nowhere.
    """
    try:
        with connected(params) as client:
            if uri.startswith("runs:/"):
                run = client.get_run(uri.removeprefix("runs:/").strip("/").split("/")[0])
                if not (run.outputs and run.outputs.model_outputs):
                    return _own_folder(uri, run.data.tags)
                uri = f"models:/{run.outputs.model_outputs[0].model_id}"
            return Path(mlflow.artifacts.download_artifacts(uri)) / DATA
    except (MlflowException, OSError) as error:
        raise UserError(f"{uri}: MLflow has no such model ({reason(error)}); give a run's folder instead") from None


def _own_folder(uri: str, tags: dict[str, str]) -> Path:
    """The folder in ``runs/`` of a run whose model is not in MLflow."""
    folder = paths.RUNS / tags.get("tgdfer.run", "")
    if storage.read_object(folder / "run.json").get("fingerprint") != tags.get("tgdfer.fingerprint", ""):
        raise UserError(f"{folder}: has been replaced since MLflow recorded {uri}; give a run's folder instead")
    return folder
