"""The files that stages made, and which of them are missing, damaged, or made with other parameters or code."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter
from tgdfer.core.provenance import cores

SMALL = 1_000_000
"""Bytes up to which a file is always hashed; of a larger one only the size is compared, unless all is verified."""


PAGE_STAMP = re.compile(r'<meta name="made-by" content="([0-9a-f]{64})">')
"""Where the report says what made it."""


@dataclass(frozen=True)
class Output:
    """A file with its recorded checksum and size; without a checksum it is sealed."""

    path: Path
    sha256: str | None = None
    size: int | None = None

    def damage(self, verify: bool) -> str | None:
        """What is wrong with the file; with ``verify`` also large files are hashed."""
        if not self.path.is_file():
            return f"{self.path} is missing"
        size = self.path.stat().st_size
        whole = self.size is None or size == self.size
        if whole and (verify or size <= SMALL):
            whole = bool(
                checksums.intact(self.path)
                if self.sha256 is None
                else checksums.file_fingerprint(self.path) == self.sha256
            )
        return None if whole else f"{self.path} is not the file that its stage wrote"


def declared(params: Params) -> list[Path]:
    """The outputs of stages that the graph declares, in the order of the graph; not the runs."""
    found: dict[Path, None] = {}
    for name, dataset in params.datasets.items():
        if Path(dataset.annotations) in params.rendered:
            found[Path(dataset.annotations)] = None
        for path in (
            paths.encoder(dataset.encoder),
            paths.clips(name),
            paths.folds(name),
            paths.frames(name),
            paths.features(name, dataset.encoder),
            *(paths.variant(name, variant) for variant in params.variants),
            *(paths.transfer(name, target, variant) for target in params.datasets for variant in params.transfer),
        ):
            found[path] = None
    return [*found, paths.REPORT_PAGE]


def files(made: Path) -> Iterator[Output]:
    """The files of a declared output; none where it has not been made."""
    if not made.is_file():
        return
    if made == paths.REPORT_PAGE or made.is_relative_to(paths.RAW):  # what was made together is in a SHA256SUMS
        try:
            listed = checksums.read_sums(made.parent)
        except UserError:
            yield Output(made.parent / checksums.SUMS)
            return
        yield from (Output(made.parent / name, digest) for name, digest in listed.items())
        return
    yield Output(made)
    if made.suffix == ".json" and checksums.intact(made):
        about = storage.read_sealed(made)
        tokens = about.get("tokens", {})
        for folder, entries in (
            (about.get("folder", ""), about.get("shards", [])),
            (tokens.get("folder", ""), tokens.get("shards", [])),
            ("", about.get("files", [])),
        ):
            for entry in entries:
                yield Output(made.parent / folder / entry["file"], entry["sha256"], entry["bytes"])


def damages(made: Path) -> list[str]:
    """The files of a declared output that are missing or damaged; in large files only another size is seen."""
    return [found for output in files(made) if (found := output.damage(verify=False))]


def stamp(params: Params, stage: str, **wildcards: str) -> str:
    """The fingerprint of the parameters and the code of ``stage`` that there are now."""
    return storage.fingerprint(
        [dependencies.settings(params, stage, **wildcards), dependencies.code_fingerprint(stage)]
    )


def is_outdated(made: Path, params: Params, stage: str, **wildcards: str) -> bool:
    """Whether ``stage`` made a declared output with other parameters or code than the present, by its own record."""
    return made.is_file() and _stamp_of(made) != stamp(params, stage, **wildcards)


def _stamp_of(made: Path) -> str | None:
    """The fingerprint of the parameters and the code that made a declared output; None where it does not say."""
    if made == paths.REPORT_PAGE:
        found = PAGE_STAMP.search(made.read_text(encoding="utf-8", errors="replace"))
        return found and found[1]
    try:
        about = storage.made_by(made.with_name(paths.DEMO_TRUTH.name) if made.is_relative_to(paths.RAW) else made)
        return storage.fingerprint([about["parameters"], about["code"]])
    except (UserError, OSError, KeyError, pa.ArrowException):
        return None


def verify(outputs: Iterable[Path]) -> dict[Path, list[str]]:
    """Hash every file of declared outputs; returns those that are missing or damaged, by declared output."""
    every = [(made, output) for made in outputs for output in files(made)]
    sizes = [output.path.stat().st_size if output.path.is_file() else 0 for _, output in every]
    found: dict[Path, list[str]] = {}
    # Python hashes large files in threads at the same time
    with Meter("verify", sum(sizes), "B") as meter, ThreadPoolExecutor(cores()) as pool:
        looked = pool.map(lambda one: one[1].damage(verify=True), every)
        for (made, _), size, damage in zip(every, sizes, looked, strict=True):
            meter.add(size)
            if damage:
                found.setdefault(made, []).append(damage)
    return found
