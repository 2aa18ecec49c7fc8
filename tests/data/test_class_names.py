"""Labels matched by the names of their classes."""

from pathlib import Path

import numpy as np
import pytest

from fednas_jax.data import class_names, datasets, own
from fednas_jax.runtime.errors import UserError

MODEL = ("ant", "bee", "cow")


def matched(labels: list[int], names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    found = class_names.matched(np.array(labels), names, wanted, "x.npz", "this model's classes")
    return found.tolist()


def test_by_name_in_any_order_and_number() -> None:
    assert matched([0, 1, 2, 0], ("cow", "bee", "ant"), MODEL) == [2, 1, 0, 2]
    assert matched([1, 0], ("bee", "cow"), MODEL) == [2, 1]
    assert matched([1, 1], ("dog", "bee"), MODEL) == [1, 1]  # of dog there is no example
    assert matched([0, 1], ("x", "x"), ("x", "x")) == [0, 1]  # as they stand


@pytest.mark.parametrize(
    ("labels", "names", "wanted", "message"),
    [
        ([0, 1], ("ant", "dog"), MODEL, r"^x\.npz: class 1 is 'dog', none of this model's classes"),
        ([0], ("ant",), ("0", "1"), r"class 0 is 'ant', none of this model's classes \(0, 1\)"),
        ([0], ("x",), ("y", "x", "x"), "class 0 is 'x', one of several of"),
        ([2], ("ant", "bee"), MODEL, r"^x\.npz: label 2; 0 to 1, its classes, are needed"),
    ],
)
def test_no_such_class(
    labels: list[int], names: tuple[str, ...], wanted: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        matched(labels, names, wanted)


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        (MODEL, MODEL, ""),
        (MODEL, ("ant", "cow", "bee"), "cow"),
        (MODEL, ("bee", "dog"), "bee"),
        (MODEL, ("ant", "dog", "eel"), ""),
        (MODEL, ("dog", "eel", "fox"), ""),
        (("x", "x"), ("x", "x"), ""),
    ],
)
def test_which_class_has_moved(there: tuple[str, ...], here: tuple[str, ...], found: str) -> None:
    assert class_names.moved(there, here) == found


def save(path: Path, labels: list[int], *names: str) -> str:
    images = (
        np.random.RandomState(list(path.name.encode()))
        .randint(0, 256, (len(labels), 8, 8))
        .astype(np.uint8)
    )
    about = {"class_names": np.array(names)} if names else {}
    np.savez(path, images=images, labels=np.array(labels), **about)
    return str(path)


def test_a_test_file_is_matched_to_the_training_data(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train = save(tmp_path / "train.npz", [0, 1, 2], *MODEL)
    test = save(tmp_path / "test.npz", [0, 1, 1], "cow", "ant", "bee")
    found = datasets.load(train, test_path=test)
    assert found.test.labels.tolist() == [2, 0, 0]
    assert found.class_names == MODEL
    assert found.named
    assert not capsys.readouterr().err
    # Without names numbers count, and a line says so.
    test = save(tmp_path / "none.npz", [0, 1, 1])
    assert datasets.load(train, test_path=test).test.labels.tolist() == [0, 1, 1]
    assert (
        "none.npz has no class_names; its labels are taken as numbers of the training data's"
        in (capsys.readouterr().err)
    )
    nameless = save(tmp_path / "nameless.npz", [0, 1, 2])
    found = datasets.load(nameless, test_path=test)
    assert (found.class_names, found.named) == (("0", "1", "2"), False)
    assert not capsys.readouterr().err
    named = save(tmp_path / "named.npz", [0, 1], "ant", "dog")
    for data in (train, nameless):
        message = r"test_path: .*named\.npz: class . is .*, none of the training data's classes"
        with pytest.raises(UserError, match=message):
            datasets.load(data, test_path=named)


def test_a_file_of_a_part_of_the_classes_may_name_all(tmp_path: Path) -> None:
    found = own.read_examples(save(tmp_path / "a.npz", [1, 1], *MODEL), "--npz")
    assert (found.labels.tolist(), found.class_names) == ([1, 1], MODEL)
    assert own.read_examples(save(tmp_path / "b.npz", [1]), "--npz").class_names is None
    train = save(tmp_path / "train.npz", [0, 1, 2], *MODEL)
    test = save(tmp_path / "c.npz", [1, 2], "ant")
    with pytest.raises(UserError, match="has 2 classes, but 'class_names' has length 1; 2 "):
        datasets.load(train, test_path=test)


def test_a_test_file_of_labels_with_gaps_is_matched_as_the_training_data(tmp_path: Path) -> None:
    gaps = save(tmp_path / "gaps.npz", [1, 2, 5])
    assert datasets.load(gaps, test_path=save(tmp_path / "t.npz", [5, 1])).test.labels.tolist() == [
        *(2, 0)
    ]
    named = save(tmp_path / "named.npz", [1, 2, 5], *MODEL)
    for test in (
        save(tmp_path / "u.npz", [5, 1]),
        save(tmp_path / "v.npz", [5, 1], *MODEL),
        save(tmp_path / "w.npz", [1, 5], "cow", "ant"),
    ):
        assert datasets.load(named, test_path=test).test.labels.tolist() == [2, 0]
    for labels, right in (([1, 2], "[0, 1]"), ([0, 1, 2], "label 0; one of 1, 2, 5")):
        test = save(tmp_path / "some.npz", labels, *MODEL)
        try:
            said = str(datasets.load(named, test_path=test).test.labels.tolist())
        except UserError as error:
            said = str(error)
        assert right in said
    with pytest.raises(UserError, match="label 0; one of 1, 2, 5, the labels of the training data"):
        datasets.load(gaps, test_path=save(tmp_path / "x.npz", [0, 1]))
