"""The sections of params.yaml that say what the data are: data sets, encoders, rendered faces, frames and features."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tgdfer.config.section import Fraction, Name, Positive, Section, UserPath
from tgdfer.core.classes import SEVEN

DEMO_ENCODER = "demo-clip"
"""The encoder that ``train-demo-encoder`` makes; every other one is imported from open_clip."""


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
