"""A Hugging Face data set on disk: which columns are read, and what is refused in one line.

`datasets` is no dependency: a stand-in has the few of its functions that are called. The tests with
`real` run where the package is installed.
"""

import importlib.machinery
import io
import json
import pickle
import sys
import types

import numpy as np
import pytest
from PIL import Image as Pillow

from fednas_jax.data import hugging_face
from fednas_jax.runtime.errors import UserError, warn_once

INSTALL = r"needed: pip install (datasets|'fednas_jax\[huggingface\]')$"


class Image:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Value:
    pass


class StandIn:
    """Of `datasets.Dataset`; images are decoded unless the column's type says otherwise."""

    def __init__(self, columns, features):
        self.columns, self.features = columns, features

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def with_format(self, kind):
        assert kind is None
        return self

    def select_columns(self, names):
        return StandIn({n: self.columns[n] for n in names}, {n: self.features[n] for n in names})

    def cast_column(self, name, feature):
        return StandIn(self.columns, self.features | {name: feature})

    def __getitem__(self, rows):
        for name, feature in self.features.items():
            assert not getattr(feature, "decode", False), f"{name} would be decoded by datasets"
        return {name: values[rows] for name, values in self.columns.items()}


def png(level, size=8):
    content = io.BytesIO()
    Pillow.fromarray(np.full((size, size), level, np.uint8)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def table(labels=(1, 0, 1), names=("ant", "cat"), *, first=0, **more):
    """Images whose pixels count from `first` on, and labels; `names` None: a plain column."""
    images = [png(first + i) for i in range(len(labels))]
    columns = {"image": images, "label": list(labels)}
    features = {"image": Image(), "label": Value() if names is None else ClassLabel(list(names))}
    for name, values in more.items():
        columns[name] = list(values)
        features[name] = Value()
    return StandIn(columns, features)


def renamed(data, **names):
    return StandIn(
        {names.get(n, n): values for n, values in data.columns.items()},
        {names.get(n, n): feature for n, feature in data.features.items()},
    )


def added(data, **names):
    """With copies of columns, under other names."""
    more = {new: data.columns[old] for new, old in names.items()}
    kinds = {new: data.features[old] for new, old in names.items()}
    return StandIn(data.columns | more, data.features | kinds)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that puts a data set into the folder that it returns."""
    warn_once.cache_clear()

    def saved(data):
        module = types.ModuleType("datasets")
        module.__spec__ = importlib.machinery.ModuleSpec("datasets", None, origin="datasets.py")
        module.Image = Image

        def load(path):
            assert path == str(tmp_path.resolve())
            if isinstance(data, Exception):
                raise data
            return data

        module.load_from_disk = load
        monkeypatch.setitem(sys.modules, "datasets", module)
        return tmp_path

    return saved


def levels(images):
    return images[:, 0, 0, 0].tolist()


def test_one_data_set(folder):
    found = hugging_face.read(folder(table(client=["oslo", "anna", "oslo"], age=[1, 2, 3])))
    assert sorted(found) == ["class_names", "client", "images", "labels"]
    assert levels(found["images"]) == [0, 1, 2]
    assert found["labels"].tolist() == [1, 0, 1]
    assert found["client"].tolist() == ["oslo", "anna", "oslo"]
    assert found["class_names"].tolist() == ["ant", "cat"]


def test_more_images_than_are_encoded_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(hugging_face, "_ROWS", 4)
    found = hugging_face.read(folder(table([i % 2 for i in range(11)])))
    assert levels(found["images"]) == list(range(11))


def test_train_and_test_and_other_splits(folder, capsys):
    splits = {"validation": table(first=50), "test": table([0], first=9), "train": table()}
    found = hugging_face.read(folder(splits))
    assert (levels(found["images"]), found["labels"].tolist()) == ([0, 1, 2], [1, 0, 1])
    assert (levels(found["test_images"]), found["test_labels"].tolist()) == ([9], [0])
    assert "the splits validation are left out; train and test are read" in capsys.readouterr().err


def test_labels_without_class_names(folder):
    assert hugging_face.read(folder(table(names=None)))["labels"].tolist() == [1, 0, 1]
    data = renamed(table(["b", "a", "b"], None), label="Target", image="photo")
    found = hugging_face.read(folder(data))
    assert found["labels"].tolist() == ["b", "a", "b"]
    assert "class_names" not in found


@pytest.mark.parametrize("name", ["client", "client_id", "writer_id", "user_id"])
def test_columns_of_clients(folder, name):
    assert hugging_face.read(folder(table(**{name: [5, 6, 5]})))["client"].tolist() == [5, 6, 5]


def test_of_several_columns_the_one_with_the_plain_name(folder):
    data = table(client=["x", "y", "z"], writer_id=[1, 2, 3])
    data = added(data, mask="image", coarse_label="label")
    data.columns["mask"] = data.columns["image"][::-1]
    found = hugging_face.read(folder(data))
    assert levels(found["images"]) == [0, 1, 2]
    assert found["labels"].tolist() == [1, 0, 1]
    assert found["client"].tolist() == ["x", "y", "z"]


TWO_LABELS = renamed(added(table(), fine_label="label"), label="coarse_label")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (
            renamed(table(names=None), label="kind"),
            r"has no label column; its columns are image \(",
        ),
        (TWO_LABELS, r"has several label columns \(coarse_label, fine_label\); its columns are"),
        (
            renamed(added(table(), right="image"), image="left"),
            r"has several image columns \(left, right\); its columns are left \(Image\), label \(C",
        ),
        (
            StandIn(
                {"pixels": [[1]], "label": [0]}, {"pixels": Value(), "label": ClassLabel(["a"])}
            ),
            r"has no image column; its columns are pixels \(Value\), label \(ClassLabel\); one of",
        ),
        (table(user_id=[1, 2, 3], writer_id=[1, 2, 3]), r"several client columns \(user_id, writ"),
        (table([0, -1, 1]), "split train: row 1 has label -1, which stands for none; a label"),
        (table([0, None, 1]), "split train: row 1 has no label; one is needed"),
        (table([0.5, 1.5], None), "column label is float64 of rank 1; integers or text of rank 1"),
        (table([[0, 1], [1, 0]], None), "column label is int64 of rank 2"),
        ({"a": table(), "b": table()}, "has the splits a, b; a split train, or the folder of one"),
        ({"train": table(), "test": table([])}, "split test has no rows; at least one is needed"),
        (
            {"train": table(), "test": renamed(table(), label="truth")},
            "split test has no column label; the same columns are needed",
        ),
        (
            {"train": table(), "test": table(names=("cat", "ant"))},
            "split test: its label has other classes than that of train",
        ),
        (FileNotFoundError(2, "No such file"), r"`datasets` cannot read it \(FileNotFoundError: N"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, data, part):
    with pytest.raises(UserError, match=part) as error:
        hugging_face.read(folder(data))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (None, "split train, row 1 has no image; one is needed"),
        ({"bytes": None, "path": None}, "split train, row 1 has no image; one is needed"),
        ({"bytes": b"x", "path": None}, r"split train, row 1: cannot be read \(it is no PNG"),
        ({"bytes": None, "path": "http://localhost/a.png"}, r"row 1: cannot be read \(No such f"),
        (png(0, size=9), r"split train, row 1 is 9 x 9 pixels"),
    ],
)
def test_an_image_that_is_not_there_or_not_whole(folder, image, part):
    data = table()
    data.columns["image"][1] = image
    with pytest.raises(UserError, match=part):
        hugging_face.read(folder(data))


def test_without_the_package_a_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"is a Hugging Face data set; .*{INSTALL}"):
        hugging_face.read(tmp_path)


def test_a_folder_or_module_of_the_same_name_is_not_the_package(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "datasets"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "datasets").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=INSTALL):
        hugging_face.read(tmp_path)
    (tmp_path / "datasets/__init__.py").write_text("")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"and .*datasets/__init__\.py, which has the same name, o"):
        hugging_face.read(tmp_path)
    del sys.modules["datasets"]


def test_saved_folders_are_known_by_their_files(tmp_path):
    assert not hugging_face.is_saved(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    assert not hugging_face.is_saved(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert hugging_face.is_saved(tmp_path)
    assert not hugging_face.brings_test_set(tmp_path)
    for splits, brings in ((["train", "test"], True), (["train"], False)):
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        assert hugging_face.brings_test_set(tmp_path) == brings
    (tmp_path / "dataset_dict.json").write_text("[")
    assert not hugging_face.brings_test_set(tmp_path)


def test_real_data_sets(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["ant", "cat"]),
            "writer_id": datasets.Value("string"),
        }
    )
    rows = {
        "image": [Pillow.fromarray(np.full((8, 8), level, np.uint8)) for level in range(10)],
        "label": [0, 1] * 5,
        "writer_id": ["x", "y"] * 5,
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": data.select(range(8)), "test": data.select([9])}).save_to_disk(
        tmp_path / "hf"
    )

    def refused(*_, **__):
        raise AssertionError("a pickle is loaded")

    for name in ("load", "loads"):
        monkeypatch.setattr(pickle, name, refused)
    assert hugging_face.is_saved(tmp_path / "hf")
    assert hugging_face.brings_test_set(tmp_path / "hf")
    found = hugging_face.read(tmp_path / "hf")
    assert (levels(found["images"]), levels(found["test_images"])) == (list(range(8)), [9])
    assert found["labels"].tolist() == [0, 1] * 4
    assert found["client"].tolist() == ["x", "y"] * 4
    assert found["class_names"].tolist() == ["ant", "cat"]
    alone = hugging_face.read(tmp_path / "hf/test")
    assert (levels(alone["images"]), alone["labels"].tolist()) == ([9], [1])
