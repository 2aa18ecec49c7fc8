"""Several runs in one picture."""

from pathlib import Path

from fednas_jax.report import curves


def test_a_line_a_run_and_a_line_a_target(tmp_path: Path) -> None:
    runs = {"a": [(0, 0.1), (1, 0.9)], "b": [(1, 0.8), (3, 0.99)], "failed": []}
    figure = curves.accuracy(runs, [0.99], tmp_path / "curves.png", lowest=0.5)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["a", "b", "target 0.99"]
    assert list(lines["b"].get_xdata()) == [1, 3]
    assert list(lines["b"].get_ydata()) == [0.8, 0.99]
    assert set(lines["target 0.99"].get_ydata()) == {0.99}
    assert axes.get_ylim() == (0.5, 1.0)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_no_two_of_many_runs_look_alike() -> None:
    figure = curves.accuracy({str(i): [(0, 0.1), (1, 0.2)] for i in range(21)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 21
