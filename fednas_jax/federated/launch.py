"""Which communicator a process has: its own, or one with the other ranks of a launcher."""

import os
from collections.abc import Mapping

from fednas_jax.environment import of_several_ranks
from fednas_jax.federated.communicator import LOCAL, Communicator


def start(environment: Mapping[str, str] = os.environ) -> Communicator:
    """The communicator of this process: over MPI where a launcher has started several ranks.

    Args:
      environment: where launchers tell how many.

    Raises:
      UserError: mpi4py or mpi4jax are not installed, or do not run; or ranks cannot reach rank 0.
    """
    if not of_several_ranks(environment):
        return LOCAL
    from fednas_jax.federated import mpi  # needs MPI

    return mpi.start(environment)
