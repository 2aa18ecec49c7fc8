"""Text is cleaned alike in labels, clients and class names of every source."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import datasets, text
from fednas_jax.runtime.errors import UserError

APART = unicodedata.normalize("NFD", "é")
IMAGES = np.random.RandomState(0).randint(0, 256, (8, 8, 8)).astype(np.uint8)


def test_text_is_cleaned() -> None:
    assert APART != "é"
    assert text.cleaned([" Anna ", APART, "a b"]) == ("Anna", "é", "a b")
    for values in (
        np.array([[" Anna"], [APART]]),
        np.array([[" Anna"], [APART]], object),
        np.array([[b" Anna"], [APART.encode()]]),
    ):
        assert text.of(values, "x").tolist() == [["Anna"], ["é"]]
    assert text.of(np.array([], str), "x").shape == (0,)
    assert text.of(np.arange(3), "x").tolist() == [0, 1, 2]


def test_class_names_are_all_different_and_none_is_empty() -> None:
    assert text.class_names([" b", "a"], "x") == ("b", "a")
    for names, says in (
        (["a", " "], "^x is empty for class 1; a name is needed"),
        (["b", "a", "b "], "^x has 'b' for class 0 and class 2; another name for one of them"),
    ):
        with pytest.raises(UserError, match=says):
            text.class_names(names, "x")


def npz(folder: Path, labels: list[str], clients: list[str]) -> str:
    np.savez(folder / "x.npz", images=IMAGES, labels=np.array(labels), client=np.array(clients))
    return str(folder / "x.npz")


def table(folder: Path, labels: list[str], clients: list[str]) -> str:
    rows = ["path,label,client"]
    for i, (label, client) in enumerate(zip(labels, clients, strict=True)):
        Image.fromarray(IMAGES[i]).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{label},{client}")
    (folder / "x.csv").write_text("\n".join(rows), encoding="utf-8")
    return str(folder / "x.csv")


def folders(folder: Path, labels: list[str], clients: list[str]) -> str:
    for i, (label, client) in enumerate(zip(labels, clients, strict=True)):
        place = folder / "photos" / client / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(place / f"{i}.png")
    return str(folder / "photos")


@pytest.mark.parametrize("save", [npz, table, folders])
def test_every_source_has_the_same_names(save: Any, tmp_path: Path) -> None:
    data = datasets.load(save(tmp_path, ["cat", "cat ", "é", APART] * 2, ["Anna", "Anna "] * 4))
    assert data.class_names == ("cat", "é")
    assert data.client_names == ("Anna",)
