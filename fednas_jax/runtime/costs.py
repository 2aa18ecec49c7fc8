"""The costs of a run over all its starts: time, compile time, memory."""

import time
from collections.abc import Mapping

from fednas_jax.runtime import compilation, memory

NAMES = ("seconds", "compile_seconds", "peak_memory_bytes")
"""The names of the costs in a summary."""


class Costs:
    """The costs since this object was created, so that earlier runs of the process do not count.

    The peak memory is an exception: it is the peak of the device if known, otherwise of the
    process, since the process began; over several starts, the largest.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._compiled_before = compilation.seconds()
        self._earlier: Mapping[str, float] = {}

    def go_on(self, earlier: Mapping[str, float]) -> None:
        """Adds the costs of earlier starts, from their `so_far`."""
        self._earlier = earlier

    def so_far(self) -> dict[str, float]:
        """Wall-clock `seconds`, including `compile_seconds`, and `peak_memory_bytes`."""
        spent = {
            "seconds": time.monotonic() - self._start,
            "compile_seconds": compilation.seconds() - self._compiled_before,
        }
        summed = {name: self._earlier.get(name, 0.0) + value for name, value in spent.items()}
        peak = max(self._earlier.get("peak_memory_bytes", 0), memory.peak_bytes())
        return {**summed, "peak_memory_bytes": peak}
