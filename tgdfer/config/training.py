"""The sections of params.yaml that define a training: bags, model and optimisation, and what a variant changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.section import Fraction, Name, Positive, Section


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
