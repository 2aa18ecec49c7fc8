"""A CSV file that lists images: as spreadsheets write it, or one line that says what is wrong."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import image_csv
from fednas_jax.runtime.errors import UserError, warn_once


@pytest.fixture(autouse=True)
def _each_line_anew():
    warn_once.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """img/0.png to img/3.png, of 8 x 8 pixels that are 0 to 3."""
    (tmp_path / "img").mkdir()
    for level in range(4):
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(tmp_path / f"img/{level}.png")
    return tmp_path


def read(folder, text, encoding="utf-8"):
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return image_csv.read(path)


def levels(images):
    return images[:, 0, 0, 0].tolist()


def test_rows_in_their_order_with_text_labels_and_clients(folder):
    found = read(folder, "path,label,client\nimg/2.png,cat,Oslo\nimg/0.png,ant,St. Anna\n")
    assert sorted(found) == ["client", "images", "labels"]
    assert levels(found["images"]) == [2, 0]
    assert found["labels"].tolist() == ["cat", "ant"]
    assert found["client"].tolist() == ["Oslo", "St. Anna"]


def test_whole_numbers_are_numbers(folder):
    found = read(folder, "path,label,client\nimg/2.png,1,7\nimg/0.png,0,-1\n")
    assert (found["labels"].tolist(), found["client"].tolist()) == ([1, 0], [7, -1])
    assert found["labels"].dtype.kind == "i"


PLAIN = "path,label,client\nimg/1.png,a,x\nimg/0.png,b,y\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PLAIN, "utf-8-sig"),  # a byte order mark
        (PLAIN.replace(",", ";"), "utf-8"),
        (PLAIN.replace(",", "\t"), "utf-8"),
        ("sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), "utf-8-sig"),
        (PLAIN.replace("\n", "\r\n"), "utf-8"),
        (PLAIN.replace("\n", "\r"), "utf-8"),
        (PLAIN.replace("\n", ",,\n"), "utf-8"),  # trailing empty columns
        (PLAIN + ",,\n\n,,\n", "utf-8"),  # trailing empty rows
        (PLAIN.replace("path", " PATH ").replace("label", "Label"), "utf-8"),
        (PLAIN.replace("img/1.png", '"img/1.png"'), "utf-8"),
        (PLAIN.replace("img/1.png", "img\\1.png"), "utf-8"),  # as on Windows
        (PLAIN.replace(",", ", "), "utf-8"),
        (PLAIN.rstrip("\n"), "utf-8"),
    ],
)
def test_the_same_table_however_it_is_written(folder, text, encoding, capsys):
    found = read(folder, text, encoding)
    assert levels(found["images"]) == [1, 0]
    assert found["labels"].tolist() == ["a", "b"]
    assert found["client"].tolist() == ["x", "y"]
    assert capsys.readouterr().err == ""


def test_a_quoted_cell_may_hold_the_separator_and_paths_may_be_absolute(folder):
    found = read(folder, f'path,label\n{folder}/img/1.png,"a, b"\nimg/0.png,"say ""c"""\n')
    assert found["labels"].tolist() == ["a, b", 'say "c"']


def test_a_path_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "img"))
    assert levels(read(folder, "path,label\n~/1.png,a\nimg/0.png,b\n")["images"]) == [1, 0]
    (folder / "~").mkdir()
    (folder / "img/3.png").rename(folder / "~/1.png")  # a folder of this name comes first
    assert levels(read(folder, "path,label\n~/1.png,a\nimg/0.png,b\n")["images"]) == [3, 0]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_written_in_another_form_than_on_disk(folder, forms):
    on_disk, in_file = (unicodedata.normalize(form, "café.png") for form in forms)
    assert on_disk != in_file
    (folder / "img/3.png").rename(folder / "img" / on_disk)
    assert levels(read(folder, f"path,label\nimg/{in_file},a\nimg/0.png,b\n")["images"]) == [3, 0]


def test_columns_that_are_not_read_are_named(folder, capsys):
    found = read(folder, "age,label,path,clients\n3,a,img/1.png,x\n4,b,img/0.png,y\n")
    assert "client" not in found
    assert "list.csv: columns that are not read: age, clients" in capsys.readouterr().err


def test_a_split_column_divides_the_rows(folder, capsys):
    rows = "path,label,split\nimg/0.png,0,train\nimg/1.png,1,Test\nimg/2.png,1,train\n"
    found = read(folder, rows + "img/3.png,0,val\n")
    assert (levels(found["images"]), found["labels"].tolist()) == ([0, 2], [0, 1])
    assert (levels(found["test_images"]), found["test_labels"].tolist()) == ([1], [1])
    assert "list.csv: 1 row of a validation split is left out" in capsys.readouterr().err
    assert image_csv.brings_test_set(folder / "list.csv")
    read(folder, rows.replace("Test", "train"))
    assert not image_csv.brings_test_set(folder / "list.csv")


def test_labels_are_text_in_both_splits_if_one_of_them_is(folder):
    found = read(folder, "path,label,split\nimg/0.png,0,train\nimg/1.png,b,test\n")
    assert found["labels"].tolist() == ["0"]


HEAD = "path,label\n"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", r"has no column 'path' \(its columns: none\); columns path and label, and optionally"),
        ("file,label\n", r"has no column 'path' \(its columns: 'file', 'label'\)"),
        ("path,Klasse\n", r"has no column 'label' \(its columns: 'path', 'Klasse'\)"),
        ("path,label,Label\n", "has several columns 'label'; one is needed"),
        (HEAD, "has no rows; a row for each image is needed"),
        (HEAD + "img/0.png,a\nimg/9.png,b\nx,b\n", r"line 3 names .*img/9\.png, which does not e"),
        (
            HEAD + "img/0.png,a\nimg/9.png,b\nx,b\n",
            r", and 1 more of 3 lines; paths of images, relative to",
        ),
        (HEAD + "img/0.png,\n", "line 2 has no label; one is needed"),
        (HEAD + "img/0.png\n", "line 2 has no label; one is needed"),
        (HEAD + "\nimg/0.png,a,b\n", "line 3 has 3 cells for 2 columns; one for each is needed"),
        ("sep=,\n" + HEAD + "img/0.png,\n", "line 3 has no label"),
        ("path,label,split\nimg/0.png,a,dev\n", "column 'split' has no train; rows to train on"),
        ("path,label,split\nimg/0.png,a,both\n", "line 2 has split 'both'; train or test is"),
        ("path,label,split\nimg/0.png,a,\n", "line 2 has no split; one is needed"),
        (
            HEAD + 'img/0.png,"a\nimg/1.png,b\n',
            "row that begins in line 2 has a quote that is not c",
        ),
        (
            HEAD + 'img/0.png,a\n\n"img/1.png,b\nx',
            "row that begins in line 4 has a quote that is n",
        ),
        ('path,"label\n', "row that begins in line 1 has a quote that is not closed; a closing"),
        ("sep=,\n" + HEAD + '"img/0.png,a', "row that begins in line 3 has a quote"),
        (HEAD + '"img/0.png\n\n",\nimg/1.png,a', "line 2 has no label; one is needed"),
        (HEAD + "img,a\n", "line 2 names .*img, which is a folder; paths of images"),
    ],
)
def test_another_table_is_refused_in_one_line(folder, text, part):
    with pytest.raises(UserError, match=part) as error:
        read(folder, text)
    assert str(error.value).startswith(f"{folder / 'list.csv'}: ")
    assert "\n" not in str(error.value)


def test_a_line_is_counted_as_an_editor_counts(folder):
    with pytest.raises(UserError, match=r"line 4 names"):
        read(folder, 'path,label\nimg/0.png,"a\nb"\nimg/9.png,c\n')


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("path,label\nimg/0.png,Zürich\n".encode("cp1252"), "is not UTF-8; a table saved as UTF-8"),
        ("path,label\n".encode("utf-16"), "is not UTF-8"),
        (
            b"path,label\nx,a\n" + b"x" * 200_000 + b",a\n",
            r"is no CSV \(field larger than .*, in the row that begins in line 3\); closed quotes",
        ),
    ],
)
def test_another_encoding_or_file_is_refused(folder, content, part):
    (folder / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=part):
        image_csv.read(folder / "list.csv")


def test_an_image_that_cannot_be_decoded_is_named_with_its_line(folder):
    (folder / "img/1.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"list\.csv: line 3: .*img/1\.png: cannot be read \(it is"):
        read(folder, "path,label\nimg/0.png,a\nimg/1.png,b\n")
