"""What users bring: found by module or file, and every way in which that fails."""

from pathlib import Path

import pytest

from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError


def refusal(reference: str) -> str:
    with pytest.raises(UserError) as raised:
        user_code.load(reference, "config.algorithm")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_is_run_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("THING = object()\n")
    first = user_code.load(f"{path}:THING", "config.algorithm")
    assert user_code.load(f"{path}:THING", "config.algorithm") == first
    path.write_text("THING = object()  # another\n")
    second = user_code.load(f"{path}:THING", "config.algorithm")
    assert second.value is not first.value
    assert second.source.sha256 != first.source.sha256
    assert first.source.path == second.source.path == str(path)


def test_a_module_is_imported() -> None:
    found = user_code.load("fednas_jax.fields.field:Field", "config.algorithm")
    assert found.value.__name__ == "Field"
    assert Path(found.source.path).name == "field.py"


def test_what_cannot_be_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    assert refusal(f"{path}:X") == f"{path}: cannot be read (No such file or directory)"
    path.write_text("NAME = 1\n")
    assert (
        refusal(f"{path}:NAEM") == f"config.algorithm: {path} has no 'NAEM'; did you mean 'NAME'?"
    )
    assert refusal("no_such.module:X").startswith("config.algorithm: there is no module 'no_such.")
    assert refusal(":X").startswith("config.algorithm: there is no module ''; package.module:Name")


def test_what_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text("a = 1\nb = a / 0\n")
    assert refusal(f"{path}:a") == f"{path}:2: ZeroDivisionError: division by zero; mend the file"
    path.write_text("a = (\n")
    assert refusal(f"{path}:a").startswith(f"{path}:1: SyntaxError: ")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fails_when_imported.py").write_text("\nimport no_such_module\n")
    assert refusal("fails_when_imported:X") == (
        f"{tmp_path / 'fails_when_imported.py'}:2: ModuleNotFoundError: No module named "
        "'no_such_module'; mend the file"
    )


def test_a_package_that_fails_on_the_way_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("fails_one", "\n1 / 0\n"), ("fails_two", "import no_such_module\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    assert refusal("fails_one.inner:X") == (
        f"{tmp_path / 'fails_one' / '__init__.py'}:2: ZeroDivisionError: division by zero; mend "
        "the file"
    )
    assert refusal("fails_two.inner:X").startswith(
        f"{tmp_path / 'fails_two' / '__init__.py'}:1: ModuleNotFoundError: No module named 'no_suc"
    )
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text("")
    assert refusal("whole.inner:X").startswith("config.algorithm: there is no module 'whole.inner'")
    assert refusal("\0:X").startswith("config.algorithm: there is no module")
