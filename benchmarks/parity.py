"""Compares the package with the PyTorch reference, in float64: gradients, and five local steps.

    python -m benchmarks.parity [--json FILE] [--quick] [--golden FILE]

The same weights and batches go to both. Prints the largest relative difference of each kind of
tensor: the largest difference of an element, by the largest element of the reference's tensor.
--golden writes numbers of the reference that the tests check without PyTorch.
"""

import argparse
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import golden, harness, reference
from benchmarks.harness import Peer, Row
from benchmarks.reference import LARGER, ORDERS, SMALL, Case, Leaves
from fednas_jax.runtime import compilation
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import write_json

LIMIT = 1e-9
FORMS: dict[str, dict[str, Any]] = {
    "": {},
    "no scan_sources": {"scan_sources": False},
    "remat": {"remat": True},
    "no scan_cells": {"scan_cells": False},
}
"""Options of the supernet that must not change what it computes; the first is its default."""


class Reference:
    """The peer process at one size, with files to and from it."""

    def __init__(self, python: Path, case: Case, folder: Path):
        size = {
            "channels": case.init_channels,
            "layers": case.layers,
            "side": case.side,
            "batch": case.batch_size,
        }
        arguments = [f"--{name}={value}" for name, value in size.items()]
        self._peer = Peer(python, "benchmarks.pytorch.serve", [*arguments, "--dtype=float64"])
        self.version: str = self._peer.facts["torch"]
        self._inputs, self._outputs = folder / "inputs.npz", folder / "outputs.npz"

    def send(self, leaves: Leaves) -> None:
        """Inputs for all that is asked."""
        arrays: dict[str, Any] = dict(leaves)
        np.savez(self._inputs, **arrays)

    def gradients(self) -> dict[str, np.ndarray]:
        """As `reference.gradients`."""
        return self._ask({"do": "gradients"})

    def search(self, order: str) -> dict[str, np.ndarray]:
        """As `reference.search`."""
        options = {
            **reference.OPTIONS,
            "order": order,
            "learning_rate": reference.LEARNING_RATE,
            # PyTorch adds 1e-6 to the norm by which it clips; optax does not.
            "clip_epsilon": 0.0,
        }
        return self._ask({"do": "search", "options": options})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, np.ndarray]:
        files = {"inputs": str(self._inputs), "outputs": str(self._outputs)}
        self._peer.ask({**request, **files})
        with np.load(self._outputs, allow_pickle=False) as file:
            return dict(file)

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.close()


def differences(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict:
    """The largest relative difference of each tensor.

    Raises:
      UserError: they have not the same tensors, or not of the same shapes.
    """
    shapes = [{name: x.shape for name, x in side.items()} for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        unlike = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise UserError(f"benchmarks.parity: unlike tensors: {unlike[:4]}; a mapping is needed")
    return {
        name: float(np.abs(ours[name] - x).max() / max(np.abs(x).max(), 1e-300))
        for name, x in theirs.items()
    }


def by_kind(found: Mapping[str, float]) -> dict[str, float]:
    """The largest value of each kind of tensor, whatever cell it is of."""
    kinds: dict[str, float] = {}
    for name, value in found.items():
        parts = [p for p in name.split("/") if not p.startswith("cell_")]
        kind = "batch_stats" if parts[0] == "batch_stats" else "/".join(parts)
        kinds[kind] = _largest(value, kinds.get(kind, 0.0))
    return kinds


def _largest(*values: float) -> float:
    """NaN if any is, which `max` would overlook."""
    return float(np.max(values))


def compare(python: Path, case: Case, *, quick: bool) -> tuple[list[Row], dict[str, Any], str]:
    """Rows of one size, what the reference computed, and its version."""
    jit = _jit()
    leaves = reference.draw(case)
    with tempfile.TemporaryDirectory() as folder, Reference(python, case, Path(folder)) as peer:
        peer.send(leaves)
        theirs = {"gradients": peer.gradients()}
        theirs |= {order: peer.search(order) for order in ORDERS}
    rows = []
    for form, options in FORMS.items():
        if form and (quick or case != LARGER):  # the smaller has no two cells that are alike
            continue
        found = by_kind(
            differences(reference.gradients(case, leaves, jit, **options), theirs["gradients"])
        )
        shown = found if not form else {f"gradients and all, {form}": _largest(*found.values())}
        rows += [_row(f"{case}: {kind}", value) for kind, value in shown.items()]
    for order in ORDERS:
        ours = reference.search(case, leaves, order, jit)
        found = {}
        for name, value in differences(ours, theirs[order]).items():
            collection = name.partition("/")[0]
            found[collection] = _largest(value, found.get(collection, 0.0))
        rows += [
            _row(f"{case}: {kind} after {reference.STEPS} steps, {order}", value)
            for kind, value in found.items()
        ]
    return rows, theirs, peer.version


def _row(name: str, value: float) -> Row:
    return Row(name, value, "relative", harness.at_most(LIMIT))


def _jit() -> Any:
    """What runs a few times should compile fast."""
    options = (compilation.compiler_options(quick=True) or {}) | {
        "xla_backend_optimization_level": 0
    }
    if jax.default_backend() != "cpu":
        return jax.jit
    return functools.partial(jax.jit, compiler_options=options)


def _print_largest(rows: list[Row]) -> None:
    largest = rows[int(np.argmax([row.value for row in rows]))]
    print(f"Largest of all: {largest.value:.1e} ({largest.name})\n")


def main() -> None:
    """Compares at two sizes; at the smaller alone with --quick."""
    parser = harness.parser(__doc__, peers=("torch",))
    parser.add_argument("--golden", type=Path, help="write numbers of the reference to this file")
    arguments: argparse.Namespace = parser.parse_args()
    python = harness.find_python(arguments, "torch")
    if python is None:
        raise UserError("--torch-python: none; an interpreter with PyTorch is needed to compare")
    jax.config.update("jax_enable_x64", True)
    rows: list[Row] = []
    version = ""
    for case in (SMALL,) if arguments.quick else (SMALL, LARGER):
        more, theirs, version = compare(python, case, quick=arguments.quick)
        rows += more
        if arguments.golden and case == SMALL:
            head = {
                "command": "python -m benchmarks.parity --golden tests/golden/supernet.json",
                "torch": version,
                "case": case._asdict(),
                "inputs": "benchmarks.reference.draw(case), seed 0",
            }
            inputs = reference.draw(case)
            write_json(arguments.golden, {**head, **golden.of_all(theirs, inputs)})
    _print_largest(rows)
    harness.publish("parity", rows, arguments, {"torch": version})


if __name__ == "__main__":
    harness.start(main)
