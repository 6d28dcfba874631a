"""What a later stage would refuse is found by the parameters: words, encoders, and paths."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from media import ROOT, parameters

from tgdfer.config import clip_models
from tgdfer.config.ahead import refusals
from tgdfer.config.data import FramesParams
from tgdfer.config.params import Params
from tgdfer.config.report import TrackingParams
from tgdfer.config.tokens import count_tokens
from tgdfer.config.words import load_words
from tgdfer.core.errors import UserError
from tgdfer.tools.doctor import BAD, examine

SECTION = {"layout": "folder", "root": "raw", "annotations": "raw/clips.csv"}


@pytest.fixture(autouse=True)
def _at_home(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")


def project(encoder: dict | None = None, **section: object) -> Params:
    more = {"encoder": "mine"} if encoder else {}
    return parameters(Path(), {"d": {**SECTION, **more, **section}}, encoders={"mine": encoder} if encoder else {})


def test_the_shipped_parameters_have_nothing_to_refuse() -> None:
    assert refusals(project()) == []


def test_classes_without_words_are_refused_for_the_variants_that_read_them() -> None:
    params = project(classes=["happy", "joy", "calm"])
    (refusal,) = refusals(params)
    assert refusal.about == "data set d"
    assert "no words for the classes joy, calm, with which 9 variants (tgdfer, " in refusal.problem
    assert "descriptions.yaml, or leave these variants out of `grid`" in refusal.remedy
    assert "the variant tgdfer compare" in str(refusals(params, ["tgdfer"])[0]).replace("compares", "compare")
    assert refusals(params, ["linear-probe", "attention-mil"]) == []
    assert refusals(params.only(["linear-probe"])) == []
    (finding,) = [finding for finding in examine(Path("params.yaml")) if "no words" in finding.found]
    assert finding.verdict == BAD
    assert finding.remedy == refusal.remedy


def test_more_descriptions_than_there_are_are_refused() -> None:
    params = parameters(Path(), {"d": SECTION}, model={"descriptions_per_class": 9})
    (refusal,) = refusals(params)
    assert refusal.problem.startswith("model.descriptions_per_class: 9, but descriptions.yaml has 4 of the class")


def test_texts_that_an_encoder_cannot_read_in_full_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words = load_words()
    words.classes["happy"].descriptions[0] = "a face that smiles, " * 6
    monkeypatch.setattr("tgdfer.config.ahead.load_words", lambda: words)
    params = parameters(Path(), {"d": {**SECTION, "encoder": "demo-clip"}})
    said = list(map(str, refusals(params, ["tgdfer", "text-template", "linear-probe"])))
    assert len(said) == 1
    assert "a face that smiles, ' has 3" in said[0]
    assert "and 8 learnable ones, at most 40 are read by its encoder; shorten it in " in said[0]
    assert refusals(project({"model": "ViT-B-32-quickgelu", "pretrained": "openai"}), ["tgdfer"]) == []


@given(st.text(max_size=60))
@example("a person's face WITH 12 raised eyebrows &amp; l\u00e9vres <end_of_text> \u7b11!!! it's")
def test_tokens_are_counted_as_open_clip_does(text: str) -> None:
    from open_clip.tokenizer import _tokenizer

    assert count_tokens(text) == len(_tokenizer.encode(text)) + 2


def test_the_tags_of_models_are_those_of_open_clip() -> None:
    import open_clip

    for model in open_clip.list_models():
        expected = {
            tag: bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"))
            for tag in open_clip.list_pretrained_tags_by_model(model)
        }
        assert clip_models.tags_in_source(model) == expected


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"model": "ViT-B-33", "pretrained": "openai"}, "no model 'ViT-B-33'; did you mean ViT-B-32"),
        ({"pretrained": "w.pt"}, "encoders.mine.pretrained: 'ViT-B-32' has no tag 'w.pt', nor is it a file; write one"),
        ({"pretrained": "opnai"}, "has no tag 'opnai', nor is it a file; write one of openai, "),
        ({}, "'ViT-B-32' without weights is random; write one of openai, "),
        ({"pretrained": "openai"}, "the other activation than 'ViT-B-32' has; write model: ViT-B-32-q"),
        ({"model": "local-dir:gone"}, "gone/open_clip_config.json: no such file; correct encoders.mine.model"),
        ({"model": "coca_ViT-B-32", "pretrained": "x"}, "captioning models (CoCa) are not supported; use a CLIP model"),
        ({"model": "xlm-roberta-base-ViT-B-32", "pretrained": "x"}, "is a Hugging Face model, which takes no"),
        ({"model": "MobileCLIP-S1", "pretrained": "datacompdr"}, "the text tower of MobileCLIP-S1 is not causal"),
        ({"model": "ViT-B-16-SigLIP", "pretrained": "webli"}, "use a CLIP model with a causal text tower"),
    ],
)
def test_encoders_that_would_be_refused(encoder: dict, said: str) -> None:
    (refusal,) = refusals(project({"model": "ViT-B-32", **encoder}))
    assert refusal.about == "encoder mine"
    assert said in str(refusal)


def test_an_open_clip_folder_is_looked_into() -> None:
    Path("given").mkdir()
    for text, refused in (({"no_causal_mask": True}, True), ({}, False)):
        config = {"model_cfg": {"text_cfg": text, "vision_cfg": {}}}
        Path("given/open_clip_config.json").write_text(json.dumps(config))
        assert bool(refusals(project({"model": "local-dir:given"}))) == refused


def test_braces_are_refused_because_snakemake_reads_them_as_wildcards() -> None:
    (refusal,) = refusals(project(root="v{x}", annotations="v{x}/clips.csv"))
    assert "datasets.d.annotations: 'v{x}/clips.csv' has braces, which Snakemake reads as a wildcard" in str(refusal)
    assert refusals(project(root="v{x}", annotations="clips.csv")) == []


@pytest.mark.parametrize("root", [".", "..", "data", "data/d", "data/d/videos", "link"])
def test_a_root_that_overlaps_the_outputs_is_refused_because_frames_would_depend_on_themselves(root: str) -> None:
    Path("link").symlink_to(".")
    (refusal,) = refusals(project(root=root))
    assert str(refusal) == (
        f"datasets.d.root: '{root}' overlaps data/d, where the frames are written; "
        "keep the clips in a separate folder, such as data/raw/d"
    )
    assert refusals(project(root="data/raw/d")) == refusals(project(root="data/d2")) == []


def test_a_tilde_is_the_home_folder() -> None:
    params = project(
        {"model": "ViT-B-32", "pretrained": "~/w.pt"}, root="~/raw", annotations="~/raw/c.csv", truth="~/t"
    )
    about = params.datasets["d"]
    assert (about.root, about.annotations, about.truth) == ("/home/anna/raw", "/home/anna/raw/c.csv", "/home/anna/t")
    assert params.encoders["mine"].pretrained == "/home/anna/w.pt"
    assert FramesParams(face_detector="~/yunet.onnx").face_detector == "/home/anna/yunet.onnx"
    assert TrackingParams(uri="sqlite:///~/m.db").uri == "sqlite:////home/anna/m.db"
    assert TrackingParams(uri="http://a/~b").uri == "http://a/~b"
    assert project({"model": "local-dir:~/m"}).encoders["mine"].model == "local-dir:/home/anna/m"
    assert project({"model": "ViT-B-32", "pretrained": "openai"}).encoders["mine"].pretrained == "openai"


VIT = {"model": "ViT-B-32-quickgelu", "pretrained": "openai"}
ADAPTED = ["tgdfer", "adapt-last", "adapt-last-two"]


def adapting(section: dict, **sections: dict) -> Params:
    """Parameters with the variants of the study."""
    variants = yaml.safe_load((ROOT / "studies/adaptation.yaml").read_text())["variants"]
    return parameters(Path(), {"d": {**SECTION, **section}}, variants={n: variants[n] for n in ADAPTED[1:]}, **sections)


@pytest.mark.parametrize(
    ("encoder", "keep", "said"),
    [
        (
            None,
            None,
            r"2 variants \(adapt-last, adapt-last-two\) train blocks .* not cached; set features.keep, as docs/",
        ),
        (None, 3, "adapt_blocks: 2 of variant adapt-last-two, but only 1 follow .*; write features.keep: 2, or leave"),
        (
            None,
            4,
            "features.keep: 4, but the image tower of encoder demo-clip has 4 blocks; write a number from 1 to 3",
        ),
        (VIT, 11, "adapt_blocks: 2 of variant adapt-last-two, but only 1 follow .*; write features.keep: 10, or leave"),
        (VIT, 12, "features.keep: 12, but the image tower of encoder mine has 12 blocks; write a number from 1 to 11"),
        (
            {"model": "ViT-B-16-SigLIP", "pretrained": "webli"},
            3,
            "features.keep: the image tower of encoder mine is timm's, which cannot be cut at a block; use a ViT or a",
        ),
        (None, 2, None),
        (VIT, 10, None),
    ],
)
def test_blocks_that_cannot_be_trained_are_refused(encoder: dict | None, keep: int | None, said: str | None) -> None:
    encoders = {"mine": encoder} if encoder else {}
    params = adapting({"encoder": [*encoders, "demo-clip"][0]}, encoders=encoders, features={"keep": keep})
    found = [str(refusal) for refusal in refusals(params, ADAPTED) if "text tower" not in str(refusal)]
    assert [re.search(said, text) for text in found] != [None] if said else found == []
    assert len(found) == int(said is not None)


def test_features_of_files_have_no_blocks_to_train() -> None:
    params = adapting({"features": "files", "encoder": "mine"}, encoders={"mine": {"dim": 8}})
    found = [str(refusal) for refusal in refusals(params, ["linear-probe", "adapt-last"])]
    said = "data set d: its features are files, so that the variant adapt-last have no blocks to train; leave these"
    assert any(text.startswith(said) for text in found)


def test_instances_of_several_frames_and_a_rank_of_zero_are_refused_by_their_keys() -> None:
    with pytest.raises(UserError, match=r"model.adapt_rank: Input should be greater than 0"):
        parameters(Path(), {"d": SECTION}, model={"adapt_rank": 0})
    with pytest.raises(UserError, match=r"bags.instance_frames: expected 1 with model.adapt"):
        adapting({}, bags={"instance_frames": 2}).run("adapt-last")
