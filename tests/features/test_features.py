"""The features stage: right numbers, the same bytes whatever happens, and clear errors."""

import io
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from features_project import jpeg, make_encoder, make_frames, params
from PIL import Image

from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.encoders import VisionTower, load_encoder
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.features.cache import load_features
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode
from tgdfer.stages import features
from tgdfer.stages.features import run

MANIFEST = paths.features("tiny", "demo-clip")


@pytest.fixture
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_encoder()
    return make_frames()


def produced(folder: Path | None = None) -> dict[str, bytes]:
    folder = folder or MANIFEST.parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def folder() -> Path:
    return MANIFEST.parent / storage.read_json(MANIFEST)["folder"]


def test_every_frame_stands_in_order(frames):
    run(params(), "tiny")
    cache = load_features(MANIFEST)
    assert cache.clip_ids == sorted(frames)
    assert cache.features.shape == (1, sum(map(len, frames.values())), 32)
    assert cache.features.dtype == torch.float16
    for number, clip in enumerate(cache.clip_ids):
        rows = slice(cache.offsets[number], cache.offsets[number + 1])
        assert cache.frame_index[rows].tolist() == [index for index, _ in frames[clip]]
    torch.testing.assert_close(
        cache.features.float().norm(dim=-1), torch.ones(1, len(cache.frame_index)), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize(("dtype", "smallest"), [("float32", 0.99999), ("auto", 0.999), ("bfloat16", 0.999)])
def test_features_equal_open_clip_used_plainly(frames, dtype, smallest):
    run(params(dtype=dtype), "tiny")
    cache = load_features(MANIFEST)
    model, _, transform = open_clip.create_model_and_transforms("local-dir:models/demo-clip")
    model.eval()
    row = 0
    for clip in cache.clip_ids:
        for _, data in frames[clip]:
            with torch.no_grad():
                expected = model.encode_image(transform(Image.open(io.BytesIO(data)))[None], normalize=True)[0]
            found = cache.features[0, row].float()
            assert torch.cosine_similarity(found, expected, dim=0) > smallest
            row += 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_depend_neither_on_threads_nor_on_resuming_nor_on_order(frames, dtype):
    run(params(dtype=dtype), "tiny")
    whole = produced()
    shards = sorted(folder().iterdir())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for shard in (shards[0], shards[2]):
            shard.unlink()
            MANIFEST.unlink()  # as Snakemake does before a job
            run(params(dtype=dtype), "tiny")
            assert produced() == whole
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_several_devices_share_the_shards(frames, monkeypatch):
    run(params(), "tiny")
    whole = produced()
    for path in folder().iterdir():
        path.unlink()
    monkeypatch.setattr(features, "_devices", lambda setting: [torch.device("cpu")] * 2)
    run(params(), "tiny")
    assert produced() == whole


def test_error_on_one_of_several_devices_is_raised(frames, monkeypatch):
    monkeypatch.setattr(features, "_devices", lambda setting: [torch.device("cpu")] * 2)
    break_jpeg()
    with pytest.raises(UserError, match="not a readable JPEG"):
        run(params(), "tiny")


def test_whole_shards_are_kept(frames, monkeypatch):
    run(params(), "tiny")
    before = {path: path.stat().st_mtime_ns for path in folder().iterdir()}
    monkeypatch.setattr(features, "_encode", None)  # would fail if anything were encoded
    run(params(), "tiny")
    assert {path: path.stat().st_mtime_ns for path in folder().iterdir()} == before


def test_what_features_depend_on_makes_a_new_cache_next_to_the_old(frames, monkeypatch):
    folders = set()

    def again(**changed):
        run(params(**changed), "tiny")
        folders.add(folder())
        assert all(path.is_dir() for path in folders)

    again()
    again(views=1)
    again(dtype="bfloat16")
    make_encoder(seed=1)
    again()
    make_encoder(seed=1, resize_mode="squash")
    again()
    make_frames(seed=1)
    again()
    assert len(folders) == 6
    monkeypatch.setattr(features, "version", lambda name: "another" if name == "torch" else version(name))
    again()
    assert len(folders) == 7, "a cache belongs to the versions that computed it"


def test_batches_do_not_change_features_beyond_rounding(frames):
    run(params(batch_size=1), "tiny")
    one = load_features(MANIFEST).features.float()
    run(params(batch_size=64), "tiny")
    torch.testing.assert_close(load_features(MANIFEST).features.float(), one, atol=1e-3, rtol=0)


def test_views(frames):
    run(params(), "tiny")
    plain = load_features(MANIFEST)
    run(params(views=2), "tiny")
    cache = load_features(MANIFEST)
    assert cache.features.shape == (3, *plain.features.shape[1:])
    assert storage.read_json(MANIFEST)["views"] == ["plain", "view-1", "view-2"]
    torch.testing.assert_close(cache.features[0].float(), plain.features[0].float(), atol=1e-3, rtol=0)
    assert not torch.equal(cache.features[1], cache.features[0])
    assert not torch.equal(cache.features[1], cache.features[2])
    run(params(views=2, seed=5), "tiny")
    other = load_features(MANIFEST)
    assert torch.equal(other.features[0], cache.features[0])
    assert not torch.equal(other.features[1], cache.features[1])


@pytest.mark.parametrize("most", [1, 3, 5])
def test_out_of_memory_halves_the_batch_and_goes_on(frames, monkeypatch, most):
    run(params(), "tiny")
    expected = load_features(MANIFEST).features.float()
    for path in folder().iterdir():
        path.unlink()
    plain = VisionTower.forward

    def forward(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(self, images)

    monkeypatch.setattr(VisionTower, "forward", forward)
    run(params(), "tiny")
    torch.testing.assert_close(load_features(MANIFEST).features.float(), expected, atol=1e-3, rtol=0)


def test_other_errors_and_a_single_image_that_does_not_fit_are_not_swallowed(frames, monkeypatch):
    def forward(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(VisionTower, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        run(params(), "tiny")
    monkeypatch.setattr(VisionTower, "forward", lambda self, images: images @ images)
    with pytest.raises(RuntimeError):
        run(params(), "tiny")


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "other"])
def test_damaged_shard_is_named_and_remade_on_request(frames, damage):
    run(params(), "tiny")
    whole = produced()
    shard = folder() / "shard-00002.parquet"
    data = shard.read_bytes()
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        column = pq.ParquetFile(shard).metadata.row_group(0).column(3)
        at = column.data_page_offset + column.total_compressed_size - 20  # among the features
        shard.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "missing":
        shard.unlink()
    else:
        run(params(views=1), "tiny")
        (folder() / shard.name).replace(shard)
        MANIFEST.write_bytes(whole["manifest.json"])
    with pytest.raises(UserError, match=rf"{shard}: .*run the features stage again"):
        load_features(MANIFEST)
    run(params(), "tiny")
    assert {name: data for name, data in produced().items() if name in whole} == whole
    load_features(MANIFEST)


def test_shard_of_the_same_cache_under_another_name_is_remade(frames):
    run(params(), "tiny")
    whole = produced()
    (folder() / "shard-00002.parquet").write_bytes((folder() / "shard-00000.parquet").read_bytes())
    with pytest.raises(UserError, match=r"rows, its manifest says|is in two shards"):
        load_features(MANIFEST)
    run(params(), "tiny")
    assert produced() == whole


def break_jpeg() -> None:
    source = Path("data/tiny/frames/shard-00000.parquet")
    table = storage.read_table(source, "frames").to_pydict()
    table["jpeg"][3] = b"no image"
    storage.write_table(source, "frames", table, {})
    manifest = storage.read_json(source.parent / "manifest.json")
    manifest["shards"][0]["sha256"] = storage.file_fingerprint(source)
    storage.write_json(source.parent / "manifest.json", manifest)


def test_broken_image_is_named(frames):
    break_jpeg()
    with pytest.raises(UserError, match=r"shard-00000.parquet: clip 'clip-000', frame \d+: not a readable JPEG"):
        run(params(), "tiny")
    assert not MANIFEST.exists()


def test_frame_shard_that_is_cut_off_is_named(frames):
    source = Path("data/tiny/frames/shard-00002.parquet")
    source.write_bytes(source.read_bytes()[:-50])
    with pytest.raises(UserError, match=f"{source}: truncated or not the shard"):
        run(params(), "tiny")


def test_missing_frames_and_encoder_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/tiny/frames/manifest\.json: no such file"):
        run(params(), "tiny")
    make_frames()
    with pytest.raises(UserError, match=r"models/demo-clip/encoder\.json: no such file"):
        run(params(), "tiny")


def test_grey_jpeg_is_read_as_rgb():
    stream = io.BytesIO()
    Image.open(io.BytesIO(jpeg(np.random.default_rng(0), 40, 50))).convert("L").save(stream, "JPEG")
    shard = ShardTask(Path("s"), "", 1, Path("t"))
    batch = FrameBatch(shard, ["a"], [0], [stream.getvalue()], True)
    preprocess = Preprocess((40, 50), (0, 0, 0), (1, 1, 1), resize_mode="squash")
    image = decode(batch, preprocess, params().features)[0]
    assert torch.equal(image[0], image[1])
    np.testing.assert_array_equal(image[0].numpy(), np.asarray(Image.open(stream)))


def test_layout_is_plain_fixed_size_binary(frames):
    run(params(), "tiny")
    file = pq.ParquetFile(folder() / "shard-00000.parquet")
    column = file.metadata.row_group(0).column(3)
    assert (column.physical_type, column.compression) == ("FIXED_LEN_BYTE_ARRAY", "UNCOMPRESSED")
    assert "PLAIN_DICTIONARY" not in column.encodings
    assert "RLE_DICTIONARY" not in column.encodings
    about = storage.made_by(folder() / "shard-00000.parquet")
    assert (about["dim"], about["dtype"], about["views"]) == (32, "float16", 1)


def test_encoder_is_not_changed_by_a_tower_of_another_dtype(frames):
    encoder = load_encoder("demo-clip", "cpu")
    encoder.vision_tower(torch.bfloat16)
    assert encoder.vision_tower().visual.conv1.weight.dtype == torch.float32
