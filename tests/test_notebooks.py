"""The notebooks run from their first cell to their last, and keep the outputs of such a run."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import fednas_jax

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


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_installs_only_where_the_package_is_not(name: str) -> None:
    install, *others = code(read(name))
    assert all("pip install" not in cell.source for cell in others)
    assert install.outputs == []
    assert installed(install.source) == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_installs_from_the_checkout_or_from_what_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = code(read(name))[0].source
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.chdir(ROOT / "notebooks")
    assert installed(install) == [".."]
    # As on Colab, where no checkout lies around the notebook.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="SOURCE: empty"):
        installed(install)
    named = install.replace('SOURCE = ""', 'SOURCE = "git+https://example.org/x"')
    assert installed(named) == ["git+https://example.org/x"]


def installed(source: str) -> list[str]:
    """What the cell gives to pip, which is not called."""
    plain = source.replace("%pip install --quiet {source}", "asked.append(source)")
    assert plain != source
    asked: list[str] = []
    exec(plain, {"asked": asked})
    return asked


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
    for cell, (_, text) in zip(cells, kept, strict=True):
        assert_tells_the_same(told(cell), text)


def test_readme_names_every_notebook() -> None:
    assert NOTEBOOKS == ["1_search.ipynb", "2_train.ipynb", "3_own_data.ipynb"]
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", text)) == set(NOTEBOOKS)
