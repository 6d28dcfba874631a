"""What happens in each clip of the embedded data set: who, for how long, which units move when.

A clip is mostly neutral; the expression of its label rises and falls in a short part of it, and other expressions
flicker more weakly, eyes blink, mouths talk, heads move. A clip's script depends only on the data set's seed and the
clip's number.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

import numpy as np

from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.demo.faces import Pose, Scene, sample_pose, sample_scene
from tgdfer.demo.people import Identity, sample_identity
from tgdfer.demo.units import INDEX, UNITS, Floats, sample_expression

SHARES = {
    "happy": 0.20,
    "sad": 0.16,
    "neutral": 0.21,
    "angry": 0.18,
    "surprise": 0.13,
    "disgust": 0.04,
    "fear": 0.08,
}
"""How often each class occurs: close to DFEW's, whose rarest class (1.2 %) is too rare for a small data set."""

CLIPS_PER_SUBJECT = 14
FRAMES = (24, 64)
FPS = (12, 15, 20, 25)
CRF = (20, 33)
PEAK = (0.4, 1.0)
PART = (0.12, 0.3)
"""The part of a clip in which its expression is to be seen, as a fraction of its frames."""
FLICKERS = 2.0
FLICKER_PEAK = (0.2, 0.45)
FLICKER_FRAMES = (3, 8)
TWITCHES = 1.5
TWITCH_PEAK = (0.2, 0.6)
NEUTRAL_WEAKER = 0.7
TALKS = 0.45

WHO, WHAT = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class ClipPlan:
    """One clip: its name, label, person and fold, and its number in the data set, which seeds it."""

    clip_id: str
    number: int
    label: str
    subject: int
    fold: int


@dataclass(frozen=True)
class Script:
    """All that a clip shows, frame by frame.

    ``units`` is float32 [N, U]; ``intensity`` float32 [N] is that of the label's expression (see ``write_script``).
    """

    person: Identity
    scene: Scene
    poses: list[Pose]
    units: Floats
    intensity: Floats
    fps: int
    crf: int
    noise_seed: int


def quotas(clips: int, shares: Mapping[str, float] = SHARES) -> dict[str, int]:
    """Clips of each class among ``clips``, by largest remainder, at least one of each; ``shares`` add up to 1."""
    counts = {label: max(1, int(share * clips)) for label, share in shares.items()}
    rest = sorted(shares, key=lambda label: (int(shares[label] * clips) - shares[label] * clips, label))
    position = 0
    while sum(counts.values()) < clips:
        counts[rest[position % len(rest)]] += 1
        position += 1
    while sum(counts.values()) > clips:
        counts[max(counts, key=lambda label: counts[label])] -= 1
    return counts


def plan(clips: int, folds: int, seed: int, shares: Mapping[str, float] | None = None) -> list[ClipPlan]:
    """The list of clips: people belong to one fold, and every fold tests every class.

    ``shares`` need not add up to 1; by default they are ``SHARES``.

    Raises:
        UserError: too few clips for that.
    """
    if clips < folds * len(SEVEN):
        raise UserError(
            f"params.yaml: demo.clips: {clips} clips cannot show {len(SEVEN)} classes in each of {folds} folds; "
            f"at least {folds * len(SEVEN)}"
        )
    if shares:
        shares = {label: share / sum(shares.values()) for label, share in shares.items()}
    rng = np.random.default_rng([seed, WHO])
    sizes = [clips // folds + (fold < clips % folds) for fold in range(folds)]
    rows: list[tuple[str, int, int]] = []
    first = 0
    for fold, size in enumerate(sizes):
        labels = [label for label, count in quotas(size, shares or SHARES).items() for _ in range(count)]
        people = max(2, round(size / CLIPS_PER_SUBJECT))
        shuffled = rng.permutation(size)
        rows += [(labels[index], first + place % people, fold + 1) for place, index in enumerate(shuffled)]
        first += people
    order = rng.permutation(clips)
    return [
        ClipPlan(f"demo-{number + 1:05d}", number, label, subject, fold)
        for number, (label, subject, fold) in enumerate(rows[index] for index in order)
    ]


def envelope(frames: int, start: float, length: float, peak: float, rng: np.random.Generator) -> Floats:
    """An intensity that rises, stays and falls again: float32 [frames], 0 outside ``start`` .. ``start + length``."""
    rise, fall = rng.uniform(0.2, 0.5, 2) * length
    t = np.arange(frames) - start
    up = np.clip(t / rise, 0, 1)
    down = np.clip((length - t) / fall, 0, 1)
    return (peak * (0.5 - 0.5 * np.cos(np.pi * np.minimum(up, down)))).astype(np.float32)


def write_script(plan: ClipPlan, seed: int, light: float = 1.0, roughness: float = 1.0) -> Script:
    """The script of one clip; ``light`` and ``roughness`` are factors of its scene.

    Its true intensity is the strength, 0 to 1, of the label's expression in each frame. A neutral clip has nothing that
    rises: there it is 1 minus the strength of the strongest flicker or twitch, that is, how neutral the frame is.
    """
    rng = np.random.default_rng([seed, WHAT, plan.number])
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    fps = int(rng.choice(FPS))
    neutral = plan.label == "neutral"
    weaker = NEUTRAL_WEAKER if neutral else 1.0
    units = np.zeros((frames, len(UNITS)), np.float32)
    shown = np.zeros(frames, np.float32)
    disturbed = np.zeros(frames, np.float32)
    if not neutral:
        length = max(4.0, frames * rng.uniform(*PART))
        shown = envelope(frames, rng.uniform(0, frames - length), length, rng.uniform(*PEAK), rng)
        units = np.maximum(units, shown[:, None] * sample_expression(plan.label, rng))
    others = [label for label in SEVEN if label not in ("neutral", plan.label)]
    for _ in range(int(rng.poisson(FLICKERS))):
        length = rng.uniform(*FLICKER_FRAMES)
        flicker = envelope(
            frames, rng.uniform(-1, frames - length + 1), length, weaker * rng.uniform(*FLICKER_PEAK), rng
        )
        units = np.maximum(units, flicker[:, None] * sample_expression(str(rng.choice(others)), rng))
        disturbed = np.maximum(disturbed, flicker)
    for _ in range(int(rng.poisson(TWITCHES))):
        length = rng.uniform(3, 12)
        twitch = envelope(frames, rng.uniform(-1, frames - length + 1), length, weaker * rng.uniform(*TWITCH_PEAK), rng)
        unit = int(rng.integers(len(UNITS) - 1))  # all but the last, closed eyes, which blinks show
        units[:, unit] = np.maximum(units[:, unit], twitch)
        disturbed = np.maximum(disturbed, twitch)
    _talk(units, fps, rng)
    _blink(units, fps, rng)
    scene = sample_scene(rng, roughness)
    return Script(
        person=sample_identity(np.random.default_rng([seed, WHO, 1 + plan.subject])),
        scene=replace(scene, light=light * scene.light),
        poses=_poses(frames, fps, rng),
        units=units,
        intensity=(1 - disturbed) if neutral else shown,
        fps=fps,
        crf=int(rng.integers(CRF[0], CRF[1] + 1)),
        noise_seed=int(rng.integers(2**31)),
    )


def _talk(units: Floats, fps: int, rng: np.random.Generator) -> None:
    """Speech: lips part and the jaw moves at three to five syllables a second."""
    if rng.random() > TALKS:
        return
    frames = len(units)
    length = rng.uniform(0.3, 0.8) * frames
    voiced = envelope(frames, rng.uniform(0, frames - length), length, 1.0, rng)
    t = np.arange(frames) / fps
    beat = np.abs(np.sin(np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 3)))
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.6, 1.3) * t + rng.uniform(0, 6))
    jaw = (rng.uniform(0.15, 0.42) * voiced * beat * loud).astype(np.float32)
    for name, share in (("jaw_drop", 1.0), ("lips_part", 1.2), ("lip_stretch", rng.uniform(0, 0.6))):
        column = INDEX[name]
        units[:, column] = np.maximum(units[:, column], np.float32(share) * jaw)


def _blink(units: Floats, fps: int, rng: np.random.Generator) -> None:
    for start in np.flatnonzero(rng.random(len(units)) < 0.35 / fps).tolist():
        shut = envelope(len(units), start - 1, max(3.0, 0.22 * fps), 1.0, rng)
        column = INDEX["eyes_closed"]
        units[:, column] = np.maximum(units[:, column], shut)


def _poses(frames: int, fps: int, rng: np.random.Generator) -> list[Pose]:
    """A resting pose and slow, smooth wandering around it; the gaze jumps now and then."""
    rest = np.array(astuple(sample_pose(rng)))
    t = np.arange(frames) / fps
    wander = np.zeros((6, frames))
    for size in (1.0, 0.5):
        speed, phase = rng.uniform(0.1, 0.7 / size, (6, 1)), rng.uniform(0, 2 * np.pi, (6, 1))
        wander += size * np.sin(2 * np.pi * speed * t + phase)
    wander *= rng.gamma(1.5, 0.5) * np.array([0.012, 0.012, 0.008, 0.03, 0.07, 0.05])[:, None]
    gaze = rest[6:]
    poses = []
    for frame in range(frames):
        if rng.random() < 0.8 / fps:
            gaze = np.clip(rng.normal(0, 1, 2), -2, 2) * np.array([0.2, 0.15])
        poses.append(Pose(*(rest[:6] + wander[:, frame]).tolist(), *gaze.tolist()))
    return poses
