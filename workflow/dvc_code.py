"""Write the package files of every stage, those that its imports reach, into the `deps` of dvc.yaml.

Run by `make format`, from the project's root. Only the lines `- tgdfer/...` change.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config import dependencies

CODE = re.compile(r"( +)- tgdfer/")


def with_code(block: str, stage: str) -> str:
    """A stage's block of dvc.yaml with its package files in place of those that it has."""
    if stage not in dependencies.STAGES:
        return block
    root = Path(__file__).parents[1]
    lines = block.split("\n")
    deps = next(index for index, line in enumerate(lines) if line.strip() == "deps:")
    at = next((index for index, line in enumerate(lines) if CODE.match(line)), deps + 1)
    indent = lines[deps].removesuffix("deps:") + "  "
    code = [f"{indent}- {file.relative_to(root).as_posix()}" for file in dependencies.code_files(stage)]
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
