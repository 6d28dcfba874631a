"""Seconds that Snakemake needs to find nothing to do with the whole grid, and to plan 200 variants on a million clips.

    python benchmarks/graph.py [variants] [clips]

A stub replaces the stages, so that only the graph is measured, on two cores. Folds and seeds are not separate jobs, and
no rule reads a table, so that clips and folds cost nothing here.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "projects"))

from graphs import Project  # noqa: E402

STUB = (ROOT / "tests" / "projects" / "stub_cli.py").read_text(encoding="utf-8")


def measure(project: Project, *arguments: str) -> tuple[float, str]:
    """The seconds of a Snakemake run, and what it said."""
    started = time.perf_counter()
    said = project.snakemake("--profile", "local", "--cores", "2", *arguments).stdout
    return time.perf_counter() - started, said


def main(variants: int = 200, clips: int = 1_000_000) -> None:
    """Print the seconds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder) / "grid", yaml.safe_dump(params, sort_keys=False), STUB)
        made, _ = measure(project, "all", "--config", "grid=all")
        again, said = measure(project, "all", "--config", "grid=all")
        assert "Nothing to be done" in said
        count = len(params["variants"])
        print(f"{count} variants, second run:            {again:6.1f} s until nothing to be done (made: {made:.0f} s)")

    params["variants"] = {
        "tgdfer": params["variants"]["tgdfer"],
        **{
            f"v{index}": {"label": str(index), "tables": [], "set": {"model": {"dropout": index / variants}}}
            for index in range(1, variants)
        },
    }
    params["grid"] = list(params["variants"])
    params["datasets"] = {
        "large": {"layout": "folder", "root": "large", "annotations": "large/clips.csv", "encoder": "vit-b-32"}
    }
    params["encoders"] = {"vit-b-32": {"model": "ViT-B-32-quickgelu", "pretrained": "openai"}}
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder) / "large", yaml.safe_dump(params, sort_keys=False), STUB)
        names = [f"c{index:07d}" for index in range(clips)]
        (project.root / "large").mkdir()
        lines = "".join(f"{name},{name}.mp4,happy,{1 + index % 5}\n" for index, name in enumerate(names))
        (project.root / "large" / "clips.csv").write_text(f"clip_id,path,label,fold\n{lines}", encoding="utf-8")
        seconds, said = measure(project, "-n", "all")
        assert re.search(rf"^train +{variants}$", said, re.MULTILINE)
        print(f"{variants} variants, {clips} clips, dry run:  {seconds:6.1f} s from the annotations on")

        (project.root / "data" / "large").mkdir(parents=True)
        table = pa.table({"clip_id": names, "source": [f"{name}.mp4" for name in names]})
        pq.write_table(table, project.root / "data" / "large" / "clips.parquet")
        pq.write_table(table, project.root / "data" / "large" / "folds.parquet")
        project.snakemake("--profile", "local", "--touch", "data/large/clips.parquet")
        seconds, said = measure(project, "-n", "all")
        assert re.search(rf"^train +{variants}$", said, re.MULTILINE)
        print(f"{variants} variants, {clips} clips, dry run:  {seconds:6.1f} s with the table of clips there")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
