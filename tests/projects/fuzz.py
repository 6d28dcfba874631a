"""Damage the files of a finished project at random, one at a time; run as a program in the project's folder.

Arguments: the number of damages and the seed. A damage is a flipped bit or a truncation; the file keeps its time.
Prints a JSON object: how many damages left the report the same, or changed it with a note that names the file; and
the files whose damage changed the report silently, stopped it, was not noticed by `tgdfer status --verify`, or was not
repaired by the command that is printed for them.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tgdfer.config.params import Params, load_params
from tgdfer.core import checksums, paths
from tgdfer.core.errors import UserError
from tgdfer.reporting import maps, render, strips
from tgdfer.reporting.findings import gaps
from tgdfer.reporting.report import build
from tgdfer.reporting.sources import data_card
from tgdfer.stages.report import with_others
from tgdfer.tools import status

MADE = (
    *("data/raw/demo/videos/*", "data/raw/demo/*.*", "models/demo-clip/*"),
    *("data/demo/*.parquet", "data/demo/frames/*", "data/demo/features/*/*.json", "data/demo/features/*/*/*"),
    *("runs/demo/*/fold*/seed*/*", "runs/demo/*/summary.json"),
    *("reports/tables/*", "reports/figures/*", "reports/plots/*/*", "reports/*.*"),
)
UNLISTED = {"README.md", "system.jsonl", "rendered.jsonl", "sources.parquet"}
"""Not results: the load of the machine, a journal whose damage makes a video to be rendered again, times of sources."""


def report(params: Params) -> tuple[list[str], str]:
    """What the report shows (tables as CSV, the data card, and what figures are made of), and all its notes."""
    checksums.forget()
    shown, notes = [], []
    for dataset in params.datasets:
        part = build(with_others(params, [dataset]), dataset)
        vectors = maps.read(part.experiment, part.reference)
        examples = strips.choose(part.experiment, part.reference, part.selection)
        wanted = {example.clip_id: set(example.frame_index.tolist()) for example in examples}
        shown += [*map(render.to_csv, part.tables), repr(data_card(part))]
        shown += [repr(vectors and {name: value.tobytes() for name, value in vectors[1].items()})]
        shown += [repr(strips.read_frames(dataset, wanted, part.experiment.problems))]
        notes += [*map(render.to_markdown, part.tables), *gaps(part)]
    return shown, "\n".join(notes)


def outcome(params: Params, path: Path, whole: tuple[list[str], str]) -> str:
    """What the damage of ``path`` does to the report, which was ``whole``: same, named, stopped or silent."""
    try:
        shown, notes = report(params)
    except UserError:
        return "stopped"
    if shown == whole[0]:
        return "same"
    return "named" if path.name in notes and path.name not in whole[1] else "silent"


def is_noticed(params: Params) -> bool:
    """Whether `tgdfer status --verify` names a damage."""
    checksums.forget()
    found = status.look(params, verify=True)
    return bool(found.damages) or any(run.state == "damaged" for run in found.runs)


def damaged(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    if rng.random() < 0.3:
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def main(count: int, seed: int) -> None:
    rng = random.Random(seed)
    kinds = {kind: [path for path in sorted(Path().glob(kind)) if path.name not in UNLISTED] for kind in MADE}
    files = [path for paths_of_kind in kinds.values() for path in paths_of_kind]
    assert all(kinds.values()), kinds
    params = load_params(Path("params.yaml"))
    assert not is_noticed(params)
    whole_report = report(params)
    outcomes: Counter[str] = Counter()
    bad: dict[str, list[str]] = {name: [] for name in ("silent", "stopped", "unnoticed", "unrepaired")}
    repaired = set()
    for _ in range(count):
        kind = rng.choice(MADE)
        path = rng.choice([path for path in kinds[kind] if path.stat().st_size])
        whole, times = path.read_bytes(), path.stat()
        path.write_bytes(damaged(whole, rng))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        outcomes[found := outcome(params, path, whole_report)] += 1
        if found in bad:
            bad[found].append(str(path))
        if not is_noticed(params):
            bad["unnoticed"].append(str(path))
        if kind not in repaired:  # one of each kind, because a stage takes seconds
            repaired.add(kind)
            command = paths.command(path)
            assert command
            subprocess.run([sys.executable, "-m", *command.split()], check=True, capture_output=True)
            checksums.forget()
            if is_noticed(params) or (path.name != "run.json" and path.read_bytes() != whole):  # which has times
                bad["unrepaired"].append(str(path))
            path.write_bytes(whole)
            if kind.startswith("runs/"):  # trained again, it has other seconds
                whole_report = report(params)
        path.write_bytes(whole)
    print(json.dumps({"files": len(files), "repaired": len(repaired), "outcomes": outcomes, **bad}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
