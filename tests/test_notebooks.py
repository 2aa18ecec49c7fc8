"""The notebooks run from their first cell to their last, and keep the outputs of such a run."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax.runtime import gpu

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 300
"""That one cell of a notebook may take."""


def read(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat", reason="the group dev installs it")
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[str]:
    """What a cell shows: the types of its outputs, without what goes to stderr."""
    shown = [output for output in cell.outputs if output.get("name") != "stderr"]
    return [
        kind
        for output in shown
        for kind in (sorted(output.get("data", {})) or [output.output_type])
    ]


POINTS = 10.0
"""By which a percentage may differ: another processor rounds otherwise, and a training follows."""

PERCENTAGE = re.compile(r"\d+\.\d%")
VARIES = re.compile(
    r"\d+(?= s$)|\d+$|(?<=round )\d+"  # seconds; the best round
    r"|(?<='(?:normal|reduce)': )\d+|\['\w+', \d\]"  # of the genotype that is found
    r"|(?<=<Figure size )[\d.x]+",  # as the genotype's cells need
    re.MULTILINE,
)


def told(cell: Any) -> str:
    """What a cell says in words and numbers, without what goes to stderr."""
    shown = [output for output in cell.outputs if output.get("name") != "stderr"]
    return "\n".join(o["text"] if "text" in o else o["data"]["text/plain"] for o in shown)


def assert_tells_the_same(now: str, kept: str) -> None:
    """All words and numbers but those of time and chance; percentages nearly."""
    found, wanted = ([float(p[:-1]) for p in PERCENTAGE.findall(text)] for text in (now, kept))
    assert len(found) == len(wanted)
    assert all(abs(a - b) <= POINTS for a, b in zip(found, wanted, strict=True)), (now, kept)
    one, other = (VARIES.sub("#", PERCENTAGE.sub("%", text)).split() for text in (now, kept))
    assert one == other


@pytest.mark.parametrize(
    ("now", "kept", "same"),
    [
        ("90.5% of the digits, in 171 s", "88.1% of the digits, in 9 s", True),
        ("90.5% of the digits, in 171 s", "65.0% of the digits, in 171 s", False),
        ("round 6: 89.4% of 359 digits", "round 8: 89.4% of 359 digits", True),
        ("round 6: 89.4% of 359 digits", "round 6: 89.4% of 358 digits", False),
        ("searched  89.4%  15,578  26", "searched  95.2% 15,578  135", True),
        ("searched  89.4%  15,578  26", "searched  89.4%  15,579  26", False),
        ("<Figure size 916x608.5 with 2 Axes>", "<Figure size 900x600 with 2 Axes>", True),
        ("<Figure size 916x608.5 with 2 Axes>", "<Figure size 916x608.5 with 3 Axes>", False),
        ("[['dil_conv_3x3', 0],\n ['none', 1]]", "[['skip', 1],\n ['x', 0]]", True),
        ("[['dil_conv_3x3', 0],\n ['none', 1]]", "[['dil_conv_3x3', 0]]", False),
        ("p.npz: example 2 is dealt twice", "p.npz: example 3 is dealt twice", False),
    ],
)
def test_what_counts_as_the_same(now: str, kept: str, same: bool) -> None:
    if same:
        assert_tells_the_same(now, kept)
    else:
        with pytest.raises(AssertionError):
            assert_tells_the_same(now, kept)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_keeps_the_outputs_of_a_whole_run(name: str) -> None:
    cells = code(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in kinds(cell) for cell in cells) >= 2
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    text = (ROOT / "notebooks" / name).read_text()
    assert len(text) < 1e6
    # Paths of the machine that it ran on.
    assert re.findall(r"(?<![\w.<])/(?:home|root|tmp|usr|work|content)/[\w./-]*", text) == []


def test_all_share_one_install_cell() -> None:
    first, *others = (code(read(name))[0].source for name in NOTEBOOKS)
    assert others == [first] * 2
    assert first.startswith('SOURCE = ""  # @param')
    rest = [cell for name in NOTEBOOKS for cell in code(read(name))[1:]]
    assert all("pip" not in cell.source for cell in rest)


class Pip:
    """Stands in for pip, and for what is installed before and after it has run."""

    def __init__(self, patch: pytest.MonkeyPatch, missing: set[str], error: str = "") -> None:
        self.asked: list[str] = []
        self._missing, self._error = missing, error
        patch.delenv("FEDNAS_JAX", raising=False)
        patch.setattr(importlib.util, "find_spec", self._find)
        patch.setattr(subprocess, "run", self._run)

    def _find(self, name: str) -> str | None:
        return None if name in self._missing else name

    def _run(self, command: list[str], **_: Any) -> Any:
        assert command[:-1] == [sys.executable, "-m", "pip", "install", "--quiet", "--no-color"]
        self.asked.append(command[-1])
        self._missing = self._missing if self._error else set()
        return subprocess.CompletedProcess(command, int(bool(self._error)), "", self._error)


def install(source: str = "") -> None:
    """Runs the install cell, with what a user has written into its first line."""
    cell = code(read(NOTEBOOKS[0]))[0].source
    exec(cell.replace('SOURCE = ""', f"SOURCE = {source!r}", 1), {})


def refusal(source: str = "") -> str:
    """The one line that ends the cell."""
    with pytest.raises(Exception, match=r"\S") as caught:
        install(source)
    assert type(caught.value).__name__ == "Stop"
    (line,) = caught.value._render_traceback_()  # type: ignore[attr-defined]
    assert line == str(caught.value)
    return line


ALL = {"fednas_jax", "jax", "flax", "matplotlib", "scipy"}


def test_installs_nothing_where_all_is_there_and_names_the_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip(monkeypatch, set())
    install("git+https://example.org/x")
    assert pip.asked == []
    assert capsys.readouterr().out == gpu.in_use() + "\n"


def test_asks_where_the_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with nothing but the notebook, as on Colab."""
    pip = Pip(monkeypatch, ALL)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.chdir(tmp_path)
    assert refusal().startswith("SOURCE is empty: write a wheel, the folder of a clone or a git ")
    assert refusal("no.whl") == (
        f"SOURCE: {tmp_path / 'no.whl'} is neither a wheel nor the folder of a clone"
    )
    assert pip.asked == []


def test_installs_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wheel = tmp_path / "fednas_jax-9-py3-none-any.whl"
    git, web = "git+https://example.org/x", "https://example.org/x.whl"
    (tmp_path / "mine.whl").touch()
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/pyproject.toml").touch()
    for source, wanted in (
        ("mine.whl", f"{tmp_path / 'mine.whl'}[report]"),
        (str(tmp_path / "clone"), f"{tmp_path / 'clone'}[report]"),
        (git, f"fednas_jax[report] @ {git}"),
        ("https://example.org/x", f"fednas_jax[report] @ {git}"),
        (web, f"fednas_jax[report] @ {web}"),
        (f" {git}\n", f"fednas_jax[report] @ {git}"),  # as pasted
        (" mine.whl ", f"{tmp_path / 'mine.whl'}[report]"),
    ):
        pip = Pip(monkeypatch, ALL)
        install(source)
        assert pip.asked == [wanted]
    pip = Pip(monkeypatch, ALL)
    monkeypatch.setenv("FEDNAS_JAX", git)
    install()
    assert pip.asked == [f"fednas_jax[report] @ {git}"]
    wheel.touch()  # beside the notebook
    pip = Pip(monkeypatch, ALL)
    install()
    assert pip.asked == [f"{wheel}[report]"]


@pytest.mark.parametrize(
    "versions",
    [("0.9.0", "0.10.0"), ("0.10.0rc1", "0.10.0"), ("0.9.0+cpu", "0.10.0.dev3"), ("0.1.9", "0.2")],
)
def test_of_several_wheels_it_installs_the_newest(
    versions: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wheels = [tmp_path / f"fednas_jax-{version}-py3-none-any.whl" for version in versions]
    for order in (wheels, wheels[::-1]):
        monkeypatch.setattr(Path, "glob", lambda _, pattern, order=order: iter(order))
        for wheel in wheels:
            wheel.touch()
        pip = Pip(monkeypatch, ALL)
        install()
        assert pip.asked == [f"{wheels[-1]}[report]"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_work_where_the_notebook_lies_alone(name: str) -> None:
    words = "".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]*)\)", words))


def test_installs_the_clone_that_holds_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch, ALL - {"fednas_jax"})  # found in the clone, but nothing that it needs
    monkeypatch.chdir(ROOT / "notebooks")
    install()
    assert pip.asked == [f"{ROOT}[report]"]


def test_adds_what_draws_to_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch, {"matplotlib", "scipy"})
    monkeypatch.chdir(tmp_path)
    install()
    assert pip.asked == ["fednas_jax[report]"]


def test_says_in_one_line_what_prevents_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git = "git+https://example.org/x"
    Pip(monkeypatch, ALL, error="Cloning\n  fatal: not found\n\nnote: of git\n")
    end = f"pip could not install fednas_jax[report] @ {git}: fatal: not found"
    assert refusal(git) == end
    Pip(monkeypatch, ALL)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")  # newer than the loaded one
    assert refusal(git).endswith("Restart the kernel, then run all cells again.")
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == ">=3.11,<3.14"
    for version in ((3, 10, 2), (3, 14, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        used = ".".join(map(str, version))
        assert refusal() == (
            f"fednas_jax needs Python 3.11, 3.12 or 3.13; this notebook runs on {used}"
        )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the group dev installs it")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = read(name)
    kept = [(kinds(cell), told(cell)) for cell in code(notebook)]
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = code(notebook)
    assert [kinds(cell) for cell in cells] == [shown for shown, _ in kept]
    assert told(cells[0]) == gpu.in_use() + "\n"
    for cell, (_, text) in zip(cells[1:], kept[1:], strict=True):
        assert_tells_the_same(told(cell), text)


def test_readme_names_every_notebook() -> None:
    assert NOTEBOOKS == ["1_search.ipynb", "2_train.ipynb", "3_own_data.ipynb"]
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", text)) == set(NOTEBOOKS)
