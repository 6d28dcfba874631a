"""Parameters: what is read is what the file says, and every mistake names its key."""

import importlib.util
from pathlib import Path

import pytest
import ruamel.yaml
import yaml

from tgdfer.config import dependencies
from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.params import Params, load_params
from tgdfer.config.section import Section
from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = ".*".join(map(repr, ARCHITECTURES))


@pytest.fixture
def raw() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def load(tmp_path: Path, raw: dict):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_params(path)


def test_the_shipped_file_is_valid_and_every_variant_resolves() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.report.reference in params.grid
    made = [params.run(name).model_dump_json() for name in params.variants]
    assert len(set(made)) == len(made), "two variants are the same"


def test_a_key_has_one_default(raw: dict) -> None:
    """What the models assume for a key that is left out is what the shipped file says."""
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            assert field.annotation().model_dump(include=set(raw[name])) == raw[name], name


def test_the_page_of_all_parameters_is_made_from_the_models() -> None:
    spec = importlib.util.spec_from_file_location("parameters_page", ROOT / "workflow" / "parameters_page.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (ROOT / script.PAGE).read_text(encoding="utf-8")
    assert script.page() == written, "make format writes it"
    assert "| `report` |" not in written, "sections have their own tables"
    assert "| `size` | whole number, at least 32, a multiple of 2 | `96` |" in written
    assert "| `links` | `inside`, `anywhere` | `inside` |" in written


def test_without_a_grid_every_variant_is_run(tmp_path: Path, raw: dict) -> None:
    del raw["grid"]
    assert load(tmp_path, raw).grid == list(raw["variants"])


def test_a_choice_of_variants_keeps_the_order_of_the_file(tmp_path: Path, raw: dict) -> None:
    params = load(tmp_path, raw).only(["no-text", "tgdfer"])
    assert list(params.variants) == params.grid == ["tgdfer", "no-text"]


def test_trainings_with_one_name_in_dvc_are_refused(tmp_path: Path, raw: dict) -> None:
    raw["datasets"]["demo-no"] = raw["datasets"]["demo"]
    raw["variants"]["text"] = raw["variants"]["no-text"]
    with pytest.raises(UserError, match="have one name in DVC, train@demo-no-text; rename a data set or a variant"):
        load(tmp_path, raw)


def test_a_variant_changes_its_keys_and_nothing_else(tmp_path: Path, raw: dict) -> None:
    raw["variants"]["short-bags"] = {"label": "short bags", "tables": [], "set": {"bags": {"frames": 3}}}
    params = load(tmp_path, raw)
    assert params.run("short-bags").bags.frames == 3
    assert params.run("short-bags").model == params.model
    assert params.run("short-bags").training == params.training


def test_a_data_set_has_its_own_training_settings_before_those_of_a_variant(tmp_path: Path, raw: dict) -> None:
    raw["datasets"]["other"] = {**raw["datasets"]["demo"], "training": {"epochs": 3, "batch_size": 7}}
    raw["variants"]["long"] = {"label": "long", "tables": [], "set": {"training": {"epochs": 90}}}
    before = dependencies.settings(load(tmp_path, raw), "clips", dataset="other")
    training = load(tmp_path, raw).run("long", "other").training
    assert (training.epochs, training.batch_size) == (90, 7)
    assert load(tmp_path, raw).run("tgdfer", "demo") == load(tmp_path, raw).run("tgdfer")
    raw["datasets"]["other"]["training"]["epochs"] = 4
    params = load(tmp_path, raw)
    assert dependencies.run_settings(params, "other", "tgdfer", 1, 0)["training"]["epochs"] == 4
    assert dependencies.settings(params, "clips", dataset="other") == before, "the clips are the same"


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("frams",), {}, "frams: unknown key"),
        (("frames", "max_frame"), 3, "frames.max_frame: unknown key"),
        (("frames", "max_frames"), "many", "frames.max_frames: .*integer.*'many'"),
        (("frames", "max_frames"), 0, "frames.max_frames: .*greater than 0.*0"),
        (("frames", "max_frames"), 2.5, "frames.max_frames: .*integer"),
        (("training", "epochs"), True, "training.epochs: .*integer"),
        (("model", "temporal"), "all", "model.temporal: .*'none', 'short', 'long' or 'both'"),
        (("model", "architecture"), "clip", f"model.architecture: .*{NAMES}"),
        (("datasets", "demo", "encoder"), "vit", "datasets.demo.encoder: no encoder 'vit'; known: demo-clip"),
        (("report", "reference"), "ours", "report.reference: no variant 'ours' in the grid: tgdfer"),
        (("grid",), ["tgdfer", "ours"], "grid: no variant 'ours'; known: tgdfer"),
        (("grid",), ["tgdfer", "tgdfer"], "grid: 'tgdfer' is listed twice"),
        (("grid",), [], "grid: .*at least 1"),
        (("grid",), ["no-text"], "report.reference: no variant 'tgdfer' in the grid: no-text"),
        (("variants", "tgdfer", "set"), {"model": {"windw": 3}}, "variants.tgdfer.set.model.windw: unknown key"),
        (("variants", "tgdfer", "set"), {"frames": {}}, "variants.tgdfer.set.frames: unknown key"),
        (("seeds",), [], "seeds: .*at least 1"),
        (("seeds",), [0, 1, 0], "seeds: '0' is listed twice"),
        (("seeds",), [-1], "seeds.0: .*greater than or equal to 0.*-1"),
        (("datasets",), {}, "datasets: .*at least 1"),
        (("datasets", "demo", "classes"), ["happy", "sad", "happy"], "datasets.demo.classes: .*different names"),
        (("datasets", "demo", "frames"), {"crop": "head"}, "datasets.demo.frames.crop: .*'none' or 'face', got 'head'"),
        (("datasets", "demo", "frames"), {"size": 3}, "datasets.demo.frames.size: unknown key"),
        (("datasets", "demo", "training"), {"epoch": 3}, "datasets.demo.training.epoch: unknown key"),
        (("variants", "tgdfer", "tables"), ["man"], "variants.tgdfer.tables: no table 'man'; known: main, baselines.*"),
        (("report", "tables"), {"a": {"title": "A", "columns": {"model.size": "Size"}}}, "report.tables.a.*model.size"),
        (("report", "tables"), {"main": {"title": "A", "columns": {}}}, "report.tables: 'main' is the name of another"),
        (("transfer",), ["ours"], "transfer: no variant 'ours' in the grid: tgdfer"),
        (("renders",), {"demo": {}}, "renders.demo: .*choose another name"),
        (("renders",), {"dim": {"shares": {"happy": 1.0}}}, "renders.dim.shares: expected a share for each of happy"),
        (("encoders",), {"demo-clip": {"model": "RN50"}}, "encoders.demo-clip: .*choose another"),
        (("model", "window"), 4, "model.window: .*expected an odd number of frames, got 4: write 3 or 5"),
    ],
)
def test_mistakes_name_their_key(tmp_path: Path, raw: dict, keys: tuple[str, ...], value: object, said: str) -> None:
    section = raw
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, raw)
    assert "\n" not in str(caught.value)
    assert "params.yaml" in str(caught.value)


def test_transfer_needs_one_encoder_and_shared_classes(tmp_path: Path, raw: dict) -> None:
    demo = raw["datasets"]["demo"]
    raw |= {"transfer": ["tgdfer"], "encoders": {"rn50": {"model": "RN50"}}}
    raw["datasets"]["other"] = {**demo, "encoder": "rn50"}
    with pytest.raises(UserError, match="transfer: the data sets demo, other must have one encoder"):
        load(tmp_path, raw)
    raw["datasets"]["other"] = {**demo, "classes": ["fear", "awe", "pain"]}
    with pytest.raises(UserError, match="transfer: expected two classes that demo, other all have"):
        load(tmp_path, raw)
    raw["datasets"]["other"] = {**demo, "classes": ["fear", "awe", "happy"]}
    assert load(tmp_path, raw).shared_classes == ["happy", "fear"]


def test_a_missing_section_is_named(tmp_path: Path, raw: dict) -> None:
    del raw["bags"]
    with pytest.raises(UserError, match=r"bags: Field required"):
        load(tmp_path, raw)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1: "),
        ("a:\n\tb: 1\n", "line 2: .*cannot start"),
        ("- 1\n- 2\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: \0", "not valid YAML"),
        ("variants:\n  a: {}\n  b: {}\n  a: {}\n", "line 4: the key 'a' occurs twice"),
        ("bags: {frames: 1, frames: 2}\n", "line 1: the key 'frames' occurs twice"),
    ],
)
def test_a_file_that_is_not_a_mapping_or_not_well_formed(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"params\.yaml: {said}") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_one_in_another_encoding_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(UserError, match="no such file"):
        load_params(path)
    path.write_bytes("# für alle".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8, got byte 0xfc"):
        load_params(path)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_params(tmp_path)


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "1E-3", "0.001"])
def test_a_number_may_be_written_in_any_form_of_yaml(tmp_path: Path, written: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("learning_rate: 1.0e-3", f"learning_rate: {written}"))
    assert load_params(path).training.learning_rate == 0.001
    assert ruamel.yaml.YAML(typ="safe").load(path)["training"]["learning_rate"] == 0.001, "DVC reads the same"


def test_a_run_depends_on_what_its_architecture_reads(tmp_path: Path, raw: dict) -> None:
    def settings(**model: object) -> dict[str, dict]:
        changed = {**raw, "model": {**raw["model"], **model}}
        params = load(tmp_path, changed)
        return {name: dependencies.run_settings(params, "demo", name, 1, 0) for name in ("tgdfer", "linear-probe")}

    before = settings()
    assert {name for name, now in settings(window=7).items() if now != before[name]} == {"tgdfer"}
    assert {name for name, now in settings(dropout=0.3).items() if now != before[name]} == {"tgdfer", "linear-probe"}
    assert settings()["linear-probe"]["model"] == raw["model"] | {"architecture": "linear-probe"} | {
        key: getattr(ModelParams(), key) for key in ModelParams.model_fields if key not in raw["model"]
    }, "where nothing was changed, earlier runs still fit"


def test_unknown_names_list_the_known_ones() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(UserError, match="no data set 'dfwe'; known: demo"):
        params.dataset("dfwe")
    with pytest.raises(UserError, match="no variant 'tgdfr'; known: tgdfer"):
        params.run("tgdfr")
