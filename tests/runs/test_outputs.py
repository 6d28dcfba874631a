"""The files of a declared output, and which of them are not what their stage wrote."""

from pathlib import Path

import pytest
from training_project import params as parameters

from tgdfer.core import checksums, paths, storage
from tgdfer.runs import outputs
from tgdfer.runs.outputs import Output, files


def stamped(letter: str) -> bytes:
    return f'<meta name="made-by" content="{letter * 64}">'.encode()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, content: bytes = b"abc") -> tuple[Path, str, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path, storage.file_fingerprint(path), len(content)


def sealed(path: Path, **content: object) -> Path:
    storage.write_sealed(path, content)
    return path


def test_what_is_wrong_with_a_file() -> None:
    path, sha, size = write(Path("a"))
    wrong = "a is not the file that its stage wrote"
    assert Output(path, sha, size).damage(verify=False) is None
    assert Output(path, sha).damage(verify=True) is None
    assert Output(path, sha, size + 1).damage(verify=True) == wrong
    assert Output(path, "0" * 64, size).damage(verify=False) == wrong
    assert Output(Path("b"), sha, size).damage(verify=False) == "b is missing"
    assert Output(sealed(Path("c.json"))).damage(verify=False) is None
    assert Output(path).damage(verify=False) == wrong, "without a checksum it must be sealed"


@pytest.mark.parametrize(("more", "seen"), [(0, True), (1, False)])
def test_a_large_file_is_hashed_only_when_all_is_verified(more: int, seen: bool) -> None:
    path, _, size = write(Path("large"), bytes(outputs.SMALL + more))
    output = Output(path, "0" * 64, size)
    assert bool(output.damage(verify=False)) == seen
    assert output.damage(verify=True)


def test_the_files_of_a_manifest_are_those_that_it_lists() -> None:
    folder = Path("data/x")
    found = {name: write(folder / name) for name in ("cache/s0", "tokens/t0", "weights")}
    entries = {name: [checksums.entry(path)] for name, (path, *_) in found.items()}
    made = sealed(
        folder / "manifest.json",
        folder="cache",
        shards=entries["cache/s0"],
        tokens={"folder": "tokens", "shards": entries["tokens/t0"]},
        files=entries["weights"],
    )
    assert list(files(made)) == [Output(made), *(Output(*one) for one in found.values())]
    made.write_text(made.read_text().replace("cache", "catch"))
    assert list(files(made)) == [Output(made)], "a damaged list is not believed"
    made.unlink()
    assert list(files(made)) == []


def test_the_files_of_the_report_are_those_of_its_checksums() -> None:
    page, sha, _ = write(paths.REPORT_PAGE)
    sums = page.with_name(checksums.SUMS)
    sums.write_text(checksums.sums({page.name: sha, "tables/main.md": "0" * 64}))
    assert list(files(page)) == [Output(page, sha), Output(page.parent / "tables/main.md", "0" * 64)]
    assert outputs.damages(page) == [f"{page.parent}/tables/main.md is missing"]
    sums.write_text("not a checksum")
    assert list(files(page)) == [Output(sums)]


def test_verifying_names_what_is_damaged_by_the_output_that_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "SMALL", 0)
    good, bad = (sealed(Path(name) / "m.json", files=[checksums.entry(write(Path(name) / "w")[0])]) for name in "ab")
    Path("b/w").write_bytes(b"abd")
    assert outputs.verify([good, bad]) == {bad: ["b/w is not the file that its stage wrote"]}
    Path("b/w").unlink()
    assert outputs.verify([good, bad]) == {bad: ["b/w is missing"]}


@pytest.mark.parametrize(
    ("content", "outdated"),
    [(None, False), (b"", True), (stamped("b"), True), (stamped("a"), False), (b"\xff" + stamped("a"), False)],
)
def test_a_report_with_another_stamp_or_none_is_outdated(
    content: bytes | None, outdated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "stamp", lambda *_: "a" * 64)
    if content is not None:
        write(paths.REPORT_PAGE, content)
    assert outputs.is_outdated(paths.REPORT_PAGE, parameters(), "report") == outdated
