"""How many clients fit side by side."""

import sys
from typing import Any

import jax
import psutil

SHARE_OF_FREE_MEMORY = 0.6
"""Of the free memory, what clients may take; the rest is for states and for evaluation."""


def free_bytes(device: Any) -> int:
    """Memory free for arrays on a device; of the whole machine where the device has none."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available)


def clients_that_fit(bytes_per_client: int, free: int, most: int) -> int:
    """As many clients as the free memory holds: at least one, at most `most`.

    Args:
      bytes_per_client: temporary memory of a chunk of one.
      free: memory at hand, in bytes.
      most: clients in a round.
    """
    fitting = int(free * SHARE_OF_FREE_MEMORY) // max(bytes_per_client, 1)
    return max(1, min(most, fitting))


def most_side_by_side(num_clients: int) -> int:
    """How many clients to vmap at most on the default device.

    On a CPU one: its cores are busy with one client's supernet already, several at once measured no
    faster (`benchmarks/clients.py`), and they take a multiple of the memory, and padding. Networks
    whose steps are very short gain from several; `clients_per_chunk=measured` finds out.
    """
    return 1 if jax.default_backend() == "cpu" else num_clients


def peak_bytes() -> int:
    """The most memory used so far: of the device where it tells, else of this process.

    Since the process began, whatever else than a run it did.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    import resource  # not on every system, and needed only here

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
