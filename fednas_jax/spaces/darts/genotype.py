"""Genotypes: discrete architectures derived from the alphas, their JSON, and published ones.

The space and the derivation rule are those of DARTS (Liu et al., 2019, arXiv 1806.09055, section
2.4), which FedNAS (arXiv 2004.08546) and MiLeNAS keep.
"""

import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError, suggest
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.runtime.paths import THIRD_PARTY, expand
from fednas_jax.spaces.darts import genotype_text
from fednas_jax.spaces.darts.space import EDGES, NODES, PRIMITIVES

KINDS = ("normal", "reduce")
"""The two kinds of cell."""

FOLDER, BEST_FILE = layout.GENOTYPES_FOLDER, "best.json"
"""In the folder of a search, and in there that of its best round."""

_FIRST_CONVOLUTION = PRIMITIVES.index("sep_conv_3x3")
_OPERATIONS = PRIMITIVES[1:]
_FIELD = "config.genotype"
_FIELDS = genotype_text.FIELDS


class Genotype(NamedTuple):
    """A discrete architecture: for each kind of cell, two edges per node and the cell's output.

    `normal` and `reduce` hold 8 pairs (operation, source state); pairs 2i and 2i + 1 belong to
    node i. `normal_concat` and `reduce_concat` hold the states that are concatenated to the cell's
    output.
    """

    normal: tuple[tuple[str, int], ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[tuple[str, int], ...]
    reduce_concat: tuple[int, ...]


def softmax(alpha: ArrayLike) -> np.ndarray:
    """Softmax over the last axis, in float64 on the host."""
    powers = _powers(alpha)
    return powers / powers.sum(axis=-1, keepdims=True)


def _powers(alpha: ArrayLike) -> np.ndarray:
    raw = np.asarray(alpha, dtype=np.float64)
    return np.exp(raw - raw.max(axis=-1, keepdims=True))


def largest_probability(history: Iterable[Mapping[str, Any]]) -> float:
    """The largest probability of an operation in any of the rounds; pictures of them share a scale.

    Args:
      history: of each round "normal" and "reduce", each [14, 8], before the softmax; at least one.
    """
    return max(float(softmax(arch[kind]).max()) for arch in history for kind in KINDS)


def derive(alphas: Mapping[str, ArrayLike]) -> Genotype:
    """Derives the architecture from the alphas by the rule of DARTS.

    Each node keeps the two edges whose most probable operation has the highest probability, the
    best first (ties: the lower source state first), each with that operation (ties: the lower
    index). Two edges with the same eight alphas in another order tie, too. `none` is never chosen;
    it only adds to the denominator of the softmax.

    Args:
      alphas: "normal" and "reduce", each [14, 8], raw (before the softmax).

    Raises:
      UserError: an array is missing, of another shape, or not finite.
    """
    checked = _check_alphas(alphas)
    concat = tuple(range(2, 2 + NODES))
    return Genotype(
        _derive_cell(checked["normal"]), concat, _derive_cell(checked["reduce"]), concat
    )


def _derive_cell(alpha: np.ndarray) -> tuple[tuple[str, int], ...]:
    powers = _powers(alpha)
    # Summed in ascending order, so that the same alphas in another order have the same sum.
    probabilities = (powers / np.sort(powers, axis=-1).sum(axis=-1, keepdims=True))[:, 1:]
    chosen: list[tuple[str, int]] = []
    for node in range(NODES):
        rows = [row for row, edge in enumerate(EDGES) if edge[0] == node]
        ranked = sorted(rows, key=lambda row: -probabilities[row].max())  # stable: ties keep order
        chosen += [(_OPERATIONS[probabilities[row].argmax()], EDGES[row][1]) for row in ranked[:2]]
    return tuple(chosen)


def _check_alphas(alphas: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    shape = (len(EDGES), len(PRIMITIVES))
    checked = {}
    for kind in KINDS:
        if kind not in alphas:
            raise UserError(f"alphas: '{kind}' is missing; needed: normal and reduce, each {shape}")
        checked[kind] = np.asarray(alphas[kind], dtype=np.float64)
        if checked[kind].shape != shape:
            raise UserError(f"alphas['{kind}']: shape {checked[kind].shape}; must be {shape}")
        if not np.isfinite(checked[kind]).all():
            raise UserError(f"alphas['{kind}']: holds values that are not finite")
    return checked


def entropy(alphas: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Mean over the 14 edges of the entropy of softmax(alpha), in nats (0 to ln 8 = 2.079).

    Args:
      alphas: "normal" and "reduce", each [14, 8], raw.

    Raises:
      UserError: as `derive`.
    """
    result = {}
    for kind, alpha in _check_alphas(alphas).items():
        p = softmax(alpha)
        log_p = np.log(p, out=np.zeros_like(p), where=p > 0)
        result[kind] = float(-(p * log_p).sum(axis=-1).mean())
    return result


def count_convolutions(genotype: Genotype) -> dict[str, int]:
    """Number of convolutions (index >= 4) among the 8 operations of each kind of cell."""
    convolutions = PRIMITIVES[_FIRST_CONVOLUTION:]
    return {kind: _count(genotype, kind, convolutions) for kind in KINDS}


def count_skips(genotype: Genotype) -> dict[str, int]:
    """Number of `skip_connect` among the 8 operations of each kind of cell."""
    return {kind: _count(genotype, kind, ("skip_connect",)) for kind in KINDS}


def _count(genotype: Genotype, kind: str, operations: tuple[str, ...]) -> int:
    return sum(name in operations for name, _ in getattr(genotype, kind))


def random_genotype(rng: np.random.RandomState) -> Genotype:
    """Draws uniformly from the genotypes that `derive` can reach: two distinct sources per node."""
    concat = tuple(range(2, 2 + NODES))

    def cell() -> tuple[tuple[str, int], ...]:
        return tuple(
            (_OPERATIONS[rng.randint(len(_OPERATIONS))], int(state))
            for node in range(NODES)
            for state in sorted(rng.choice(2 + node, size=2, replace=False))
        )

    return Genotype(cell(), concat, cell(), concat)


# JSON in and out ---------------------------------------------------------------------------------


def to_json(genotype: Genotype) -> dict[str, Any]:
    """The genotype as JSON values; `from_json` reads it back.

    Raises:
      UserError: the genotype cannot be built.
    """
    validate(genotype, "genotype")
    return {
        "normal": [[name, int(state)] for name, state in genotype.normal],
        "normal_concat": [int(state) for state in genotype.normal_concat],
        "reduce": [[name, int(state)] for name, state in genotype.reduce],
        "reduce_concat": [int(state) for state in genotype.reduce_concat],
    }


def from_json(value: Any, source: str) -> Genotype:
    """Builds a genotype from JSON values.

    Args:
      value: `{"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...,
        "reduce_concat": ...}`; the texts "name" and "source" may stand beside them.
      source: the file, or the file and the name in it, for error messages.

    Raises:
      UserError: names `source` and the field that is wrong.
    """
    if not isinstance(value, dict):
        raise UserError(f"{source}: must be an object with the keys {', '.join(_FIELDS)}")
    for key in value:
        if key not in (*_FIELDS, "name", "source"):
            raise UserError(f"{source}: unknown key {key!r}{suggest(key, _FIELDS)}")
    for key in ("name", "source"):
        if not isinstance(value.get(key, ""), str):
            raise UserError(f"{source}: {key}: must be a text")
    for key in _FIELDS:
        if not isinstance(value.get(key), list):
            problem = "must be a list" if key in value else "is missing"
            raise UserError(f"{source}: {key}: {problem}")
    fields: list[Any] = [
        tuple(tuple(item) if isinstance(item, list) else item for item in value[key])
        for key in _FIELDS
    ]
    genotype = Genotype(*fields)
    validate(genotype, source)
    return genotype


def validate(genotype: Genotype, source: str) -> None:
    """Checks that a network can be built from the genotype.

    Args:
      genotype: the genotype to check; a node may have the same source state twice.
      source: the file or field it is from, for error messages.

    Raises:
      UserError: names `source` and the field that is wrong.
    """
    for kind in KINDS:
        _validate_pairs(getattr(genotype, kind), f"{source}: {kind}")
        _validate_concat(getattr(genotype, f"{kind}_concat"), f"{source}: {kind}_concat")


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _validate_pairs(pairs: Any, where: str) -> None:
    if len(pairs) != 2 * NODES:
        raise UserError(
            f"{where}: {len(pairs)} entries; must be {2 * NODES} pairs [operation, state], "
            "two for each node"
        )
    for index, pair in enumerate(pairs):
        here = f"{where}[{index}]"
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UserError(f"{here}: must be a pair [operation, state]")
        name, state = pair
        if name not in _OPERATIONS:
            raise UserError(f"{here}: unknown operation {name!r}{suggest(str(name), _OPERATIONS)}")
        if not _is_int(state) or not 0 <= state < 2 + index // 2:
            raise UserError(
                f"{here}: source state {state!r}; node {index // 2} can read the integers "
                f"0 to {1 + index // 2}"
            )


def _validate_concat(concat: Any, where: str) -> None:
    last = 1 + NODES
    if not (concat and all(_is_int(state) and 2 <= state <= last for state in concat)):
        raise UserError(f"{where}: must be one or more of the integers 2 to {last}")
    if any(a >= b for a, b in itertools.pairwise(concat)):
        raise UserError(f"{where}: must ascend, without repeats")


def save(path: Path | str, genotype: Genotype) -> None:
    """Writes the genotype as a JSON file, whole or not at all.

    Raises:
      UserError: the genotype cannot be built, or the file cannot be written.
    """
    write_json(path, to_json(genotype))


def names() -> tuple[str, ...]:
    """The genotypes that `load` knows by name."""
    return tuple(_published())


def is_published(given: Path | str) -> bool:
    """Whether `load` knows a genotype by this name."""
    return str(given) in _published()


def load(given: Path | str) -> Genotype:
    """Loads a published genotype by its name, a genotype's file, or a genotype's text.

    Args:
      given: one of `names()`; the path, which may begin with `~`, of a JSON file or of a file that
        holds a genotype as DARTS prints it; or such a text, `Genotype(normal=[...], ...)`. A
        published name takes precedence over a file of that name.

    Raises:
      UserError: no such name or file, or no genotype, a damaged one or several in the file.
    """
    published, text = _published(), str(given)
    if text in published:
        return from_json(published[text], f"{THIRD_PARTY / 'genotypes.json'}: {text}")
    if genotype_text.is_text(text):
        return from_json(genotype_text.read(text, _FIELD), _FIELD)
    path = expand(given, _FIELD)
    if path.suffix != ".json" and not os.path.exists(path):
        raise UserError(
            f"{_FIELD}: {text!r} is neither a known name nor a file{suggest(text, published)}"
        )
    return from_json(_read(path), text)


def _read(path: Path) -> Any:
    """What a genotype's file holds, as JSON holds it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""  # `read_json` says why
    return genotype_text.read(text, str(path)) if genotype_text.is_text(text) else read_json(path)


def _published() -> dict[str, Any]:
    path = THIRD_PARTY / "genotypes.json"
    published = read_json(path)
    if not isinstance(published, dict):
        raise UserError(f"{path}: must be an object, name -> genotype")
    return published
