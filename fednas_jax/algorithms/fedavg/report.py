"""The section of a training's page: the cells of the genotype that is trained."""

import contextlib
from pathlib import Path

from fednas_jax.report.page_parts import Section
from fednas_jax.report.run_types import RunFolder
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.layout import RUN_FILE
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.genotype import Genotype


def sections(run: RunFolder) -> list[Section]:
    """The cells of the genotype, if the run trains one."""
    genotype = trained(run)
    if genotype is None:
        return []
    # Imported here, since it is slow to import.
    from fednas_jax.report.cells import page_cells

    about = f"trained: {_shortened(run.config['genotype'])}"
    return [page_cells.section(page_cells.parts(about, genotype))]


def _shortened(name: str) -> str:
    """The name of a genotype, or the end of a long path to its file."""
    parts = Path(name).parts
    return name if len(parts) <= 4 else "/".join(("\N{HORIZONTAL ELLIPSIS}", *parts[-3:]))


def trained(run: RunFolder) -> Genotype | None:
    """The genotype whose network is trained.

    It is read from run.json or, if that has no record of it, from its name or file. None if the run
    trains another network, or the file does not exist any more.

    Raises:
      UserError: the record in run.json is damaged.
    """
    recorded = run.record.get("genotype")
    if recorded is not None:
        return genotypes.from_json(recorded, f"{run.folder / RUN_FILE}: genotype")
    network = run.config.get("network")
    if not isinstance(network, dict) or network.get("name") != "genotype":
        return None
    with contextlib.suppress(UserError):  # the page can do without a file that no longer exists
        return genotypes.load(str(run.config.get("genotype")))
    return None
