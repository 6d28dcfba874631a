"""The report on one data set: the results of its runs, and the tables and figures made from them."""

from dataclasses import dataclass, field
from functools import cached_property

from tgdfer.config.params import Params
from tgdfer.reporting.analysis import Result
from tgdfer.reporting.gains import Gain
from tgdfer.reporting.layout import Table
from tgdfer.reporting.relevance import Relevance, Truth
from tgdfer.runs.results import Experiment


@dataclass(frozen=True)
class Picture:
    """A figure on disk: ``file`` is its name without the suffix; ``photographs``: whether it shows frames of clips."""

    file: str
    title: str
    caption: str
    photographs: bool = False


@dataclass
class Part:
    """The report on one data set."""

    params: Params
    experiment: Experiment
    results: dict[str, dict[str, Result]]
    """By selection, then by variant."""
    relevance: dict[str, dict[str, Relevance | None]] | None = None
    """Against the truth: by selection, then by variant or ranking; None without a truth table."""
    gains: dict[str, dict[str, list[Gain]]] = field(default_factory=dict)
    """By selection, then by variant: of the reference at every fraction of the training clips."""
    truth: Truth | None = None
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.experiment.dataset

    @cached_property
    def tested(self) -> list[str]:
        """The classes with test clips, whose mean recall is the UAR; all classes while there are no results."""
        clips = self.experiment.clips()
        return [name for name, count in zip(self.experiment.classes, clips, strict=True) if count or not clips.any()]

    @property
    def selection(self) -> str:
        """The selection in print."""
        return self.params.report.selection

    @property
    def shown(self) -> dict[str, Result]:
        """The results in print, by variant."""
        return self.results[self.selection]

    @property
    def reference(self) -> str:
        """The name of the variant that the others are compared with."""
        return self.params.report.reference

    @property
    def level(self) -> str:
        """The confidence of the intervals."""
        return f"{100 * self.params.report.confidence:g} %"

    def label(self, name: str) -> str:
        """A variant's label; a ranking without training has only its name."""
        return self.params.variants[name].label if name in self.params.variants else name

    def rows(self, table: str) -> list[str]:
        """The variants that are rows of ``table``."""
        return [name for name, variant in self.params.variants.items() if table in variant.tables]
