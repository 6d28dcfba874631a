"""The features stage: right numbers, the same bytes whatever happens, and clear errors."""

import io
import weakref
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from features_project import jpeg, make_encoder, make_frames, params
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.encoders import VisionTower, load_encoder
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.features import encoding
from tgdfer.features.cache import load_features
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode, read_batches
from tgdfer.features.shards import checksums, open_shard
from tgdfer.stages import features
from tgdfer.stages.features import join, run

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


def stored() -> np.ndarray:
    """All features of the cache, float32 [V, R, D]."""
    cache = load_features(MANIFEST)
    first = cache.starts + np.arange(cache.views)[:, None] * cache.strides
    order = np.argsort(cache.starts)
    rows = np.concatenate([first[:, [clip]] + np.arange(cache.lengths[clip]) for clip in order], axis=1)
    return cache.read(rows.reshape(-1, 1))[0].reshape(*rows.shape, -1).astype(np.float32)


def read_all() -> None:
    cache = load_features(MANIFEST)
    for number in range(len(cache.clip_ids)):
        cache.clip(number)


def test_every_frame_stands_in_order(frames):
    run(params(), "tiny")
    cache = load_features(MANIFEST)
    assert (cache.clip_ids.to_pylist(), cache.views, cache.dim) == (sorted(frames), 1, 32)
    for number, clip in enumerate(cache.clip_ids.to_pylist()):
        features, index = cache.clip(number)
        assert index.tolist() == [index for index, _ in frames[clip]]
        assert features.dtype == np.float16
        np.testing.assert_allclose(np.linalg.norm(features.astype(float), axis=1), 1, atol=2e-3)


def test_memory_holds_the_frames_of_a_batch_not_those_of_a_shard(tmp_path):
    path, schema = tmp_path / "shard.parquet", storage.SCHEMAS["frames"]
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for clip in range(40):
            frame = {"time_s": 0.0, "jpeg": bytes(100_000), "width": 1, "height": 1}
            rows = [{"clip_id": f"{clip:02d}", "frame_index": index, **frame} for index in range(4)]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    task = ShardTask(path, storage.file_fingerprint(path), 160, tmp_path / "features.arrow")
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for batch in read_batches([task], 8) if batch.jpegs]
    assert len(held) == 20
    assert max(held) < 0.25 * path.stat().st_size


@pytest.mark.parametrize(("dtype", "smallest"), [("float32", 0.99999), ("auto", 0.999), ("bfloat16", 0.999)])
def test_features_equal_open_clip_used_plainly(frames, dtype, smallest):
    run(params(dtype=dtype), "tiny")
    cache = load_features(MANIFEST)
    model, _, transform = open_clip.create_model_and_transforms("local-dir:models/demo-clip")
    model.eval()
    for number, clip in enumerate(cache.clip_ids.to_pylist()):
        for found, (_, data) in zip(torch.from_numpy(cache.clip(number)[0]).float(), frames[clip], strict=True):
            with torch.no_grad():
                expected = model.encode_image(transform(Image.open(io.BytesIO(data)))[None], normalize=True)[0]
            assert torch.cosine_similarity(found, expected, dim=0) > smallest


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


def test_parts_write_the_bytes_of_one_job(frames):
    run(params(), "tiny")
    whole = produced()
    for path in MANIFEST.parent.rglob("*.*"):
        if path.is_file():
            path.unlink()
    parts = [Part(number, 2) for number in (2, 1)]
    for part in parts:
        run(params(), "tiny", part)
    lists = [part.list_of(MANIFEST) for part in parts]
    with pytest.raises(UserError, match="the parts lack the features of some frames"):
        join(params(), "tiny", lists[:1])
    join(params(), "tiny", lists)
    for path in lists:
        path.unlink()
    assert produced() == whole


def test_parts_that_were_encoded_differently_are_not_joined(frames):
    parts = [Part(1, 2), Part(2, 2)]
    for part, dtype in zip(parts, ("float32", "bfloat16"), strict=True):
        run(params(dtype=dtype), "tiny", part)
    with pytest.raises(UserError, match=r"float32 on cpu, bfloat16 on cpu.*set features.dtype"):
        join(params(), "tiny", [part.list_of(MANIFEST) for part in parts])


def test_whole_shards_are_kept(frames, monkeypatch):
    run(params(), "tiny")
    before = {path: path.stat().st_mtime_ns for path in folder().iterdir()}
    monkeypatch.setattr(encoding, "_encode", None)  # would fail if anything were encoded
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
    one = stored()
    run(params(batch_size=64), "tiny")
    np.testing.assert_allclose(stored(), one, atol=1e-3)


def test_views(frames):
    run(params(), "tiny")
    plain = stored()
    run(params(views=2), "tiny")
    features = stored()
    assert features.shape == (3, *plain.shape[1:])
    assert storage.read_json(MANIFEST)["views"] == ["plain", "view-1", "view-2"]
    np.testing.assert_allclose(features[0], plain[0], atol=1e-3)
    assert not np.array_equal(features[1], features[0])
    assert not np.array_equal(features[1], features[2])
    run(params(views=2, seed=5), "tiny")
    other = stored()
    assert np.array_equal(other[0], features[0])
    assert not np.array_equal(other[1], features[1])


@pytest.mark.parametrize("most", [1, 3, 5])
def test_out_of_memory_halves_the_batch_and_goes_on(frames, monkeypatch, most):
    run(params(), "tiny")
    expected = stored()
    for path in folder().iterdir():
        path.unlink()
    plain = VisionTower.forward

    def forward(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(self, images)

    monkeypatch.setattr(VisionTower, "forward", forward)
    run(params(), "tiny")
    np.testing.assert_allclose(stored(), expected, atol=1e-3)


def test_other_errors_and_a_single_image_that_does_not_fit_are_not_swallowed(frames, monkeypatch):
    def forward(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(VisionTower, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        run(params(), "tiny")
    monkeypatch.setattr(VisionTower, "forward", lambda self, images: images @ images)
    with pytest.raises(RuntimeError):
        run(params(), "tiny")


@pytest.mark.parametrize("damage", ["cut", "feature", "index", "missing", "other"])
def test_damaged_shard_is_named_and_remade_on_request(frames, damage):
    run(params(), "tiny")
    whole = produced()
    shard = folder() / "shard-00002.arrow"
    data = shard.read_bytes()
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage in ("feature", "index"):
        at = data.index(column(shard, "feature" if damage == "feature" else "frame_index")) + 7
        shard.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "missing":
        shard.unlink()
    else:
        run(params(views=1), "tiny")
        (folder() / shard.name).replace(shard)
        MANIFEST.write_bytes(whole["manifest.json"])
    with pytest.raises(UserError, match=rf"{shard}: .*run the features stage again"):
        read_all()
    run(params(), "tiny")
    assert {name: data for name, data in produced().items() if name in whole} == whole
    read_all()


def test_shard_of_the_same_cache_under_another_name_is_remade(frames):
    run(params(), "tiny")
    whole = produced()
    (folder() / "shard-00002.arrow").write_bytes((folder() / "shard-00000.arrow").read_bytes())
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
    storage.write_sealed(source.parent / "manifest.json", manifest)


def test_broken_image_is_named(frames):
    break_jpeg()
    with pytest.raises(UserError, match=r"shard-00000.parquet: clip 'clip-000', frame \d+: not a readable JPEG"):
        run(params(), "tiny")
    assert not MANIFEST.exists()


def test_frame_shard_that_is_cut_off_is_named(frames):
    source = Path("data/tiny/frames/shard-00002.parquet")
    source.write_bytes(source.read_bytes()[:-50])
    with pytest.raises(
        UserError, match=f"{source}: not the file that its stage wrote; run: tgdfer frames --dataset tiny"
    ):
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


def column(shard: Path, name: str) -> bytes:
    """The bytes of a column of a shard."""
    with pa.memory_map(str(shard)) as source:
        return pa.ipc.open_file(source).get_batch(0)[name].buffers()[1].to_pybytes()


def test_the_images_of_a_batch_are_released_once_it_is_encoded(frames):
    encoder = load_encoder("demo-clip", "cpu")
    work = encoding.Encoding(encoder, params().features, torch.float32, {}, None, "")
    batch = FrameBatch(ShardTask(Path("s"), "", 1, Path("t")), ["a"], [0], [b"jpeg"], last=True)
    writer, released = encoding._Writer(work, batch.shard), weakref.ref(batch)
    writer.add(batch, torch.zeros(1, encoder.dim, dtype=torch.float16))
    del batch
    assert released() is None


def test_shard_is_an_arrow_table_that_is_mapped_and_not_read(frames):
    run(params(views=1), "tiny")
    about = storage.read_sealed(MANIFEST)
    for path in sorted(folder().iterdir()):
        shard = open_shard(path, about["cache"])
        table = pa.ipc.open_file(path).read_all()
        assert table.schema.names == ["clip_id", "frame_index", "view", "check", "feature"]
        rows = sorted(zip(*(table[name].to_pylist() for name in ("view", "clip_id", "frame_index")), strict=True))
        assert rows == list(zip(*(table[n].to_pylist() for n in ("view", "clip_id", "frame_index")), strict=True))
        assert column(path, "feature") == shard.features.tobytes()
        assert not shard.features.flags.owndata


@given(st.integers(1, 40), st.integers(0, 2**32), st.data())
@settings(max_examples=200)
def test_no_changed_bit_keeps_a_checksum(dim, seed, data):
    vector = np.random.default_rng(seed).normal(size=(1, dim)).astype(np.float16)
    changed = vector.copy()
    changed.view(np.uint8)[0, data.draw(st.integers(0, 2 * dim - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert checksums(changed) != checksums(vector)


def test_encoder_is_not_changed_by_a_tower_of_another_dtype(frames):
    encoder = load_encoder("demo-clip", "cpu")
    encoder.vision_tower(torch.bfloat16)
    assert encoder.vision_tower().visual.conv1.weight.dtype == torch.float32
