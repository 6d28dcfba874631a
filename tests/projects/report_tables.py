"""A small project of the report, and ways to look into its tables."""

import csv
from typing import Any

from report_project import VARIANTS, Project

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
