"""Imports JAX, or reports in one line why it cannot be imported."""

import sys

from fednas_jax.runtime.errors import UserError, one_line


def import_jax() -> None:
    """Imports JAX and Flax, which check their environment variables on import.

    Raises:
      UserError: one of the variables has an unknown value.
    """
    try:
        import flax  # noqa: F401
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f"JAX cannot be imported: {one_line(error)}; a value that it knows, or none, is needed"
        ) from error


def import_jax_or_exit() -> None:
    """`import_jax` for a program whose other imports need JAX; on errors it exits with code 2."""
    try:
        import_jax()
    except UserError as error:
        print(f"fednas_jax: error: {error}", file=sys.stderr)
        sys.exit(2)
