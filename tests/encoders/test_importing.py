"""Importing open_clip models: the real loading code on a tiny registered model; an error for each silent fallback."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from features_project import CONFIG, params
from graphs import ROOT
from safetensors.torch import save_file

from tgdfer.config.ahead import refusals
from tgdfer.config.clip_models import takes_prompts
from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.encoders import load_encoder
from tgdfer.encoders.text_tower import TextTower
from tgdfer.stages import import_encoder

QUICK = {**CONFIG, "quick_gelu": True}
# a second architecture of the same weights but for the number of patches, which open_clip resizes silently
LARGER = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 48}}
DEEPER = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "layers": 3}}


@pytest.fixture
def registry(new_folder, monkeypatch):
    """Tiny models with tags, registered in open_clip for one test; downloads come from files."""
    monkeypatch.setenv("HOME", str(new_folder / "home"))
    configs = {"Tiny-8": CONFIG, "Tiny-8-quickgelu": QUICK, "Larger-8": LARGER, "Deeper-8": DEEPER}
    for name, config in configs.items():
        Path(f"{name}.json").write_text(json.dumps(config))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(new_folder)
    url = (new_folder / "published.pt").as_uri()
    tags = {"ours": {"url": url, "mean": (0.5,) * 3, "std": (0.5,) * 3}, "openai": {"url": url, "quick_gelu": True}}
    for name in configs:
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
    return new_folder


def model(config=CONFIG, seed=3) -> torch.nn.Module:
    torch.manual_seed(seed)
    return open_clip.model.CLIP(**config).eval()


def spec(name: str, pretrained: str | None = None) -> Params:
    raw = params().model_dump()
    raw["encoders"] = {"imported": {"model": name, "pretrained": pretrained}}
    return Params.model_validate(raw)


def imported(name: str, pretrained: str | None = None):
    import_encoder.run(spec(name, pretrained), "imported")
    return load_encoder("imported", "cpu")


def assert_same(encoder, reference, tolerance=1e-6):
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (encoder.preprocess.mean, encoder.preprocess.std))
    with torch.no_grad():
        expected = reference.encode_image((images / 255 - mean) / std, normalize=True)
        text = reference.encode_text(open_clip.get_tokenizer("Tiny-8")(["smile"]), normalize=True)
    torch.testing.assert_close(encoder.vision_tower()(images), expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(encoder.encode_text(["smile"]), text, atol=tolerance, rtol=0)


def save_openai(path: Path, source: torch.nn.Module) -> torch.nn.Module:
    """Write a TorchScript archive in float16 with OpenAI's extra entries; returns the rounded model."""
    for name, value in (("input_resolution", 32), ("context_length", 24), ("vocab_size", 49408)):
        source.__dict__.pop(name, None)
        source.register_buffer(name, torch.tensor(value))
    mask = source.attn_mask
    del source.attn_mask
    source.attn_mask = mask  # no entry of the archive, as in OpenAI's
    images, tokens = torch.zeros(1, 3, 32, 32), torch.ones(1, 24, dtype=torch.int64)
    traced = torch.jit.trace(source, (images, tokens), check_trace=False).half()
    torch.jit.save(traced, str(path))
    rounded = model(QUICK)
    rounded.load_state_dict({k: v.half().float() for k, v in source.state_dict().items() if k in rounded.state_dict()})
    return rounded


@pytest.mark.parametrize("kind", ["state_dict", "training", "safetensors", "half"])
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
def test_checkpoint_file_in_open_clips_formats(registry, kind, suffix):
    reference, path = model(), Path(f"weights.{'safetensors' if kind == 'safetensors' else suffix}")
    if kind == "half":
        reference.load_state_dict({key: value.half().float() for key, value in reference.state_dict().items()})
    state = reference.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "training":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        torch.save({key: value.half() for key, value in state.items()} if kind == "half" else state, path)
    assert_same(imported("Tiny-8", str(path)), reference)


BLIND = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "no_causal_mask": True}}
"""Its text tower is not causal, as MobileCLIP's."""


def test_a_text_tower_that_takes_no_prompts_is_refused_or_not_used(registry, caplog):
    Path("Blind-8.json").write_text(json.dumps(BLIND))
    open_clip.add_model_config(Path("Blind-8.json"))
    torch.save(model(BLIND).state_dict(), "weights.pt")
    raw = spec("Blind-8", "weights.pt").model_dump()
    raw["datasets"]["tiny"]["encoder"] = "imported"
    raw["variants"]["b"] = {"label": "b", "tables": [], "set": {"model": {"architecture": "linear-probe"}}}
    reads_text = Params.model_validate(raw)
    with pytest.raises(UserError, match=r"text tower of Blind-8 is not causal .* so that the variant a cannot use it"):
        import_encoder.run(reads_text, "imported")
    assert [refusal.about for refusal in refusals(reads_text)] == ["encoder imported"]
    reads_none = Params.model_validate({**raw, "grid": ["b"], "report": {"reference": "b"}})
    assert refusals(reads_none) == []
    import_encoder.run(reads_none, "imported")
    assert "only variants that read no text can use it" in caplog.text
    encoder = load_encoder("imported", "cpu")
    assert encoder.vision_tower()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 32)
    with pytest.raises(UserError, match="its text tower is not causal"):
        encoder.text_tower()


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "MobileCLIP-S1", "ViT-B-16-SigLIP", "ViT-H-14-CLIPA", "RN50"])
def test_a_configuration_says_whether_the_text_tower_takes_prompts(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = open_clip.create_model(name, load_weights=False, device="meta")
    try:
        TextTower(tower, None, name)
        usable = True
    except UserError:
        usable = False
    assert takes_prompts(config) == usable


def test_an_import_of_other_weights_over_an_earlier_one_is_logged(registry, caplog):
    for seed in (3, 4):
        torch.save(model(seed=seed).state_dict(), "weights.pt")
        imported("Tiny-8", "weights.pt")
        assert ("replaces an encoder that was imported from other weights" in caplog.text) == (seed == 4)
    with pytest.raises(UserError, match="models/imported is where the import is written to; move your model"):
        imported("local-dir:models/imported")


def test_a_typing_error_is_refused_before_anything_heavy_is_loaded(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("encoders: {}", "encoders: {mine: {model: ViT-B-33, pretrained: openai}}")
    text = text.replace("encoder: demo-clip", "encoder: mine")
    (tmp_path / "params.yaml").write_text(text)
    code = (
        "import sys\nfrom tgdfer.cli import main\ntry:\n    main()\nfinally:\n"
        "    assert not {'torch', 'open_clip'} & set(sys.modules), 'loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "import-encoder", "--name", "mine"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "open_clip has no model 'ViT-B-33'; did you mean" in done.stderr
    assert "Correct encoders.mine.model in params.yaml" in done.stderr


def test_checkpoint_file_in_openais_format(registry):
    rounded = save_openai(Path("openai.pt"), model(QUICK))
    assert_same(imported("Tiny-8-quickgelu", "openai.pt"), rounded)


def test_openais_weights_need_quickgelu(registry):
    save_openai(Path("openai.pt"), model(QUICK))
    with pytest.raises(UserError, match="write model: Tiny-8-quickgelu"):
        imported("Tiny-8", "openai.pt")
    with pytest.raises(UserError, match="other activation than 'Tiny-8' has; write model: Tiny-8-quickgelu"):
        imported("Tiny-8", "openai")
    with pytest.raises(UserError, match=r"write model: Tiny-8$"):
        imported("Tiny-8-quickgelu", "ours")


def test_real_name_of_the_wrong_activation(registry):
    with pytest.raises(UserError, match="write model: ViT-B-32-quickgelu"):
        imported("ViT-B-32", "openai")


def test_tag_is_downloaded_with_its_preprocessing(registry):
    torch.save(model().state_dict(), "published.pt")
    encoder = imported("Tiny-8", "ours")
    assert_same(encoder, model())
    assert encoder.preprocess.mean == (0.5,) * 3


def test_tag_that_cannot_be_downloaded(registry):
    with pytest.raises(UserError, match="could not download 'ours' of 'Tiny-8'"):
        imported("Tiny-8", "ours")


def test_local_dir(registry):
    torch.save(model().state_dict(), "weights.pt")
    first = imported("Tiny-8", "weights.pt")
    raw = spec("local-dir:models/imported").model_dump()
    raw["encoders"] = {"copy": raw["encoders"]["imported"]}
    import_encoder.run(Params.model_validate(raw), "copy")
    assert load_encoder("copy", "cpu").fingerprint == first.fingerprint
    Path("models/imported/open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        imported("local-dir:models/imported")
    with pytest.raises(UserError, match=r"none/open_clip_config.json: no such file"):
        imported("local-dir:none")
    with pytest.raises(UserError, match="brings its own weights; leave `pretrained` out"):
        imported("local-dir:models/imported", "openai")


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("Tiny-9", "ours", "no model 'Tiny-9'; did you mean .*Tiny-8"),
        ("ViT-B/33", "openai", "did you mean .*ViT-B-32"),
        ("Tiny-8", None, "without weights is random; write one of ours, openai, or a checkpoint file"),
        ("Tiny-8", "laion9b", "'Tiny-8' has no tag 'laion9b', nor is it a file; write one of ours, openai"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k", "captioning models"),
        ("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k", "Hugging Face model"),
    ],
)
def test_what_to_write_instead(registry, monkeypatch, name, pretrained, message):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: "nowhere.pt")
    with pytest.raises(UserError, match=message):
        imported(name, pretrained)


@pytest.mark.parametrize("name", ["Larger-8", "Deeper-8"])
def test_checkpoint_of_another_architecture(registry, name):
    torch.save(model().state_dict(), "weights.pt")
    with pytest.raises(UserError, match=f"weights of another architecture than '{name}': .*visual"):
        imported(name, "weights.pt")
    torch.save(model(DEEPER).state_dict(), "weights.pt")
    with pytest.raises(UserError, match=r'Unexpected key.*"visual\.transformer\.resblocks\.2'):
        imported("Tiny-8", "weights.pt")
    assert not Path("models/imported/encoder.json").exists()


def test_broken_checkpoints(registry):
    buffer = io.BytesIO()
    torch.save(model().state_dict(), buffer)
    for name, data in {"cut.pt": buffer.getvalue()[:5000], "text.pt": b"hello", "empty.safetensors": b""}.items():
        Path(name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: not a readable checkpoint"):
            imported("Tiny-8", name)
    torch.save([1, 2], "list.pt")
    with pytest.raises(UserError, match=r"list\.pt: expected a state dict"):
        imported("Tiny-8", "list.pt")
    state = model().state_dict()
    state["visual.proj"][0, 0] = float("nan")
    torch.save(state, "nan.pt")
    with pytest.raises(UserError, match=r"'visual\.proj' holds numbers that are not finite"):
        imported("Tiny-8", "nan.pt")


def test_unknown_tokenizer(registry):
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": 32000}}
    Path("Other-8.json").write_text(json.dumps(config))
    open_clip.add_model_config(Path("Other-8.json"))
    torch.save(model(config).state_dict(), "weights.pt")
    with pytest.raises(UserError, match=r"its tokenizer is unknown: .*32000 tokens, CLIP's tokenizer 49408"):
        imported("Other-8", "weights.pt")


def test_unknown_name_of_an_encoder(registry):
    with pytest.raises(UserError, match="no encoder 'x'; known: imported"):
        import_encoder.run(spec("Tiny-8"), "x")
    with pytest.raises(UserError, match="train-demo-encoder makes it"):
        import_encoder.run(spec("Tiny-8"), "demo-clip")


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def trapped(form: str, path: Path) -> None:
    if form == "torch":
        torch.save({"state_dict": Trap()}, path)
    elif form == "script":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("data.pkl", "constants.pkl"):
                archive.writestr(f"x/{name}", pickle.dumps(Trap()))
    elif form == "numpy":
        with path.open("wb") as stream:
            np.savez(stream, **{"params/img/x": np.array([Trap()], dtype=object)})
    else:
        path.write_bytes(pickle.dumps(Trap()))


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.ckpt", "w.safetensors", "w.npz", "w"])
@pytest.mark.parametrize("form", ["torch", "script", "numpy", "pickle"])
def test_code_in_a_checkpoint_is_never_run_whatever_its_name(registry, name, form):
    trapped(form, Path(name))
    with pytest.raises(UserError, match=f"{name}: .*not a readable checkpoint") as error:
        imported("Tiny-8", name)
    assert not Path("executed").exists()
    assert "\n" not in str(error.value)


def test_code_that_an_open_clip_folder_brings_is_refused(registry):
    folder = Path("given")
    folder.mkdir()
    save_file(model().state_dict(), folder / "open_clip_model.safetensors")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}')
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**CONFIG, "text_cfg": text}}))
    with pytest.raises(UserError, match=r"tokenizer_kwargs.trust_remote_code: not allowed, for it may run code"):
        imported("local-dir:given")
