"""Federated neural architecture search in JAX."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednas_jax.runtime import releases
from fednas_jax.runtime.version import __version__ as __version__

if TYPE_CHECKING:
    from fednas_jax.checkpoints.model import Model


releases.cure()  # before XLA reads its flags, which it does once


def restore(
    folder: "Path | str",
    which: "int | str" = "best",
    *,
    network: "Callable[..., Any] | None" = None,
) -> "Model":
    """A trained network, or a supernet, with which to `predict`; see
    `fednas_jax.checkpoints.model.restore`."""
    from fednas_jax.checkpoints import model  # not above: it imports jax

    return model.restore(folder, which, network=network)
