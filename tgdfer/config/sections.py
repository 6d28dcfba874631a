"""The sections of params.yaml as frozen pydantic models: their keys, types, ranges and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.core.classes import SEVEN
from tgdfer.evaluation.protocol import SELECTIONS

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# no dots: DVC reads them as steps into params.yaml
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

DEMO_ENCODER = "demo-clip"
"""The encoder that ``train-demo-encoder`` makes; every other one is imported from open_clip."""


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DatasetParams(Section):
    """Where a data set lies and how it is read.

    ``links: anywhere`` follows links out of ``root`` too, as DVC and git-annex make them; else clips behind such links
    are refused, for a data set of a stranger could lead to any picture of this machine. ``frames`` overrides keys of
    the section of that name: not every data set needs its faces cut out.
    """

    layout: str
    root: str
    annotations: str
    encoder: Name
    classes: list[str] = list(SEVEN)
    truth: str | None = None
    options: dict[str, str] = {}
    links: Literal["inside", "anywhere"] = "inside"
    frames: dict[str, Any] = {}


class EncoderParams(Section):
    """An open_clip model to import into ``models/<name>/``.

    ``pretrained`` is one of open_clip's tags for ``model`` or a checkpoint file. A ``model`` that starts with
    ``local-dir:`` or ``hf-hub:`` brings its weights, and ``pretrained`` is left out.
    """

    model: str
    pretrained: str | None = None


class DemoParams(Section):
    """The embedded data set and the small CLIP that is trained for it."""

    clips: Positive = 1400
    folds: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    size: Annotated[int, Field(ge=32, multiple_of=2)] = 96
    encoder_faces: Positive = 16000
    encoder_epochs: Positive = 5
    encoder_threads: Positive = 2


class FramesParams(Section):
    """Frame extraction: which frames of a clip, how large, and whether faces are cropped."""

    sampling: Literal["all", "uniform", "every", "fps"] = "uniform"
    max_frames: Positive = 32
    every: Positive = 1
    fps: Annotated[float, Field(gt=0)] = 8.0
    resize: Positive | None = None
    crop: Literal["none", "face"] = "none"
    face_margin: Annotated[float, Field(ge=0)] = 0.3
    face_box: Literal["smooth", "union"] = "smooth"
    no_face: Literal["reject", "centre"] = "reject"
    shards: Positive = 8
    max_reject_fraction: Fraction = 0.05


class FeaturesParams(Section):
    """The CLIP feature cache.

    ``dtype: auto`` is the fastest format whose features agree with float32 on this hardware. ``views`` augmented
    copies of each clip (flip, crop, colour; drawn from ``seed``) are cached beside the plain one: ``view_scale`` is the
    smallest share of the plain one's area that a crop keeps, ``view_jitter`` the largest relative change of colour.
    """

    batch_size: Positive = 64
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    views: Annotated[int, Field(ge=0, le=100)] = 0
    view_scale: Annotated[float, Field(gt=0, le=1)] = 0.7
    view_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: int = 0


class BagsParams(Section):
    """A bag: ``frames`` instances of a clip, seen at once by the model, each the mean of ``instance_frames`` frames."""

    frames: Positive = 16
    instance_frames: Positive = 1


class ModelParams(Section):
    """The model; see docs/model.md for the equations."""

    architecture: Literal[tuple(ARCHITECTURES)] = "tgdfer"  # type: ignore[valid-type]
    temporal: Literal["none", "short", "long", "both"] = "both"
    window: Positive = 4
    attention_width: Positive | None = None
    heads: Positive = 4
    dropout: Fraction = 0.1
    text: Literal["none", "class-name", "template", "descriptions"] = "descriptions"
    descriptions_per_class: Positive = 2
    context_tokens: Annotated[int, Field(ge=0, le=32)] = 8
    context: Literal["shared", "per-class"] = "shared"
    visual_prompt: Literal["none", "pooled", "per-class"] = "pooled"
    prompt_temperature: Annotated[float, Field(gt=0)] = 0.07
    aggregation: Literal["top-k", "attention", "log-sum-exp", "max", "mean"] = "top-k"
    top_k: Positive = 4
    sharpness: Annotated[float, Field(gt=0)] = 1.0
    coarse_weight: Annotated[float, Field(ge=0)] = 0.5
    apart_weight: Annotated[float, Field(ge=0)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    imbalance: Literal["none", "class-balanced", "logit-adjustment"] = "none"

    def as_read(self) -> ModelParams:
        """With the defaults in place of what the architecture does not read: no run depends on those keys."""
        reads = ARCHITECTURES[self.architecture].reads
        return self if reads is None else ModelParams(**self.model_dump(include={"architecture", *reads}))

    @property
    def uses_text(self) -> bool:
        """Whether frames are compared with words, so that the encoder's text tower is needed."""
        reads = ARCHITECTURES[self.architecture].reads
        return self.text != "none" and (reads is None or "text" in reads)


class TrainingParams(Section):
    """Optimisation and protocol of one run."""

    epochs: Positive = 30
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    prompt_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the learnable text tokens."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of all that has two dimensions but prompt tokens; norms, biases of layers and scales never decay."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 3
    """Linear, at most half of the training; a cosine to zero follows, per step."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of weights that is evaluated and stored; 0: none."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Of a training fold, held back for the selection best_val; 0: none, and that selection is absent."""
    select_by: Literal["war", "uar"] = "war"
    """What best_val and best_test choose their epoch by."""
    device: str = "auto"
    threads: Positive = 1
    """Of one process on the CPU; another number may change the last digits."""


class TableParams(Section):
    """A table that compares variants with the reference: its title, and which of their parameters it shows.

    ``columns`` maps keys of bags, model and training (``model.window``) to the heads of their columns. With ``ticks``
    a cell shows only whether the part is there.
    """

    title: str
    columns: dict[str, str]
    ticks: bool = False

    @field_validator("columns")
    @classmethod
    def _are_parameters(cls, columns: dict[str, str]) -> dict[str, str]:
        sections: dict[str, type[Section]] = {"bags": BagsParams, "model": ModelParams, "training": TrainingParams}
        known = {f"{section}.{key}" for section, keys in sections.items() for key in keys.model_fields}
        for key in columns:
            if key not in known:
                raise ValueError(f"'{key}': expected a key of bags, model or training, for example model.window")
        return columns


TABLES = {
    "baselines": TableParams(title="Baselines on the same features", columns={"model.architecture": "Architecture"}),
    "components": TableParams(
        title="Components",
        columns={
            "model.temporal": "Temporal network",
            "model.text": "Text",
            "model.context_tokens": "Learnable prompt",
            "model.visual_prompt": "Visual prompt",
            "model.coarse_weight": "Coarse branch",
        },
        ticks=True,
    ),
    "temporal": TableParams(
        title="Temporal network", columns={"model.temporal": "Temporal network", "model.window": "Window"}
    ),
    "text": TableParams(
        title="Text",
        columns={"model.text": "Text", "model.context_tokens": "Learnable tokens", "model.context": "Context"},
    ),
    "visual-prompt": TableParams(title="Visual prompt", columns={"model.visual_prompt": "Visual prompt"}),
    "aggregation": TableParams(
        title="MIL aggregation", columns={"model.aggregation": "Aggregation", "model.top_k": "k"}
    ),
}
"""The tables that every report has; ``report.tables`` adds others."""
OTHER_TABLES = ("main", "relevance", "costs")
"""The tables that do not compare settings."""


class ReportParams(Section):
    """What is printed: the selection of the protocol, the statistics' settings, and tables beside the usual ones."""

    selection: Literal[tuple(SELECTIONS)] = "last"  # type: ignore[valid-type]
    reference: Name = "tgdfer"
    bootstrap: Positive = 2000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: int = 0
    tables: Annotated[dict[Name, TableParams], Field(validate_default=True)] = {}

    @field_validator("tables")
    @classmethod
    def _with_the_usual_ones(cls, given: dict[str, TableParams]) -> dict[str, TableParams]:
        for name in OTHER_TABLES:
            if name in given:
                raise ValueError(f"'{name}' is the name of another table; choose another one")
        return TABLES | given


class TrackingParams(Section):
    """MLflow. MLFLOW_TRACKING_URI, when set, wins over ``uri``.

    ``mode: events`` writes to files alone, ``live`` always sends; ``auto`` sends, except from a SLURM job to SQLite.
    Names of experiments and registered models begin with ``project``: who shares a server with others takes another.
    """

    project: Name = "tgdfer"
    mode: Literal["auto", "live", "events"] = "auto"
    uri: str = "sqlite:///mlflow/mlflow.db"
    artifacts: str = "mlflow/artifacts"


class Overrides(Section):
    """What a variant changes: any keys of the three sections that a run is made from."""

    bags: dict[str, Any] = {}
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}


class VariantParams(Section):
    """One entry of the grid: its name in print, the tables it is a row of, and what it changes."""

    label: str
    tables: list[Name]
    set: Overrides


class RunParams(Section):
    """Everything that defines one variant's training, overrides applied."""

    bags: BagsParams
    model: ModelParams
    training: TrainingParams
