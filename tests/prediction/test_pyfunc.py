"""A model in MLflow gives what `tgdfer predict` gives, by every name that it has, and loads no code."""

import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import prediction_project as project
import pytest
import yaml
from prediction_project import RUN

from tgdfer import Predictor, tracking
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.prediction.saved import load_saved
from tgdfer.tracking.models import DATA, folder_of
from tgdfer.tracking.server import connected
from tgdfer.tracking.wanted import MODEL_FILES

NAME = "models:/tgdfer-tiny@fold1-seed0"


@pytest.fixture(scope="module")
def tracked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = shutil.copytree(root, tmp_path_factory.mktemp("tracked") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text(yaml.safe_dump(project.params().model_dump(mode="json")))
        tracking.update(project.params())
    return copy


@pytest.fixture(autouse=True)
def here(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.params().tracking.place)


def test_pyfunc_is_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = sorted(str(path.resolve()) for path in Path("raw").glob("*.mp4"))[:2]
    expected = [Predictor.from_run(RUN, device="cpu").predict(video).probabilities for video in videos]
    monkeypatch.chdir(tmp_path)  # where there is no encoder
    model = mlflow.pyfunc.load_model(NAME)
    assert model.metadata.signature.inputs.input_names() == ["path"]
    found = model.predict(pd.DataFrame({"path": [*videos, "absent.mp4"]}))
    for row, probabilities in zip(found.to_dict("records"), expected, strict=False):
        assert {name: row[name] for name in probabilities} == pytest.approx(probabilities, abs=1e-6)
        assert row["label"] == max(probabilities, key=probabilities.get) and row["reason"] == ""
    assert found["label"][2] == "" and "no such file" in found["reason"][2] and found["happy"].isna()[2]
    folder = Path(mlflow.artifacts.download_artifacts(NAME))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    written = {"MLmodel", "model.safetensors", "model.json", "run.json", "project.json"}
    assert files - {"registered_model_meta"} == written, "nothing that is pickled"


def test_a_model_by_every_name_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    params = project.params()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the project's own database is found without it
    with connected(params) as client:
        pass
    experiment = client.get_experiment_by_name("tgdfer/tiny").experiment_id
    ids = {run.data.tags["tgdfer.run"]: run.info.run_id for run in client.search_runs([experiment])}
    words, probe = ids["tiny/words/fold1/seed0"], ids["tiny/probe/fold1/seed0"]
    logged = client.get_model_version_by_alias("tgdfer-tiny", "fold1-seed0").source
    for uri in (f"runs:/{words}", f"runs:/{words}/model", "models:/tgdfer-tiny/1", NAME, logged):
        folder = folder_of(params, uri)
        assert folder.resolve() != RUN.resolve()
        assert load_saved(folder, Path("models"), "cpu").name == "tiny/words fold 1 seed 0"
    assert Predictor.from_run(f"runs:/{words}", device="cpu").saved.name == "tiny/words fold 1 seed 0"
    own = Path("runs/tiny/probe/fold1/seed0")
    assert folder_of(params, f"runs:/{probe}") == own, "only the reference variant's models are in MLflow"
    about = json.loads((own / "run.json").read_text())
    storage.write_json(own / "run.json", {**about, "fingerprint": "another"})
    for uri in (f"runs:/{probe}", "runs:/0123", "models:/tgdfer-tiny/7", "models:/nothing@x", "models:/x"):
        with pytest.raises(UserError, match=uri):
            folder_of(params, uri)


def test_an_adapted_model_is_predict_too(tmp_path: Path) -> None:
    folder, own = (
        Path(mlflow.artifacts.download_artifacts(NAME, dst_path=tmp_path)),
        Path(str(RUN).replace("words", "lora")),
    )
    for file in MODEL_FILES:
        shutil.copy(own / file, folder / DATA)
    video = str(next(Path("raw").glob("*.mp4")).resolve())
    row = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"path": [video]})).iloc[0]
    expected, frozen = (Predictor.from_run(run, device="cpu").predict(video).probabilities for run in (own, RUN))
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert expected != pytest.approx(frozen, abs=1e-3), "the adapted blocks make a difference"
