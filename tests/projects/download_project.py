"""A web server on this machine that holds RAVDESS and CREMA-D in small, and can be cut off, slow, wrong or busy."""

import dataclasses
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from tgdfer.tools.download import sources


class Web:
    """A web server: path -> bytes; remembers requests, and can cut a connection, ignore ranges or be busy."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cuts: list[int] = []  # after so many bytes, one connection after the other
        self.busy = 0
        self.ranges = True
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, wanted = unquote(self.path), self.headers["Range"]
                web.asked.append((path, wanted))
                if web.busy:
                    web.busy -= 1
                    self.send_response(503)
                    self.send_header("Retry-After", "0")
                    self.end_headers()
                    return
                if path not in web.files:
                    self.send_error(404)
                    return
                data = web.files[path]
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and web.ranges else 0
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                end = start + web.cuts.pop(0) if web.cuts and path.endswith((".zip", ".flv")) else None
                self.wfile.write(data[start:end])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name, data in members.items():
            opened.writestr(zipfile.ZipInfo(name), data)  # without the time of day: the same bytes every time
    return out.getvalue()


def video(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * 4000  # 128 kB that are not all alike


def ravdess(web: Web, actors: int = 6) -> dict[str, bytes]:
    """Put a small RAVDESS on the server as Zenodo has it; returns the videos by their paths."""
    videos, files = {}, []
    for actor in range(1, actors + 1):
        inside = {f"Actor_{actor:02d}/01-01-03-01-01-01-{actor:02d}.mp4": video(actor), "__MACOSX/._x.mp4": b"x"}
        data = archive(inside)
        name = f"Video_Speech_Actor_{actor:02d}.zip"
        web.files[f"/records/1188976/files/{name}"] = data
        files.append({"key": name, "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"})
        videos.update({path: data for path, data in inside.items() if path.startswith("Actor")})
    files.append({"key": "Audio_Speech_Actors_01-24.zip", "size": 5, "checksum": "md5:" + "0" * 32})
    web.files["/api/records/1188976"] = json.dumps({"id": 1188976, "files": files}).encode()
    points_to(web, "ravdess")
    return videos


def crema_d(web: Web, actors: int = 5) -> dict[str, bytes]:
    """Put a small CREMA-D on the server as GitHub has it."""
    videos = {f"VideoFlash/{1001 + actor}_DFA_ANG_XX.flv": b"FLV" + video(actor) for actor in range(actors)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as opened:
        for path, data in {**videos, "README.md": None, "AudioWAV/1001_DFA_ANG_XX.wav": b"RIFF"}.items():
            text = "words" if data is None else pointer(data)
            info = tarfile.TarInfo(f"CREMA-D-master/{path}")
            info.size = len(text)
            opened.addfile(info, io.BytesIO(text.encode()))
    base = "/CheyneyComputerScience/CREMA-D"
    web.files[f"{base}/archive/refs/heads/master.tar.gz"] = out.getvalue()
    web.files |= {f"/media{base}/master/{path}": data for path, data in videos.items()}
    points_to(web, "crema_d")
    return videos


def pointer(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"


def points_to(web: Web, name: str) -> None:
    """The official addresses of a source, but on this machine."""
    source = sources.SOURCES[name]
    moved = {
        key: web.address + "/" + getattr(source, key).split("/", 3)[3] for key in ("list_url", "base") if web.address
    }
    web.patch.setitem(sources.SOURCES, name, dataclasses.replace(source, **moved))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]
