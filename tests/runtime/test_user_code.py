"""What users bring: found by module or file, and every way in which that fails."""

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fednas_jax.fields import extension
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


def of_width(width: int) -> Any:
    return lambda: width


def test_objects_of_one_name_do_not_replace_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "_given", {})
    one, two, third = of_width(1), of_width(2), functools.partial(max, 3)
    names = [user_code.give(value, "mine") for value in (one, two, third, two)]
    assert names == ["given:mine", "given:mine#2", "given:mine#3", "given:mine#2"]
    assert [user_code.load(name, "x").value for name in names] == [one, two, third, two]
    # A later definition of the same takes its place.
    again = of_width(2)
    assert user_code.give(again, "mine") == "given:mine#2"
    assert user_code.load("given:mine#2", "x").value is again
    assert user_code.give(third, "mine", forget=True) == "given:mine"
    # In another process the numbers may be others.
    assert user_code.comparable("given:a#2, b.py:f,given:c") == "given:a, b.py:f,given:c"


def test_a_module_whose_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "changes_on_disk.py"
    path.write_text("def thing(): return 1\n")
    found = user_code.load("changes_on_disk:thing", "config.reducer")
    assert user_code.load("changes_on_disk:thing", "config.reducer") == found
    given = user_code.give(of_module := functools.partial(found.value), "of_module")
    assert user_code.load(given, "config.reducer").value is of_module
    path.write_text("def thing(): return 2\n")
    says = f"{path} has changed since this process imported it; restart Python to use the file as"
    assert refusal("changes_on_disk:thing").startswith(f"config.algorithm: {says}")
    assert refusal(given).startswith(f"config.algorithm: {says}")


SCRIPT = """
with open("runs.txt", "a") as file:
    print("run", file=file)

class Net:
    pass
"""


def test_objects_of_the_script_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    script = ModuleType("__main__")
    script.__file__ = str(path)
    with monkeypatch.context() as running:
        running.setitem(sys.modules, "__main__", script)
        exec(SCRIPT, vars(script))
        assert user_code.reference(script.Net) == "script.py:Net"
        assert user_code.load("script.py:Net", "config.network.name").value is script.Net
        assert Path("runs.txt").read_text() == "run\n"
        assert user_code.comparable("__main__:Net") == "script.py:Net"  # of an earlier version
        path.write_text(SCRIPT + "# changed\n")
        assert f"{path} has changed since" in refusal("script.py:Net")
        path.write_text(SCRIPT)
        # `python -m package.script`
        running.setattr(script, "__spec__", sys.modules[__name__].__spec__)
        assert user_code.reference(script.Net) == f"{__name__}:Net"
        assert user_code.load(f"{__name__}:Net", "config.network.name").value is script.Net
        # A notebook, which has no file.
        running.setattr(script, "__spec__", None)
        running.delattr(script, "__file__")
        assert user_code.reference(script.Net) == "__main__:Net"
    elsewhere = user_code.load("script.py:Net", "config.network.name")
    assert elsewhere.value is not script.Net
    assert Path("runs.txt").read_text() == "run\n" * 2
    # Of a file that was loaded by its path.
    assert user_code.reference(elsewhere.value) == "script.py:Net"
    assert user_code.load("script.py:Net", "config.network.name").value is elsewhere.value
    path.write_text(SCRIPT + "# changed\n")
    assert user_code.reference(elsewhere.value) == ""


def test_a_file_imports_those_beside_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "lies_beside.py").write_text(f"NAME = {name!r}\n")
        (folder / "mine.py").write_text("from lies_beside import NAME\n")
    before = list(sys.path)
    for name in ("one", "two"):
        assert user_code.load(f"{tmp_path / name / 'mine.py'}:NAME", "x").value == name
        assert sys.path == before
    fails = tmp_path / "two/fails.py"
    fails.write_text("import lies_beside\n1 / 0\n")
    assert refusal(f"{fails}:NAME") == (
        f"{fails}:2: ZeroDivisionError: division by zero; mend the file"
    )
    assert sys.path == before
    # Also what is imported only when a function is called.
    late = tmp_path / "two/late.py"
    late.write_text("def make():\n    import beside_too\n    return beside_too.NUMBER\n")
    (tmp_path / "two/beside_too.py").write_text("NUMBER = 3\n")
    number = extension.Kind(int, "a function() that returns an int")
    assert extension.made(f"{late}:make", "config.reducer", number) == 3
    assert sys.path == before
