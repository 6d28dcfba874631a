"""Encoders on disk, and the text tower against open_clip's own."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from features_project import CONFIG, PREPROCESS

from tgdfer.core.errors import UserError
from tgdfer.encoders import load_encoder, write_encoder

TEXTS = ["a face with raised eyebrows and an open mouth", "smile", "a face, lips pressed together"]


def tiny_model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return open_clip.model.CLIP(**CONFIG).eval()


@pytest.fixture
def project(new_folder: Path) -> Path:
    write_encoder(Path("models/tiny"), tiny_model(), CONFIG, PREPROCESS, {"test": 1})
    return new_folder


def test_written_encoder_is_the_model(project):
    encoder = load_encoder("tiny", "cpu")
    model = tiny_model()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model.encode_image((images / 255 - mean) / std, normalize=True)
        torch.testing.assert_close(encoder.vision_tower()(images), expected, atol=1e-5, rtol=1e-5)
    assert encoder.dim == 32
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert json.loads(Path("models/tiny/encoder.json").read_text())["image_size"] == 32


def test_same_model_gives_the_same_bytes(project):
    before = {path.name: path.read_bytes() for path in Path("models/tiny").iterdir()}
    write_encoder(Path("models/tiny"), tiny_model(), CONFIG, PREPROCESS, {"test": 1})
    assert {path.name: path.read_bytes() for path in Path("models/tiny").iterdir()} == before


def test_fingerprint_follows_weights_and_preprocessing(project):
    one = load_encoder("tiny", "cpu").fingerprint
    write_encoder(Path("models/other"), tiny_model(1), CONFIG, PREPROCESS, {})
    write_encoder(Path("models/squash"), tiny_model(), CONFIG, {**PREPROCESS, "resize_mode": "squash"}, {})
    write_encoder(Path("models/same"), tiny_model(), CONFIG, PREPROCESS, {"made": "elsewhere"})
    assert load_encoder("other", "cpu").fingerprint != one
    assert load_encoder("squash", "cpu").fingerprint != one
    assert load_encoder("same", "cpu").fingerprint == one


def test_mixed_encoder_is_refused(project):
    write_encoder(Path("models/other"), tiny_model(1), CONFIG, PREPROCESS, {})
    Path("models/other/open_clip_model.safetensors").replace("models/tiny/open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"models/tiny/open_clip_model\.safetensors: not the file that its stage wrote"):
        load_encoder("tiny", "cpu")


def test_missing_encoder_is_named(project):
    with pytest.raises(UserError, match=r"models/none/encoder\.json: no such file"):
        load_encoder("none", "cpu")


def test_tokens_are_cut_after_the_last_end_of_text(project):
    tower = load_encoder("tiny", "cpu").text_tower()
    full = open_clip.get_tokenizer("local-dir:models/tiny")(TEXTS)
    tokens = tower.tokenize(TEXTS)
    assert tokens.dtype == torch.int64
    assert tokens.shape[1] == max(int(row.argmax()) for row in full) + 1 < full.shape[1]
    assert torch.equal(tokens, full[:, : tokens.shape[1]])


def test_cut_text_equals_the_uncut_encoder(project):
    # in float64 rounding is far below any real difference: cutting is exact, not merely close
    encoder = load_encoder("tiny", "cpu")
    tower = encoder.text_tower().double()
    model = tiny_model().double()
    full = open_clip.get_tokenizer("local-dir:models/tiny")(TEXTS)
    tokens = tower.tokenize(TEXTS)
    cut = tower(tower.embed(tokens), tower.eot(tokens))
    with torch.no_grad():
        torch.testing.assert_close(cut, model.encode_text(full, normalize=True), atol=1e-13, rtol=0)


def test_cut_text_has_the_same_gradients(project):
    tower = load_encoder("tiny", "cpu").text_tower().double()
    full = open_clip.get_tokenizer("local-dir:models/tiny")(TEXTS)
    length = tower.tokenize(TEXTS).shape[1]
    gradients = []
    for tokens in (full, full[:, :length]):
        embeddings = tower.embed(tokens).clone().requires_grad_()
        (tower(embeddings, tower.eot(tokens)) * torch.arange(32.0, dtype=torch.float64)).sum().backward()
        gradients.append(embeddings.grad)
    assert not gradients[0][:, length:].any()
    torch.testing.assert_close(gradients[0][:, :length], gradients[1], atol=1e-12, rtol=1e-12)


def test_encode_text_does_not_depend_on_its_batches(project):
    encoder = load_encoder("tiny", "cpu")
    torch.testing.assert_close(encoder.encode_text(TEXTS, batch_size=1), encoder.encode_text(TEXTS), atol=1e-6, rtol=0)
    assert encoder.encode_text([]).shape == (0, 32)


def test_tower_stays_frozen_and_in_eval_mode(project):
    tower = load_encoder("tiny", "cpu").text_tower()
    torch.nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_text_that_is_too_long_is_an_error_not_a_cut(project):
    with pytest.raises(UserError, match="reads 24 tokens, this text has 42"):
        load_encoder("tiny", "cpu").encode_text(["smile", "brow " * 40])
    tower = load_encoder("tiny", "cpu").text_tower()
    assert tower.tokenize(["brow " * 22]).shape[1] == 24
    with pytest.raises(UserError, match="the prompts have 25"):
        tower(torch.zeros(1, 25, 32), torch.tensor([24]))


def test_tower_that_is_not_causal_is_refused(new_folder):
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "no_causal_mask": True, "pool_type": "last"}}
    write_encoder(
        Path("models/siglip"), open_clip.model.CustomTextCLIP(**config), {**config, "custom_text": True}, PREPROCESS, {}
    )
    encoder = load_encoder("siglip", "cpu")
    assert encoder.vision_tower()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 32)
    with pytest.raises(UserError, match="not causal"):
        encoder.text_tower()
