"""What is said of data that a run leaves out, and of too little that is held out."""

from typing import Any

import numpy as np
import pytest

from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import omissions
from fednas_jax.federated.clients import divide


def said(
    sizes: list[int],
    *,
    fraction: float = 0.1,
    labels: list[int] | None = None,
    client: list[int] | None = None,
    how: str = "file",
    batch_size: int = 1,
    every: int = 1,
    taught: str = "",
    lost: tuple[str, ...] = (),
    called: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The lines for clients that hold so many examples, one behind the other."""
    number = sum(sizes) if labels is None else len(labels)
    column = None if client is None else np.array(client)
    split = Split(np.zeros((number, 8, 8, 1)), np.array(labels or [0] * number), column)
    data = Dataset("x", split, split, 3, ("ant", "bee", "cow"), (0.5,), (0.5,), lost)
    data = data._replace(client_names=called)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    config: dict[str, Any] = {
        "client": {"held_out_fraction": fraction},
        "partition": {"name": how},
        "held_out_every": every,
        "batch_size": batch_size,
    }
    divisions = [divide(part, fraction, 0.5 if taught else 1.0) for part in parts]
    return omissions.lines(config, data, Partition(tuple(parts)), divisions, taught=taught)


def test_nothing_is_said_of_a_run_that_uses_all() -> None:
    assert said([500, 500], taught="alphas", batch_size=64) == ()


def test_what_the_cuts_lost_is_said_first() -> None:
    assert said([500, 500], lost=("a class",)) == ("a class",)


@pytest.mark.parametrize(("size", "says"), [(7, True), (9, True), (10, False)])
def test_nothing_held_out_though_a_part_was_asked_for(size: int, says: bool) -> None:
    (line,) = said([size] * 60)
    nothing = "config.client.held_out_fraction: 0.1 holds out no examples, as no client has 10"
    assert line.startswith(nothing) == says
    assert said([size] * 60, fraction=0.0) == ()  # nobody asked for it


def test_too_few_images_to_select_by() -> None:
    (line,) = said([8] * 6 + [14])
    assert "the best round is selected by 1 example held out by 1 of 7 clients; with fewer" in line
    assert said([8] * 6 + [14], every=0) == ()  # they select nothing
    assert "by 99 examples held out by 9 of 9 clients" in said([110] * 9)[0]
    assert said([110] * 9 + [10]) == ()  # 100


def test_clients_without_examples_are_named() -> None:
    (line,) = said([500, 0, 500, 0])
    assert line == "config.partition: 2 of 4 clients are dealt no example (client 1, 3)"


def test_clients_of_the_data_that_are_in_no_part() -> None:
    column = [7] * 500 + [8] * 500 + [5] * 2 + [6]
    labels = [0] * 1003
    (line,) = said([500, 500], labels=labels, client=column, how="natural")
    assert line == "config.partition: 2 of 4 clients are dealt no example (`client` 5, 6)"
    assert said([500, 500], labels=labels, client=column, how="homo") == ()
    called = tuple(f"site {k}" for k in range(9))
    (line,) = said([500, 500], labels=labels, client=column, how="natural", called=called)
    assert line.endswith("are dealt no example (`client` 'site 5', 'site 6')")


def test_classes_that_nobody_learns_from() -> None:
    # The last example of a client is held out: of the second client the only one of class 1.
    labels = [0] * 1000 + [0] * 9 + [1] + [2]
    (line,) = said([1000, 10], labels=labels)
    start = "config.partition: no client learns from 2 of 3 classes ('bee', 'cow')"
    assert line.startswith(start)


def test_a_search_on_clients_of_one_example() -> None:
    (line,) = said([500, 500, 1, 2], taught="alphas", client=[3] * 500 + [4] * 500 + [9, 6, 6])
    assert "1 of 4 clients learn their weights and their alphas from one" in line
    assert line.endswith("example (`client` 9)")
    called = tuple(f"site {k}" for k in range(10))
    column = [3] * 500 + [4] * 500 + [9, 6, 6]
    (line,) = said([500, 500, 1, 2], taught="alphas", client=column, called=called)
    assert line.endswith("example (`client` 'site 9')")
    assert said([500, 500, 1, 2]) == ()  # without a validation part


def test_a_batch_larger_than_a_clients_train_part() -> None:
    (line,) = said([500, 500, 20], taught="alphas", batch_size=64)
    assert line == (
        "config.batch_size: 64 is more than the train part of 1 of 3 clients, whose one batch an "
        "epoch repeats examples (client 2)"
    )
    assert said([500, 500, 20], batch_size=64) == ()  # FedAvg's last batch is smaller


def test_the_opening_says_what_selects_and_what_is_left(capsys: pytest.CaptureFixture) -> None:
    def opening(held_out: list[int], dealt: int, every: int = 1) -> str:
        indices = [np.zeros(n, int) for n in held_out]
        return omissions.opening(indices, [np.arange(dealt)], 2000, {"held_out_every": every})

    assert opening([3, 0, 9], 2000) == (
        "the best round is selected by 12 examples held out by 2 of 3 clients"
    )
    assert opening([0, 0], 500) == (
        "1,500 of 2,000 training examples belong to no client; no examples are held out, so the "
        "last round counts as the best"
    )
    assert opening([1], 2000, every=0).startswith("only the last round is scored")
    omissions.tell(["one", "two"])
    assert capsys.readouterr().err == "fednas_jax: warning: one\nfednas_jax: warning: two\n"


def test_selection_counts_images_and_clients() -> None:
    assert omissions.selection([np.arange(3), np.arange(0), np.arange(9)]) == (12, 2, 3)
