"""All pictures of a run, drawn from the files of its workdir.

What draws is imported when it is first used: Matplotlib and SciPy take a second, which the first
round need not wait for.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax.data.partition import Partition, class_counts
from fednas_jax.errors import UserError
from fednas_jax.report.writers import read_rows
from fednas_jax.search.genotype import Genotype, derive


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


def draw_progress(
    folder: Path, rows: list[dict[str, Any]], alphas: list[dict[str, Any]], best: Genotype | None
) -> None:
    """Metrics and alphas so far, and the cells of the best genotype.

    Args:
      folder: where the pictures go.
      rows: metrics of the rounds so far.
      alphas: {"round", "normal", "reduce"} of the rounds so far, from before the first on.
      best: the genotype to draw; None where none is searched, nor are there alphas then.
    """
    from fednas_jax.report import cells, plots

    plots.accuracy_and_loss(rows, folder / "accuracy_and_loss.png")
    if best is None:
        return
    plots.alphas(alphas[-1], folder / "alphas.png")
    plots.alphas_over_rounds(alphas, folder / "alphas_over_rounds.png")
    cells.draw_genotype(best, folder / "cells.png")


def read_alphas(path: Path, last_round: int) -> list[dict[str, Any]]:
    """The lines of alphas.jsonl up to a round; none of a damaged file, which only pictures need."""
    try:
        found = read_rows(path)
        for row in found:
            derive(row)
    except (UserError, ValueError, TypeError):
        return []
    return [row for row in found if row.get("round", -1) in range(last_round + 1)]
