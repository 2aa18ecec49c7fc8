"""What the page of a training shows besides: the cells of the genotype that is trained."""

import contextlib

from fednas_jax.report.page_parts import Section
from fednas_jax.report.run_types import RunFolder
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.layout import RUN_FILE
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.genotype import Genotype


def sections(run: RunFolder) -> list[Section]:
    """The cells, where a genotype is trained."""
    genotype = trained(run)
    if genotype is None:
        return []
    # Not above: what draws is slow to import.
    from fednas_jax.report.cells import page_cells

    return [page_cells.section([page_cells.part(f"Trained: {run.config['genotype']}", genotype)])]


def trained(run: RunFolder) -> Genotype | None:
    """The genotype whose network is trained, as recorded, or as its name or file has it now.

    None where none is, or its file is gone.

    Raises:
      UserError: what run.json says of it is damaged.
    """
    recorded = run.record.get("genotype")
    if recorded is not None:
        return genotypes.from_json(recorded, f"{run.folder / RUN_FILE}: genotype")
    network = run.config.get("network")
    if not isinstance(network, dict) or network.get("name") != "genotype":
        return None
    with contextlib.suppress(UserError):  # a file that is gone, which the page need not have
        return genotypes.load(str(run.config.get("genotype")))
    return None
