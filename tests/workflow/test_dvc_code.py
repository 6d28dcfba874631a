"""`make format` writes the code of every stage into dvc.yaml, whether or not the block already lists some."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_block_without_code_gets_it(tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "workflow/dvc_code.py"))["main"]
    before = (ROOT / "dvc.yaml").read_text()
    bare = re.sub(r"(?m)^ +- tgdfer/.*\.py\n", "", before)
    file = tmp_path / "dvc.yaml"
    file.write_text(bare)
    main(file)
    assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())
    main(file)
    assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())
