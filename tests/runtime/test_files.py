"""Files: whole or not at all, strict JSON, and errors that name the file."""

import errno
import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fednas_jax.runtime import files
from fednas_jax.runtime.errors import UserError


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for content in (b"long old content", b"new"):
        files.write_atomic(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"taken: cannot be written \(Is a directory\)"):
        files.write_atomic(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ü"}
    files.write_json(tmp_path / "file.json", value)
    assert files.read_json(tmp_path / "file.json") == value
    assert list(files.read_json(tmp_path / "file.json")) == ["b", "a"]


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2', b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"file\.json: not a JSON file \(.*\); remove it$"
    ) as caught:
        files.read_json(tmp_path / "file.json", "remove it")
    assert "\n" not in str(caught.value)


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read \(No such file"):
        files.read_json(tmp_path / "none.json")


def test_plain_is_what_strict_json_takes() -> None:
    value = {"a": math.nan, "b": (np.float32(np.inf), np.int64(3)), "c": np.array([1.0, np.nan])}
    value |= {"d": True, "e": "nan", "f": None}
    made = files.plain(value)
    assert made == {"a": None, "b": [None, 3], "c": [1.0, None], "d": True, "e": "nan", "f": None}
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(("number", "frees"), [(errno.ENOSPC, True), (errno.EACCES, False)])
def test_of_a_full_disk_it_is_said_what_to_free(tmp_path: Path, number: int, frees: bool) -> None:
    error = OSError(number, os.strerror(number))
    free_bytes = shutil.disk_usage(tmp_path).free
    told = files.reason(error, tmp_path / "x", free_bytes + 2 * 10**12)
    assert told.startswith(os.strerror(number))
    # Others write on this disk too: about two terabytes are lacking.
    lacking = re.search(r"; free at least (\d+)\.\d MB on the disk of (\S+), and", told)
    assert (lacking is not None) == frees
    if lacking:
        assert abs(int(lacking[1]) - 2_000_000) < 100_000
        assert lacking[2] == str(tmp_path)
    assert ("free some MB" in files.reason(error, tmp_path / "x")) == frees


def test_a_folder_that_cannot_be_written_is_refused_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.make_folder(tmp_path / "out", "--out") == tmp_path / "out"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"^--out: .*out cannot be written; another folder is"):
        files.make_folder(tmp_path / "out", "--out")
