"""What is kept of a run's examples, and which others may be scored by it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.data import fingerprints, learnt
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.runtime.errors import UserError

SETTINGS = {
    "name": "own.npz",
    "test_path": "",
    "test_fraction": 0.2,
    "max_train_examples": 0,
    "max_test_examples": 0,
    "seed": 0,
    "cut_by": "class",
}


def split(*values: int, labels: list[int] | None = None) -> Split:
    """Images of one grey level each."""
    images = (
        np.zeros((len(values), 8, 8, 1), np.uint8) + np.array(values, np.uint8)[:, None, None, None]
    )
    return Split(images, np.array(labels or [0] * len(values), np.int32), None)


def data(train: Split, test: Split, name: str = "own.npz") -> Dataset:
    return Dataset(name, train, test, 2, ("0", "1"), (0.0,), (1.0,))


def known(train: Split, test: Split, *clients: list[int], **changes: Any) -> learnt.Learnt:
    dealt = clients or (list(range(len(train.labels))),)
    indices = [np.array(client, np.int32) for client in dealt]
    return learnt.of(data(train, test), indices, SETTINGS)._replace(**changes)


def test_a_digest_is_8_bytes_of_the_sha256_of_kind_and_pixels() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    right = hashlib.sha256(b"('|u1', (8, 8, 1))" + bytes(range(64))).digest()[:8]
    assert fingerprints.image_digests(image).tolist() == [int.from_bytes(right, "little")]
    other = image.astype(np.float32)
    assert fingerprints.image_digests(other) != fingerprints.image_digests(image)
    turned = np.moveaxis(np.moveaxis(image, 1, 2).copy(), 1, 2)  # laid out otherwise in memory
    assert fingerprints.image_digests(turned) == fingerprints.image_digests(image)
    assert fingerprints.image_digests(image[:0]).shape == (0,)


def test_the_fingerprint_of_all_is_of_images_labels_and_order() -> None:
    one, labelled, turned = split(1, 2, labels=[0, 1]), split(1, 2), split(2, 1, labels=[1, 0])
    of = [fingerprints.sha256(x.images, x.labels) for x in (one, labelled, turned)]
    assert len(set(of)) == 3
    assert fingerprints.sha256(one.images, one.labels.astype(np.int64)) == of[0]
    first, second, third = [
        fingerprints.sha256_of_all([(x.images, x.labels) for x in parts])
        for parts in ([one, labelled], [turned, labelled], [split(2, 1, labels=[0, 1]), labelled])
    ]
    assert first == second  # however they are ordered and cut
    assert first != third
    assert first == fingerprints.sha256_of_all(
        [(split(2, 1).images, np.array([1, 0])), (labelled.images, labelled.labels)]
    )


def test_what_no_client_holds_may_be_scored() -> None:
    train, test = split(1, 2, 3, 4), split(5, 6)
    found = known(train, test, [3, 0], [2])
    assert learnt.contains(found, train.images).tolist() == [True, False, True, True]
    assert learnt.may_be_scored(found, *train[:2]).tolist() == [False, True, False, False]
    assert learnt.may_be_scored(found, *test[:2]).all()


def test_of_an_image_that_is_learnt_and_tested_so_many_are_scored_as_are_tested() -> None:
    found = known(split(1, 1, 2), split(1, 5, labels=[1, 0]))
    images = split(1, 1, 1, 2, 5).images
    scored = learnt.may_be_scored(found, images, np.array([0, 1, 1, 0, 0]))
    assert scored.tolist() == [False, True, False, False, True]


def test_what_others_had_learnt_counts_too() -> None:
    first, second = known(split(1, 2), split(9)), known(split(2, 3), split(9))
    both = learnt.after(second, [first])
    assert learnt.contains(both, split(1, 2, 3, 4).images).tolist() == [True, True, True, False]
    assert both.complete
    assert both.train_sha256 == second.train_sha256
    assert not learnt.after(second, [first, None]).complete
    assert not learnt.after(second, [first._replace(complete=False)]).complete


def test_own_test_images_that_only_others_have_learnt_from_are_not_scored() -> None:
    # 3 and 4 are test images here; 4 is a training image here too, and 6 is in both parts there.
    first = known(split(1, 3, 4, 6), split(6))
    second = learnt.after(known(split(2, 4), split(3, 4, 5, 6)), [first])
    images = split(3, 4, 5, 6).images
    assert learnt.begun_with(second, images).tolist() == [True, False, False, False]
    assert learnt.may_be_scored(second, images, np.zeros(4)).tolist() == [False, True, True, True]
    third = learnt.after(known(split(7), split(3, 8)), [second])
    assert learnt.begun_with(third, split(3, 8).images).tolist() == [True, False]
    # Of published data of one name there is one test set.
    of_mnist = {**SETTINGS, "name": "mnist"}
    there = known(split(1, 3), split(9), settings=of_mnist)
    here = known(split(1), split(3), settings=of_mnist)
    assert not learnt.begun_with(learnt.after(here, [there]), split(3).images).any()


def test_test_images_that_another_run_has_learnt_from() -> None:
    there = known(split(1, 2, 3, 4), split(2, 8))
    # 1 is learnt from there; 2 is tested there too; 3 is a training image here too.
    here = data(split(3, 7), split(1, 2, 3, 9))
    assert learnt.tested_here(there, here) == 1
    assert learnt.tested_here(there, data(split(7), split(9))) == 0
    # The same published set has the same test set, in which some training images stand too.
    of_mnist = there._replace(settings={**SETTINGS, "name": "mnist"})
    assert learnt.tested_here(of_mnist, here._replace(name="mnist")) == 0
    assert learnt.tested_here(of_mnist, here) == 1


def test_the_runs_own_data_are_known_by_train_and_test() -> None:
    train, test = split(1, 2), split(3)
    found = known(train, test)
    assert learnt.is_of(found, data(train, test, name="another.npz"))
    assert not learnt.is_of(found, data(split(1, 4), test))
    assert not learnt.is_of(found, data(train, split(3, labels=[1])))


def test_comes_back(tmp_path: Path) -> None:
    found = known(split(1, 2), split(3), complete=False, begun_with=np.array([7], np.uint64))
    (tmp_path / learnt.FILE).write_bytes(learnt.to_bytes(found))
    again = learnt.read(tmp_path / learnt.FILE)
    assert again[3:-1] == found[3:-1]
    for name in ("images", "test_images", "test_labels", "begun_with"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros(2)}, "'images' is float64"),
        ({"test_labels": np.zeros((1, 1), np.int32)}, "'test_labels' is int32"),
        ({"test_labels": np.zeros(2, np.int32)}, "the numbers of test images and labels differ"),
        ({"settings": "{"}, "not a record of examples"),
        ({"settings": "{}"}, "the names in 'settings' are not those expected"),
        ({"settings": np.array([{}])}, "pickled"),
    ],
)
def test_a_record_of_something_else(tmp_path: Path, changes: Any, message: str) -> None:
    path = tmp_path / learnt.FILE
    path.write_bytes(learnt.to_bytes(known(split(1), split(3))))
    arrays = {**np.load(path), **changes}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        learnt.read(path)
    assert str(path) in str(caught.value)
