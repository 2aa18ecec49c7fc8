"""Pictures: what they show is what they were given, and a file appears where one was asked for."""

import numpy as np
import pytest

from fednas_jax.report import plots
from fednas_jax.report.colors import (
    ON_OPERATION_COLORS,
    ON_SKIP_IN_THE_DARK,
    OPERATION_COLORS,
    OPERATION_COLORS_IN_THE_DARK,
)
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts.genotype import largest_probability
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES

PNG = b"\x89PNG"


def random_alphas(seed=0):
    rng = np.random.RandomState(seed)
    return {kind: rng.normal(size=(14, 8)) for kind in ("normal", "reduce")}


def test_accuracy_leaves_out_what_was_not_measured(tmp_path):
    rows = [
        {"round": i, "train_accuracy": 0.1 * i, "test_accuracy": 0.5 if i % 3 == 0 else None}
        for i in range(7)
    ]
    figure = plots.accuracy_and_loss(rows, tmp_path / "accuracy.png")
    accuracy, loss = figure.axes
    by_label = {line.get_label(): line for line in accuracy.lines}
    assert set(by_label) == {"train part", "test set"}
    assert list(by_label["test set"].get_xdata()) == [0, 3, 6]
    assert not loss.lines
    assert (tmp_path / "accuracy.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy.png"]


def test_no_rows_make_an_empty_picture(tmp_path):
    plots.accuracy_and_loss([], tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").exists()


def test_heat_maps_show_the_probabilities_and_frame_the_genotype(tmp_path):
    figure = plots.alphas(random_alphas(), tmp_path / "alphas.png", about="round 3")
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "normal cell, round 3", "reduction cell, round 3",
    ]  # fmt: skip
    most = max(float(np.max(axes.images[0].get_array())) for axes in figure.axes[:2])
    scale = figure.axes[2]
    for axes in figure.axes[:2]:
        assert axes.images[0].get_clim() == pytest.approx((0, most)), "that of both cells"
    (mark,) = (line for line in scale.lines if len(line.get_ydata()) == 2)
    assert set(mark.get_ydata()) == {1 / len(PRIMITIVES)}
    assert [text.get_text() for text in scale.texts] == ["1/8"]
    for axes in figure.axes[:2]:
        shown = np.asarray(axes.images[0].get_array())
        np.testing.assert_allclose(shown.sum(axis=1), 1.0)
        assert [label.get_text() for label in axes.get_xticklabels()] == list(PRIMITIVES)
        assert len(axes.get_yticklabels()) == len(EDGES)
        framed = [(round(p.get_x() + 0.5), round(p.get_y() + 0.5)) for p in axes.patches]
        assert len(framed) == 8
        for column, row in framed:  # what is framed is its edge's best but for `none`
            assert column == 1 + shown[row, 1:].argmax()
    assert (tmp_path / "alphas.png").read_bytes().startswith(PNG)


def test_pictures_of_several_rounds_share_a_scale() -> None:
    """At least that of the picture, so that no probability is off the scale."""
    history = [random_alphas(seed) for seed in range(3)]
    own = [largest_probability([arch]) for arch in history]
    most = largest_probability(history)
    assert most == max(own) > min(own)
    for arch in history:
        figure = plots.alphas(arch, most=most)
        assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [(0, most)] * 2
        assert [label.get_text() for label in figure.axes[2].get_yticklabels()][-1] == f"{most:.3f}"
    assert plots.alphas(history[0], most=0.01).axes[0].images[0].get_clim() == (0, own[0])


def test_edges_are_labelled_by_their_states():
    assert plots.edge_label(0, 0) == r"$c_{k-2}\rightarrow 0$"
    assert plots.edge_label(2, 1) == r"$c_{k-1}\rightarrow 2$"
    assert plots.edge_label(3, 4) == r"$2\rightarrow 3$"


@pytest.mark.parametrize("rounds", [1, 4])
def test_alphas_over_rounds_have_a_panel_an_edge_and_a_line_an_operation(tmp_path, rounds):
    history = [random_alphas(seed) for seed in range(rounds)]
    figure = plots.alphas_over_rounds(history, tmp_path / "history.png")
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == 2 * 14
    assert all(len(axes.lines) == 8 for axes in drawn)
    assert all(len(line.get_xdata()) == rounds for axes in drawn for line in axes.lines)


def test_alphas_are_drawn_at_their_rounds():
    history = [{"round": number, **random_alphas(number)} for number in (2, 3, 5)]
    for axes in plots.alphas_over_rounds(history).figure.axes:
        assert all(list(line.get_xdata()) == [2, 3, 5] for line in axes.lines)


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (8, 10), (16, 10), (100, 10), (16, 100)])
def test_partition_shows_each_count_where_it_belongs(tmp_path, clients, classes):
    counts = np.random.RandomState(0).randint(0, 50, size=(clients, classes))
    counts[0, classes - 1] = 60
    names = [f"class {i}" for i in range(classes)]
    figure = plots.partition(counts, names, tmp_path / "partition.png")
    bars, heat = figure.axes[:2]
    assert [bar.get_height() for bar in bars.patches] == list(counts.sum(axis=1))
    np.testing.assert_allclose(np.asarray(heat.images[0].get_array()) ** 2, counts.T)
    if classes <= 20:
        assert [label.get_text() for label in heat.get_yticklabels()] == names
    # Nothing drawn beyond the heat map stretches it.
    assert heat.get_xlim() == (-0.5, clients - 0.5)
    assert heat.get_ylim() == (classes - 0.5, -0.5)


def test_partition_calls_few_clients_what_the_data_calls_them():
    figure = plots.partition(np.ones((3, 2)), ["a", "b"], client_ids=[7, 12, 905])
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["7", "12", "905"]
    named = plots.partition(np.full((2, 2), 9), ["a", "b"], client_ids=["North", "South Bend"])
    ticks = named.axes[1].get_xticklabels()
    assert [label.get_text() for label in ticks] == ["North", "South Bend"]
    assert {label.get_rotation() for label in ticks} == {35}
    # White figures stand on dark cells: colours begin at 0, not at the least count.
    assert named.axes[1].images[0].get_clim()[0] == 0
    many = plots.partition(np.ones((30, 2)), ["a", "b"], client_ids=range(100, 130))
    assert [label.get_text() for label in many.axes[1].get_xticklabels()][1] == "10"


def test_long_names_are_shortened_and_written_aslant():
    name = "St. Mary's Hospital of Springfield"
    figure = plots.partition(np.ones((2, 2)), [name, "b"], client_ids=[name, "B"])
    heat = figure.axes[1]
    for labels in (heat.get_xticklabels(), heat.get_yticklabels()):
        assert [label.get_text() for label in labels] == [
            "St. Mary's Hospital\u2026",
            labels[1].get_text(),
        ]
    assert {label.get_rotation() for label in heat.get_xticklabels()} == {35}


def test_text_on_the_colour_of_an_operation_can_be_read():
    """By day and by night: a contrast of 4.5, as WCAG 2.1 asks of text."""

    def luminance(color):
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    def contrast(*two):
        low, high = sorted(map(luminance, two))
        return (high + 0.05) / (low + 0.05)

    in_the_dark = ON_OPERATION_COLORS | {"skip_connect": ON_SKIP_IN_THE_DARK}
    for name in PRIMITIVES:
        assert contrast(OPERATION_COLORS[name], ON_OPERATION_COLORS[name]) >= 4.5, name
        assert contrast(OPERATION_COLORS_IN_THE_DARK[name], in_the_dark[name]) >= 4.5, name


def test_every_operation_has_its_own_colour():
    assert set(OPERATION_COLORS) == set(PRIMITIVES)
    assert len(set(OPERATION_COLORS.values())) == len(PRIMITIVES)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        plots.accuracy_and_loss([], tmp_path / "none" / "accuracy.png")
