"""Paths as users write them: in full, or refused in one line that names the field."""

import errno
from pathlib import Path
from typing import Any

import pytest

from fednas_jax import paths
from fednas_jax.errors import UserError
from fednas_jax.main import _parse
from fednas_jax.paths import expand

DIGITS = f"--config={Path(paths.__file__).resolve().parents[1] / 'configs' / 'digits_quick.py'}"


def test_the_home_folder_is_put_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/runs/x", "--workdir") == tmp_path / "runs" / "x"
    assert expand("~", "--workdir") == tmp_path


def test_a_path_need_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "none", "none/below", "file/below"):
        assert expand(tmp_path / path, "field") == tmp_path / path
    assert expand("runs/x", "--workdir") == Path("runs/x")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("~nobody-here/x", "~nobody-here/x: no such user; a path in full is needed"),
        ("x" * 300, "xxx: File name too long; a path within reach is needed"),
        ("a\0b", "'a\\x00b' is not a path (embedded null byte)"),
        ("a\n" + "x" * 300, "field: a xxx"),
    ],
)
def test_what_cannot_be_looked_at(path: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        expand(path, "field")
    message = str(error.value)
    assert message.startswith("field: ")
    assert says in message
    assert "\n" not in message


def test_what_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(paths.os, "stat", refuse)
    with pytest.raises(UserError, match=r"^--workdir: /closed/x: Permission denied; "):
        expand("/closed/x", "--workdir")


def test_a_workdir_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _parse([DIGITS, "--workdir=~/runs/x"])[1] == tmp_path / "runs" / "x"
    with pytest.raises(UserError, match=r"^--workdir: ~nobody-here/x: no such user"):
        _parse([DIGITS, "--workdir=~nobody-here/x"])
