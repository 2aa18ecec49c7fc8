"""Published data sets: from a small TFDS folder made here, from archives, and from the cache."""

import errno
import gzip
import hashlib
import http.client
import io
import json
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import archives, datasets, published
from fednas_jax.runtime.errors import UserError

CLASSES = ["ant", "bee", "cat"]


def make_images(number, shape, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randint(0, 256, (number, *shape)).astype(np.uint8), np.arange(number) % len(CLASSES)


def write_tfds(folder, name="cifar10", version="3.0.2", shape=(8, 8, 3), file_format=None):
    """Lays a data set down as TFDS does: 7 training and 4 test images."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    place = folder / name / version
    place.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
    )
    features.save_config(place)
    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
    splits = []
    for seed, (split, number) in enumerate({"train": 7, "test": 4}.items()):
        path = place / f"{name}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for image, label in zip(*make_images(number, shape, seed), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image.squeeze()).save(buffer, "PNG")
            example = {"image": buffer.getvalue(), "label": int(label)}
            writer.write(serializer.serialize_example(example))
        writer.close()
        splits.append(
            {
                "name": split,
                "shardLengths": [str(number)],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format or "array_record",
        "splits": splits,
    }
    (place / "dataset_info.json").write_text(json.dumps(info))
    return place


@pytest.fixture(autouse=True)
def _own_cache_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)

    def refuse(url, timeout):
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize(("name", "shape"), [("cifar10", (8, 8, 3)), ("mnist", (9, 8, 1))])
def test_reads_what_tfds_laid_down(tmp_path, name, shape):
    write_tfds(tmp_path, name, shape=shape)
    data = datasets.load(name, data_dir=tmp_path, cache=False)
    for seed, split in enumerate((data.train, data.test)):
        images, labels = make_images(len(split.labels), shape, seed)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.labels.dtype == np.int32
    assert len(data.train.labels) == 7
    assert data.class_names == tuple(CLASSES)
    assert data.num_classes == 3
    assert not published.cache_folder().exists()


def test_published_moments(tmp_path):
    write_tfds(tmp_path)
    data = datasets.load("cifar10", data_dir=tmp_path)
    assert data.mean == (0.49139968, 0.48215827, 0.44653124)
    assert data.std == (0.24703233, 0.24348505, 0.26158768)


def test_folder_from_environment_and_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert published.data_folder() == tmp_path / "tensorflow_datasets"
    assert published.data_folder("") == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert published.data_folder() == tmp_path / "elsewhere"
    assert published.data_folder("~/here") == tmp_path / "here"


def test_the_newest_version_is_taken(tmp_path):
    for version in ("3.0.2", "3.0.10", "2.9.9", "incomplete"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").touch()
    (tmp_path / "mnist" / "4.0.0").mkdir()  # not finished: without its info
    assert published.prepared_folder("mnist", tmp_path).name == "3.0.10"
    assert published.prepared_folder("cifar10", tmp_path) is None


# --- the cache -------------------------------------------------------------------------------


def test_the_second_time_comes_from_the_cache(tmp_path, monkeypatch):
    write_tfds(tmp_path)
    first = published.read("cifar10", tmp_path)
    monkeypatch.setattr(published, "_decode", None)  # a call would raise
    second = published.read("cifar10", tmp_path)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert len(list(published.cache_folder().iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    write_tfds(tmp_path)
    first = published.read("cifar10", tmp_path)
    (kept,) = published.cache_folder().iterdir()
    whole = kept.read_bytes()
    middle = len(whole) // 2
    kept.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
            "foreign": b"not an npz",
        }[damage]
    )
    second = published.read("cifar10", tmp_path)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    np.testing.assert_array_equal(published._read_cache(kept).train_images, first.train_images)


def test_changed_data_is_decoded_again(tmp_path):
    place = write_tfds(tmp_path)
    published.read("cifar10", tmp_path)
    (place / "cifar10-train.array_record-00000-of-00001").touch()
    published.read("cifar10", tmp_path)
    assert len(list(published.cache_folder().iterdir())) == 2


def test_a_cache_folder_that_cannot_be_made_is_no_trouble(tmp_path, monkeypatch):
    write_tfds(tmp_path / "data")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(published.read("cifar10", tmp_path / "data").train_labels) == 7


# --- what cannot be read ---------------------------------------------------------------------


def message_of(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_not_on_disk_and_no_network(tmp_path):
    for name in published.NAMES:
        with pytest.raises(UserError) as error:
            datasets.load(name, data_dir=tmp_path / "none")
        message = message_of(error)
        assert f"'{name}' is not in {tmp_path / 'none'}" in message
        assert "Name or service not known" in message
        assert "TFDS_DATA_DIR" in message
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("place", ["listing", "archive"])
def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch, place):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    if place == "listing":
        monkeypatch.setattr(published, "prepared_folder", refuse)
    else:
        monkeypatch.setattr(archives, "_is_whole", refuse)
    with pytest.raises(UserError) as error:
        datasets.load("cifar10", data_dir=tmp_path)
    assert str(tmp_path) in message_of(error)
    assert "Permission denied" in message_of(error)


def test_tfds_data_dir_that_cannot_be_looked_at(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "~nobody-here/data")
    with pytest.raises(UserError, match=r"^TFDS_DATA_DIR: ~nobody-here/data: no such user"):
        datasets.load("cifar10")


def test_a_download_cut_short(tmp_path, monkeypatch):
    def answer(url, timeout):
        raise http.client.IncompleteRead(b"abc", 100)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(UserError) as error:
        datasets.load("cifar10", data_dir=tmp_path)
    assert "cannot be downloaded (IncompleteRead(3 bytes read, 100 more expected))" in message_of(
        error
    )


def test_tfrecord_files_need_another_form(tmp_path):
    write_tfds(tmp_path, file_format="tfrecord")
    with pytest.raises(UserError) as error:
        published.read("cifar10", tmp_path)
    assert "TFRecord" in message_of(error)


def test_a_damaged_folder_is_named(tmp_path):
    place = write_tfds(tmp_path)
    (place / "cifar10-test.array_record-00000-of-00001").unlink()
    with pytest.raises(UserError) as error:
        published.read("cifar10", tmp_path)
    assert str(place) in message_of(error)
    (place / "dataset_info.json").write_text("{")
    with pytest.raises(UserError) as error:
        published.read("cifar10", tmp_path)
    assert str(place) in message_of(error)


def test_no_tensorflow_and_no_slow_import_before_it_is_needed(tmp_path):
    write_tfds(tmp_path)
    code = (
        "import sys\n"
        "from fednas_jax.data import datasets\n"
        "slow = {'tensorflow', 'tensorflow_datasets', 'sklearn', 'PIL', 'jax'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        f"datasets.load('cifar10', data_dir={str(tmp_path)!r}, cache=False)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# --- archives --------------------------------------------------------------------------------


def serve(monkeypatch, tmp_path, name, files):
    """Has `name` published as `files` (name -> bytes) under file:// addresses."""
    site = tmp_path / "site"
    site.mkdir()
    entries = []
    for file, content in files.items():
        (site / file).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(archives.Archive((site / file).as_uri(), sha256))
    monkeypatch.setitem(archives.ARCHIVES, name, tuple(entries))
    opener = urllib.request.build_opener()
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: opener.open(url))


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def cifar_records(images, *labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, planes], axis=1).tobytes()


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_archives(monkeypatch, tmp_path, name):
    images, labels = make_images(12, (32, 32, 3))
    names = "\n".join(CLASSES).encode() + b"\n\n"
    if name == "cifar10":
        files = {
            f"data_batch_{i + 1}.bin": cifar_records(images[2 * i : 2 * i + 2], labels[2 * i :][:2])
            for i in range(5)
        }
        files |= {"test_batch.bin": cifar_records(images[10:], labels[10:])}
        files |= {"batches.meta.txt": names}
    else:
        files = {
            "train.bin": cifar_records(images[:10], labels[:10] + 50, labels[:10]),
            "test.bin": cifar_records(images[10:], labels[10:] + 50, labels[10:]),
            "fine_label_names.txt": names,
            "coarse_label_names.txt": b"x\n",
        }
    serve(monkeypatch, tmp_path, name, {"a.tar.gz": tar_of(files)})
    data = datasets.load(name, data_dir=tmp_path / "data")
    np.testing.assert_array_equal(data.train.images, images[:10])
    np.testing.assert_array_equal(data.train.labels, labels[:10])
    np.testing.assert_array_equal(data.test.images, images[10:])
    np.testing.assert_array_equal(data.test.labels, labels[10:])
    assert data.class_names == tuple(CLASSES)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_archives_are_fetched_once(monkeypatch, tmp_path, name):
    images, labels = make_images(9, (10, 8))
    files = {"train-images": images[:6], "train-labels": labels[:6]}
    files |= {"test-images": images[6:], "test-labels": labels[6:]}
    serve(monkeypatch, tmp_path, name, {f"{k}.gz": idx(v) for k, v in files.items()})
    data = datasets.load(name, data_dir=tmp_path / "data")
    np.testing.assert_array_equal(data.train.images, images[:6, ..., None])
    np.testing.assert_array_equal(data.test.labels, labels[6:])
    assert data.num_classes == 10
    monkeypatch.setattr(urllib.request, "urlopen", None)
    again = datasets.load(name, data_dir=tmp_path / "data")
    np.testing.assert_array_equal(again.train.images, data.train.images)


def test_an_archive_of_other_bytes_is_refused(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, "cifar10", {"a.tar.gz": b"right"})
    (tmp_path / "site" / "a.tar.gz").write_bytes(b"wrong")
    with pytest.raises(UserError) as error:
        datasets.load("cifar10", data_dir=tmp_path / "data")
    assert "SHA-256 differs" in message_of(error)
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
