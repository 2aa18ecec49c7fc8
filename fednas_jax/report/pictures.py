"""The pictures of any run: its partition, and its metrics over rounds.

What draws is imported when it is first used: Matplotlib and SciPy take a second, which the first
round need not wait for.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax.data.partition import Partition, class_counts


def draw_partition(
    folder: Path,
    partition: Partition,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    client_ids: list[int] | None = None,
) -> None:
    """Who holds how many of which class; clients by their ids, where the data calls them so."""
    from fednas_jax.report import plots

    counts = class_counts(partition, labels, len(class_names))
    plots.partition(counts, class_names, folder / "partition.png", client_ids=client_ids)


def draw_progress(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Metrics so far.

    Args:
      folder: where the picture goes.
      rows: metrics of the rounds so far.
    """
    from fednas_jax.report import plots

    plots.accuracy_and_loss(rows, folder / "accuracy_and_loss.png")
