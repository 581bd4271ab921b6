"""JSON files and lines with checksums: damage is found, other lines are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reminding.disk import records
from reminding.disk.errors import DamagedFileError
from reminding.disk.records import add_line, packed_line, read_json, read_lines, write_json
from reminding.disk.writing import write_file

CONTENT: dict[str, Any] = {"name": "übung", "rate": 0.003, "sizes": (1, 2), "none": None, "rise": float("inf")}


def test_a_file_gives_its_object_back_and_stays_readable(tmp_path: Path) -> None:
    for ascii_only in (True, False):
        write_json(tmp_path / "file", CONTENT, ascii_only=ascii_only)
        assert read_json(tmp_path / "file") == {**CONTENT, "sizes": [1, 2]}
        entries = list(json.loads((tmp_path / "file").read_text(encoding="utf-8")))
        assert entries == ["sealed", *CONTENT, "not_finite", "checksum"]


def test_no_flipped_bit_gives_other_values(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, CONTENT)
    whole, want = path.read_bytes(), read_json(path)
    refused = list[Path]()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            try:
                assert read_json(path) == want
            except DamagedFileError as error:
                refused.append(error.path)
    assert set(refused) == {path}
    assert len(refused) > 6 * len(whole)


def test_a_file_without_a_checksum_is_read_and_one_that_lost_its_checksum_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    with pytest.raises(DamagedFileError, match="checksum: it is missing"):
        read_json(path, checksum_required=True)
    write_json(path, {"a": 1})
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(
        DamagedFileError, match='If you changed the file yourself, delete its entries "sealed" and "checksum"'
    ):
        read_json(path)
    for name in ("sealed", "checksum"):
        write_json(path, {"a": 1})
        path.write_text(path.read_text().replace(name, "another"))
        with pytest.raises(DamagedFileError, match=f"{name}: it is missing"):
            read_json(path)


@pytest.mark.parametrize("text", [b"", b"5", b"[]", b'"a"', b'{"a"', b"[" * 100_000, b"\xed\xa0\x80"])
def test_what_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(DamagedFileError, match="file is damaged"):
        read_json(tmp_path / "file")


def test_a_line_is_added_after_what_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    add_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    assert read_lines(path).records == [{"a": 1}]
    add_line(path, {"a": 3})
    assert read_lines(path).records == [{"a": 1}, {"a": 3}]
    assert path.read_text().count("\n") == 2


def test_a_broken_line_is_numbered_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    good = [packed_line({"a": 1}), packed_line({"a": 2})]
    bad = ["{", "5", "[" * 100_000, '{"a": 2}', packed_line({"a": 3}).replace(": 3", ": 4"), good[0]]
    path.write_text("".join(f"{line}\n" for line in [good[0], *bad, good[1]]))
    found = read_lines(path)
    assert found.records == [{"a": 1}, {"a": 2}]
    assert found.damaged == [2, 3, 4, 5, 6, 7]
    assert found.starts == [0, path.stat().st_size - len(good[1]) - 1]
    assert found.whole == path.stat().st_size


@pytest.mark.parametrize("written", [packed_line, json.dumps], ids=["now", "version 0.1"])
def test_lines_that_git_or_an_editor_on_windows_ended_in_crlf_are_read_and_added_to(
    tmp_path: Path, written: Callable[[dict[str, Any]], str]
) -> None:
    path, content = tmp_path / "lines", [{"a": 1}, {"a": 2}, {"a": 3}]
    path.write_bytes("".join(f"{written(record)}\r\n" for record in content[:2]).encode())
    assert (read_lines(path).records, read_lines(path).damaged) == (content[:2], [])
    add_line(path, content[2])
    assert (read_lines(path).records, read_lines(path).damaged) == (content, [])


def test_lines_of_version_0_1_get_checksums_when_one_is_added(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a"\n{"a": 2}\n{"a": 3')
    assert read_lines(path).records == [{"a": 1}, {"a": 2}]
    assert read_lines(path).damaged == [2]
    add_line(path, {"a": 4})
    assert read_lines(path).records == [{"a": 1}, {"a": 2}, {"a": 4}]
    assert read_lines(path).damaged == [2]
    assert [line[:9] for line in path.read_text().splitlines()] == ['{"crc32":', '{"a"', '{"crc32":', '{"crc32":']


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot replace an open file")
@pytest.mark.parametrize("first", ["drop_damaged", "seal_lines"])
def test_a_line_added_while_the_file_is_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 0}\n' if first == "seal_lines" else packed_line({"a": 0}) + "\nnoise\n")
    other = Thread(target=add_line, args=(path, {"a": 1}))

    def slow(path: Path, content: bytes) -> None:
        monkeypatch.setattr(records, "write_file", write_file)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        write_file(path, content)

    monkeypatch.setattr(records, "write_file", slow)
    getattr(records, first)(path)
    other.join()
    assert [record["a"] for record in read_lines(path).records] == [0, 1]


def test_no_flipped_bit_of_a_line_gives_other_values(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    add_line(path, {"kind": "train", "step": 12, "loss": 0.25})
    (want,), whole = read_lines(path).records, path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert all(record == want for record in read_lines(path).records)
