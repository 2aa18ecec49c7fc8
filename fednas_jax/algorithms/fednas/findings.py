"""The findings of a search: the alphas of each round, and the genotypes derived from them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax.report.findings import Findings
from fednas_jax.report.writers import MetricsFile, Row, read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.genotype import Genotype

ALPHAS_FILE = "alphas.jsonl"
_NUMBERED = re.compile(r"\d{6,}")


class SearchFindings(Findings):
    """Writes `alphas.jsonl`, and to `genotypes/` those of each round, the best and the last."""

    folders = (genotypes.FOLDER,)
    title = "Best genotype"
    scored = "Supernet"
    files = (f"{genotypes.FOLDER}/{genotypes.BEST_FILE}",)
    picture = "cells.png"

    def __init__(self, config: Any, folder: Path) -> None:
        """See `Findings`."""
        super().__init__(config, folder)
        self._best: Genotype | None = None
        self._best_row: dict[str, Any] | None = None
        self._file = MetricsFile(folder / ALPHAS_FILE)
        self._alphas: list[dict[str, Any]] = []

    @property
    def best(self) -> dict[str, Any] | None:
        """The genotype of the best round; before the first, that of the first alphas."""
        return None if self._best is None else genotypes.to_json(self._best)

    def check(self, best: Any, source: str) -> None:
        """See `Findings`; None is valid, for a run that did not search."""
        if best is not None:
            genotypes.from_json(best, source)

    def restore(self, best: Any, source: str) -> None:
        """See `Findings`."""
        self._best = None if best is None else genotypes.from_json(best, source)

    def begin(self, state: Any, done: int) -> None:
        """See `Findings`."""
        arch = _alphas(state)
        self._best = self._best or genotypes.derive(arch)
        if done:
            found = read_alphas(self._file.path, done)
            self._alphas = [_row(a["round"], {kind: a[kind] for kind in arch}) for a in found]
        if not self._alphas:
            self._alphas = [_row(done, arch)]
        self._file.rewrite(self._alphas)
        for path in (self._folder / genotypes.FOLDER).glob("*.json"):
            if _NUMBERED.fullmatch(path.stem) and int(path.stem) > done:
                path.unlink()
        if done:  # a killed process may have left genotypes of a round without a checkpoint
            genotypes.save(self._genotype("best"), self._best)
            genotypes.save(self._genotype("last"), genotypes.derive(arch))

    def columns(self, state: Any) -> Row:
        """See `Findings`."""
        return columns(_alphas(state))

    def append(self, number: int, state: Any, *, is_best: bool) -> dict[str, str]:
        """See `Findings`; the text is the genotype of the round."""
        arch = _alphas(state)
        self._alphas.append(_row(number, arch))
        self._file.append(self._alphas[-1])
        derived = genotypes.derive(arch)
        names = [f"{number:06d}", "last"]
        if is_best:
            self._best, self._best_row = derived, self._alphas[-1]
            names.append("best")
        for name in names:
            genotypes.save(self._genotype(name), derived)
        return {"genotype": str(derived)}

    def draw(self, folder: Path) -> None:
        """Draws the alphas and the cells of the best round so far, and the alphas over the rounds.

        Raises:
          UserError: a file cannot be written.
        """
        # Imported here: Matplotlib and SciPy take a second, which would delay the first round.
        from fednas_jax.report import plots
        from fednas_jax.report.cells import drawing

        if self._best is None:
            return
        row = self._row_of_best()
        about = f"round {row['round']}" if row else ""
        most = genotypes.largest_probability(self._alphas)  # the page has the same scale
        plots.alphas(row or self._alphas[-1], folder / "alphas.png", about=about, most=most)
        plots.alphas_over_rounds(self._alphas, folder / "alphas_over_rounds.png")
        drawing.draw_genotype(self._best, folder / self.picture, about=about)

    def _row_of_best(self) -> dict[str, Any] | None:
        """The alphas of the best round; after a resumption, of the last with the same genotype."""
        if self._best_row is None:
            same = [row for row in self._alphas if genotypes.derive(row) == self._best]
            self._best_row = same[-1] if same else None
        return self._best_row

    def lines(self, best: Any) -> list[str]:
        """A line for each kind of cell."""
        if best is None:
            return []

        def described(kind: str) -> str:
            pairs = [f"{name}({state})" for name, state in best[kind]]
            return " | ".join(" ".join(pairs[i : i + 2]) for i in range(0, len(pairs), 2))

        return [f"  {kind}  {described(kind)}" for kind in genotypes.KINDS]

    def _genotype(self, name: str) -> Path:
        return self._folder / genotypes.FOLDER / f"{name}.json"


def columns(arch: Mapping[str, Any]) -> Row:
    """Numbers of convolutions and skips in the genotype of alphas, and their entropy in nats.

    Args:
      arch: "normal" and "reduce", raw alphas [14, 8] each.
    """
    derived = genotypes.derive(arch)
    convolutions = genotypes.count_convolutions(derived)
    skips = genotypes.count_skips(derived)
    entropy = genotypes.entropy(arch)
    return {
        **{f"{kind}_convolutions": count for kind, count in convolutions.items()},
        **{f"{kind}_skips": count for kind, count in skips.items()},
        **{f"{kind}_entropy": float(value) for kind, value in entropy.items()},
    }


def read_alphas(path: Path, last_round: int) -> list[dict[str, Any]]:
    """The lines of alphas.jsonl up to a round; none if it is damaged: only pictures use it."""
    try:
        found = read_rows(path)
        for row in found:
            genotypes.derive(row)
    except (UserError, ValueError, TypeError):
        return []
    return [row for row in found if row.get("round", -1) in range(last_round + 1)]


def _alphas(state: Any) -> dict[str, np.ndarray]:
    return {kind: np.asarray(alphas) for kind, alphas in state.arch.items()}


def _row(number: int, arch: Mapping[str, Any]) -> dict[str, Any]:
    # Copies as NumPy arrays take a tenth of the memory of lists, and no memory of the device.
    return {"round": number, **{kind: np.array(alphas) for kind, alphas in arch.items()}}
