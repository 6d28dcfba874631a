"""A stage's shards, divided among jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from tgdfer.core.errors import UserError

Shard = TypeVar("Shard")


@dataclass(frozen=True)
class Part:
    """The ``number``-th (from 1) of ``count`` jobs that share the shards of a stage."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``2/8`` as the second of eight parts."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--part {text}: expected the number of the part and of all parts, such as 2/8")
        return cls(int(number), int(count))

    def of(self, shards: Sequence[Shard]) -> list[Shard]:
        """Its share of ``shards``; no two parts have the same one."""
        return list(shards[self.number - 1 :: self.count])

    def list_of(self, manifest: Path) -> Path:
        """The file in which the part lists its shards, next to the manifest that will have them all."""
        return manifest.with_name(f"part-{self.number}-of-{self.count}.json")
