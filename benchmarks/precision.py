"""Whether a search in bfloat16 is as accurate as one in float32, over several seeds.

    python -m benchmarks.precision [--quick] [--json FILE] [--seeds N]

configs/digits_quick.py unchanged and with `supernet.dtype=bfloat16`, with the same seeds: each seed
draws other weights, clients and batches. The test accuracy of the supernet in the last round is
compared, so that no round is selected by its result.
"""

import statistics
import tempfile
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.precision")  # as the command line does

from benchmarks import harness, rounds
from benchmarks.harness import Row, at_most
from fednas_jax import config as schema
from fednas_jax import experiment

DTYPES = ("float32", "bfloat16")


def accuracy(config: schema.Config, dtype: str, seed: int) -> float:
    """Test accuracy after the last round of a whole run."""
    texts = {
        "seed": str(seed),
        "supernet.dtype": dtype,
        "report.progress": "false",
        "report.plots": "false",
        "report.tensorboard": "false",
    }
    with tempfile.TemporaryDirectory() as folder:
        summary: dict[str, Any] = experiment.run(schema.resolve(config, texts), folder + "/run")
    return float(summary["last_test_accuracy"])


def table(found: dict[str, list[float]]) -> list[Row]:
    """The rows; `found` holds by dtype an accuracy of each seed."""
    means = {dtype: statistics.mean(values) for dtype, values in found.items()}
    spreads = {dtype: statistics.stdev(values) for dtype, values in found.items()}
    rows = []
    for dtype, values in found.items():
        rows.append(Row(f"{dtype}: test accuracy, mean of {len(values)} seeds", means[dtype], ""))
        rows.append(Row(f"{dtype}: standard deviation over seeds", spreads[dtype], ""))
    # Of a difference of two means of n values each.
    error = (sum(spread**2 for spread in spreads.values()) / len(found["float32"])) ** 0.5
    difference = abs(means["bfloat16"] - means["float32"])
    rows.append(Row("difference of the means", difference, ""))
    rows.append(Row("the same in standard errors", difference / error, "", at_most(2)))
    return rows


def main() -> None:
    """Five seeds of each; with --quick two of the config's quick variant."""
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="of each precision (default: 5)")
    arguments = parser.parse_args()
    config = rounds.load_config("digits_quick", "quick" if arguments.quick else "")
    seeds = arguments.seeds or (2 if arguments.quick else 5)
    found: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    for seed in range(seeds):
        for dtype in DTYPES:
            found[dtype].append(accuracy(config, dtype, seed))
            print(f"seed {seed}, {dtype}: {found[dtype][-1]:.4f}", flush=True)
    harness.publish("precision", table(found), arguments)


if __name__ == "__main__":
    harness.start(main)
