"""Captions of rendered faces: what the face does, in varied words, now and then with the emotion's name.

A caption is made from the action units alone. A part of the captions of faces that show an expression also carry its
name, so that "a photo of a happy face" means something to the encoder, but less than a description does.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tgdfer.demo.units import EXPRESSIONS, INDEX, Floats, vector

VISIBLE = 0.22
"""Intensity from which a unit is worth a word."""

PHRASES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "raised_brows": (
            "raised eyebrows",
            "eyebrows raised high",
            "lifted eyebrows",
            "eyebrows pulled up",
            "brows arched upward",
            "both brows raised",
            "eyebrows raised",
            "inner and outer eyebrows raised",
            "eyebrows raised and curved",
        ),
        "inner_brow_raise": (
            "inner eyebrows raised",
            "the inner corners of the eyebrows drawn up",
            "eyebrows slanted up in the middle",
            "inner brows lifted",
            "oblique eyebrows",
            "eyebrows slanted upwards in the middle",
        ),
        "outer_brow_raise": ("outer eyebrows raised", "the outer ends of the brows lifted", "outer brows arched"),
        "brow_lower": (
            "furrowed eyebrows",
            "lowered eyebrows",
            "eyebrows drawn together",
            "brows pulled down and together",
            "a frown between the brows",
            "knitted brows",
            "vertical lines between the eyebrows",
            "eyebrows lowered",
            "eyebrows pulled together and lowered",
            "eyebrows furrowed",
        ),
        "raised_and_drawn": (
            "eyebrows raised and drawn together",
            "brows lifted and pulled together",
            "worried eyebrows raised in the middle",
            "eyebrows raised and pulled together",
            "inner eyebrows raised and pulled together",
        ),
        "upper_lid_raise": (
            "wide open eyes",
            "eyes opened wide",
            "widened eyes",
            "raised upper eyelids",
            "staring eyes with the whites showing",
            "eyes wide open",
            "upper eyelids raised",
            "eyes staring",
        ),
        "cheek_raise": (
            "raised cheeks",
            "cheeks lifted",
            "crinkled eyes",
            "crow's feet around the eyes",
            "wrinkles at the corners of the eyes",
            "cheeks raised",
            "lower eyelids raised",
        ),
        "lid_tighten": (
            "narrowed eyes",
            "tightened eyelids",
            "tense lower eyelids",
            "squinting eyes",
            "glaring eyes",
            "eyes narrowed",
            "lower eyelids tightened",
        ),
        "nose_wrinkle": (
            "a wrinkled nose",
            "nose wrinkled up",
            "wrinkles on the nose",
            "a scrunched nose",
            "flared nostrils pulled up",
            "nose wrinkled",
            "wrinkled nose",
        ),
        "upper_lip_raise": (
            "a raised upper lip",
            "upper lip pulled up",
            "a curled upper lip",
            "deep folds beside the nose",
            "upper lip raised",
            "upper lip curled",
        ),
        "lip_corner_pull": (
            "a smile",
            "lip corners pulled up",
            "the corners of the mouth turned up",
            "a smiling mouth",
            "a broad grin",
            "mouth corners raised",
            "lip corners raised",
            "wide mouth with corners turned up",
        ),
        "lip_corner_depress": (
            "lip corners pulled down",
            "the corners of the mouth turned down",
            "a downturned mouth",
            "mouth corners lowered",
            "drooping mouth corners",
            "lip corners lowered",
        ),
        "chin_raise": (
            "a raised chin",
            "chin pushed up",
            "a wrinkled chin",
            "lower lip pushed up",
            "a pouting lower lip",
            "lower lip raised",
        ),
        "lip_stretch": (
            "lips stretched sideways",
            "a stretched mouth",
            "lips pulled back toward the ears",
            "mouth stretched horizontally",
            "tense stretched lips",
            "lips stretched",
            "mouth stretched",
        ),
        "lip_press": (
            "lips pressed together",
            "tight lips",
            "thin pressed lips",
            "a tightly closed mouth",
            "tightened lips",
            "lips tightened",
            "lips pressed thin",
            "lips pressed",
        ),
        "lips_part": (
            "parted lips",
            "lips apart",
            "mouth slightly open",
            "teeth showing",
            "visible teeth",
            "lips parted",
            "mouth open",
        ),
        "jaw_drop": (
            "a dropped jaw",
            "mouth wide open",
            "jaw dropped open",
            "an open mouth",
            "a round open mouth",
            "jaw dropped",
            "jaw hanging open",
            "mouth round",
        ),
        "eyes_closed": (
            "half closed eyes",
            "drooping eyelids",
            "lowered eyelids",
            "eyes looking down",
            "eyes half closed",
            "eyelids drooping",
            "eyelids lowered",
        ),
        "eyes_shut": ("closed eyes", "eyes shut", "blinking eyes"),
        "calm_brows": (
            "relaxed eyebrows",
            "level eyebrows",
            "a smooth forehead",
            "eyebrows at rest",
            "eyebrows level",
            "eyebrows relaxed",
            "no movement of eyebrows",
        ),
        "calm_eyes": (
            "relaxed eyes",
            "eyes open normally",
            "calm eyes",
            "relaxed eyelids",
            "eyes open",
            "eyelids at rest",
        ),
        "calm_mouth": (
            "a closed relaxed mouth",
            "lips closed and relaxed",
            "mouth at rest",
            "a straight mouth",
            "lips resting together",
            "lips closed",
            "mouth closed and straight",
            "mouth closed",
            "no movement of lips",
        ),
        "calm": (
            "relaxed muscles",
            "no movement",
            "a face at rest",
            "all features relaxed",
            "no visible expression",
            "a blank expression",
            "relaxed face",
            "cheeks smooth",
            "no movement of eyebrows, nose or lips",
        ),
    }
)
"""What may be said of a unit, or of a combination that people name as one."""

OPENINGS = (
    "a face with",
    "a photo of a face with",
    "a person with",
    "a photo of a person with",
    "a face showing",
    "someone with",
    "an expression of",
    "a facial expression with",
    "",
    "",
    "",
    "",
)

NAMES: MappingProxyType[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "happy": (("happy", "joyful"), ("happiness", "joy")),
        "sad": (("sad", "unhappy"), ("sadness",)),
        "neutral": (("neutral", "expressionless"), ("a neutral expression",)),
        "angry": (("angry", "furious"), ("anger",)),
        "surprise": (("surprised", "astonished"), ("surprise",)),
        "disgust": (("disgusted",), ("disgust",)),
        "fear": (("fearful", "afraid"), ("fear",)),
    }
)
"""Adjectives and nouns for each class."""

NAMED = (
    ("a photo of a {} face", "a {} face", "a {} person", "a photo of a person who looks {}", "{}"),
    ("a photo of a face showing {}", "a face with an expression of {}", "an expression of {}", "{}"),
)

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
    """What there is to say about ``units`` (float32 [U]): keys of ``PHRASES`` with their intensity, brows first."""
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


def caption(units: Floats, rng: np.random.Generator, emotion: str | None = None, named: float = 0.3) -> str:
    """One caption of a face.

    Args:
        units: intensities, float32 [U].
        rng: draws the words, their order, and what is left unsaid.
        emotion: the class whose expression the face shows, if it shows one.
        named: the probability that the emotion's name is said, alone or before the description.
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
    if emotion is not None and rng.random() < named:
        kind = int(rng.integers(2))
        opening = str(rng.choice(NAMED[kind])).format(rng.choice(NAMES[emotion][kind]))
        return opening if rng.random() < 0.4 else f"{opening} {rng.choice(['with', 'showing', ':'])} {text}"
    return f"{rng.choice(OPENINGS)} {text}".strip()


def _phrase(key: str, value: float, rng: np.random.Generator) -> str:
    phrase = str(rng.choice(PHRASES[key]))
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
        texts.append("a face with " + ", ".join(PHRASES[key][0] for key in found))
    return texts
