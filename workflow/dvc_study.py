"""Write a study for DVC, into studies/NAME/: dvc.yaml, with the stages that are its own, and its parameters.

    python workflow/dvc_study.py low-shot && dvc repro studies/low-shot/dvc.yaml

Run it from the project's root, and again after a change of params.yaml or of the study.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config.params import load_params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.storage import write_text

OWN = ("train", "transfer", "report")
"""The stages whose outputs are the study's own; it shares those of the others."""
ADDED = {
    "render": "renders",
    "import-encoder": "encoders",
    **dict.fromkeys(("clips", "frames", "features"), "datasets"),
}
"""The stages for what a study may add to params.yaml, with the section."""


def of_study(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage of the project's dvc.yaml, run for the chosen study from the project's root."""
    home = paths.RUNS.parent.as_posix()

    def own(path: str) -> str:
        return f"{home}/{path}" if path.split("/")[0] in ("runs", "transfer", "reports") else path

    def outputs(listed: list[Any]) -> list[Any]:
        return [{own(next(iter(one))): one[next(iter(one))]} if isinstance(one, dict) else own(one) for one in listed]

    changed = {
        "wdir": "../..",
        "cmd": stage["cmd"].replace("tgdfer ", f"tgdfer --study {paths.STUDY} ", 1),
        "params": [{f"{home}/params.yaml": stage["params"]}],
        "deps": [own(path) for path in stage["deps"]],
    }
    return stage | changed | {key: outputs(stage[key]) for key in ("outs", "metrics") if key in stage}


def main(study: str) -> None:
    """Write both files."""
    paths.choose_study("")
    base = load_params()
    paths.choose_study(study)
    params = load_params().model_dump(mode="json")
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if params["transfer"]:
        stages["report"]["deps"].append("transfer")
    own = {}
    for name, section in ADDED.items():
        if added := {key: about for key, about in params[section].items() if key not in getattr(base, section)}:
            own[name] = {"foreach": added, "do": of_study(stages[name]["do"])}
    own |= {name: of_study(stages[name]) for name in OWN}
    for name, content in (
        ("params.yaml", params),
        ("dvc.yaml", {"stages": own}),
    ):
        head = f"# Written by `python workflow/dvc_study.py {study}`; do not edit it.\n"
        write_text(paths.RUNS.parent / name, head + yaml.safe_dump(content, sort_keys=False))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
