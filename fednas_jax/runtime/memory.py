"""Memory: how many clients can be computed side by side."""

import sys
from typing import Any

import jax
import psutil

SHARE_OF_FREE_MEMORY = 0.6
"""Share of the free memory for clients; the rest is for states and for evaluation."""


def free_bytes(device: Any) -> int:
    """Free memory of a device, in bytes; of the machine where the device has no own memory."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available)


def clients_that_fit(bytes_per_client: int, free: int, most: int) -> int:
    """The number of clients for which the free memory suffices, at least one and at most `most`.

    Args:
      bytes_per_client: temporary memory of a chunk of one client.
      free: free memory, in bytes.
      most: number of clients in a round.
    """
    fitting = int(free * SHARE_OF_FREE_MEMORY) // max(bytes_per_client, 1)
    return max(1, min(most, fitting))


def most_side_by_side(num_clients: int) -> int:
    """The maximum number of clients to vmap on the default device: one on a CPU.

    One client's supernet keeps all cores of a CPU busy: several clients at once were not faster
    (`benchmarks/clients.py`), and need a multiple of the memory, and padding. Networks with very
    short steps can gain from several clients, which `clients_per_chunk=measured` finds out.
    """
    return 1 if jax.default_backend() == "cpu" else num_clients


def peak_bytes() -> int:
    """The peak memory since the process began: of the device if known, otherwise of the process.

    It includes anything that the process did besides the run.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    import resource  # does not exist on every system, and is needed only here

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
