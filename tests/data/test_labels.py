"""Labels and clients as users have them: as text, with gaps, in one column, one-hot."""

from typing import Any

import numpy as np
import pytest

from fednas_jax.data import labels
from fednas_jax.data.labels import Classes
from fednas_jax.runtime.errors import UserError

PETS = ("ant", "bee", "cow")


def column(values: Any, **options: Any) -> list[Any]:
    values = np.asarray(values)
    return labels.column(values, "x.npz: 'labels'", len(values), **options).tolist()


@pytest.mark.parametrize(
    "values",
    [
        [2, 0, 1],
        [[2], [0], [1]],
        [2.0, 0.0, 1.0],
        np.array([[2], [0], [1]], np.uint8),
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[False, False, True], [True, False, False], [False, True, False]],
    ],
)
def test_every_usual_form_of_numbers(values: Any) -> None:
    assert column(values, one_hot=True) == [2, 0, 1]


def test_bools_and_text() -> None:
    assert column([True, False, True]) == [1, 0, 1]
    for values in (
        np.array(["b", "ä"]),
        np.array([["b"], ["ä"]]),
        np.array([b"b", "ä".encode()]),
        np.array(["b", "ä"], dtype=object),
    ):
        assert column(values) == ["b", "ä"]


@pytest.mark.parametrize(
    ("values", "one_hot", "says"),
    [
        ([[1, 0], [1, 1]], True, "shape (2, 2), but row 1 is not one-hot; a single 1 among zeros"),
        ([[1, 0], [0, 2]], True, "but row 1 is not one-hot"),
        ([[0, 0], [0, 1]], True, "but row 0 is not one-hot"),
        ([[0.5, 0.5], [0, 1]], True, "but row 0 is not one-hot"),
        ([[1, 0], [0, 1]], False, "is int64 of shape (2, 2); integers or text of shape [N] or [N"),
        ([["a", "b"], ["c", "d"]], True, "is <U1 of shape (2, 2); integers or text of shape [N], "),
        ([0.0, 0.5], True, "has 0.5 in example 1; whole numbers or text are needed"),
        ([np.nan, 0.5], True, "has nan in example 0; whole numbers"),
        ([1j, 2j], True, "is complex128 of shape (2,)"),
        (["a", ""], True, "is empty for example 1; text is needed"),
        ([b"a", b"\xff"], True, "has bytes that are not text in UTF-8"),
        ([0, 2**40], True, "has 0..1099511627776; integers of 32 bits are needed"),
        ([0.0, 1e300], True, "integers of 32 bits are needed"),
    ],
)
def test_other_forms_are_refused(values: Any, one_hot: bool, says: str) -> None:
    with pytest.raises(UserError) as raised:
        column(values, one_hot=one_hot)
    assert str(raised.value).startswith("x.npz: 'labels' ")
    assert says in str(raised.value)


def first(
    values: Any, names: tuple[str, ...] | None = None, width: int = 0
) -> tuple[list[int], Classes, list[str]]:
    numbers, classes, lines = labels.first(np.asarray(values), names, "x.npz: 'labels'", width)
    assert numbers.dtype == np.int32
    return numbers.tolist(), classes, lines


def test_numbers_without_a_gap_stay_as_they_are() -> None:
    assert first([2, 0, 1]) == ([2, 0, 1], Classes(("0", "1", "2"), False, (), True), [])
    assert first([2, 0, 1], PETS) == ([2, 0, 1], Classes(PETS, True, (), True), [])


def test_numbers_with_a_gap_are_numbered_anew() -> None:
    numbers, classes, lines = first([5, 1, 2, 5])
    assert (numbers, classes) == ([2, 0, 1, 2], Classes(("1", "2", "5"), False, (1, 2, 5), True))
    said = "x.npz: 'labels': 1, 2, 5 are numbered 0, 1, 2; class names are '1', '2', '5'"
    assert lines == [said]
    # As many names as there are labels are the names of these.
    numbers, classes, lines = first([5, 1, 2, 5], PETS)
    assert (numbers, classes) == ([2, 0, 1, 2], Classes(PETS, True, (1, 2, 5), True))
    assert lines == [said.replace("'1', '2', '5'", "'ant', 'bee', 'cow'")]
    # More names are those of 0, 1, ..., of which some have no example.
    numbers, classes, lines = first([5, 1, 2, 5], tuple("abcdef"))
    assert (numbers, classes) == ([5, 1, 2, 5], Classes(tuple("abcdef"), True, (), True))
    assert lines == ["x.npz: 'labels': no training example is of 3 of 6 classes ('a', 'd', 'e')"]


def test_text_is_numbered_in_sorted_order_or_by_the_names() -> None:
    text = ["cow", "ant", "bee"]
    assert first(text) == ([2, 0, 1], Classes(PETS, True), [])
    assert first(text, ("bee", "ant", "cow"))[0] == [2, 1, 0]
    numbers, classes, lines = first(text[:2], PETS)
    assert (numbers, classes.names) == ([2, 0], PETS)
    assert lines == ["x.npz: 'labels': no training example is of 1 of 3 classes ('bee')"]


def test_text_that_is_numbers_counts_as_numbers() -> None:
    """As a spreadsheet has them: 10 comes after 9."""
    found = Classes(("2", "9", "10"), False, (2, 9, 10), True)
    assert first(["10", "9", "2"])[:2] == ([2, 1, 0], found)
    assert first(["0", "1", "2"]) == first([0, 1, 2])
    assert first(["0", "1", "2"], PETS) == first([0, 1, 2], PETS)
    assert first(["0", "1"], ("1", "0"))[0] == [1, 0]  # but names are names
    assert first(["01", "1"])[1].names == ("01", "1")


@pytest.mark.parametrize(
    ("values", "names", "says"),
    [
        ([3, 3], None, "has one class only (3); at least 2"),
        (["a", "a"], None, "has one class only ('a'); at least 2"),
        ([-1, 1], None, "has -1; 0 or above, or text, is needed"),
        (
            ["ant", "dog"],
            PETS,
            ": label 'dog' is not among 'class_names' (ant, bee, cow); the same",
        ),
        (["ant", "bee"], ("ant", "bee", "bee"), ": label 'bee' is more than once among 'class_na"),
        (
            [1, 2, 5],
            tuple("abcd"),
            " has 3 classes, but 'class_names' has length 4; 3 names (for 1, 2, 5 in order) or 6 "
            "names (for 0 to 5) are needed",
        ),
        (
            [0, 1, 2],
            ("a",),
            "'class_names' has length 1; 3 names (for 0, 1, 2 in order) are needed",
        ),
    ],
)
def test_labels_of_no_classes(values: Any, names: Any, says: str) -> None:
    with pytest.raises(UserError) as raised:
        first(values, names)
    assert str(raised.value).startswith("x.npz: 'labels'")
    assert says in str(raised.value)


GAPS = Classes(("1", "2", "5"), False, (1, 2, 5))
NAMED_GAPS = Classes(PETS, True, (1, 2, 5))


@pytest.mark.parametrize(
    ("values", "names", "known", "wanted"),
    [
        # The labels of another file mean what they mean in the training data's.
        ([5, 1], None, GAPS, [2, 0]),
        ([5, 1], None, NAMED_GAPS, [2, 0]),
        (["5", "1"], None, GAPS, [2, 0]),
        ([1, 2], PETS, NAMED_GAPS, [0, 1]),  # not 1, 2 of 0, 1, 2
        ([1, 2], ("cow", "ant"), NAMED_GAPS, [2, 0]),
        ([0, 1], ("cow", "ant", "bee"), NAMED_GAPS, [2, 0]),
        ([1, 2, 3], ("cow", "ant", "bee"), Classes(PETS, True), [2, 0, 1]),
        ([1, 2], PETS, Classes(PETS, True), [1, 2]),
        (["cow", "ant"], None, NAMED_GAPS, [2, 0]),
        (["cow", "ant"], None, Classes(PETS, True), [2, 0]),
        (["cow", "ant"], ("zoo", "cow", "ant"), Classes(PETS, True), [2, 0]),
        ([0, 2], ("cow", "zoo", "ant"), Classes(PETS, True), [2, 0]),
        ([2, 0], None, Classes(("0", "1", "2"), False), [2, 0]),
        (["2", "0"], None, Classes(("0", "1", "2"), False), [2, 0]),
        (["2", "0"], ("cow", "bee", "ant"), Classes(PETS, True), [0, 2]),
    ],
)
def test_labels_of_another_file(
    values: Any, names: Any, known: Classes, wanted: list[int], capsys: pytest.CaptureFixture
) -> None:
    found = labels.as_of(np.asarray(values), names, known, "y.npz", "this model's classes")
    assert (found.dtype, found.tolist()) == (np.int32, wanted)
    assert capsys.readouterr().err == ""


def test_numbers_for_named_classes_are_taken_as_numbers_and_a_line_says_so(
    capsys: pytest.CaptureFixture,
) -> None:
    found = labels.as_of(np.array([2, 0]), None, Classes(PETS, True), "y.npz", "this model's cl")
    assert found.tolist() == [2, 0]
    line = "y.npz has no class_names; its labels are taken as numbers of this model's cl (ant, bee"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "names", "known", "says"),
    [
        ([0, 1], None, GAPS, "y.npz: label 0; one of 1, 2, 5, the labels of this model's classes"),
        (
            [3],
            None,
            Classes(PETS, True),
            "y.npz: label 3; 0 to 2, this model's classes, are needed",
        ),
        ([-1], None, Classes(PETS, True), "y.npz: 'labels' has -1; 0 or above"),
        (
            ["dog"],
            None,
            Classes(PETS, True),
            "y.npz: label 'dog' is not among this model's classes",
        ),
        (["dog"], PETS, Classes(PETS, True), "y.npz: label 'dog' is not among 'class_names' (ant"),
        (
            [1, 7],
            ("a", "b", "c"),
            GAPS,
            "y.npz: 'labels' has 2 classes, but 'class_names' has length 3; 2 names (for 1, 7 in",
        ),
        # The same names have the training data's numbers, even if all labels would fit others.
        ([0, 1, 2], PETS, NAMED_GAPS, "y.npz: label 0; one of 1, 2, 5, the labels of this model's"),
        ([1, 2, 3], PETS, Classes(PETS, True), "y.npz: label 3; 0 to 2, this model's classes, are"),
        # 1 and 2 of three names in another order: "ant" and "bee", or "cow" and "ant"?
        (
            [1, 2],
            ("cow", "ant", "bee"),
            NAMED_GAPS,
            "y.npz: 'labels': label 1 may be 'ant', counted from 0, or 'cow', counted from 1; "
            "names in place of numbers are needed, or the labels and class_names of the training "
            "data",
        ),
        (
            [1, 2],
            ("zoo", "cow", "ant"),
            Classes(PETS, True),
            "y.npz: 'labels': label 1 may be 'cow'",
        ),
    ],
)
def test_labels_of_another_file_that_are_of_no_class(
    values: Any, names: Any, known: Classes, says: str
) -> None:
    with pytest.raises(UserError) as raised:
        labels.as_of(np.asarray(values), names, known, "y.npz", "this model's classes")
    assert str(raised.value).startswith(says)


def test_one_hot_labels_have_as_many_classes_as_columns(capsys: pytest.CaptureFixture) -> None:
    assert labels.width(np.eye(3)) == 3
    for other in (np.arange(3), np.arange(3)[:, None], np.array([["a", "b"]])):
        assert labels.width(other) == 0
    numbers, classes, lines = first([0, 2], width=3)
    assert (numbers, classes) == ([0, 2], Classes(("0", "1", "2"), False))
    assert lines == ["x.npz: 'labels': no training example is of 1 of 3 classes ('1')"]
    assert first([1, 2], PETS, width=3)[:2] == ([1, 2], Classes(PETS, True))
    for names in (PETS[:2], (*PETS, "dog")):
        with pytest.raises(UserError, match=r"has 3 classes \(one-hot\); ., one for each of its"):
            first([0, 1], names, width=3)

    def of_other(values: list[int], names: Any, known: Classes, width: int) -> list[int]:
        return labels.as_of(np.array(values), names, known, "y", "them", width).tolist()

    # A column is a class, whatever its label is in the training data.
    assert of_other([1, 2], PETS, NAMED_GAPS, 3) == [1, 2]
    assert of_other([1, 2], ("cow", "ant", "bee"), NAMED_GAPS, 3) == [0, 1]
    assert not capsys.readouterr().err
    assert of_other([1, 2], None, NAMED_GAPS, 3) == [1, 2]
    assert (
        "y has no class_names; its labels are taken as numbers of them" in capsys.readouterr().err
    )
    with pytest.raises(
        UserError, match=r"^y: 'labels' has 4 classes \(one-hot\); 3, them, are need"
    ):
        of_other([1, 2], None, NAMED_GAPS, 4)
    with pytest.raises(UserError, match=r"has 4 classes \(one-hot\); 2, one for each of its"):
        of_other([0, 1], ("cow", "ant"), NAMED_GAPS, 4)
    known, train, test = first([0, 2], width=3)[1], np.array([0, 2]), np.array([1])
    assert labels.in_same(test, train, known, "x", "them", 3).tolist() == [1]
    with pytest.raises(UserError, match=r"^x has 5 classes \(one-hot\); 3, them, are needed"):
        labels.in_same(test, train, known, "x", "them", 5)


def test_test_labels_in_the_same_file() -> None:
    def found(test: Any, train: Any, names: tuple[str, ...] | None = None) -> list[int]:
        train = np.asarray(train)
        known = labels.first(train, names, "x")[1]
        return labels.in_same(np.asarray(test), train, known, "x: 'test_labels'", "them").tolist()

    assert found([5, 1], [1, 2, 5]) == [2, 0]
    assert found(["cow", "ant"], ["ant", "bee", "cow"]) == [2, 0]
    assert found(["cow", "ant"], [0, 1, 2], PETS) == [2, 0]
    assert found(["2", "0"], [0, 1, 2], PETS) == [2, 0]
    for test, train, says in (
        ([0], [1, 2, 5], "label 0; one of 1, 2, 5, the labels of them"),
        ([3], [0, 1, 2], "label 3; 0 to 2, them, are needed"),
        (["dog"], ["ant", "bee"], "label 'dog' is not among them"),
        ([0], ["ant", "bee"], "has numbers, but the training labels are text; text is needed"),
    ):
        with pytest.raises(UserError, match=f"^x: 'test_labels':? {says}"):
            found(test, train)


def test_clients_of_text_are_numbered_together() -> None:
    north = np.array(["North", "East", "North"])
    (train, test), names = labels.clients(north, np.array(["West", "East"]))
    assert names == ("East", "North", "West")
    assert train is not None
    assert test is not None
    assert (train.dtype, train.tolist(), test.tolist()) == (np.int32, [1, 0, 1], [2, 0])
    (train, test), names = labels.clients(north, None)
    assert (test, names) == (None, ("East", "North"))
    # Numbers are the clients' own, also as text; beside text they are text.
    for ids in (np.array([7, 12]), np.array(["7", "12"])):
        (train,), names = labels.clients(ids)
        assert train is not None
        assert (train.tolist(), names) == ([7, 12], ())
    assert labels.clients(np.array([7]), np.array(["North"]))[1] == ("7", "North")
    assert labels.clients(None, None) == ([None, None], ())
