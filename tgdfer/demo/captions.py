"""Captions of rendered faces: what the face does, in varied words, now and then with the emotion's name.

A caption is made only from the action units. A part of the captions of faces that show an expression also carries its
name, so that "a photo of a happy face" means something to the encoder, but less than a description does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tgdfer.demo.units import EXPRESSIONS, INDEX, Floats, vector

WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("phrases.yaml").read_text(encoding="utf-8"))
VISIBLE = 0.22
"""Intensity from which a unit is worth a word."""
NAMED = 0.3
"""How often the emotion is named, with or without a description."""

BROWS = ("inner_brow_raise", "outer_brow_raise", "brow_lower")
EYES = ("upper_lid_raise", "cheek_raise", "lid_tighten", "eyes_closed")
LOWER = (
    "nose_wrinkle",
    "upper_lip_raise",
    "lip_corner_pull",
    "lip_corner_depress",
    "chin_raise",
    "lip_stretch",
    "lip_press",
    "lips_part",
    "jaw_drop",
)


def visible(units: Floats) -> list[tuple[str, float]]:
    """What there is to say about ``units`` (float32 [U]): keys of ``phrases`` with their intensity, brows first."""
    strength = {name: float(units[position]) for name, position in INDEX.items()}
    inner, outer, lower = (strength[name] for name in BROWS)
    found: list[tuple[str, float]] = []
    if inner > VISIBLE and lower > VISIBLE:
        found.append(("raised_and_drawn", max(inner, lower)))
    elif lower > VISIBLE:
        found.append(("brow_lower", lower))
    if inner > VISIBLE and outer > VISIBLE:
        found.append(("raised_brows", max(inner, outer)))
    elif inner > VISIBLE and lower <= VISIBLE:
        found.append(("inner_brow_raise", inner))
    elif outer > VISIBLE:
        found.append(("outer_brow_raise", outer))
    for name in (*EYES, *LOWER):
        if strength[name] > VISIBLE:
            found.append(("eyes_shut" if name == "eyes_closed" and strength[name] > 0.7 else name, strength[name]))
    return found


def caption(units: Floats, rng: np.random.Generator, emotion: str | None = None) -> str:
    """One caption of a face.

    Args:
        units: intensities, float32 [U].
        rng: draws the words, their order, and what is left unsaid.
        emotion: the class whose expression the face shows, if it shows one.
    """
    found = visible(units)
    if not found or (len(found) <= 2 and rng.random() < 0.4):
        quiet = [
            key
            for key, names in (("calm_brows", BROWS), ("calm_eyes", EYES), ("calm_mouth", LOWER))
            if all(units[INDEX[name]] <= VISIBLE for name in names)
        ]
        kept = [key for key in quiet if rng.random() < 0.6]
        found = [*found, *((key, 0.6) for key in kept)]
        if len(quiet) == 3 and (not kept or rng.random() < 0.5):
            found.append(("calm", 0.6))
    # the strongest are hardly ever left out
    kept_phrases = [(key, value) for key, value in found if rng.random() < 0.65 + 0.35 * value] or found
    order = rng.permutation(len(kept_phrases))[:4].tolist()
    phrases = [_phrase(kept_phrases[index][0], kept_phrases[index][1], rng) for index in sorted(order)]
    if rng.random() < 0.5:
        rng.shuffle(phrases)
    text = _listing(phrases, rng)
    if emotion is not None and rng.random() < NAMED:
        kind = ("adjectives", "nouns")[rng.integers(2)]
        opening = str(rng.choice(WORDS["named"][kind])).format(rng.choice(WORDS["names"][emotion][kind]))
        return opening if rng.random() < 0.4 else f"{opening} {rng.choice(['with', 'showing', ':'])} {text}"
    return f"{rng.choice(WORDS['openings'])} {text}".strip()


def _phrase(key: str, value: float, rng: np.random.Generator) -> str:
    phrase = str(rng.choice(WORDS["phrases"][key]))
    if key.startswith("calm") or phrase.startswith(("a ", "no ", "the ")) or rng.random() < 0.5:
        return phrase
    if value < 0.5:
        return f"{rng.choice(['slightly', 'faintly', 'barely'])} {phrase}"
    return f"{rng.choice(['strongly', 'clearly'])} {phrase}" if value > 0.8 else phrase


def _listing(phrases: list[str], rng: np.random.Generator) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    glue = str(rng.choice([" and ", ", ", " and ", ", and "]))
    return ", ".join(phrases[:-1]) + glue + phrases[-1]


def descriptions(label: str) -> list[str]:
    """Plain captions of the variants of ``label``'s expression, without its name: for zero-shot checks."""
    texts = []
    for weights in EXPRESSIONS[label]:
        found = [key for key, _ in visible(vector(weights))] or ["calm_brows", "calm_mouth"]
        texts.append("a face with " + ", ".join(WORDS["phrases"][key][0] for key in found))
    return texts
