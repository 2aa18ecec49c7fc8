"""The pictures of the concept pages: all are drawn, all are shown, and they show what is true."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch
from PIL import Image

from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.data.partition import Partition
from fednas_jax.report.colors import ON_OPERATION_COLORS, SERIES
from fednas_jax.spaces.darts.genotype import KINDS, derive, softmax
from fednas_jax.spaces.darts.space import PRIMITIVES
from scripts import draw_concepts
from tests.documents import ROOT, text

PAGES = ("docs/concepts_nas.md", "docs/concepts_fl.md")


def history() -> list[dict[str, Any]]:
    rng = np.random.RandomState(0)
    return [
        {"round": number, **{kind: rng.randn(14, 8) * number for kind in KINDS}}
        for number in (0, 1)
    ]


def test_the_script_searches_and_draws_what_the_pages_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the search, which tests of experiment do."""
    workdir = tmp_path / "run"

    def run(config: Any, folder: Path) -> None:
        assert schema.resolve(config).rounds == 10
        folder.mkdir()
        lines = [{name: np.asarray(v).tolist() for name, v in row.items()} for row in history()]
        (folder / "alphas.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")

    monkeypatch.setattr(experiment, "run", run)
    out = tmp_path / "pictures"
    assert draw_concepts.main([f"--out={out}", f"--workdir={workdir}"]) == 0
    drawn = {path.name for path in out.iterdir()}
    shown = {
        name for page in PAGES for name in re.findall(r"\(images/(concepts_\w+\.png)\)", text(page))
    }
    assert drawn == shown
    assert {p.name for p in (ROOT / "docs/images").glob("concepts_*")} == shown
    for path in (*out.iterdir(), *(ROOT / "docs/images").glob("concepts_*")):
        assert path.stat().st_size < 200_000
        with Image.open(path) as picture:  # white behind it, whatever the page
            corner = picture.convert("RGBA").getpixel((0, 0))
        assert corner == (255, 255, 255, 255), path


def curves(axes: Any) -> list[PathPatch]:
    return [patch for patch in axes.patches if isinstance(patch, PathPatch)]


def test_the_supernet_has_all_operations_and_the_genotype_eight() -> None:
    arch = history()[1]
    above, below = draw_concepts.supernet_cell(arch, derive(arch)).axes
    assert (len(curves(above)), len(curves(below))) == (14 * 8, 8)


def test_the_more_probable_an_operation_the_wider_its_line() -> None:
    before, after = draw_concepts.mixed_edge(history()).axes
    assert np.ptp([curve.get_linewidth() for curve in curves(before)]) == pytest.approx(0)
    values = softmax(history()[1]["normal"])
    edge = values[:, 1:].max(axis=1).argmax()
    widths = np.array([curve.get_linewidth() for curve in curves(after)])[::2]
    np.testing.assert_allclose(widths / widths.sum(), values[edge], rtol=1e-6)
    labels = {label.get_text(): label for label in after.texts}
    assert f"none  {values[edge][0]:.0%}" in labels
    for name, value in zip(PRIMITIVES, values[edge], strict=True):
        assert labels[f"{name}  {value:.0%}"].get_color() == ON_OPERATION_COLORS[name]


def test_bars_show_the_parts_of_each_client() -> None:
    config = schema.resolve(draw_concepts.search_config())
    dealt = Partition((np.arange(40, dtype=np.int32), np.arange(40, 60, dtype=np.int32)))
    (axes,) = draw_concepts.parts(config, dealt, tests=15).axes
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths == {  # a tenth held out, the rest halved
        "train part": [18, 9],
        "validation part": [18, 9],
        "held out of every client": [4, 2],
        "test set": [15],
    }


def test_a_quarter_of_the_clients_is_drawn_for_each_round() -> None:
    config = schema.resolve(draw_concepts.search_config())
    (axes,) = draw_concepts.cohorts(config, clients=8, rounds=3).axes
    filled = np.array([to_hex(p.get_facecolor()) == SERIES["train"][1] for p in axes.patches])
    assert filled.reshape(3, 8).sum(axis=1).tolist() == [2, 2, 2]
