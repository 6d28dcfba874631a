"""Write the package files of every stage, as tgdfer/stages.py names them, into the `deps` of dvc.yaml.

Run by `make format`, from the project's root. Only the lines `- tgdfer/...` change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer import stages

CODE = re.compile(r"( +)- tgdfer/")


def with_code(block: str, stage: str) -> str:
    """A stage's block of dvc.yaml with its package files in place of those that it has."""
    lines = block.split("\n")
    at = next(index for index, line in enumerate(lines) if CODE.match(line))
    indent = lines[at].split("-")[0]
    code = [f"{indent}- tgdfer/{name}" for name in sorted({*stages.BASE, *stages.STAGES[stage].code})]
    return "\n".join([*lines[:at], *code, *(line for line in lines[at:] if not CODE.match(line))])


def main(file: Path = Path("dvc.yaml")) -> None:
    """Rewrite ``file``."""
    head, *blocks = re.split(r"(?m)^(?=  [a-z-]+:\n)", file.read_text(encoding="utf-8"))
    made = [with_code(block, block.split(":")[0].strip()) for block in blocks]
    text = head + "".join(made)
    if text != file.read_text(encoding="utf-8"):
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
