import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tgdfer.config.params import Params, load_params
from tgdfer.config.words import DESCRIPTIONS
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.demo import captioned, captions
from tgdfer.demo.units import EXPRESSIONS, UNITS, vector
from tgdfer.encoders import demo_clip, load_encoder
from tgdfer.stages import train_demo_encoder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    params = load_params(ROOT / "params.yaml")
    monkeypatch.setattr(demo_clip, "BATCH", 16)
    monkeypatch.setattr(train_demo_encoder, "HELD_OUT", 42)
    demo = params.demo.model_copy(update={"encoder_faces": 48, "encoder_epochs": 1, "encoder_threads": 1})
    return params.model_copy(update={"demo": demo})


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(":", " ").split())


def many_captions(count: int = 6000) -> list[str]:
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(count):
        units, label = captioned.sample_units(rng)
        texts.append(captions.caption(units, rng, label))
    return texts


def test_captions_say_every_word_of_the_seven_descriptions_and_fit_the_context() -> None:
    texts = many_captions()
    said = set().union(*map(words, texts))
    described = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8"))
    wanted: set[str] = words(described["template"].format(name=""))
    for label in SEVEN:
        entry = described["classes"][label]
        wanted |= words(entry["name"])
        for line in entry["descriptions"]:
            wanted |= words(line)
    # a word or two of free text may be new to the encoder; most must not be
    assert len(wanted - said) <= 3, sorted(wanted - said)
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    assert max(len(tokenizer.encode(text)) + 2 for text in set(texts)) <= demo_clip.CONTEXT


def test_names_are_never_the_only_cue() -> None:
    names = {word for kinds in captions.WORDS["names"].values() for group in kinds.values() for word in group}
    texts = many_captions(3000)
    named = [text for text in texts if any(name in text for name in names)]
    assert 0.05 < len(named) / len(texts) < 0.3
    for label in SEVEN:
        for text in captions.descriptions(label):
            assert not any(name in text for name in names)


def test_what_is_visible_is_said_and_nothing_else() -> None:
    for weights in EXPRESSIONS.values():
        for variant in weights:
            keys = {key for key, _ in captions.visible(vector(variant))}
            for name, weight in variant.items():
                if name not in captions.BROWS and weight > captions.VISIBLE:
                    assert name in keys
    assert captions.visible(np.full(len(UNITS), captions.VISIBLE - 0.01, np.float32)) == []
    shut = {key for key, _ in captions.visible(vector({"eyes_closed": 1.0}))}
    assert shut == {"eyes_shut"}


def test_faces_depend_only_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioned, "CHUNK", 8)
    first = captioned.render_faces(0, 20, False, 1)
    again = captioned.render_faces(0, 20, False, 2)
    assert torch.equal(first.images, again.images) and first.texts == again.texts
    other = captioned.render_faces(1, 20, False, 1)
    assert not torch.equal(first.images, other.images)
    held = captioned.render_faces(0, 20, True, 1)
    assert not torch.equal(first.images, held.images)
    assert set(held.labels.tolist()) == set(range(len(SEVEN)))


def test_units_that_contradict_each_other_do_not_meet() -> None:
    rng = np.random.default_rng(1)
    index = {name: position for position, name in enumerate(UNITS)}
    for _ in range(500):
        units, label = captioned.sample_units(rng)
        assert units.min() >= 0 and units.max() <= 1
        if label is None and units[index["lip_press"]]:
            assert units[index["jaw_drop"]] == units[index["lips_part"]] == 0


def test_training_twice_gives_the_same_bytes_and_the_loading_code_reads_them(tiny: Params) -> None:
    folder = paths.encoder("demo-clip").parent
    train_demo_encoder.run(tiny)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    train_demo_encoder.run(tiny)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    metrics = storage.read_json(folder / "metrics.json")
    assert {"zero_shot_name_accuracy", "zero_shot_description_accuracy", "linear_probe_accuracy"} <= set(metrics)
    loaded = load_encoder("demo-clip", "cpu")
    assert (loaded.dim, loaded.context_length) == (demo_clip.CONFIG["embed_dim"], demo_clip.CONTEXT)
    faces = captioned.render_faces(0, 6, True, 1)
    tower = loaded.vision_tower()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(tower.visual(demo_clip.normalise(faces.images)), dim=-1)
    assert torch.allclose(tower(faces.images), expected, atol=1e-5)


def test_a_finished_encoder_is_kept_and_a_damaged_one_is_trained_again(tiny: Params) -> None:
    folder = paths.encoder("demo-clip").parent
    train_demo_encoder.run(tiny)
    first = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    train_demo_encoder.run(tiny)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == first
    for name in first:
        (folder / name).write_bytes(b"{}")
        train_demo_encoder.run(tiny)
        assert (folder / name).read_bytes() == first[name][0], name


def test_the_cut_text_tower_equals_open_clip_s() -> None:
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(**demo_clip.CONFIG).eval()
    tokens = open_clip.SimpleTokenizer(context_length=demo_clip.CONTEXT)(["a face with raised cheeks", "a smile"])
    end = tokens.argmax(1)
    with torch.no_grad():
        cut = demo_clip._encode_text(model, tokens[:, : int(end.max()) + 1], end)
        assert torch.allclose(cut, model.encode_text(tokens), atol=1e-5)
