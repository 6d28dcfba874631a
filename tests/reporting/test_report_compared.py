"""What the report leaves for comparing experiments."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev

import pytest
from report_project import VARIANTS, Project

from tgdfer.core import paths, storage
from tgdfer.stages import report


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_metrics_and_plots_are_those_of_the_runs(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    variants = {name: VARIANTS[name] for name in ("tgdfer", "no-text")}
    params = Project(variants=variants, folds=2, clips=60, bootstrap=20, selection="best_test").write()
    stale = Path("reports/plots/variants/gone.csv")
    stale.parent.mkdir(parents=True)
    stale.write_text("variant,uar,war\n")
    report.run(params)
    runs = [json.loads((paths.run("demo", "tgdfer", fold, 0) / "metrics.json").read_text()) for fold in (1, 2)]
    uar = [run["selections"]["best_test"]["uar"] for run in runs]
    found = json.loads(Path("reports/metrics.json").read_text())["demo"]
    assert set(found) == {"tgdfer", "no-text"}
    assert found["tgdfer"]["uar"] == round(fmean(uar), 6)
    assert found["tgdfer"]["uar_std"] == round(stdev(uar), 6)
    assert not stale.exists()
    printed = [(row["variant"], float(row["uar"])) for row in rows("reports/plots/variants/demo.csv")]
    assert printed == [(name, found[name]["uar"]) for name in variants], "in the order of params.yaml"
    confusion = Counter((row["actual"], row["predicted"]) for row in rows("reports/plots/confusion/demo.csv"))
    tables = [run["selections"]["best_test"]["confusion"] for run in runs]
    classes = runs[0]["classes"]
    for true, name in enumerate(classes):
        for predicted, other in enumerate(classes):
            assert confusion[name, other] == sum(table[true][predicted] for table in tables)
    histories = [storage.read_lines(paths.run("demo", "tgdfer", fold, 0) / "history.jsonl") for fold in (1, 2)]
    learning = rows("reports/plots/learning/demo.csv")
    assert list(learning[0]) == ["epoch", "test_uar", "train_war"]
    assert [int(row["epoch"]) for row in learning] == [epoch["epoch"] for epoch in histories[0]]
    last = fmean(history[-1]["test_uar"] for history in histories)
    assert float(learning[-1]["test_uar"]) == pytest.approx(last, abs=1e-6)

    (record,) = paths.STAGE_RECORDS.glob("report/*.json")
    assert storage.read_json(record)["metrics"]["runs"] == 4


def test_the_curve_of_a_reference_without_runs_is_a_header(new_folder: Path) -> None:
    params = Project(variants={"tgdfer": VARIANTS["tgdfer"]}, folds=2, clips=60, bootstrap=20).write()
    shutil.rmtree(paths.RUNS / "demo" / "tgdfer")
    report.run(params)
    assert Path("reports/plots/learning/demo.csv").read_text() == "epoch,test_uar,train_war\n"
