"""The registry of data sets."""

from __future__ import annotations

from reminding.tasks import DATASETS
from reminding.tasks.data.datasets import DataFile


def test_registry_is_well_formed() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.about
        assert dataset.licence
        assert dataset.urls[0].startswith("https://")
        assert all(url.startswith(("https://", "http://")) and url.endswith("/") for url in dataset.urls)
        for file in dataset.files:
            assert file.raw_size > 0
            assert len(file.raw_md5) == 32
            assert (file.md5 is None) == (dataset.archive is not None), "a download always has a checksum"
            assert file.md5 is None or len(file.md5) == 32
        if dataset.archive is not None:
            kind, digits = dataset.archive.checksum.split(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[kind]
        if dataset.beginning is not None:
            (whole,) = dataset.files
            assert dataset.beginning.raw_size < whole.raw_size


def test_a_file_that_is_not_packed_has_one_name() -> None:
    assert DataFile("text8", "m", "m", 1).names == ("text8",)
    assert DataFile("a.gz", "m", "m", 1).names == ("a.gz", "a")
