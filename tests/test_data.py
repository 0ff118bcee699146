"""The loaders of page 50: every place where the yacht data may lie, every damage, every mirror."""

import gzip
import hashlib
import io
import re
import tarfile

import numpy as np
import pytest

from adaptive_dropout import data
from adaptive_dropout.data import load_cifar10, load_cifar10_files, load_mnist, load_yacht

TABLE = np.array([[-2.3, 0.568, 4.78, 3.99, 3.17, 0.125, 0.11], [0.0, 0.6, 4.34, 4.23, 2.73, 0.45, 46.66]])
TEXT = "-2.3 0.568 4.78 3.99 3.17 0.125 0.11 \n0.0  0.600 4.34 4.23 2.73 0.450 46.66\n \n"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    "No data of the user, no network, and the hash of a small table instead of the published one."
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAPTIVE_DROPOUT_DATA", raising=False)
    monkeypatch.setattr(data, "YACHT_NUMBERS", hashlib.sha256(TABLE.astype("<f8").tobytes()).hexdigest())
    return tmp_path


def put(path, text: str = TEXT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def mirrors(monkeypatch):
    "Addresses are keys of this dictionary; pooch is replaced by it. Asked addresses are noted under `asked`."
    served = {"asked": []}

    def retrieve(address, known_hash, fname, path):
        served["asked"].append(address)
        if address not in served:
            raise OSError("no route")
        (path / fname).write_text(served[address])
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    return served


def is_right(found) -> bool:
    return (
        (found.inputs == TABLE[:, :6]).all()
        and (found.targets == TABLE[:, 6]).all()
        and len(found.names) == 6
        and found.inputs.dtype == found.targets.dtype == np.float64
        and "Yacht" in found.source
    )


@pytest.mark.parametrize("name", ["yacht_hydrodynamics.data", "yacht.txt", "yacht/yacht.txt"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_yacht_is_found_in_a_folder(name, how, alone, monkeypatch, mirrors):
    put(alone / "my" / name)
    if how == "environment":
        monkeypatch.setenv("ADAPTIVE_DROPOUT_DATA", str(alone / "my"))
    assert is_right(load_yacht(alone / "my" if how == "argument" else None)) and not mirrors["asked"]


def test_the_folder_goes_before_the_cache_and_the_cache_before_a_download(alone, monkeypatch, mirrors):
    cached = put(alone / "cache" / "adaptive_dropout" / "yacht" / "yacht_hydrodynamics.data")
    assert is_right(load_yacht()) and not mirrors["asked"]
    monkeypatch.setenv("ADAPTIVE_DROPOUT_DATA", str(alone / "my"))
    put(alone / "my" / "yacht.txt", "1 2 3")
    with pytest.raises(ValueError, match=r"yacht\.txt does not hold the published numbers"):
        load_yacht()
    assert cached.read_text() == TEXT, "nothing is deleted or overwritten"


def test_the_second_mirror_is_asked_when_the_first_fails_or_lies(alone, mirrors):
    mirrors["lies"], mirrors["good"] = TEXT.replace("0.11", "0.12"), TEXT
    assert is_right(load_yacht(mirrors=("down", "lies", "good", "never")))
    assert mirrors["asked"] == ["down", "lies", "good"]
    folder = alone / "cache" / "adaptive_dropout" / "yacht"
    assert [path.name for path in folder.iterdir()] == ["yacht_hydrodynamics.data"], "no part of a file stays"
    mirrors["asked"].clear()
    assert is_right(load_yacht(mirrors=())) and not mirrors["asked"]


def test_a_damaged_file_in_the_cache_is_named_and_fetched_again(alone, mirrors):
    cached = put(alone / "cache" / "adaptive_dropout" / "yacht" / "yacht_hydrodynamics.data", "1 2 3")
    with pytest.raises(FileNotFoundError, match=r"yacht_hydrodynamics\.data does not hold .*Three ways out"):
        load_yacht(mirrors=("down",))
    assert cached.read_text() == "1 2 3", "nothing is lost before there is something better"
    mirrors["good"] = TEXT
    with pytest.warns(UserWarning, match=r"yacht_hydrodynamics\.data does not hold .*fetched again"):
        assert is_right(load_yacht(mirrors=("good",)))
    assert cached.read_text() == TEXT and is_right(load_yacht(mirrors=()))


def test_where_nothing_is_found_the_three_ways_out_are_named(alone, mirrors):
    for arguments in ({"mirrors": ("down", "lies")}, {"mirrors": ()}, {"data_dir": alone / "nothing"}):
        mirrors["asked"].clear()
        where = f"in {re.escape(str(alone / 'nothing'))} .no download was tried" if "data_dir" in arguments else ""
        with pytest.raises(FileNotFoundError, match=f"yacht_.*data was not found {where}.*Three ways out.*digits"):
            load_yacht(**arguments)
        assert mirrors["asked"] == (["down", "lies"] if len(arguments.get("mirrors", ())) == 2 else [])
    assert not list((alone / "cache").rglob("*.part"))


@pytest.mark.parametrize("text", ["", "a b c", "1 2 3\n4 5", TEXT.replace("46.66", "nan"), TEXT + TEXT, "\x00\x01"])
def test_a_damaged_yacht_file_is_refused_by_name(text, alone):
    path = put(alone / "yacht.txt", text)
    with pytest.raises(ValueError, match="yacht.txt"):
        load_yacht(alone)
    assert path.read_text() == text


def test_mnist_goes_the_same_way(alone, monkeypatch, mirrors):
    monkeypatch.setattr(data, "MNIST_FILES", {"first": "00"})
    with pytest.raises(FileNotFoundError, match="MNIST file first was not found .*down/first.*Three ways out.*digits"):
        load_mnist(mirrors=("down/",))
    assert mirrors["asked"] == ["down/first.gz"]
    (alone / "mnist").mkdir()
    (alone / "mnist" / "first.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(ValueError, match="first.gz is not the published file"):
        load_mnist(alone)


def test_cifar_is_read_from_its_archive_and_refused_when_another(alone, monkeypatch, mirrors):
    rng, files = np.random.default_rng(0), {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        files[f"cifar-10-batches-bin/{name}.bin"] = records
    path = alone / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, records in files.items():
            member = tarfile.TarInfo(name)
            member.size = records.size
            archive.addfile(member, io.BytesIO(records.tobytes()))
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz is not the published archive"):
        load_cifar10(alone)
    monkeypatch.setattr(data, "CIFAR_ARCHIVE", hashlib.sha256(path.read_bytes()).hexdigest())
    found, every = load_cifar10(alone), np.concatenate(list(files.values()))
    assert found.train_images.shape == (15, 32, 32, 3) and found.test_images.shape == (3, 32, 32, 3)
    assert (np.concatenate([found.train_labels, found.test_labels]) == every[:, 0]).all() and found.source == "CIFAR-10"
    assert (found.train_images[4, 2, 30] == every[4, 1 + 2 * 32 + 30 :: 1024]).all()
    with pytest.raises(FileNotFoundError, match="CIFAR-10 archive .*Three ways out.*load_cifar10_files"):
        load_cifar10(mirrors=("down",))
    assert mirrors["asked"] == ["down"]


def test_a_file_of_another_layout_is_no_cifar(alone):
    for content in (b"", bytes(3072), bytes([10]) + bytes(3072)):
        (alone / "part.bin").write_bytes(content)
        with pytest.raises(ValueError, match="part.bin is damaged"):
            load_cifar10_files(alone / "part.bin", alone / "part.bin")


def test_the_published_table_if_it_is_at_hand(monkeypatch):
    monkeypatch.undo()
    try:
        yacht = load_yacht(mirrors=())
    except FileNotFoundError:
        pytest.skip("the yacht data are neither in $ADAPTIVE_DROPOUT_DATA nor in the cache")
    assert yacht.inputs.shape == (308, 6) and yacht.targets.sum() == pytest.approx(3232.57, abs=1e-9)
    hulls = yacht.targets.reshape(22, 14)
    same = [(i, j) for i in range(22) for j in range(i) if (hulls[i] == hulls[j]).all()]
    assert same == [(4, 3)], "hulls 4 and 5 of the published table have the same resistances"
    assert (yacht.inputs[42, :5] != yacht.inputs[56, :5]).all()
