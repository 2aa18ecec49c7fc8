"""Which names are a user's own data, and how each kind is read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import datasets, own, sources
from fednas_jax.runtime.errors import UserError

KEYS = ("images", "labels", "client", "class_names", "test_images", "test_labels")


def tree(root, *paths):
    for level, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(root / path)
    return root


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("x.npz", True),
        ("X.NPZ", True),
        ("x.csv", True),
        ("a:b.csv", True),
        (Path("x.csv"), True),
        ("photos/", True),
        ("./digits", True),
        ("~/photos", True),
        ("./a:b", True),
        ("there", True),
        ("gone", True),  # perhaps the data of a run, which have moved
        (".", True),
        ("digits", False),  # a folder of this name exists too
        ("cifar10", False),
        ("", False),
        ("mine.py:load", False),
        ("code/mine.py:load", False),
        ("~/mine.py:load", False),
        ("package.module:Name", False),
        ("given:load#2", False),
    ],
)
def test_which_names_are_paths(here, name, is_own):
    for folder in ("there", "digits"):
        (here / folder).mkdir()
    assert sources.is_own(name) == is_own


def test_a_name_without_the_form_of_a_path_is_one_if_something_has_it(here):
    (here / "there").mkdir()
    (here / "there.dat").touch()
    known = ("digits", "mine.py:load", "there", "there.dat", "./gone", "gone.csv", "~/gone")
    assert [name for name in (*known, "gone") if sources.is_unknown(name)] == ["gone"]


def test_one_folder_under_two_names_is_the_same(here):
    (here / "photos").mkdir()
    (here / "link").symlink_to("photos")
    real = str((here / "photos").resolve())
    assert {sources.real(name) for name in ("photos", "./photos/", "link")} == {real}
    assert sources.real("digits") == "digits"


def test_a_folder_a_csv_and_an_npz_of_the_same_images(here):
    tree(here / "photos", "oslo/a/0.png", "oslo/b/1.png", "rome/a/2.png")
    arrays = sources.read(here / "photos", KEYS)
    rows = "oslo/a/0.png,a,oslo\noslo/b/1.png,b,oslo\nrome/a/2.png,a,rome\n"
    (here / "photos/list.csv").write_text(f"path,label,client\n{rows}")
    np.savez(here / "same.npz", **arrays)
    for other in ("photos/list.csv", "same.npz"):
        found = sources.read(here / other, KEYS)
        assert found.keys() == arrays.keys() == {"images", "labels", "client"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    assert sources.read(here / "photos", ("images",)).keys() == {"images"}


def test_a_folder_that_was_saved_by_hugging_face_is_read_as_such(here, monkeypatch):
    (here / "hf").mkdir()
    (here / "hf/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    monkeypatch.setattr(sources.hugging_face.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="hf: is a Hugging Face data set"):
        sources.read(here / "hf", KEYS)
    assert sources.brings_test_set("hf")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (
            "./nowhere",
            r"^F: nowhere does not exist; an \.npz file, a \.csv file, or a folder of im",
        ),
        ("nowhere.csv", r"^F: nowhere\.csv does not exist"),
        ("nowhere.npz", r"^F: nowhere\.npz cannot be read \(No such file"),
        ("photos.zip", r"^F: photos\.zip is another kind of file; an \.npz file, a \.csv file, or"),
        ("broken.npz", r"broken\.npz: not an \.npz file, or a truncated one"),
    ],
)
def test_what_is_none_of_them_is_one_line(here, name, part):
    for file in ("photos.zip", "broken.npz"):
        (here / file).write_text("x")
    with pytest.raises(UserError, match=part):
        sources.read(Path(name), KEYS, field="F")


def test_a_csv_may_be_the_name_of_a_folder(here):
    tree(here / "photos.csv", "a/0.png")
    assert sources.read(Path("photos.csv"), KEYS)["labels"].tolist() == ["a"]


def test_an_npz_may_have_any_name(here):
    np.savez(here / "a.npz", images=np.zeros(2))
    (here / "a.npz").rename(here / "a.dat")
    assert sources.read(Path("a.dat"), KEYS)["images"].shape == (2,)
    assert sources.is_npz("a.dat")


def both(here):
    tree(here / "photos", "train/a/0.png", "train/b/1.png", "test/a/2.png")
    rows = "train/a/0.png,0,train\ntrain/b/1.png,1,train\ntest/a/2.png,0,test\n"
    (here / "photos/list.csv").write_text(f"path,label,split\n{rows}")
    return "photos", "photos/list.csv"


def test_all_examples_are_asked_for_but_there_are_two_splits(here):
    """As with `evaluate --npz` and `dataset.test_path`: which of the two is not to be guessed."""
    folder, file = both(here)
    for path, needed in (
        (folder, "the path of its folder train or test"),
        (file, "a .csv file wit"),
    ):
        part = f"^--npz: {path} has training and test examples; {needed}.*; --dataset={path} scores"
        with pytest.raises(UserError, match=part):
            own.read_examples(path, "--npz")
    found = sources.read(Path("photos/test"), ("images", "labels", "class_names"))
    assert found["labels"].tolist() == ["a"]


def test_what_decides_which_examples_are_tested(here):
    """A test set that the data bring is not cut off by a seed."""
    tree(here / "plain", "a/0.png", "b/1.png")
    for name in (*both(here), "photos/"):
        choice = datasets.choice_of_test_set(name, seed=3)
        assert choice == {"dataset.name": str((here / name).resolve())}
    for name in ("plain", "photos/train"):
        assert datasets.choice_of_test_set(name, seed=3)["seed"] == 3
    assert datasets.choice_of_test_set("plain", "photos/test") == {
        "dataset.name": str(here / "plain"),
        "dataset.test_path": str(here / "photos/test"),
    }


def test_a_name_that_is_neither_known_nor_there(here):
    with pytest.raises(
        UserError, match=r"unknown data set 'photos'; known: .*\(or the path of an "
    ):
        datasets.load("photos")
    with pytest.raises(UserError, match=r"^config\.dataset\.name: photos does not exist; an \.npz"):
        datasets.load("photos/")


def test_a_data_set_of_digits_in_files_with_numbers_as_labels(here):
    """The whole way: the same examples as from an .npz file, by `datasets.load`."""
    digits = datasets.load("digits", max_train_examples=60).train
    rows = ["path,label,client"]
    for i, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        Image.fromarray(image[..., 0]).save(here / f"{i}.png")
        rows.append(f"{i}.png,{label},{i % 3}")
    (here / "digits.csv").write_text("\n".join(rows))
    client = np.arange(60) % 3
    np.savez(here / "digits.npz", images=digits.images, labels=digits.labels, client=client)
    one, other = (datasets.load(f"digits.{kind}", seed=1) for kind in ("csv", "npz"))
    for split in ("train", "test"):
        for there, array in zip(getattr(one, split), getattr(other, split), strict=True):
            np.testing.assert_array_equal(there, array)
    assert datasets.examples_sha256(one) == datasets.examples_sha256(other)
    assert (one.mean, one.std, one.class_names) == (other.mean, other.std, other.class_names)


def listing(*rows):
    return "path,label,split\n" + "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize(
    ("files", "table", "right"),
    [
        (["a/0.png", "a/1.png"], "", "the set of class folders has one class only ('a'); at least"),
        (
            ["train/a/0.png", "train/b/1.png", "test/c/2.png"],
            "",
            "the set of class folders in the folder test: label 'c' is not among the training ",
        ),
        (["0.png"], listing("0.png,x,train"), "column 'label' has one class only ('x'); at least"),
        (["0.png"], listing("0.png,-1,train", "0.png,1,train"), "column 'label' has -1; 0 or abo"),
        (
            ["0.png"],
            listing("0.png,a,train", "0.png,b,train", "0.png,c,test"),
            "column 'label' of the test rows: label 'c' is not among the training data's classes",
        ),
    ],
)
def test_errors_name_what_a_folder_or_table_has(here, files, table, right):
    path = tree(here / "data", *files)
    if table:
        path = path / "list.csv"
        path.write_text(table)
    with pytest.raises(UserError) as error:
        own.read(path)
    assert str(error.value).startswith(f"{path}: {right}")


@pytest.mark.parametrize("table", [False, True])
def test_images_that_are_too_small_are_no_array_of_a_folder(here, table):
    path = tree(here / "data", "a/0.png", "b/1.png")
    for name in ("a/0.png", "b/1.png"):
        Image.new("L", (7, 7)).save(path / name)
    if table:
        path = path / "list.csv"
        path.write_text(listing("a/0.png,a,train", "b/1.png,b,train"))
    with pytest.raises(UserError) as error:
        own.read(path)
    assert str(error.value).startswith(f"{path}: each image is 7 x 7 pixels; at least 8 x 8 are")
