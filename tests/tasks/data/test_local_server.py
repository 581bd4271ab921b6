"""Downloads from a server on this machine that stops, lies, or sends without end, and by several at once."""

from __future__ import annotations

import gc
import gzip
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reminding.tasks import DATASETS, fetch, status
from reminding.tasks.data.datasets import DataFile, Dataset
from reminding.tasks.data.packed import read_raw

pooch = pytest.importorskip("pooch")
# requests closes a broken-off connection when it is collected, which warns.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
RAW = bytes(range(256)) * 2000
PUBLISHED = gzip.compress(RAW, mtime=0)
NAME = "one.gz"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Broken-off connections are closed here, and not in a test of another file."""
    yield
    gc.collect()


class Server(ThreadingHTTPServer):
    """Sends one file.

    Attributes:
        content: of the file; ranges: whether it can go on from the middle; endless: whether it never stops.
        asked: the range that each request asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.ranges, self.endless, self.asked = PUBLISHED, True, False, list[str]()


class Answer(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if first >= len(self.server.content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.end_headers()
        try:
            self.wfile.write(self.server.content[first:])
            while self.server.endless:
                self.wfile.write(bytes(1 << 16))
        except OSError:  # the other side has hung up
            pass

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        md5 = hashlib.md5(PUBLISHED, usedforsecurity=False).hexdigest()
        file = DataFile(NAME, md5, hashlib.md5(RAW, usedforsecurity=False).hexdigest(), len(RAW))
        url = f"http://127.0.0.1:{served.server_port}/"
        monkeypatch.setattr(pooch, "retrieve", pooch.core.retrieve)  # which other tests may not call
        monkeypatch.setitem(DATASETS, "one", Dataset("one", "tiny", "none", (url,), (file,)))
        yield served
        served.shutdown()
        thread.join()


def partial(folder: Path) -> Path:
    return folder / "one" / f".{NAME}.partial"


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    partial(tmp_path).parent.mkdir()
    partial(tmp_path).write_bytes(PUBLISHED[:1000])
    (path,) = fetch("one", tmp_path).values()
    assert path.read_bytes() == PUBLISHED
    assert server.asked == ["bytes=1000-"]
    assert {each.name for each in path.parent.iterdir()} == {NAME, ".lock"}


@pytest.mark.parametrize("left", [b"something else", PUBLISHED, PUBLISHED + b"more"])
@pytest.mark.parametrize("ranges", [True, False])
def test_what_is_of_no_use_is_downloaded_anew(server: Server, tmp_path: Path, left: bytes, ranges: bool) -> None:
    server.ranges = ranges
    partial(tmp_path).parent.mkdir()
    partial(tmp_path).write_bytes(left)
    (path,) = fetch("one", tmp_path).values()
    assert path.read_bytes() == PUBLISHED
    assert server.asked[-1] == ""


def test_a_download_without_end_is_broken_off(server: Server, tmp_path: Path) -> None:
    server.endless = True
    with pytest.raises(ValueError, match=r"could not download one\.gz .* the download is larger than \d+ bytes"):
        fetch("one", tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0


def test_several_at_once_download_a_file_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name in ("tmpabcd1234", ".one.gz.elsewhere-12-0.part"):  # of killed processes
        (tmp_path / "one" / name).touch()
    (tmp_path / "one" / "tmpofmine12").write_text("mine")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fetch, ["one"] * 4, [tmp_path] * 4))
    assert all(each == {NAME: tmp_path / "one" / NAME} for each in found)
    assert len(server.asked) == 1
    assert {each.name for each in (tmp_path / "one").iterdir()} == {NAME, ".lock", "tmpofmine12"}
    assert [each.state for each in status("one", tmp_path)] == ["ok"]


def test_no_more_is_unpacked_than_expected(tmp_path: Path) -> None:
    """A gzip of 50 kB that would unpack to 50 MB."""
    bomb = gzip.compress(bytes(50_000_000))
    (tmp_path / "bomb").write_bytes(bomb)
    assert len(read_raw(tmp_path / "bomb", size=1000)) == 1001
