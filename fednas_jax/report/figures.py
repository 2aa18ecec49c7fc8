"""Figures without pyplot: nothing global is touched, and a file is written whole or not at all."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from fednas_jax.files import write_atomic


def finish(figure: Figure, path: Path | str | None, dpi: int = 150) -> Figure:
    """Saves the figure where a path is given, in the format of its suffix, and hands it on.

    Raises:
      UserError: the file cannot be written.
    """
    if path is not None:
        content = io.BytesIO()
        form = Path(path).suffix.removeprefix(".") or "png"
        figure.savefig(content, format=form, dpi=dpi)
        write_atomic(path, content.getvalue())
    return figure
