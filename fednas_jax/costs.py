"""What a run has cost, over all its starts: time, time spent compiling, memory."""

import time
from collections.abc import Mapping

from fednas_jax import compilation
from fednas_jax.federated import memory

NAMES = ("seconds", "compile_seconds", "peak_memory_bytes")
"""Of the numbers, in a summary."""


class Costs:
    """Counts from its making on; other runs of the same process before that are left out.

    The peak of the memory cannot be: it is that of the process (of the device, where it tells)
    since it began, the largest of all starts.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._compiled_before = compilation.seconds()
        self._earlier: Mapping[str, float] = {}

    def go_on(self, earlier: Mapping[str, float]) -> None:
        """Adds what earlier starts cost, as their `so_far` said."""
        self._earlier = earlier

    def so_far(self) -> dict[str, float]:
        """`seconds` and, of these, `compile_seconds`, wall-clock; `peak_memory_bytes`."""
        spent = {
            "seconds": time.monotonic() - self._start,
            "compile_seconds": compilation.seconds() - self._compiled_before,
        }
        summed = {name: self._earlier.get(name, 0.0) + value for name, value in spent.items()}
        peak = max(self._earlier.get("peak_memory_bytes", 0), memory.peak_bytes())
        return {**summed, "peak_memory_bytes": peak}
