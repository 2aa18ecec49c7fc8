"""Cell drawings: everything of the genotype is there, and nothing lies on anything else."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch, PathPatch

from fednas_jax.report.cells import drawing
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as gt

GENOTYPES = [gt.load(name) for name in gt.names()] + [
    gt.random_genotype(np.random.RandomState(seed)) for seed in range(12)
]


def boxes_and_lines(axes):
    """Boxes [n, 4] as (x0, y0, x1, y1), the first 8 the labels, and points of the 12 lines."""
    boxes = [p.get_path().get_extents() for p in axes.patches if isinstance(p, FancyBboxPatch)]
    lines = [
        np.concatenate(p.get_path().to_polygons(closed_only=False))
        for p in axes.patches
        if isinstance(p, PathPatch)
    ]
    return [box.extents for box in boxes], lines


def inside(box, points, margin=0.01):
    x, y = points.T
    return (
        (x > box[0] + margin)
        & (x < box[2] - margin)
        & (y > box[1] + margin)
        & (y < box[3] - margin)
    )


@pytest.mark.parametrize("genotype", GENOTYPES)
@pytest.mark.parametrize("kind", gt.KINDS)
def test_no_box_lies_on_another_and_no_line_runs_through_one(genotype, kind):
    (axes,) = drawing.draw_cell(genotype, kind).axes
    boxes, lines = boxes_and_lines(axes)
    assert len(boxes) == 8 + 7
    assert len(lines) == 8 + 4
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for number, points in enumerate(lines):
        steps = np.linspace(points[:-1], points[1:], 8).reshape(-1, 2)
        for index, box in enumerate(boxes):
            if index != number:  # its own label lies on it
                assert not inside(box, steps).any()
    low, high = axes.get_ylim()
    for box in boxes:
        assert low < box[1] < box[3] < high


def test_labels_and_states_are_those_of_the_genotype():
    genotype = gt.load("FedNAS_V1")
    figure = drawing.draw_genotype(genotype)
    for axes, pairs in zip(figure.axes, (genotype.normal, genotype.reduce), strict=True):
        texts = [text.get_text() for text in axes.texts]
        assert texts[:8] == [name for name, _ in pairs]
        assert sorted(texts[8:]) == ["$c_{k-1}$", "$c_{k-2}$", "$c_{k}$", "0", "1", "2", "3"]
    assert [text.get_text() for text in figure.texts] == ["normal cell", "reduction cell"]


def test_lines_start_at_their_source_and_end_at_their_node():
    genotype = GENOTYPES[-1]
    (axes,) = drawing.draw_cell(genotype, "normal").axes
    boxes, lines = boxes_and_lines(axes)
    names = [text.get_text() for text in axes.texts]
    by_name = dict(zip(names[8:], boxes[8:], strict=True))
    states = ["$c_{k-2}$", "$c_{k-1}$", "0", "1", "2", "3"]
    for index, (_, source) in enumerate(genotype.normal):
        start, end = by_name[states[source]], by_name[str(index // 2)]
        np.testing.assert_allclose(lines[index][0], [start[2], (start[1] + start[3]) / 2])
        np.testing.assert_allclose(lines[index][-1], [end[0], (end[1] + end[3]) / 2])


def test_texts_fit_their_boxes():
    figure = drawing.draw_genotype(GENOTYPES[-1])
    figure.draw_without_rendering()
    for axes in figure.axes:
        drawn = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
        for text, box in zip(axes.texts, drawn, strict=True):
            outer = box.get_window_extent()
            inner = text.get_window_extent()
            assert outer.x0 < inner.x0 < inner.x1 < outer.x1
            assert outer.y0 < inner.y0 < inner.y1 < outer.y1
    legend = figure.legends[0].get_window_extent()
    assert legend.width < figure.bbox.width
    assert legend.y1 < figure.axes[-1].get_window_extent().y0


def test_what_need_not_be_usual_is_drawn_too(tmp_path):
    genotype = gt.load("DARTS_V2")._replace(
        normal=(("skip_connect", 0), ("skip_connect", 0)) * 4, normal_concat=(3,)
    )
    drawing.draw_genotype(genotype, tmp_path / "cells.pdf")
    assert (tmp_path / "cells.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_genotype_gives_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        drawing.draw_genotype(GENOTYPES[0], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_built_is_not_drawn(tmp_path):
    with pytest.raises(UserError, match="genotype: normal: 0 entries"):
        drawing.draw_genotype(GENOTYPES[0]._replace(normal=()), tmp_path / "cells.png")
