"""Which runs a comparison of networks is made of: for each network and seed, a config.

A random genotype of the same space is the baseline that shows what a search is worth (Li,
Talwalkar, "Random search and reproducibility for neural architecture search", 2019). Each seed
draws another one, so that the spread over seeds is that of the space too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import ml_collections
import numpy as np

from fednas_jax import config as schema
from fednas_jax import config_file
from fednas_jax.errors import UserError, suggest
from fednas_jax.fields import NETWORKS
from fednas_jax.paths import expand
from fednas_jax.search import genotype as genotypes

RANDOM, SEARCHED = "random", "searched"
BY_HAND = tuple(name for name in NETWORKS if name != "genotype")
"""Networks that are no genotype's."""

Config: TypeAlias = ml_collections.FrozenConfigDict


class Plan(NamedTuple):
    """The runs of a comparison; configs are resolved."""

    searches: dict[str, Config]
    """Folder -> config of a search, to be made before the rows."""
    rows: dict[str, dict[str, Config]]
    """Network -> folder -> config that trains it, one a seed."""
    random: dict[Path, int]
    """File of a random genotype -> the seed it is drawn with."""


def plan(
    spec: str,
    fields: Mapping[str, str],
    search: str,
    names: Sequence[str],
    seeds: Sequence[int],
    workdir: Path,
) -> Plan:
    """All runs, in the order in which they are to be made.

    Args:
      spec: config file that trains by fedavg.
      fields: fields of it to set, as text.
      search: config file that searches, or "".
      names: networks, as `--networks` takes them.
      seeds: of the runs.
      workdir: where the runs' folders go.

    Raises:
      UserError: there is no such network, or a config is not usable.
    """
    for name in names:
        _check_network(name)
    searches: dict[str, Config] = {}
    if search:
        searching = config_file.load(search)
        searches = {
            _folder("search", seed): schema.resolve(searching, {"seed": str(seed)})
            for seed in seeds
        }
        names = [SEARCHED, *names]
    base = config_file.load(spec)
    rows: dict[str, dict[str, Config]] = {}
    for name in names:
        chosen = {seed: {**fields, **_settings(name, seed, workdir)} for seed in seeds}
        rows[name] = {
            _folder(file_name(name), seed): schema.resolve_one_of(base, settings, "network.name")
            for seed, settings in chosen.items()
        }
    drawn = {_random_file(workdir, seed): seed for seed in seeds} if RANDOM in names else {}
    return Plan(searches, rows, drawn)


def save_random(random: Mapping[Path, int]) -> None:
    """Draws random genotypes and keeps them, as `Plan.random` says.

    Raises:
      UserError: a file cannot be written.
    """
    for path, seed in random.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        genotypes.save(path, genotypes.random_genotype(np.random.RandomState(seed)))


def file_name(network: str) -> str:
    """The network's name, or the path of its genotype, as part of a file's name."""
    return network.removesuffix(".json").strip("./").replace("/", "_")


def _folder(name: str, seed: int) -> str:
    return f"{name}-seed={seed}"


def _random_file(workdir: Path, seed: int) -> Path:
    return workdir / "genotypes" / f"random-{seed}.json"


def _check_network(name: str) -> None:
    """Refuses what is neither a network nor a genotype, before anything is run."""
    if name.endswith(".json"):
        genotypes.load(expand(name, "--networks"))
        return
    known = [*BY_HAND, RANDOM, *genotypes.names()]
    if name not in known:
        raise UserError(f"--networks: {name!r} is no network{suggest(name, known)}")


def _settings(name: str, seed: int, workdir: Path) -> dict[str, str]:
    """The fields that make a config train a network of the table with a seed."""
    settings = {"seed": str(seed)}
    if name in BY_HAND:
        return {**settings, "network.name": name}
    genotype: str | Path = name
    if name == RANDOM:
        genotype = _random_file(workdir, seed)
    elif name == SEARCHED:
        genotype = workdir / _folder("search", seed) / "genotypes" / "best.json"
    elif name.endswith(".json"):
        genotype = expand(name, "--networks")
    return {**settings, "network.name": "genotype", "genotype": str(genotype)}
