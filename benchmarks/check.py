"""Prints the rows of the newest results that miss their bar; exits with status 1 if there are any.

It also prints a line for each benchmark without a complete result: a result of a part (--quick,
--only, --network) does not count.

    python -m benchmarks.check [FOLDER]

It reads benchmarks/results/*.json, the newest result of each benchmark and device.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import harness
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json

BENCHMARKS = (
    "local_step", "train_step", "clients", "mnist_fedavg", "pfl_cifar10", "growth", "round_share",
    "ranks", "profile_step", "precision", "parity", "load", "faults", "fuzz",
)  # fmt: skip
PARTIAL = ("--quick", "--only", "--network", "--layers")
NEEDED = ("benchmark", "device", "date", "command", "rows")


def newest(folder: Path) -> list[dict[str, Any]]:
    """The newest result of each benchmark and device, by benchmark and device.

    Raises:
      UserError: the folder has no complete result, or a file is not a result.
    """
    results: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        if not isinstance(result, dict) or any(name not in result for name in NEEDED):
            raise UserError(f"{path}: not a result of a benchmark; it needs {', '.join(NEEDED)}")
        if any(option in result["command"] for option in PARTIAL):
            continue
        key = (result["benchmark"], result["device"])
        if key not in results or result["date"] > results[key]["date"]:
            results[key] = result
    if not results:
        raise UserError(f"{folder}: holds no whole results; --json of a benchmark writes one")
    return [results[key] for key in sorted(results)]


def missed(results: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each row that misses its bar."""
    return [
        f"{result['benchmark']} on {result['device']} ({result['date'][:10]}): "
        f"{row['name']}: {row['value']:.4g} {row['unit']}, bar {row['bar']}"
        for result in results
        for row in result["rows"]
        if row["met"] is False
    ]


def main() -> None:
    """Checks the results in benchmarks/results, or in another folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=harness.RESULTS)
    results = newest(parser.parse_args().folder)
    lines = missed(results)
    there = {result["benchmark"] for result in results}
    absent = [f"{name}: no whole run is kept" for name in BENCHMARKS if name not in there]
    print("\n".join(lines + absent))
    bars = sum(row["met"] is not None for result in results for row in result["rows"])
    print(f"{len(lines)} of {bars} bars missed, in {len(results)} results", file=sys.stderr)
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    harness.start(main)
