"""Arrays by the names that Keras and MedMNIST write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.data import datasets, own
from fednas_jax.runtime.errors import UserError

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (12, 8, 8, 3)).astype(np.uint8)
OTHERS = RNG.randint(0, 256, (6, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3
KERAS = {"x_train": IMAGES, "y_train": LABELS[:, None]}
KERAS_TEST = {"x_test": OTHERS, "y_test": LABELS[:6, None]}
MEDMNIST = {
    "train_images": IMAGES,
    "train_labels": LABELS[:, None],
    "val_images": 255 - OTHERS,
    "val_labels": LABELS[:6, None],
    "test_images": OTHERS,
    "test_labels": LABELS[:6, None],
}


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("arrays", [KERAS | KERAS_TEST, MEDMNIST])
def test_they_are_read_as_our_own(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = save(tmp_path / "x.npz", **arrays)
    data = datasets.load(path)
    np.testing.assert_array_equal(data.train.images, IMAGES)
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.test.images, OTHERS)
    np.testing.assert_array_equal(data.test.labels, LABELS[:6])
    assert own.brings_test_set(path)
    assert "seed" not in datasets.choice_of_test_set(path)
    unread = (
        f"{path}: arrays that are not read: 'val_images', 'val_labels'; clients hold out images of "
        "their own to select the best round"
    )
    assert data.lost == (unread,) * ("val_images" in arrays)


def test_without_a_test_set_one_is_cut_off(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", **KERAS, client=LABELS, class_names=np.array(["a", "b", "c"]))
    data = datasets.load(path, test_fraction=0.25)
    assert (len(data.train.labels), len(data.test.labels)) == (9, 3)
    assert data.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(data.train.client, data.train.labels)
    assert not own.brings_test_set(path)
    # A test set by the name of another way is none.
    assert not own.brings_test_set(save(tmp_path / "y.npz", images=1, labels=1, x_test=1))


def test_arrays_that_are_not_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = save(tmp_path / "x.npz", images=IMAGES, labels=LABELS, clients=LABELS, names=LABELS)
    line = (
        f"{path}: arrays that are not read: 'clients', 'names' (names that are read: images, "
        "labels, client, class_names"
    )
    assert datasets.load(path).lost[0] == f"{line}, test_images, test_labels, test_client)"
    own.read_examples(path, "--npz")
    assert capsys.readouterr().err.count(f"{line})") == 1


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (
            {"images": IMAGES, "labels": LABELS} | KERAS_TEST,
            "has test images 'x_test' beside 'images'; the test set is needed under the names "
            "'test_images' and 'test_labels'",
        ),
        (
            {"train_images": IMAGES, "train_labels": LABELS} | KERAS_TEST,
            "has test images 'x_test' beside 'train_images'; the test set is needed under the "
            "names 'test_images' and 'test_labels'",
        ),
        (
            KERAS | {"test_images": OTHERS, "test_labels": LABELS[:6]},
            "has test images 'test_images' beside 'x_train'; the test set is needed under the "
            "names 'x_test' and 'y_test'",
        ),
        (
            {"x_train": IMAGES, "labels": LABELS},
            "key 'images' is missing; 'images' and 'labels' are needed; the file has 'x_train', "
            "'labels'",
        ),
        ({}, "are needed; the file has no array"),
        (KERAS | {"images": IMAGES, "labels": LABELS}, "has 'images' and 'x_train'; training ima"),
        (KERAS | MEDMNIST, "has 'x_train' and 'train_images'; training images under one name"),
        (KERAS | {"x_test": OTHERS}, "key 'y_test' is missing"),
        ({"x_train": IMAGES, "y_train": LABELS[:4]}, "'y_train' has 4 entries for 12 images"),
        ({"x_train": IMAGES[:, :4], "y_train": LABELS}, "'x_train' is 4 x 8 pixels"),
        (KERAS | KERAS_TEST | {"y_test": LABELS[:6] + 1}, "'y_test': label 3; 0 to 2, the train"),
        (KERAS | KERAS_TEST | {"x_test": OTHERS[..., :2]}, "'x_test' is (8, 8, 2); the trainin"),
    ],
)
def test_what_is_refused_is_named_as_the_file_names_it(
    tmp_path: Path, arrays: dict[str, np.ndarray], says: str
) -> None:
    path = save(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError) as raised:
        datasets.load(path)
    assert str(raised.value).startswith(path)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"images": IMAGES, "labels": LABELS} | KERAS, IMAGES),
        ({"images": IMAGES, "labels": LABELS, "test_images": 1, "test_labels": 1}, IMAGES),
        (KERAS, IMAGES),
        (KERAS_TEST, OTHERS),
        ({"test_images": OTHERS, "test_labels": LABELS[:6]}, OTHERS),
    ],
)
def test_a_file_with_one_set_of_images(tmp_path: Path, arrays: Any, wanted: np.ndarray) -> None:
    found = own.read_examples(save(tmp_path / "x.npz", **arrays), "--npz")
    np.testing.assert_array_equal(found.images, wanted)
    np.testing.assert_array_equal(found.labels, LABELS[: len(wanted)])


def test_a_file_with_several_sets_of_images(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", **MEDMNIST)
    says = (
        f"{path}: has 'test_images' and 'train_images' and 'val_images'; one set of images is "
        "needed, under 'images' and 'labels'"
    )
    for field, hint in (
        ("--npz", f"; --dataset={path} scores its test images"),
        ("config.dataset.test_path", ""),
    ):
        with pytest.raises(UserError) as raised:
            own.read_examples(path, field)
        assert str(raised.value) == says + hint
    path = save(tmp_path / "y.npz", **KERAS, val_images=OTHERS, val_labels=LABELS[:6])
    with pytest.raises(UserError, match=r"under 'images' and 'labels'$"):  # no test set
        own.read_examples(path, "--npz")
