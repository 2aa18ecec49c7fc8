"""The time of a whole round: shares of local steps, evaluation, and everything else.

    python -m benchmarks.round_share [--quick] [--json FILE] [--repeats N]

An experiment with the sizes of the paper (C = 16, L = 8, 32 x 32) on a few clients with random
images, including files, checkpoints and plots, is timed from outside. The compiled loop over the
chunks of the first phase counts as local steps, scoring as evaluation, and the rest of a round as
everything else: recalibration, the server's steps, sampling, records, checkpoints, plots. The first
round, which compiles, and the plots at the end of the run do not count. --quick uses the tiny size,
which has no bar.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.round_share")  # as the command line does

import jax
import numpy as np

from benchmarks import cases, harness
from benchmarks.harness import Row
from fednas_jax import config as schema
from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment, Records
from fednas_jax.federated.evaluation import Evaluator
from fednas_jax.federated.round import RoundEngine

CLIENTS, STEPS, EPOCHS = 2, 4, 5
TEST_SHARE = 0.2
"""Test images, against those of all clients: as in CIFAR-10. A tenth is held out, as by default."""


class Clock:
    """Seconds by name, of calls that are watched."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watched(self, name: Callable[..., str], function: Callable[..., Any]) -> Any:
        """The function, timed; `name` says from its arguments what its time counts as."""

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = jax.block_until_ready(function(*arguments, **options))
            what = name(*arguments)
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start
            return result

        return timed


@contextmanager
def watching(clock: Clock) -> Iterator[dict[str, float]]:
    """Times the parts of every round while it lasts; gives what the first round took."""
    first: dict[str, float] = {}

    def pictures(_: Any, every_seconds: float = 0.0) -> str:  # they come last in a round
        if not first:
            first.update(clock.seconds)
        return "pictures" if every_seconds else "pictures at the end"

    places: list[tuple[Any, str, Callable[..., str]]] = [
        (RoundEngine, "_all_chunks", lambda self, number, *_: f"phase {number}"),
        (Evaluator, "__call__", lambda *_: "evaluation"),
        (Experiment, "_round", lambda *_: "round"),
        (Experiment, "_record", lambda *_: "records"),
        (Records, "draw", pictures),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, called in places:
        setattr(owner, name, clock.watched(called, getattr(owner, name)))
    try:
        yield first
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def settings(case: cases.Case, folder: Path, rounds: int) -> schema.Config:
    """The config of an experiment on random images, which are written to the folder."""
    each = -(-2 * STEPS * case.batch_size * 10 // 9)
    rng = np.random.RandomState(0)
    for name, count in (("train", CLIENTS * each), ("test", round(TEST_SHARE * CLIENTS * each))):
        images = rng.randint(0, 256, (count, case.side, case.side, 3), np.uint8)
        labels = np.arange(count) % cases.NUM_CLASSES
        arrays: Any = {"images": images, "labels": labels}
        if name == "train":
            arrays["client"] = np.arange(count) // each
        np.savez(folder / f"{name}.npz", **arrays)
    return cases.config(
        case,
        dataset__name=folder / "train.npz",
        dataset__test_path=folder / "test.npz",
        partition__name="natural",
        client__held_out_fraction=0.1,
        rounds=rounds,
        local_epochs=EPOCHS,
        server__recalibration_fraction=0.5,  # as configs/cifar_hetero.py has it
        augment__crop_padding=case.side // 8,
        augment__flip=True,
        augment__cutout=case.side // 2,
        report__progress=False,
    )


def measure(case: cases.Case, rounds: int) -> dict[str, float]:
    """Seconds by part, over all rounds but the first."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, watching(clock) as first:
        runner.run(settings(case, Path(folder), rounds), Path(folder) / "run")
    return {name: value - first.get(name, 0.0) for name, value in clock.seconds.items()}


def main() -> None:
    """Measures."""
    arguments = harness.parser(__doc__).parse_args()
    case = cases.find("tiny" if arguments.quick else "paper")
    rounds = arguments.repeats or 5
    seconds = measure(case, 1 + rounds)
    pictures = seconds.get("pictures", 0.0)
    whole = seconds["round"] + seconds["records"] + pictures
    steps, scores = seconds["phase 0"], seconds["evaluation"]
    bars = (None, None) if arguments.quick else (harness.at_most(0.1), harness.at_most(0.03))
    named = f"{case.name}, {CLIENTS} clients, {STEPS} local steps, {EPOCHS} epochs"
    rows = [
        Row(f"{named}: a round", whole / rounds, "s"),
        Row("a local step", steps / (rounds * CLIENTS * STEPS * EPOCHS), "s"),
        Row("local steps", steps / whole, "of the round"),
        Row("recalibration", seconds["phase 1"] / whole, "of the round"),
        Row("records and checkpoints", seconds["records"] / whole, "of the round"),
        Row("pictures", pictures / whole, "of the round"),
        Row("evaluation", scores / whole, "of the round", bars[0]),
        Row("neither steps nor evaluation", 1 - (steps + scores) / whole, "of the round", bars[1]),
    ]
    harness.publish("round_share", rows, arguments)


if __name__ == "__main__":
    harness.start(main)
