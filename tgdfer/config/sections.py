"""The sections of params.yaml as frozen pydantic models: their keys, types, ranges, defaults and meanings.

The docstring below a key is its meaning; ``workflow/parameters_page.py`` makes docs/parameters.md from them.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.core.classes import SEVEN
from tgdfer.evaluation.protocol import SELECTIONS

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# no dots: DVC reads them as steps into params.yaml
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

# the text stays as it is written otherwise
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]
SQLITE = "sqlite:///"

DEMO_ENCODER = "demo-clip"
"""The encoder that ``train-demo-encoder`` makes; every other one is imported from open_clip."""


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class DatasetParams(Section):
    """A data set on disk. There may be any number, each under a name of your choice."""

    layout: str
    """How its files and lists are arranged, such as `dfew` or `folder`; each has its page under "Data sets"."""
    root: UserPath
    """The folder with its clips."""
    annotations: UserPath
    """The file or folder with its lists; both graphs watch it for changes."""
    encoder: Name
    """The CLIP encoder of its frames: `demo-clip` or a name under `encoders`."""
    classes: list[str] = list(SEVEN)
    """The classes, in the order of all tables."""
    truth: UserPath | None = None
    """A table of true intensities per frame, which only the report reads."""
    options: dict[str, str] = {}
    """Options of the layout; the page of each data set lists them."""
    links: Literal["inside", "anywhere"] = "inside"
    """Whether clips may be links out of `root`. A list from a stranger could lead to any picture of your machine."""
    frames: dict[str, Any] = {}
    """Keys of the section `frames` that differ for this data set."""
    training: dict[str, Any] = {}
    """Keys of the section `training` that differ for this data set, such as `epochs`; those of a variant come first."""
    features: Literal["frames", "files"] = "frames"
    """What the clips are: videos or images, or [files of features](encoders.md#features-from-elsewhere)."""


class EncoderParams(Section):
    """A model of open_clip, which `tgdfer import-encoder` stores in `models/<name>/`, or one that is only named."""

    model: str | None = None
    """Its name in open_clip. A name that starts with `local-dir:` or `hf-hub:` brings its weights."""
    pretrained: str | None = None
    """A tag of open_clip for `model`, or a checkpoint file; [which kinds](encoders.md)."""
    dim: Positive | None = None
    """Instead of `model`: the number of dimensions of features that were made elsewhere."""

    @model_validator(mode="after")
    def _model_or_dim(self) -> EncoderParams:
        if (self.model is None) == (self.dim is None):
            raise ValueError("expected either model, or dim for features that were made elsewhere")
        return self

    @field_validator("model", "pretrained")
    @classmethod
    def _without_tilde(cls, text: str | None) -> str | None:
        return text and "local-dir:".join(map(os.path.expanduser, text.split("local-dir:", 1)))


class RenderedParams(Section):
    """What all rendered data sets have."""

    clips: Positive = 1400
    """Clips to render."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds; no person is in training and test of one fold."""
    seed: int = 0
    """Seed of people and clips, and of the encoder of the embedded data set."""
    size: Annotated[int, Field(ge=32, multiple_of=2)] = 96
    """Width and height of the clips in pixels."""


class RenderParams(RenderedParams):
    """Another rendered data set, as the embedded one or different: `data/raw/<name>/`, with its truth."""

    light: Annotated[float, Field(gt=0)] = 1.0
    """How bright the light is compared with the embedded data set."""
    roughness: Annotated[float, Field(ge=0)] = 1.0
    """How uneven the light, and how strong blur and noise are, compared with the embedded data set."""
    shares: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """How often each of the seven classes occurs, up to a factor; as in the embedded data set if left out."""

    @field_validator("shares")
    @classmethod
    def _of_the_seven(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None and set(shares) != set(SEVEN):
            raise ValueError(f"expected a share for each of {', '.join(SEVEN)}")
        return shares


class DemoParams(RenderedParams):
    """The embedded data set and the small CLIP that is trained for it."""

    encoder_faces: Positive = 16000
    """Rendered faces that the encoder is trained on."""
    encoder_epochs: Positive = 5
    """Epochs of the encoder's training."""
    encoder_threads: Positive = 2
    """CPU threads of the encoder's training; another number may change the last digits."""


class FramesParams(Section):
    """Frame extraction: which frames of a clip, how large, and whether faces are cropped."""

    sampling: Literal["all", "uniform", "every", "fps"] = "uniform"
    """Which frames are taken: all, `max_frames` evenly spaced ones, every n-th, or `fps` per second."""
    max_frames: Positive = 32
    """The most frames that `sampling: uniform` takes of a clip."""
    every: Positive = 1
    """The n of `sampling: every`."""
    fps: Annotated[float, Field(gt=0)] = 8.0
    """Frames per second of `sampling: fps`."""
    resize: Positive | None = None
    """The longest that the shorter side of a stored frame may be, in pixels; null keeps the size."""
    crop: Literal["none", "face"] = "none"
    """Whether the largest face is cut out."""
    align: Literal["none", "similarity"] = "none"
    """Whether a cropped face is also turned, scaled and moved so that its five landmarks are in place."""
    face_margin: Annotated[float, Field(ge=0)] = 0.3
    """Margin on each side of a face, as a fraction of its box, or of the landmarks' square if it is aligned."""
    face_size: Positive = 224
    """The side of an aligned face in pixels."""
    face_detector: UserPath | None = None
    """An ONNX file with YuNet, SCRFD or CenterFace weights that finds the faces; null is the packaged CenterFace."""
    face_box: Literal["smooth", "union"] = "smooth"
    """One box per frame, smoothed over time, or one box for the clip that holds them all."""
    no_face: Literal["reject", "centre"] = "reject"
    """What happens to a clip in which no face is found: it is rejected, or cut at its centre."""
    shards: Positive = 8
    """Files that the frames are distributed over; it limits the parallel processes."""
    max_reject_fraction: Fraction = 0.05
    """The stage fails if more clips than this fraction cannot be used."""


class FeaturesParams(Section):
    """The cache of CLIP features."""

    batch_size: Positive = 64
    """Frames that are encoded at once."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the encoder; `auto` is the fastest one that agrees with float32 on this hardware."""
    device: str = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:<number>`."""
    views: Annotated[int, Field(ge=0, le=100)] = 0
    """Augmented copies of each clip (flip, crop, colour) in the cache, besides the plain one."""
    view_scale: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The smallest area of an augmented crop, as a fraction of the frame."""
    view_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """The largest relative change of colour."""
    seed: int = 0
    """Seed of the augmentation."""
    keep: Positive | None = None
    """The encoder's block whose tokens are cached for [`model.adapt`](encoders.md#adapted-encoders); null: none."""


class BagsParams(Section):
    """The bag of instances that the model sees of a clip."""

    frames: Positive = 16
    """Instances in a bag."""
    instance_frames: Positive = 1
    """Frames whose mean is an instance."""


class ModelParams(Section):
    """The model; [its page](model.md) has the equations."""

    architecture: Literal[tuple(ARCHITECTURES)] = "tgdfer"  # type: ignore[valid-type]
    """The model, or a baseline on the same features, which reads only some of the keys below."""
    temporal: Literal["none", "short", "long", "both"] = "both"
    """The temporal network: short-term (in a window), long-range (by content and distance in time), or both."""
    window: Positive = 5
    """Window of the short-term branch, in instances: an odd number, with the instance itself in the middle."""
    attention_width: Positive | None = None
    """Width of the long-range attention; null is half the feature dimension."""
    heads: Positive = 4
    """Attention heads."""
    dropout: Fraction = 0.1
    """Dropout rate."""
    text: Literal["none", "class-name", "template", "descriptions"] = "descriptions"
    """What frames are compared with; the words are in `tgdfer/config/descriptions.yaml`."""
    descriptions_per_class: Positive = 2
    """Descriptions of each class that are used, from the first on."""
    context_tokens: Annotated[int, Field(ge=0, le=32)] = 8
    """Learnable tokens of each text."""
    context_place: Literal["before", "after"] = "after"
    """Where they are: before the words, in the place of a fixed prefix, or after them, which trains faster."""
    context: Literal["shared", "per-class"] = "shared"
    """Whether all classes share the learnable tokens."""
    visual_prompt: Literal["none", "pooled", "per-class"] = "per-class"
    """The visual prompt: one of the clip, or one for each class."""
    prompt_temperature: Annotated[float, Field(gt=0)] = 0.07
    """Temperature of `visual_prompt: per-class`."""
    aggregation: Literal["top-k", "attention", "log-sum-exp", "max", "mean"] = "max"
    """How scores of instances become scores of the clip."""
    top_k: Positive = 4
    """The k of `aggregation: top-k`."""
    sharpness: Annotated[float, Field(gt=0)] = 1.0
    """The r of `aggregation: log-sum-exp`: towards 0 it is the mean, towards infinity the maximum."""
    coarse_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the coarse branch's loss; 0 leaves the branch out."""
    apart_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the loss that keeps the texts of different classes apart."""
    adapt: Literal["none", "lora", "blocks"] = "none"
    """How the encoder's last blocks are [trained](encoders.md#adapted-encoders): not, by low-rank updates, or fully."""
    adapt_blocks: Positive = 1
    """How many of the last blocks are adapted; those before them, down to `features.keep`, stay frozen."""
    adapt_rank: Positive = 8
    """The rank of the updates of `adapt: lora`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Label smoothing of the cross entropy."""
    imbalance: Literal["none", "class-balanced", "logit-adjustment"] = "none"
    """How the loss treats classes of different sizes."""

    @field_validator("window")
    @classmethod
    def _window_is_centred(cls, frames: int) -> int:
        if frames % 2 == 0:
            raise ValueError(
                f"a window is centred on its frame; expected an odd number of frames, got {frames}: "
                f"write {frames - 1} or {frames + 1}"
            )
        return frames

    def as_read(self) -> ModelParams:
        """With the defaults in place of what the architecture does not read: no run depends on those keys."""
        reads = ARCHITECTURES[self.architecture].reads
        return self if reads is None else ModelParams(**self.model_dump(include={"architecture", *reads}))

    @property
    def adapts(self) -> bool:
        """Whether blocks of the encoder are trained."""
        reads = ARCHITECTURES[self.architecture].reads
        return self.adapt != "none" and (reads is None or "adapt" in reads)

    @property
    def uses_encoder(self) -> bool:
        """Whether the encoder is part of the model."""
        return self.uses_text or self.adapts

    @property
    def uses_text(self) -> bool:
        """Whether frames are compared with words, so that the encoder's text tower is needed."""
        reads = ARCHITECTURES[self.architecture].reads
        return self.text != "none" and (reads is None or "text" in reads)


class TrainingParams(Section):
    """Optimisation and protocol of one run."""

    epochs: Positive = 20
    """Epochs."""
    batch_size: Positive = 64
    """Clips in a batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate."""
    prompt_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate of the learnable text tokens."""
    encoder_learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """The highest learning rate of the encoder's adapted blocks."""
    recompute: bool = False
    """Whether activations of adapted blocks are computed again in the backward pass: less memory, more time."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay of matrices other than text tokens; norms, biases and scales never decay."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 3
    """Epochs of linear warm-up, at most half of the training; a cosine to zero follows, per step."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """The largest norm of a gradient."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of weights that is evaluated and stored; 0 turns it off."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Fraction of a training fold held back for the selection `best_val`; with 0 there is no such selection."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the training clips of each class that is used, at least one; the number of steps stays the same."""
    mixing: Annotated[float, Field(ge=0)] = 0.0
    """Mixing of the training clips of a batch in pairs, with shares from Beta(mixing, mixing); 0 turns it off."""
    test_views: Positive = 1
    """Views of a clip over which validation and test probabilities are averaged; more than 1 needs `features.views`."""
    select_by: Literal["war", "uar"] = "war"
    """The metric by which `best_val` and `best_test` choose their epoch."""
    device: str = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:<number>`."""
    threads: Positive = 1
    """CPU threads of one process; another number may change the last digits."""


class TableParams(Section):
    """A table that compares variants with the reference, and shows some of their parameters."""

    title: str
    """Its heading."""
    columns: dict[str, str]
    """The heading of a column for each parameter that is shown, such as `model.window: Window`."""
    ticks: bool = False
    """Whether a cell shows only that a part is there."""

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
    "adaptation": TableParams(
        title="Adaptation of the encoder", columns={"model.adapt": "Adapted", "model.adapt_blocks": "Last blocks"}
    ),
    "aggregation": TableParams(
        title="MIL aggregation", columns={"model.aggregation": "Aggregation", "model.top_k": "k"}
    ),
}
"""The tables that every report has; ``report.tables`` adds others."""
OTHER_TABLES = ("main", "low-shot", "transfer", "relevance", "costs")
"""The tables that do not compare settings."""


class ReportParams(Section):
    """What is printed: the selection of the protocol, the settings of the statistics, and tables of your own."""

    selection: Literal[tuple(SELECTIONS)] = "last"  # type: ignore[valid-type]
    """The epoch whose results the tables show. `best_test` selects on the test fold, which is optimistic."""
    reference: Name = "tgdfer"
    """The variant that the others are compared with."""
    bootstrap: Positive = 2000
    """Bootstrap draws of an interval and draws of a test."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the intervals."""
    seed: int = 0
    """Seed of the draws."""
    tables: Annotated[dict[Name, TableParams], Field(validate_default=True)] = {}
    """Tables besides the usual ones, by name."""

    @field_validator("tables")
    @classmethod
    def _with_the_usual_ones(cls, given: dict[str, TableParams]) -> dict[str, TableParams]:
        for name in OTHER_TABLES:
            if name in given:
                raise ValueError(f"'{name}' is the name of another table; choose another one")
        return TABLES | given


class TrackingParams(Section):
    """MLflow."""

    project: Name = "tgdfer"
    """First part of the names of experiments and models; choose another on a server that you share."""
    uri: str = "sqlite:///mlflow/mlflow.db"
    """The database, next to which its artifacts are, or a server. The variable MLFLOW_TRACKING_URI takes precedence."""

    @field_validator("uri")
    @classmethod
    def _without_tilde(cls, uri: str) -> str:
        return SQLITE + os.path.expanduser(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else uri  # noqa: PTH111


class Overrides(Section):
    """What a variant changes."""

    bags: dict[str, Any] = {}
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}


class VariantParams(Section):
    """A variant of the model, which is trained on every fold and seed. Each has a name of your choice."""

    label: str
    """Its name in print."""
    tables: list[Name]
    """The tables in which it is a row: usual ones, or those of `report.tables`."""
    set: Overrides
    """The keys of `bags`, `model` and `training` that it changes."""


class RunParams(Section):
    """Everything that defines one variant's training, overrides applied."""

    bags: BagsParams
    model: ModelParams
    training: TrainingParams

    @model_validator(mode="after")
    def _adapts_frames(self) -> RunParams:
        if self.model.adapts and self.bags.instance_frames > 1:
            raise ValueError("bags.instance_frames: expected 1 with model.adapt: instances are single frames then")
        return self
