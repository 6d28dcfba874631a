"""Write docs/demo-study.md from the runs: which parts of the model help, and whether it finds the right frames.

    python workflow/study.py [--dataset demo] [--selection last] [--output docs/demo-study.md]

Run it from the project's root after `make grid` (with `seeds: [0, 1, 2]` in params.yaml for three trainings of each).
Its tables and sentences are those of the report; variants that were not run are left out, and the seeds are those of
the reference's runs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths
from tgdfer.core.escaping import markdown
from tgdfer.core.storage import write_text
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting.findings import findings, gaps
from tgdfer.reporting.render import to_markdown
from tgdfer.reporting.report import build


def study(params: Params, dataset: str, selection: str) -> str:
    """The whole page."""
    ran = {variant for variant in params.variants if paths.variant(dataset, variant).exists()}
    params = params.only({*ran, params.report.reference})
    found = paths.variant(dataset, params.report.reference).parent.glob("fold*/seed*/run.json")
    seeds = sorted({int(path.parent.name.removeprefix("seed")) for path in found}) or params.seeds
    report = params.report.model_copy(update={"selection": selection})
    part = build(params.model_copy(update={"seeds": seeds, "report": report}), dataset)
    if not part.shown[part.reference].measured:
        sys.exit(f"error: runs/{dataset}/{part.reference}: no finished runs; run make grid first")
    runs = part.experiment.runs
    page = [
        f"# What helps on {dataset}\n",
        "Made by `python workflow/study.py` from the files of the runs; do not edit it. "
        f"{len(ran)} variants, {len(part.experiment.folds)} folds, seeds {', '.join(map(str, seeds))}: "
        f"{sum(run.problem is None for run in runs)} of {len(runs)} runs have results. Selection: "
        f"{SELECTIONS[selection]}. Intervals cover {part.level}.\n",
        "## In short\n",
        *(f"* {markdown(sentence)}" for sentence in findings(part, listed=len(ran) + len(runs))),
    ]
    for table in (table for table in part.tables if table.name != "costs"):  # seconds depend on what else ran
        page += [f"\n## {markdown(table.title)}\n", to_markdown(table)]
    if lines := gaps(part):
        page += ["## What is missing or not current\n", *(f"* {markdown(line)}" for line in lines)]
    return "\n".join(page).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--selection", default="last", choices=SELECTIONS)
    parser.add_argument("--output", type=Path, default=Path("docs/demo-study.md"))
    args = parser.parse_args()
    write_text(args.output, study(load_params(), args.dataset, args.selection))


if __name__ == "__main__":
    main()
