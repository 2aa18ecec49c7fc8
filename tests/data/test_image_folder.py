"""A folder of images: what its folders name, in which order, and what is refused in one line."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import image_folder
from fednas_jax.runtime.errors import UserError, warn_once


def tree(root, *paths):
    """Images of 8 x 8 pixels; the pixels of the n-th path are n."""
    for level, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(file)
    return root


def levels(images):
    return images[:, 0, 0, 0].tolist()


@pytest.fixture(autouse=True)
def _each_line_anew():
    warn_once.cache_clear()


def test_classes_in_the_order_of_paths(tmp_path, capsys):
    found = image_folder.read(tree(tmp_path, "cat/b.png", "ant/z.jpg", "cat/a.BMP", "ant/y.tiff"))
    assert sorted(found) == ["images", "labels"]
    assert found["labels"].tolist() == ["ant", "ant", "cat", "cat"]
    assert found["labels"].dtype.kind == "U"
    assert levels(found["images"]) == [3, 1, 2, 0]
    assert capsys.readouterr().err == ""
    assert not image_folder.brings_test_set(tmp_path)


def test_the_order_is_of_names_not_of_the_characters_between_them(tmp_path):
    """As whole paths, "a b/0.png" stands before "a/1.png"."""
    found = image_folder.read(tree(tmp_path, "a b/0.png", "a/1.png", "B/2.png"))
    assert found["labels"].tolist() == ["B", "a", "a b"]


def test_whatever_order_the_file_system_has(tmp_path, monkeypatch):
    tree(tmp_path, *(f"c{i % 3}/{i:02}.png" for i in range(12)))
    first = image_folder.read(tmp_path)
    entries = image_folder._entries
    monkeypatch.setattr(image_folder, "_entries", lambda folder: entries(folder)[::-1])
    again = image_folder.read(tmp_path)
    np.testing.assert_array_equal(first["images"], again["images"])
    assert first["labels"].tolist() == again["labels"].tolist()


def test_clients_lie_above_classes(tmp_path):
    found = image_folder.read(tree(tmp_path, "oslo/cat/0.png", "anna/cat/1.png", "oslo/ant/2.png"))
    assert found["client"].tolist() == ["anna", "oslo", "oslo"]
    assert found["labels"].tolist() == ["cat", "ant", "cat"]
    assert levels(found["images"]) == [1, 2, 0]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST")])
def test_train_and_test(tmp_path, names):
    train, test = names
    tree(tmp_path, f"{train}/a/0.png", f"{train}/b/1.png", f"{test}/b/2.png")
    found = image_folder.read(tmp_path)
    assert (levels(found["images"]), found["labels"].tolist()) == ([0, 1], ["a", "b"])
    assert (levels(found["test_images"]), found["test_labels"].tolist()) == ([2], ["b"])
    assert image_folder.brings_test_set(tmp_path)


def test_clients_in_train_and_test(tmp_path):
    tree(tmp_path, "train/anna/a/0.png", "train/oslo/b/1.png", "test/b/2.png")
    found = image_folder.read(tmp_path)
    assert found["client"].tolist() == ["anna", "oslo"]
    assert "test_client" not in found


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_images_are_left_out_and_a_line_says_so(tmp_path, name, capsys):
    tree(tmp_path, "train/a/0.png", "train/b/1.png", f"{name}/a/2.png", f"{name}/b/3.png")
    found = image_folder.read(tmp_path)
    assert levels(found["images"]) == [0, 1]
    assert "test_images" not in found
    assert f"{tmp_path / name}: 2 images are left out" in capsys.readouterr().err
    assert not image_folder.brings_test_set(tmp_path)


def test_one_validation_image_is_one(tmp_path, capsys):
    image_folder.read(tree(tmp_path, "train/a/0.png", "train/b/1.png", "val/a/2.png"))
    assert f"{tmp_path / 'val'}: 1 image is left out, as" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("Train", "train", "test"), ("train", "TEST", "test")])
def test_two_folders_of_one_split_are_refused(tmp_path, names):
    if tree(tmp_path, "x/0.png") and (tmp_path / "X").exists():
        pytest.skip("the file system does not tell Train from train")
    (tmp_path / "x/0.png").unlink()
    (tmp_path / "x").rmdir()
    tree(tmp_path, *(f"{name}/{label}/0.png" for name in names for label in "ab"))
    one, other = sorted(
        name for name in names if [n.lower() for n in names].count(name.lower()) > 1
    )
    with pytest.raises(UserError) as error:
        image_folder.read(tmp_path)
    assert (
        str(error.value) == f"{tmp_path}: has {one} and {other}; one folder of this split is needed"
    )


@pytest.mark.parametrize(
    ("folders", "line"),
    [
        (["c"], "folders without images are left out: 1 ('c')"),
        (["c/p/q", "b/r", "d"], "folders without images are left out: 3 ('b/r', 'c', 'd')"),
    ],
)
def test_folders_without_images_are_named(tmp_path, folders, line, capsys):
    tree(tmp_path, "a/0.png", "b/1.png")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert image_folder.read(tmp_path)["labels"].tolist() == ["a", "b"]
    assert f"{tmp_path}: {line}\n" in capsys.readouterr().err


def test_a_class_may_be_called_train(tmp_path):
    """Among vehicles, say: `train` is a split only where nothing but splits stands beside it."""
    found = image_folder.read(tree(tmp_path, "train/0.png", "car/1.png"))
    assert found["labels"].tolist() == ["car", "train"]


def test_what_is_no_image_is_ignored_and_counted(tmp_path, capsys):
    tree(tmp_path, "a/0.png", "b/1.png", "b/.ipynb_checkpoints/1.png", "__MACOSX/a/0.png")
    for name in ("a/Thumbs.db", "a/.DS_Store", ".hidden.png", "a/desktop.ini", "a/._0.png"):
        (tmp_path / name).write_bytes(b"x")
    assert levels(image_folder.read(tmp_path)["images"]) == [0, 1]
    assert capsys.readouterr().err == ""
    for name in ("notes.txt", "b/boxes.xml", "b/more.xml", "README"):
        (tmp_path / name).write_bytes(b"x")
    image_folder.read(tmp_path)
    line = "files that are no images are not read: 4 (without suffix, .txt, .xml)"
    assert line in capsys.readouterr().err


def test_names_of_accents_are_the_same_on_every_file_system(tmp_path):
    apart = unicodedata.normalize("NFD", "café")
    assert apart != "café"
    found = image_folder.read(tree(tmp_path, f"{apart}/0.png", "cafz/1.png"))
    assert found["labels"].tolist() == ["cafz", "café"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    tree(tmp_path / "there", "x/0.png")
    tree(tmp_path / "root", "a/1.png")
    (tmp_path / "root/b").symlink_to(tmp_path / "there/x")
    (tmp_path / "root/a/2.png").symlink_to(tmp_path / "there/x/0.png")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/a/self").symlink_to(tmp_path / "root/a/self")
    found = image_folder.read(tmp_path / "root")
    assert found["labels"].tolist() == ["a", "a", "b"]
    (tmp_path / "root/a/3.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"root/a/3\.png: cannot be read \(No such file"):
        image_folder.read(tmp_path / "root")


@pytest.mark.parametrize(
    ("paths", "part"),
    [
        ([], r"has no image \(\.png, .*images in CLASS/FILE or CLIENT/CLASS/FILE are needed"),
        (["0.png"], r"0\.png: lies directly in .*CLASS/FILE or CLIENT/CLASS/FILE is needed"),
        (["p/q/r/0.png"], r"p/q/r/0\.png: lies 3 folders deep in "),
        (["a/0.png", "p/a/1.png"], r"p/a/1\.png lies 2 folders deep, .*a/0\.png lies 1; all"),
        (["train/a/0.png", "test/1.png"], r"test/1\.png: lies directly in .*test; CLASS"),
        (["test/a/0.png", "val/a/1.png"], r"has test and val, but no folder train; such a folder"),
        (["train/a/0.png", "test/a/1.png", "2.png"], r"2\.png: lies beside test and train; in one"),
    ],
)
def test_another_structure_is_refused_in_one_line(tmp_path, paths, part):
    with pytest.raises(UserError, match=part) as error:
        image_folder.read(tree(tmp_path, *paths))
    assert "\n" not in str(error.value)


def test_an_empty_test_folder_is_refused(tmp_path):
    tree(tmp_path, "train/a/0.png")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match=r"test: has no image"):
        image_folder.read(tmp_path)


def test_unreadable_and_unlike_images_are_named(tmp_path):
    tree(tmp_path, "a/0.png", "b/1.png", "b/2.png")
    Image.new("L", (9, 8)).save(tmp_path / "b/2.png")
    with pytest.raises(UserError, match=r"b/2\.png is 8 x 9 pixels .*8 x 8 like .*a/0\.png"):
        image_folder.read(tmp_path)
    (tmp_path / "b/1.png").write_bytes((tmp_path / "b/1.png").read_bytes()[:50])
    with pytest.raises(UserError, match=r"b/1\.png: cannot be read \(.*\); whole images are"):
        image_folder.read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_no_text_is_refused(tmp_path):
    bad = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(bad)
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", bad + b"/0.png")
    with pytest.raises(UserError, match=r"this path is not UTF-8"):
        image_folder.read(tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(image_folder.os, "scandir", denied)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); a readable"):
        image_folder.read(tmp_path)
