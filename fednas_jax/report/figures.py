"""Saving figures without pyplot and its global state; files are written whole or not at all."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from fednas_jax.runtime.files import write_atomic


def finish(figure: Figure, path: Path | str | None, dpi: int = 150) -> Figure:
    """Saves the figure if a path is given, in the format of its suffix, and returns the figure.

    Raises:
      UserError: the file cannot be written.
    """
    if path is not None:
        content = io.BytesIO()
        form = Path(path).suffix.removeprefix(".") or "png"
        figure.savefig(content, format=form, dpi=dpi)
        write_atomic(path, content.getvalue())
    return figure
