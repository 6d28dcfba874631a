"""A small project of the report, and ways to look into its tables and runs."""

import csv
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from report_project import VARIANTS, Project

from tgdfer.core.classes import SEVEN
from tgdfer.reporting import render
from tgdfer.reporting.layout import Row, Table
from tgdfer.reporting.part import Part
from tgdfer.runs.files import Key

FEW = {name: VARIANTS[name] for name in ("tgdfer", "no-text", "linear-probe")}
FULL = "TG-DFER (full)"


def project(**settings: Any) -> Project:
    return Project(**{"variants": FEW, "clips": 100, "bootstrap": 60, "truth": False, "folds": 3, **settings})


def key(variant: str, fold: int = 1, seed: int = 0) -> Key:
    return Key("demo", variant, fold, seed)


def table(part: Part, name: str) -> Table:
    return next(table for table in part.tables if table.name == name)


def row(part: Part, name: str, label: str) -> Row:
    return next(row for row in table(part, name).rows if row.label == label)


def records(part: Part, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(render.to_csv(table(part, name)).splitlines()))


def predictions(variant: str, fold: int, seed: int, selection: str = "last") -> pd.DataFrame:
    """The predictions of a run with their class and confidence, read without any of the report's code."""
    frame = pq.read_table(f"runs/demo/{variant}/fold{fold}/seed{seed}/predictions.parquet").to_pandas()
    frame = frame[frame["selection"] == selection].sort_values("clip_id").reset_index(drop=True)
    frame["prediction"] = [SEVEN[int(np.argmax(p))] for p in frame["probabilities"]]
    frame["confidence"] = [float(max(p)) for p in frame["probabilities"]]
    return frame
