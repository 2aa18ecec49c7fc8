"""JAX imported, or one line of why it cannot be."""

import sys

from fednas_jax.errors import UserError, one_line


def import_jax() -> None:
    """Imports JAX and Flax, which check their variables of the environment when they are imported.

    Raises:
      UserError: one of the variables has a value that is not known.
    """
    try:
        import flax  # noqa: F401
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f"JAX cannot be imported: {one_line(error)}; a value that it knows is needed, or none"
        ) from error


def import_jax_or_exit() -> None:
    """`import_jax` for a program whose other imports need JAX; it ends with exit code 2."""
    try:
        import_jax()
    except UserError as error:
        print(f"fednas_jax: error: {error}", file=sys.stderr)
        sys.exit(2)
