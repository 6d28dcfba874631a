"""Saved models: what does not fit is refused, nothing that is loaded can run, and a folder can be given away."""

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import prediction_project as project
import pytest
import torch
from prediction_project import RUN
from safetensors.torch import load_file, save_file

from tgdfer import Predictor
from tgdfer.core import checksums, storage
from tgdfer.core.errors import UserError
from tgdfer.encoders import _fingerprint
from tgdfer.prediction.saved import load_saved


@pytest.fixture
def root(root: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the project to spoil."""
    copy = shutil.copytree(root, tmp_path / "project")
    monkeypatch.chdir(copy)
    return copy


def load():
    return load_saved(RUN, Path("models"), "cpu")


def own_up() -> None:
    """Make run.json agree with the files as they are now, as one would who wants to hide a change."""
    run = storage.read_json(RUN / "run.json")
    for name in ("model.safetensors", "model.json"):
        run["outputs"][name] = storage.file_fingerprint(RUN / name)
    storage.write_json(RUN / "run.json", run)


def change(file: str, **keys) -> None:
    storage.write_json(RUN / file, {**storage.read_json(RUN / file), **keys})


def test_what_was_written_is_read(root: Path) -> None:
    saved = load()
    assert saved.name == "tiny/words fold 1 seed 0"
    assert saved.identity()["classes"] == project.CLASSES
    assert saved.description.frames.clip_seconds == pytest.approx(1.75, abs=0.1)
    assert saved.description.frames.settings.max_frames == 8


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def pickled(path: Path, form: str) -> None:
    trap = {"weight": Trap("executed")}
    if form == "torch":
        torch.save(trap, path)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(trap))
    else:
        path.write_bytes(pickle.dumps(trap, protocol=int(form)))


@pytest.mark.parametrize("form", ["torch", "zip", "0", "2", "5"])
@pytest.mark.parametrize("where", ["model", "encoder"])
def test_a_pickle_is_refused_and_never_run(root: Path, form: str, where: str) -> None:
    path = RUN / "model.safetensors" if where == "model" else Path("models/demo-clip/open_clip_model.safetensors")
    pickled(path, form)
    own_up()
    if where == "encoder":
        forge_encoder()
    with pytest.raises(UserError, match=f"{path}: .*refused") as error:
        load()
    assert ("pickle" in str(error.value)) == (form != "0"), "the oldest form cannot be distinguished from text"
    assert not Path("executed").exists()


def test_pickles_beside_the_files_are_not_looked_at(root: Path) -> None:
    for folder in (RUN, Path("models/demo-clip")):
        for name in ("model.pth", "model.pt", "pytorch_model.bin", "open_clip_pytorch_model.bin"):
            pickled(folder / name, "torch")
    load()
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2, "tgdfer": "9.1"}, r"format 2 \(of tgdfer 9.1\), but this version reads format 1"),
        ({"format": None}, "format None"),
        ({"classes": ["happy", 3]}, "classes.1"),
        ({"command": "rm"}, "command"),
        ({"frames": None}, "frames"),
        ({"model": {"architecture": "../x"}}, "model.architecture"),
        ({"model": {"attention_width": 10**9}}, r"model.attention_width: 1000000000; expected at most"),
        ({"bags": {"frames": 10**12}}, "bags.frames: 1000000000000; expected at most"),
        ({"fingerprint": "0" * 64}, "another run"),
        ({"answers": [[0.5, 0.5], [0.5, 0.5]]}, "the probabilities of the test clip"),
        ({"answers": []}, "the probabilities of the test clip"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_description_that_does_not_fit(root: Path, changes: dict, said: str) -> None:
    change("model.json", **changes)
    own_up()
    with pytest.raises(UserError, match=said) as error:
        load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_changed_file_is_noticed(root: Path, name: str) -> None:
    data = bytearray((RUN / name).read_bytes())
    data[-3] ^= 1 if name.endswith("safetensors") else 0
    (RUN / name).write_bytes(data + (b" " if name.endswith("json") else b""))
    with pytest.raises(UserError, match=f"{name}: not the file that the run.json"):
        load()


def test_weights_of_another_version_or_shape(root: Path) -> None:
    path = RUN / "model.safetensors"
    state = load_file(path)
    about = {"fingerprint": storage.read_json(RUN / "model.json")["fingerprint"]}
    name = next(iter(sorted(state)))
    for spoiled in (
        {**state, "extra.weight": torch.zeros(2)},
        {key: value for key, value in state.items() if key != name},
        {**state, name: torch.zeros(3, 5, 7)},
    ):
        save_file(spoiled, path, metadata=about)
        own_up()
        with pytest.raises(UserError, match="not the weights of this version's model"):
            load()
    save_file({**state, name: state[name] + 1}, path, metadata=about)
    own_up()
    with pytest.raises(UserError, match="the probabilities of the test clip"):
        load()


def test_another_encoder_is_refused(root: Path) -> None:
    shutil.rmtree("models/demo-clip")
    project.make_encoder(seed=1)
    with pytest.raises(UserError, match="but the model was trained with encoder"):
        load()


def forge_encoder(**config) -> None:
    """Change the encoder's config, and every fingerprint with it."""
    path = Path("models/demo-clip/open_clip_config.json")
    about = storage.read_json(path)
    for section, keys in config.items():
        about["model_cfg"][section] |= keys
    storage.write_json(path, about)
    reforge(_fingerprint(path.parent))


def reforge(fingerprint: str, **keys) -> None:
    path = Path("models/demo-clip/encoder.json")
    files = [checksums.entry(path.parent / listed["file"]) for listed in storage.read_json(path)["files"]]
    storage.write_sealed(path, {**storage.read_json(path), "fingerprint": fingerprint, "files": files})
    encoder = {**storage.read_json(RUN / "model.json")["encoder"], "fingerprint": fingerprint, **keys}
    change("model.json", encoder=encoder)
    own_up()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"text_cfg": {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}},
            "trust_remote_code",
        ),
        ({"text_cfg": {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}}, "tokenizer_kwargs.bpe_path: not allowed"),
        ({"text_cfg": {"hf_model_name": "somebody/else"}}, "its text tower is a Hugging Face model"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:somebody/else"}}, "its image tower comes from elsewhere"),
        ({"vision_cfg": {"width": 1_000_000}}, "of another size"),
        ({"text_cfg": {"layers": 10**9}}, "of another size"),
        ({"vision_cfg": {"image_size": 10**6}}, "of another size"),
        ({"vision_cfg": {"patch_size": 0}}, "not an encoder that can be loaded"),
        ({"vision_cfg": {"nonsense": 3}}, "not an encoder that can be loaded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_encoders_config_that_would_run_code_fetch_or_fill_the_memory(root: Path, config: dict, said: str) -> None:
    forge_encoder(**config)
    with pytest.raises(UserError, match=said) as error:
        load()
    assert "\n" not in str(error.value)


def test_a_dimension_that_the_encoder_has_not(root: Path) -> None:
    reforge(storage.read_json(Path("models/demo-clip/encoder.json"))["fingerprint"], dim=10**9)
    with pytest.raises(UserError, match=r"encoder.dim: 1000000000, but the encoder makes 32"):
        load()


@pytest.mark.parametrize("content", ["[]", "null", "{}", "3" * 5000, "[" * 100_000, '{"a": 1', "\udcff", ""])
@pytest.mark.parametrize("name", ["model.json", "run.json", "encoder.json", "open_clip_config.json"])
def test_a_file_that_is_no_description(root: Path, name: str, content: str) -> None:
    folder = RUN if name in ("model.json", "run.json") else Path("models/demo-clip")
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as error:
        load()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("header", [2**63, 2**40, 100_000_000, 7, 0])
def test_a_header_of_an_absurd_length(root: Path, header: int) -> None:
    path = RUN / "model.safetensors"
    path.write_bytes(header.to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}')
    own_up()
    with pytest.raises(UserError, match="not a safetensors file"):
        load()


def test_an_encoder_with_other_weights_than_it_says(root: Path) -> None:
    about = Path("models/demo-clip/encoder.json").read_bytes()
    project.make_encoder(seed=1)
    Path("models/demo-clip/encoder.json").write_bytes(about)
    with pytest.raises(UserError, match="not the file that its stage wrote"):
        load()


def test_other_words_are_noticed(root: Path, monkeypatch) -> None:
    from tgdfer.model import text

    words = text.load_words()
    other = words.classes["happy"].model_copy(update={"name": "very much in love with pipelines"})
    words.classes["happy"] = other
    monkeypatch.setattr(text, "load_words", lambda: words)
    with pytest.raises(UserError, match="the probabilities of the test clip"):
        load()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "run.json"])
def test_a_run_that_is_not_finished(root: Path, name: str) -> None:
    (RUN / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load()


def test_no_run_at_all(root: Path) -> None:
    with pytest.raises(UserError, match="no such folder; expected a run"):
        Predictor.from_run("runs/nowhere")


def test_a_folder_to_give_away_needs_nothing_else(root: Path, tmp_path: Path, monkeypatch) -> None:
    clip = (root / "raw/clip0.mp4").rename(tmp_path / "clip0.mp4")
    mine = Predictor.from_run(RUN, device="cpu")
    given = tmp_path / "given"
    mine.save(given)
    expected = mine.predict(clip)
    shutil.rmtree(root)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = Predictor.from_run(given, device="cpu").predict(clip)
    assert made.probabilities == expected.probabilities
    assert {path.suffix for path in given.rglob("*") if path.is_file()} == {".json", ".safetensors", ".md"}
    card = (given / "README.md").read_text()
    assert "$" not in card.replace("```sh", "")
    for word in ("happy, sad", "UAR", "AI Act", "workplace", "education", "not felt emotion", "tiny"):
        assert word in card, word
    with pytest.raises(UserError, match="exists already"):
        mine.save(given)


@pytest.mark.parametrize(("sad", "chance"), [([1, 1], "50.0"), ([0, 0], "100.0")])
def test_the_card_counts_only_classes_with_test_clips(root: Path, sad: list[int], chance: str) -> None:
    selections = storage.read_json(RUN / "metrics.json")["selections"]
    change("metrics.json", selections={"last": {**selections["last"], "confusion": [[2, 0], sad]}})
    Predictor.from_run(RUN, device="cpu").save(root / "given")
    assert f"chance is {chance} % UAR" in (root / "given/README.md").read_text()
