"""Paths as users write them: in full, or refused in one line that names the field."""

import errno
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import fednas_jax
from fednas_jax import config, doctor, experiment
from fednas_jax.data import published
from fednas_jax.main import _parse
from fednas_jax.runtime import cache, paths
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import expand

DIGITS = f"--config={Path(paths.__file__).resolve().parents[2] / 'configs' / 'digits_quick.py'}"


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
        ("~nobody-here/x", "~nobody-here/x: no such user; an absolute path is needed"),
        ("x" * 300, "xxx: File name too long; an accessible path is needed"),
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


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_folder(
    without_home: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^--workdir: ~/runs/x: there is no home folder, since"):
        expand("~/runs/x", "--workdir")
    with pytest.raises(UserError, match=r"^--workdir: ~nobody-here/x: no such user"):
        expand("~nobody-here/x", "--workdir")
    assert paths.cache_home() is None
    assert published.cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_home() == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_home() == tmp_path / ".cache"


def test_packages_that_ask_for_a_home_folder_are_given_one(without_home: None) -> None:
    with paths.home():
        assert Path.home().is_dir()
    with pytest.raises(RuntimeError):
        Path.home()


def test_a_home_folder_that_is_there_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with paths.home():
        assert Path.home() == tmp_path
    assert Path.home() == tmp_path


def test_compiled_programs_are_not_kept_without_a_home_folder(
    without_home: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with cache.configured("auto"):
            assert cache.seconds_file() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no home folder" in line


def test_data_sets_are_decoded_without_a_home_folder(
    without_home: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")
    monkeypatch.setattr(published, "_decode", lambda name, folder: (name, folder))
    assert published.read("mnist", tmp_path) == ("mnist", tmp_path / "mnist" / "3.0.1")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"^TFDS_DATA_DIR or config\.dataset\.data_dir: ~/tensor"):
        published.read("mnist")


def test_the_doctor_goes_on_without_a_home_folder(
    without_home: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    *_, last = doctor.data()
    assert last.mark == doctor.ABSENT
    assert "no home folder" in last.text


def test_pages_are_imported_without_a_home_folder() -> None:
    code = (
        "import os, pwd\n"
        "def unknown(number):\n    raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        "os.environ.pop('HOME', None)\n"
        "import fednas_jax.report.comparison\n"
        "assert 'HOME' not in os.environ"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_workdir_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert paths.check_utf8(tmp_path / "名", "--workdir") == tmp_path / "名"
    latin = Path(os.fsdecode(b"/tmp/f\xf8dernas"))
    with pytest.raises(UserError, match=r"^--workdir: b'/tmp/f.xf8dernas' is not valid text"):
        paths.check_utf8(latin, "--workdir")
    with pytest.raises(UserError, match=r"^restore: .* is not valid text in this locale"):
        fednas_jax.restore(latin)
    with pytest.raises(UserError, match=r"^--workdir: .* is not valid text in this locale"):
        experiment.run(config.default(), latin)
