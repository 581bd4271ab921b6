"""Downloads of data sets, without a network: requests, kept files and messages."""

from __future__ import annotations

import gzip
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reminding.tasks import DATASETS, MNIST, fetch, status
from reminding.tasks.data.datasets import Archive, DataFile, Dataset
from reminding.tasks.data.download import data_folder, locate
from tests.reliability.faults import faulty
from tests.tasks.conftest import md5

pooch = pytest.importorskip("pooch")
MNIST_NAMES = tuple(file.name for file in DATASETS["mnist"].files)
Repack = Callable[[int, bytes], Path]


class Server:
    """Replaces pooch.retrieve: copies from a folder, or fails."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.asked: list[tuple[str, str]] = []
        self.errors: dict[str, Exception] = {}

    def __call__(self, url: str, known_hash: str, fname: str, path: Path, **_: object) -> str:
        self.asked.append((url, known_hash))
        host = url.split("/")[2]
        if host in self.errors:
            raise self.errors[host]
        path.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(self.source / fname, path / fname))


@pytest.fixture
def server(fake_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    served = Server(fake_mnist)
    monkeypatch.setattr(pooch, "retrieve", served)
    return served


def test_fetch_downloads_each_file_once_with_its_checksum(server: Server, tmp_path: Path) -> None:
    paths = fetch("mnist", tmp_path / "cache")
    assert paths == {name: tmp_path / "cache" / "mnist" / name for name in MNIST_NAMES}
    files = DATASETS["mnist"].files
    assert server.asked == [(f"https://one.invalid/{file.name}", f"md5:{file.md5}") for file in files]
    assert fetch("mnist", tmp_path / "cache") == paths
    assert len(server.asked) == 4


def test_only_what_is_missing_is_downloaded(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in MNIST_NAMES[1:]:
        shutil.copy(server.source / name, folder / name)
    paths = fetch("mnist", folder)
    assert [url for url, _ in server.asked] == [f"https://one.invalid/{MNIST_NAMES[0]}"]
    assert list(paths) == list(MNIST_NAMES)
    assert paths[MNIST_NAMES[1]] == folder / MNIST_NAMES[1]


def test_the_second_address_serves_when_the_first_fails(server: Server, tmp_path: Path) -> None:
    server.errors["one.invalid"] = OSError("refused")
    assert len(fetch("mnist", tmp_path)) == 4
    assert {url.split("/")[2] for url, _ in server.asked} == {"one.invalid", "two.invalid"}


def test_offline_says_what_to_do(server: Server, tmp_path: Path) -> None:
    server.errors = {"one.invalid": OSError("no route"), "two.invalid": OSError("name not known")}
    with pytest.raises(FileNotFoundError) as raised:
        fetch("mnist", tmp_path / "cache")
    message = str(raised.value)
    for part in (
        "data set mnist",
        "no route",
        "name not known",
        "--data-dir",
        "REMINDING_DATA",
        *MNIST_NAMES,
    ):
        assert part in message


def test_a_download_with_the_wrong_checksum(server: Server, tmp_path: Path) -> None:
    wrong = ValueError("MD5 hash of downloaded file does not match")
    server.errors = {"one.invalid": wrong, "two.invalid": OSError("no route")}
    md5 = DATASETS["mnist"].files[0].md5
    with pytest.raises(ValueError, match=rf"could not download {MNIST_NAMES[0]} \(md5 {md5}\).*does not match"):
        fetch("mnist", tmp_path / "cache")


def test_pooch_itself_refuses_a_wrong_download(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pooch's own retrieve, with the transfer replaced: the checksum must be one that pooch understands.
    class LoginPage:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, url: str, output_file: Any, caller: object) -> None:
            output_file.write(b"a login page")

    monkeypatch.setattr(pooch, "retrieve", pooch.core.retrieve)
    monkeypatch.setattr(pooch, "HTTPDownloader", LoginPage)
    with pytest.raises(ValueError, match="does not match the known hash"):
        fetch("mnist", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache" / "mnist").iterdir()] == [".lock"], "nothing half-done is left"


def test_what_is_found_is_never_replaced(server: Server, repack: Repack, fake_mnist: Path) -> None:
    path = repack(0, b"my own notes")
    assert fetch("mnist", fake_mnist)[MNIST_NAMES[0]] == path
    assert [each.state for each in status("mnist", fake_mnist)] == ["damaged", "ok", "ok", "ok"]
    assert path.read_bytes() == b"my own notes"
    assert server.asked == []


def test_a_broken_link_is_not_replaced(server: Server, tmp_path: Path) -> None:
    link = tmp_path / "mnist" / MNIST_NAMES[0]
    link.parent.mkdir()
    link.symlink_to(tmp_path / "unplugged disk")
    with pytest.raises(ValueError, match="exists but is not a file"):
        fetch("mnist", tmp_path)
    assert link.is_symlink()


def test_the_task_downloads_only_when_no_folder_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        MNIST(data_dir=tmp_path).examples("test")
    assert server.asked == []
    monkeypatch.setenv("REMINDING_DATA", str(tmp_path / "cache"))
    assert len(MNIST().examples("test").label) == 6
    assert len(server.asked) == 4


def test_status_tells_ok_damaged_and_missing(repack: Repack, fake_mnist: Path) -> None:
    repack(1, b"\x1f\x8bnonsense")
    (fake_mnist / MNIST_NAMES[2]).unlink()
    raw = gzip.decompress((fake_mnist / MNIST_NAMES[3]).read_bytes())
    repack(3, gzip.compress(raw[:-1] + b"!"))
    found = status("mnist", fake_mnist)
    assert [each.file.name for each in found] == list(MNIST_NAMES)
    assert [each.state for each in found] == ["ok", "damaged", "missing", "damaged"]
    assert [each.path is None for each in found] == [False, False, True, False]
    assert found[0].detail == ""
    assert "damaged gzip" in found[1].detail
    assert "no t10k-images-idx3-ubyte.gz or t10k-images-idx3-ubyte in" in found[2].detail
    assert "md5 of the decompressed bytes" in found[3].detail


@pytest.mark.parametrize("call", [fetch, locate, status])
def test_unknown_data_set(call: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match=r"name must be one of \['cifar10', .*'mnist'.*\], got 'imagenet'"):
        call("imagenet")


def test_folder_option_then_variable_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMINDING_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path) == tmp_path
    assert data_folder() == tmp_path / "variable"
    assert data_folder("~/x") == Path.home() / "x"
    monkeypatch.delenv("REMINDING_DATA")
    assert data_folder() == Path(pooch.os_cache("reminding"))
    with pytest.raises(ValueError, match=r"^data_dir: ~nobody-here/x is in an unknown home folder"):
        data_folder("~nobody-here/x")


def test_missing_pooch_says_what_to_install(fake_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert len(locate("mnist", fake_mnist)) == 4, "reading what is there needs no pooch"
    with pytest.raises(ImportError, match=r'pip install "reminding\[experiments\]".*--data-dir'):
        fetch("mnist")


@pytest.fixture
def archived(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of two files, one folder deep in an archive that the server has."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    with tarfile.open(server.source / "both.tar.gz", "w:gz") as archive:
        for name in ("one", "two"):
            archive.add(tmp_path / name, f"inside/{name}")
    files = tuple(DataFile(name, None, md5(name.encode()), 3) for name in ("one", "two"))
    urls = ("https://one.invalid/", "https://two.invalid/")
    dataset = Dataset("pair", "tiny", "none", urls, files, Archive("both.tar.gz", "sha256:12", "inside"))
    monkeypatch.setitem(DATASETS, "pair", dataset)
    return dataset


def test_an_archive_is_downloaded_once_and_unpacked(archived: Dataset, server: Server, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "pair" / "inside"
    assert fetch("pair", tmp_path / "cache") == {"one": place / "one", "two": place / "two"}
    assert server.asked == [("https://one.invalid/both.tar.gz", "sha256:12")]
    assert sorted(path.name for path in place.iterdir()) == ["one", "two"], "nothing half-done is left"
    assert [each.state for each in status("pair", tmp_path / "cache")] == ["ok", "ok"]
    assert (
        fetch("pair", tmp_path / "cache")
        == locate("pair", place.parent)
        == {"one": place / "one", "two": place / "two"}
    )
    assert len(server.asked) == 1


def test_an_archive_that_is_there_is_read_as_it_is(archived: Dataset, server: Server) -> None:
    path = server.source / "both.tar.gz"
    assert fetch("pair", server.source) == {"one": path, "two": path}
    assert [each.state for each in status("pair", server.source)] == ["ok", "ok"]
    path.write_bytes(path.read_bytes()[:40])
    assert {each.state for each in status("pair", server.source)} == {"damaged"}
    assert server.asked == []


def test_only_the_missing_file_is_unpacked_and_nothing_replaced(
    archived: Dataset, server: Server, tmp_path: Path
) -> None:
    place = tmp_path / "cache" / "pair" / "inside"
    place.mkdir(parents=True)
    (place / "two").write_bytes(b"my own notes")
    assert fetch("pair", tmp_path / "cache")["one"].read_bytes() == b"one"
    assert (place / "two").read_bytes() == b"my own notes"


def test_an_archive_that_cannot_be_unpacked_leaves_no_file(archived: Dataset, server: Server, tmp_path: Path) -> None:
    calls = 3  # those of the lock, and of opening the file
    with faulty("no space", calls, lasting=True), pytest.raises(OSError, match="No space left"):
        fetch("pair", tmp_path / "cache")
    assert list((tmp_path / "cache" / "pair" / "inside").iterdir()) == []


def test_an_archive_that_cannot_be_had_names_itself_and_the_files(
    archived: Dataset, server: Server, tmp_path: Path
) -> None:
    server.errors = {"one.invalid": OSError("no route"), "two.invalid": OSError("no route")}
    with pytest.raises(
        FileNotFoundError,
        match=r"could not download both.tar.gz \(sha256 12\).*put both.tar.gz, or one, two .*--data-dir",
    ):
        fetch("pair", tmp_path / "cache")
