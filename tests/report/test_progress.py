"""What a run shows: lines without a terminal, a bar on one, nothing where none is wanted."""

import io
from typing import Any

from fednas_jax.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def row(number: int, **values: Any) -> dict[str, Any]:
    return {"round": number, "seconds": 1.25, "train_loss": 2.0} | values


def test_a_line_a_round_without_what_was_not_measured() -> None:
    file = io.StringIO()
    progress = Progress(12, 0, shown=True, file=file)
    progress.say("begins")
    progress.within(1, 2)
    progress.finish_round(row(1, test_accuracy=None, held_out_accuracy=0.5))
    progress.finish_round(row(2, train_loss=None))
    progress.close()
    assert file.getvalue().splitlines() == [
        "begins",
        "round  1/12  loss 2.000  held-out 0.500  1.2 s",
        "round  2/12    1.2 s",
    ]


def test_a_bar_moves_inside_rounds_and_begins_where_the_run_goes_on() -> None:
    file = Terminal()
    progress = Progress(4, 1, shown=True, file=file)
    assert "1.0/4 rounds" in file.getvalue()
    progress.within(1, 2)
    assert "1.5/4 rounds" in file.getvalue()
    progress.within(2, 2)
    progress.finish_round(row(2))
    progress.within(1, 4)
    progress.say("beside the bar")
    progress.close()
    shown = file.getvalue()
    assert "2.2/4 rounds" in shown or "2.3/4 rounds" in shown
    assert "loss=2.000" in shown
    assert "beside the bar\n" in shown


def test_nothing_is_shown_where_nothing_is_wanted() -> None:
    for file in (io.StringIO(), Terminal()):
        progress = Progress(2, 0, shown=False, file=file)
        progress.within(1, 2)
        progress.finish_round(row(1))
        progress.close()
        assert file.getvalue() == ""
