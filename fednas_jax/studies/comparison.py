"""The runs of a comparison of networks: a config for each network and seed.

Random genotypes of the same search space are the baseline for a search (Li, Talwalkar, "Random
search and reproducibility for neural architecture search", 2019). Each seed draws a different one,
so that the spread over seeds includes that over the search space.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import ml_collections
import numpy as np

from fednas_jax import config as schema
from fednas_jax.fields import config_file, words
from fednas_jax.fields.common import NETWORKS
from fednas_jax.runtime.errors import UserError, suggest
from fednas_jax.runtime.paths import expand
from fednas_jax.runtime.user_code import is_reference
from fednas_jax.spaces.darts import genotype as genotypes

RANDOM, SEARCHED = "random", "searched"
BY_HAND = tuple(name for name in NETWORKS if name != "genotype")
"""Hand-designed networks, which have no genotype."""
_DATA = ("dataset", "partition")

Config: TypeAlias = ml_collections.FrozenConfigDict


class Plan(NamedTuple):
    """The runs of a comparison, with resolved configs."""

    searches: dict[str, Config]
    """Folder -> config of a search, which must run before the rows."""
    rows: dict[str, dict[str, Config]]
    """Network -> folder -> config that trains it; one folder for each seed."""
    random: dict[Path, int]
    """File of a random genotype -> the seed with which it is drawn."""


def plan(
    spec: str,
    fields: Mapping[str, str],
    search: str,
    names: Sequence[str],
    seeds: Sequence[int],
    workdir: Path,
) -> Plan:
    """Plans all runs, in the order in which they must run.

    Args:
      spec: config file that trains networks, as fedavg does.
      fields: fields to set in it, as text; those that determine the clients are also set in the
        search.
      search: config file of a search, or "".
      names: networks, as given to `--networks`.
      seeds: seeds of the runs.
      workdir: folder that will contain the folders of the runs.

    Raises:
      UserError: there is no such network, two networks would share a folder, a config is not
        usable, or the search has other clients.
    """
    for name in names:
        _check_network(name)
    base = config_file.load(spec)
    workdir = workdir.resolve()  # it will contain the genotypes of searches
    searches: dict[str, Config] = {}
    if search:
        searching = config_file.load(search)
        of_data = schema.fields_of_data(base, fields)
        shared = {n: text for n, text in fields.items() if _is_of_clients(n) or n in of_data}
        searches = {
            _folder("search", seed): schema.resolve(searching, {**shared, "seed": str(seed)})
            for seed in seeds
        }
        names = [SEARCHED, *names]
    _check_folders(names)
    field = "network.name"
    all_of_it = [_settings(name, seeds[0], workdir)[field] for name in names]
    rows: dict[str, dict[str, Config]] = {}
    for name in names:
        chosen = {seed: {**fields, **_settings(name, seed, workdir)} for seed in seeds}
        rows[name] = {
            _folder(file_name(name), seed): schema.resolve_one_of(base, settings, field, all_of_it)
            for seed, settings in chosen.items()
        }
    if searches:
        _check_clients(next(iter(searches.values())), next(iter(rows[SEARCHED].values())))
    drawn = {_random_file(workdir, seed): seed for seed in seeds} if RANDOM in names else {}
    return Plan(searches, rows, drawn)


def save_random(random: Mapping[Path, int]) -> None:
    """Draws the random genotypes of `Plan.random` and saves them.

    Raises:
      UserError: a file cannot be written.
    """
    for path, seed in random.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        genotypes.save(path, genotypes.random_genotype(np.random.RandomState(seed)))


def file_name(network: str) -> str:
    """The name of a network, or the path of its genotype, as part of a file name."""
    return network.removesuffix(".json").strip("./").replace("/", "_")


def _folder(name: str, seed: int) -> str:
    return f"{name}-seed={seed}"


def _random_file(workdir: Path, seed: int) -> Path:
    return workdir / "genotypes" / f"random-{seed}.json"


def _check_network(name: str) -> None:
    """Refuses a name that is neither a network nor a genotype, before anything runs."""
    if _is_file(name):
        genotypes.load(expand(name, "--networks"))
        return
    known = [*BY_HAND, RANDOM, *genotypes.names()]
    if name not in known and not is_reference(name):
        also = {word: right for word, right in words.NETWORKS.items() if right in known}
        also |= _WORDS
        raise UserError(f"--networks: {name!r} is not a network{suggest(name, known, also)}")


_WORDS = {
    **dict.fromkeys(
        (SEARCHED, "search", "supernet", "found", "nas", "derived"),
        "--search=CONFIG, which adds the network that a search finds",
    ),
    **dict.fromkeys(("genotype",), "the name or the file of a genotype, such as FedNAS_V1"),
    "darts": "DARTS_V2",
    "fednas": "FedNAS_V1",
}
"""Other word -> what to give to `--networks`, or instead of it."""


def _is_file(name: str) -> bool:
    """Whether a name is the path of a genotype's file; known names take precedence."""
    if name in (*BY_HAND, RANDOM, SEARCHED, *genotypes.names()) or is_reference(name):
        return False
    return name.endswith(".json") or expand(name, "--networks").is_file()


def _check_folders(names: Sequence[str]) -> None:
    """Refuses two networks whose runs would have the same folders."""
    owners = {"search": "the search"} if SEARCHED in names else {}
    for name in names:
        other = owners.setdefault(file_name(name), name)
        if other is not name:
            raise UserError(
                f"--networks: {name!r} and {other!r} would share a folder; another file name is "
                "needed"
            )


def _is_of_clients(field: str) -> bool:
    """Whether a field determines the examples, or which client holds them."""
    return field.split(".")[0] in _DATA or field == "client.held_out_fraction"


def _check_clients(search: Config, training: Config) -> None:
    """Refuses a search whose clients differ from those of the training."""
    there, here = schema.flat(search), schema.flat(training)
    own = schema.fields_of_data(training, {})
    for name, value in here.items():
        of_data = name.partition(".")[0] in _DATA or name in own
        if of_data and name != "dataset.data_dir" and there.get(name) != value:
            raise UserError(
                f"--search: config.{name} is {there.get(name)!r}, and {value!r} in --config; the "
                "same clients are needed"
            )


def _settings(name: str, seed: int, workdir: Path) -> dict[str, str]:
    """The fields to set in a config for a network of the table and a seed."""
    settings = {"seed": str(seed)}
    if name in BY_HAND or is_reference(name):
        return {**settings, "network.name": name}
    genotype: str | Path = name
    if name == RANDOM:
        genotype = _random_file(workdir, seed)
    elif name == SEARCHED:
        genotype = workdir / _folder("search", seed) / "genotypes" / "best.json"
    elif _is_file(name):
        genotype = expand(name, "--networks")
    return {**settings, "network.name": "genotype", "genotype": str(genotype)}
