"""A run's model from its name in MLflow: ``runs:/<id>``, ``models:/<name>/<version>`` or ``models:/<name>@<alias>``."""

from __future__ import annotations

from pathlib import Path

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.storage import read_json
from tgdfer.tracking.imports import line
from tgdfer.tracking.sink import MODEL
from tgdfer.tracking.store import Store

SCHEMES = ("runs:/", "models:/")


def folder_of(params: Params, uri: str) -> Path:
    """A folder with the run's model.safetensors, model.json and run.json: the artifacts, or else the run's own folder.

    Raises:
        UserError: MLflow cannot be reached or does not know the run or model, or its files are nowhere.
    """
    from mlflow.exceptions import MlflowException

    scheme, _, rest = uri.partition(":/")
    rest = rest.strip("/")
    try:
        client = Store(params).client
        if scheme == "models":
            name, at, alias = rest.partition("@")
            if at:
                found = client.get_model_version_by_alias(name, alias)
            else:
                name, _, version = rest.rpartition("/")
                found = client.get_model_version(name, version)
            run_id = found.run_id
        else:
            run_id = rest.partition("/")[0]
        run = client.get_run(run_id)
        if any(item.path == MODEL for item in client.list_artifacts(run_id)):
            return Path(client.download_artifacts(run_id, MODEL))
    except (MlflowException, OSError) as error:
        raise UserError(f"{uri}: MLflow has no such model ({line(error)}); give a run's folder instead") from None
    own = paths.RUNS.joinpath(*_steps(run.data.tags.get("tgdfer.run", "")))
    if (own / "run.json").is_file() and read_json(own / "run.json").get("fingerprint") == run.data.tags.get(
        "tgdfer.fingerprint"
    ):
        return own
    raise UserError(f"{uri}: the run keeps no model in MLflow, and {own} does not hold it; train the run again")


def _steps(run: str) -> list[str]:
    """The parts of a run's name; none that leads out of the folder of all runs."""
    return [part for part in run.split("/") if part not in ("", ".", "..")]
