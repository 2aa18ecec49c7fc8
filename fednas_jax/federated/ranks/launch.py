"""Chooses the communicator of a process: local, or over MPI with the ranks of a launcher."""

import os
from collections.abc import Mapping

from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.runtime.environment import of_several_ranks


def start(environment: Mapping[str, str] = os.environ) -> Communicator:
    """The communicator of this process: over MPI where a launcher has started several ranks.

    Args:
      environment: environment variables, in which launchers pass the number of ranks.

    Raises:
      UserError: mpi4py or mpi4jax are not installed, or do not run; or a rank cannot reach rank 0.
    """
    if not of_several_ranks(environment):
        return LOCAL
    from fednas_jax.federated.ranks import mpi  # needs MPI

    return mpi.start(environment)
