"""Downloads against a web server on this machine: whole, cut off and continued, wrong, refused, done already."""

import dataclasses
import hashlib
import io
import json
import logging
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from download_project import Web, archive, contents, crema_d, left_over, pointer, ravdess, video
from typer.testing import CliRunner

from tgdfer import cli
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.tools.download import download, transfer
from tgdfer.tools.download.archives import unpack
from tgdfer.tools.download.sources import SOURCES, RemoteFile
from tgdfer.tools.download.transfer import CHUNK


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(transfer, "WAIT_S", 0.001)
    running = Web(monkeypatch)
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize(("name", "build"), [("ravdess", ravdess), ("crema_d", crema_d)])
def test_a_whole_download_can_be_read_and_a_second_one_asks_for_nothing(
    name: str, build, web: Web, tmp_path: Path
) -> None:
    expected = build(web)
    download(name, tmp_path / "got", accept_licence=True)
    got = contents(tmp_path / "got")
    assert {path: data for path, data in got.items() if path.startswith(("Actor", "Video"))} == expected
    assert not left_over(tmp_path)

    def times() -> dict[Path, int]:
        files = [path for path in (tmp_path / "got").rglob("*") if path.is_file() and path.name != ".lock"]
        return {path: path.stat().st_mtime_ns for path in files}

    asked, before = len(web.asked), times()
    download(name, tmp_path / "got", accept_licence=True)
    assert (len(web.asked), times()) == (asked, before)


def test_the_printed_section_of_params_yaml_reads_the_folder(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml
    from media import parameters

    for name, build, clips in (("ravdess", ravdess, 6), ("crema_d", crema_d, 5)):
        build(web)
        download(name, tmp_path / name, accept_licence=True)
        printed = capsys.readouterr().out.split("For params.yaml, under datasets:\n")[1]
        section = yaml.safe_load(printed)[name] | {"encoder": "demo-clip"}
        listing = read_listing(parameters(tmp_path, {name: section}), name)
        assert len(listing.clips) == clips


def test_without_the_flag_the_licence_is_shown_and_nothing_is_fetched(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ravdess(web)
    monkeypatch.setattr("sys.argv", ["tgdfer", "download", "ravdess", "--to", str(tmp_path / "got")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    shown = capsys.readouterr()
    assert exit_.value.code == 2
    assert "CC BY-NC-SA 4.0" in shown.out
    assert "--accept-licence" in shown.err
    assert shown.err.count("\n") == 1
    assert web.asked == []
    assert not (tmp_path / "got").exists()


def test_a_cut_connection_is_continued_where_it_broke(web: Web, tmp_path: Path) -> None:
    expected = crema_d(web, actors=1)
    web.cuts = [50_000, 35_000]
    download("crema_d", tmp_path, accept_licence=True)
    asked = [wanted for path, wanted in web.asked if path.endswith(".flv")]
    assert asked == [None, f"bytes={3 * CHUNK}-", f"bytes={5 * CHUNK}-"]
    assert contents(tmp_path)[next(iter(expected))] == next(iter(expected.values()))


def test_a_download_that_gave_up_is_continued_by_the_next_call(web: Web, tmp_path: Path) -> None:
    expected = crema_d(web, actors=1)
    web.cuts = [70_000, *[0] * transfer.TRIES]
    said = rf"{4 * CHUNK} of 128003 bytes arrived.*run the same command again to continue.*gitlab\.com"
    with pytest.raises(UserError, match=said):
        download("crema_d", tmp_path, accept_licence=True)
    assert left_over(tmp_path) == [".1001_DFA_ANG_XX.flv.part"]
    assert not list(tmp_path.rglob("*.flv"))
    del web.asked[:]
    download("crema_d", tmp_path, accept_licence=True)
    assert [wanted for _, wanted in web.asked] == [f"bytes={4 * CHUNK}-"]
    assert contents(tmp_path)[next(iter(expected))] == next(iter(expected.values()))


def test_files_arrive_from_a_server_without_ranges_and_from_a_busy_one(web: Web, tmp_path: Path) -> None:
    expected = crema_d(web, actors=1)
    web.ranges, web.cuts = False, [50_000]
    url = f"{web.address}/media/CheyneyComputerScience/CREMA-D/master/VideoFlash/1001_DFA_ANG_XX.flv"
    (data,) = expected.values()
    counted: list[int] = []
    web.busy = 2
    checksum = "sha256:" + hashlib.sha256(data).hexdigest()
    transfer.fetch(url, tmp_path / "a.flv", len(data), checksum, counted.append, threading.Event())
    assert (tmp_path / "a.flv").read_bytes() == data
    assert sum(counted) == len(data)
    assert [wanted for _, wanted in web.asked] == [None, None, None, f"bytes={3 * CHUNK}-"]


@pytest.mark.parametrize("there", [b"", b"old bytes"])
def test_a_wrong_checksum_is_refused_and_leaves_no_file(there: bytes, web: Web, tmp_path: Path) -> None:
    videos = crema_d(web, actors=3)
    bad = "VideoFlash/1002_DFA_ANG_XX.flv"
    url = f"/media/CheyneyComputerScience/CREMA-D/master/{bad}"
    web.files[url] = videos[bad][:-1] + b"?"
    if there:
        (tmp_path / "VideoFlash").mkdir()
        (tmp_path / "VideoFlash" / ".1002_DFA_ANG_XX.flv.part").write_bytes(there)
    with pytest.raises(UserError, match=r"1002_DFA_ANG_XX\.flv: wrong checksum, .* expected sha256:\w+ but got \w+"):
        download("crema_d", tmp_path, accept_licence=True)
    # the others came, the wrong one did not
    assert sorted(path.name for path in tmp_path.rglob("*.flv")) == ["1001_DFA_ANG_XX.flv", "1003_DFA_ANG_XX.flv"]
    assert not left_over(tmp_path)
    web.files[url] = videos[bad]
    download("crema_d", tmp_path, accept_licence=True)
    assert (tmp_path / bad).read_bytes() == videos[bad]


def test_a_partial_file_of_another_version_is_fetched_from_the_start(web: Web, tmp_path: Path) -> None:
    videos = crema_d(web, actors=1)
    ((path, data),) = videos.items()
    part = tmp_path / "VideoFlash" / ".1001_DFA_ANG_XX.flv.part"
    part.parent.mkdir()
    for there in (b"other" * 100, b"x" * (len(data) + 7)):
        part.write_bytes(there)
        download("crema_d", tmp_path, accept_licence=True)
        assert (tmp_path / path).read_bytes() == data
        (tmp_path / path).unlink()


def test_files_of_the_user_are_not_lost(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ((path, data),) = crema_d(web, actors=1).items()
    mine, kept = tmp_path / "crema" / path, tmp_path / "crema" / f"{path}.kept"
    for times in (1, 2):
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_bytes(b"mine %d" % times)
        download("crema_d", tmp_path / "crema", accept_licence=True)
        assert mine.read_bytes() == data
    assert kept.read_bytes() == b"mine 1"
    assert kept.with_name(f"{kept.name}.kept").read_bytes() == b"mine 2"
    assert f"{mine.name}.kept" in caplog.text

    expected = ravdess(web)
    name = min(expected)
    (tmp_path / "cut" / name).parent.mkdir(parents=True)
    (tmp_path / "cut" / name).write_bytes(b"mine")
    archive = next(file for path, file in web.files.items() if path.endswith("Actor_01.zip"))
    (tmp_path / "cut" / "Video_Speech_Actor_01.zip").write_bytes(archive)
    download("ravdess", tmp_path / "cut", accept_licence=True)
    assert (tmp_path / "cut" / name).read_bytes() == expected[name]
    assert (tmp_path / "cut" / f"{name}.kept").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "cut").glob("*.zip")] == ["Video_Speech_Actor_01.zip"]
    assert not list((tmp_path / "cut").rglob("*.kept.kept")), "what is as published is not set aside"


def test_a_pointer_in_the_place_of_a_video_is_named(web: Web, tmp_path: Path) -> None:
    videos = crema_d(web, actors=1)
    ((path, data),) = videos.items()
    web.files[f"/media/CheyneyComputerScience/CREMA-D/master/{path}"] = pointer(data).encode()
    with pytest.raises(UserError, match=r"13\d bytes, but 128003 are published; is this the right file\?"):
        download("crema_d", tmp_path, accept_licence=True)


def test_a_download_with_its_archives_is_a_mirror(web: Web, tmp_path: Path) -> None:
    expected = ravdess(web)
    download("ravdess", tmp_path / "first", accept_licence=True, keep_archives=True)
    web.files = {f"/mirror/{path}": data for path, data in contents(tmp_path / "first").items() if "/" not in path}
    download("ravdess", tmp_path / "second", accept_licence=True, base_url=f"{web.address}/mirror/")
    got = contents(tmp_path / "second")
    assert {path: data for path, data in got.items() if path.startswith("Actor")} == expected
    assert not list((tmp_path / "second").glob("*.zip"))

    # a mirror without a list: the official one counts
    del web.files["/mirror/files.json"]
    ravdess(web)
    web.files = {path: data for path, data in web.files.items() if not path.startswith("/records/")}
    download("ravdess", tmp_path / "third", accept_licence=True, base_url=f"{web.address}/mirror")
    assert {path for path in contents(tmp_path / "third") if path.startswith("Actor")} == set(expected)


def test_a_lost_video_of_an_archive_is_downloaded_again(web: Web, tmp_path: Path) -> None:
    expected = ravdess(web)
    download("ravdess", tmp_path, accept_licence=True)
    (tmp_path / "Actor_03" / "01-01-03-01-01-01-03.mp4").unlink()
    del web.asked[:]
    download("ravdess", tmp_path, accept_licence=True)
    assert [path.rpartition("/")[2] for path, _ in web.asked] == ["Video_Speech_Actor_03.zip"]
    assert set(expected) <= set(contents(tmp_path))


@pytest.mark.parametrize(
    "name", ["../out.mp4", "/tmp/out.mp4", "Actor_01/../../out.mp4", "C:\\out.mp4", "link/out.mp4"]
)
def test_an_archive_writes_nothing_outside_its_folder(name: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    path = folder / "a.zip"
    path.write_bytes(archive({name: b"x"}))
    with pytest.raises(UserError, match=r"a\.zip: member '.*out\.mp4'"):
        unpack(path, folder, RemoteFile("a.zip", path.stat().st_size, "md5:" + "0" * 32))
    assert not list(outside.iterdir())
    assert not list(tmp_path.rglob("*out.mp4"))


def test_an_archive_that_is_a_link_a_bomb_or_broken_is_refused(tmp_path: Path) -> None:
    file = RemoteFile("a.zip", 1000, "md5:" + "0" * 32)
    path = tmp_path / "a.zip"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        info = zipfile.ZipInfo("link.mp4")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    path.write_bytes(out.getvalue())
    with pytest.raises(UserError, match="is a link"):
        unpack(path, tmp_path, file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.mp4", b"0" * 1_000_000)
    with pytest.raises(UserError, match="more than 20 times"):
        unpack(path, tmp_path, file)
    path.write_bytes(archive({"a.mp4": video(1)}).replace(video(1)[:32], video(2)[:32]))
    with pytest.raises(UserError, match="not a zip that can be unpacked"):
        unpack(path, tmp_path, dataclasses.replace(file, size=path.stat().st_size))
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


def test_bad_requests_and_bad_lists_say_what_is_wrong(web: Web, tmp_path: Path) -> None:
    def fails(match: str, name: str = "ravdess", **options: object) -> None:
        with pytest.raises(UserError, match=match) as raised:
            download(name, tmp_path / "got", accept_licence=True, **options)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
        shutil.rmtree(tmp_path / "got", ignore_errors=True)

    ravdess(web)
    fails("no part 'songs'; it has speech, song, both", part="songs")
    fails(r"expected http\(s\)://host/folder", base_url="file:///etc")
    fails("lists no file like Video_Song", part="song")
    web.files["/api/records/1188976"] = b"<html>we are down</html>"
    fails("not the list of files that was expected")
    web.files["/api/records/1188976"] = json.dumps({"files": [{"key": "a", "size": 1}]}).encode()
    fails("not the list of files that was expected")
    bad = {"name": "Video_Speech_Actor_01.zip", "size": 1, "checksum": "crc:1"}
    web.files["/mirror/files.json"] = json.dumps({"files": [bad]}).encode()
    fails("checksum 'crc:1', expected md5: or sha256:", base_url=f"{web.address}/mirror")
    bad["name"] = "../../Video_Speech_Actor_01.zip"
    web.files["/mirror/files.json"] = json.dumps({"files": [bad]}).encode()
    fails("contains '..'", base_url=f"{web.address}/mirror")
    del web.files["/api/records/1188976"]
    fails("the list of files cannot be read: the server answers 404 Not Found")


def test_too_little_space_and_a_second_download_at_work_are_said(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ravdess(web)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(UserError, match=r"GB are needed, 0\.0 GB are free"):
            download("ravdess", tmp_path, accept_licence=True)
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another download is running here"):
        download("ravdess", tmp_path, accept_licence=True)


def test_progress_counts_every_byte_once(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crema_d(web, actors=2)
    web.cuts = [50_000]
    with caplog.at_level(logging.INFO, "tgdfer"):
        download("crema_d", tmp_path, accept_licence=True)
    assert any("crema_d: 256kB in" in line for line in caplog.messages)


def test_the_command_offers_every_data_set_and_part() -> None:
    shown = CliRunner().invoke(cli.app, ["download", "--help"]).output
    assert f"<{'|'.join(SOURCES)}>" in shown
    assert f"<{'|'.join(SOURCES['ravdess'].parts)}>" in shown
    refused = CliRunner().invoke(cli.app, ["download", "dfew"])
    assert refused.exit_code == 2
    assert "'dfew' is not one of 'ravdess', 'crema_d'" in refused.output
