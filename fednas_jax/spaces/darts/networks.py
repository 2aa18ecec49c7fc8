"""The networks of this space as the registry of networks knows them: a genotype's, a supernet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.fields.field import Config
from fednas_jax.runtime import layout
from fednas_jax.runtime.paths import expand
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts import genotype_text
from fednas_jax.spaces.darts.genotype import Genotype
from fednas_jax.spaces.darts.inherit import Variables, inherit
from fednas_jax.spaces.darts.network import Network

FIELD = "genotype"
"""Of a network's fields and of the config: what the network is built from."""
TRAINED, SUPERNET = "genotype", "supernet"
"""Names of networks."""


def build(num_classes: int, genotype: Any, **fields: Any) -> Network:
    """The network of a genotype.

    Args:
      num_classes: logits.
      genotype: as JSON holds it.
      fields: of `config.network`.

    Raises:
      UserError: it is no genotype.
    """
    return Network(genotypes.from_json(genotype, FIELD), num_classes, **fields)


def given(genotype: Genotype | None) -> dict[str, Any]:
    """A genotype as a field of a network; nothing for None."""
    return {} if genotype is None else {FIELD: genotypes.to_json(genotype)}


def named(config: Config) -> dict[str, Any]:
    """What `config.genotype` stands for, as JSON holds it.

    Raises:
      UserError: there is no such genotype.
    """
    return genotypes.to_json(genotypes.load(config[FIELD]))


def origin(config: Config) -> dict[str, Path | None]:
    """The run that the genotype of a config was found by, under the name of its field.

    None where its file lies in no run's folder, or it is given as a text, as it may have been
    copied from a run; nothing where it is a published one.
    """
    genotype = str(config.get(FIELD, ""))
    if not genotype or genotypes.is_published(genotype):
        return {}
    if genotype_text.is_text(genotype):
        return {FIELD: None}
    place = expand(genotype, f"config.{FIELD}").parent
    run = place.parent
    in_a_run = place.name == genotypes.FOLDER and (run / layout.CHECKPOINTS_FOLDER).is_dir()
    return {FIELD: run if in_a_run else None}


def of_model(fields: Mapping[str, Any], variables: Mapping[str, Any]) -> Genotype | None:
    """The genotype of a trained network, or the one that a supernet's alphas stand for.

    Args:
      fields: of the network.
      variables: its collections.

    Returns:
      None of a network made by hand.
    """
    if fields["name"] == SUPERNET:
        return genotypes.derive(variables["arch"])
    found = fields.get(FIELD)
    return None if found is None else genotypes.from_json(found, FIELD)


def taken_over(supernet: Mapping[str, Any], fields: Mapping[str, Any]) -> Variables:
    """What the network of a genotype takes over from a supernet; see `inherit`.

    Args:
      supernet: its variables.
      fields: of the network.
    """
    return inherit(supernet, genotypes.from_json(fields[FIELD], FIELD))
