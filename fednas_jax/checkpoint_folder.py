"""One checkpoint as a folder: its arrays by Orbax, its facts as JSON, and checksums of both."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fednas_jax import model_file
from fednas_jax.data import learnt
from fednas_jax.data.learnt import Learnt
from fednas_jax.errors import UserError, one_line
from fednas_jax.files import read_json


class Damaged(Exception):
    """A checkpoint is not whole: the message says what is wrong with it."""


def describe(state: Any) -> list[dict[str, Any]]:
    """Path, shape and dtype of each leaf of a state, in the order of the tree.

    Args:
      state: a tree of arrays, abstract arrays, numbers and typed keys.
    """
    leaves = []
    for path, leaf in jax.tree.leaves_with_path(state):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "state"
        shape = list(getattr(leaf, "shape", ()))
        leaves.append({"path": name, "shape": shape, "dtype": str(_dtype(leaf))})
    if len({leaf["path"] for leaf in leaves}) < len(leaves):
        raise ValueError("two leaves of the state have one path; a name may not hold '/'")
    return leaves


def first_difference(saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> str:
    """In words, the first leaf that two descriptions do not share; "" where they are alike."""
    there = {leaf["path"]: leaf for leaf in saved}
    for leaf in wanted:
        other = there.pop(leaf["path"], None)
        if other is None:
            return f"{leaf['path']} {_shape(leaf)} is not in it"
        if other != leaf:
            return f"{leaf['path']} is {_shape(other)} there and {_shape(leaf)} here"
    return next((f"{path} {_shape(leaf)} is only there" for path, leaf in there.items()), "")


def _shape(leaf: dict[str, Any]) -> str:
    return f"{leaf['dtype']}[{','.join(map(str, leaf['shape']))}]"


def _dtype(leaf: Any) -> Any:
    # A Python number is stored as jax would hold it, so that an abstract state fits it.
    return leaf.dtype if hasattr(leaf, "dtype") else jax.dtypes.result_type(leaf)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def write_folder(
    folder: Path,
    state: Any,
    facts: dict[str, Any],
    model: dict[str, Any] | None = None,
    examples: bytes = b"",
) -> None:
    """Writes a checkpoint into an empty folder, and waits until it is on the disk.

    Args:
      folder: exists and is empty.
      state: a tree of arrays, numbers and typed keys.
      facts: JSON; `leaves` is `describe(state)`.
      model: JSON for `model.json`; None for no such file.
      examples: the content of `examples.npz`; empty for no such file.

    Raises:
      OSError: the disk is full, or refuses otherwise.
    """
    paths = [leaf["path"] for leaf in facts["leaves"]]
    leaves = dict(zip(paths, jax.tree.leaves(state), strict=True))
    arrays = {path: _to_host(leaf) for path, leaf in leaves.items()}
    implementations = {p: str(jax.random.key_impl(x)) for p, x in leaves.items() if _is_key(x)}
    text = json.dumps({**facts, "keys": implementations}, indent=1, allow_nan=False)
    _claim_space(folder, _room_bytes(arrays.values()) + len(text) + len(examples))
    (folder / "checkpoint.json").write_text(text, encoding="utf-8")
    if model is not None:
        text = json.dumps(model, indent=1, allow_nan=False)
        (folder / model_file.FILE).write_text(text, encoding="utf-8")
    if examples:
        (folder / learnt.FILE).write_bytes(examples)
    _write_arrays(folder / "state", arrays)
    checksums = {name: _sha256(folder / name) for name in _files(folder)}
    (folder / "checksums.json").write_text(json.dumps(checksums, indent=1), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        sync(path)


def _to_host(leaf: Any) -> np.ndarray:
    raw = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    return np.asarray(jax.device_get(raw), _dtype(raw))


def _write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    filled = {path: array for path, array in arrays.items() if array.size}  # Orbax takes no other
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            orbax.save(folder.absolute(), filled)
    except ValueError as error:
        if "os_error_code" not in str(error):  # how TensorStore reports what the system refused
            raise
        raise OSError(errno.EIO, " ".join(str(error).split())) from error


def _read_arrays(folder: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays at these paths; others that lie there are not touched.

    Raises:
      Damaged: Orbax cannot read them, though every file is as it was written.
    """
    filled = {path: array for path, array in like.items() if array.size}
    if not filled:
        return like
    as_numpy = dict.fromkeys(filled, ocp.RestoreArgs(restore_type=np.ndarray))
    wanted = ocp.args.PyTreeRestore(filled, as_numpy, partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as orbax:
            return {**like, **orbax.restore(folder.absolute(), args=wanted)}
    except (ValueError, KeyError, OSError) as error:
        raise Damaged("its arrays cannot be read") from error


def read_state(folder: Path, implementations: dict[str, str], abstract_state: Any) -> Any:
    """Reads the arrays of a whole checkpoint.

    Args:
      folder: its `state` folder.
      implementations: the generator's name, for the path of each typed key.
      abstract_state: has the leaves that the checkpoint has.

    Returns:
      A tree as `abstract_state`, with arrays on the default device.

    Raises:
      Damaged: they cannot be read.
    """
    leaves, tree = jax.tree.flatten(abstract_state)
    paths = [leaf["path"] for leaf in describe(abstract_state)]
    like = {path: _room_for(leaf) for path, leaf in zip(paths, leaves, strict=True)}
    arrays = _read_arrays(folder, like)
    restored = [_to_device(arrays[path], implementations.get(path)) for path in paths]
    return jax.tree.unflatten(tree, restored)


def read_part(folder: Path, leaves: list[dict[str, Any]]) -> dict[str, Any]:
    """Reads some arrays of a whole checkpoint.

    Args:
      folder: its `state` folder.
      leaves: those of its description that are wanted; no typed keys.

    Returns:
      Nested dicts, by the parts of each path; NumPy arrays.

    Raises:
      Damaged: they cannot be read.
    """
    like = {leaf["path"]: np.empty(leaf["shape"], jnp.dtype(leaf["dtype"])) for leaf in leaves}
    nested: dict[str, Any] = {}
    for path, array in _read_arrays(folder, like).items():
        *groups, name = path.split("/")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = array
    return nested


def _room_for(leaf: Any) -> np.ndarray:
    raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.empty(getattr(raw, "shape", ()), _dtype(raw))


def _to_device(array: np.ndarray, implementation: str | None) -> Any:
    # A copy: jax may not donate memory that it shares with NumPy.
    placed = jax.device_put(array, may_alias=False)
    if implementation is not None:
        return jax.random.wrap_key_data(placed, impl=implementation)
    return placed if placed.dtype == array.dtype else array  # 64 bit: left to NumPy


def room_bytes(state: Any) -> int:
    """Room that the checkpoint of a state takes, about: its arrays, and 1 MB for the rest."""
    return _room_bytes(_to_host(leaf) for leaf in jax.tree.leaves(state))


def _room_bytes(arrays: Iterable[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays) + 2**20


def _claim_space(folder: Path, size_bytes: int) -> None:
    """Fails at once if the disk has no room: Orbax's threads would report it many times over."""
    if not hasattr(os, "posix_fallocate"):
        return
    path = folder / "room"
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot tell
                raise
    path.unlink()


def verify(path: Path) -> None:
    """Holds every file of a checkpoint against its checksum.

    Raises:
      Damaged: one is missing, cut short or edited, or has no checksum.
    """
    try:
        checksums = dict(read_json(path / "checksums.json"))
    except (UserError, TypeError, ValueError) as error:
        raise Damaged("checksums.json is missing or damaged") from error
    if lacking := [name for name in _read_from(path) if name not in checksums]:
        raise Damaged(f"checksums.json has no checksum of {lacking[0]}")
    for name, checksum in checksums.items():
        try:
            right = _sha256(path / name) == checksum
        except (OSError, ValueError) as error:  # ValueError: not a name that a file can have
            raise Damaged(f"{name} cannot be read ({one_line(error)})") from error
        if not right:
            raise Damaged(f"{name} is cut short or has been edited")


def read_model(path: Path) -> Any:
    """Reads `model.json`.

    Raises:
      UserError: there is none.
      Damaged: it is not JSON.
    """
    if not (path / model_file.FILE).exists():
        raise UserError(
            f"{path}: a checkpoint without {model_file.FILE}, good for going on with its run only; "
            "one that says of which model it is is needed"
        )
    try:
        return read_json(path / model_file.FILE)
    except UserError as error:
        raise Damaged(f"{model_file.FILE} is damaged") from error


def read_learnt(path: Path) -> Learnt | None:
    """Reads `examples.npz`; None where there is none, in checkpoints of earlier versions.

    Raises:
      Damaged: it is not what was written.
    """
    if not (path / learnt.FILE).exists():
        return None
    try:
        return learnt.read(path / learnt.FILE)
    except UserError as error:
        raise Damaged(f"{learnt.FILE} is not what was written ({error})") from error


def read_facts(path: Path) -> dict[str, Any]:
    """Reads `checkpoint.json`.

    Raises:
      Damaged: it is missing, or not what was written.
    """
    try:
        facts = read_json(path / "checkpoint.json")
        return {**facts, "best_round": int(facts["best_round"])}
    except (UserError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Damaged("checkpoint.json is missing or damaged") from error


def check_facts(facts: dict[str, Any]) -> None:
    """Looks at what a whole `checkpoint.json` says of the arrays.

    Raises:
      Damaged: it was written by something else.
    """
    if lacking := [name for name in ("round", "leaves", "keys", "extra") if name not in facts]:
        raise Damaged(f"checkpoint.json has no '{lacking[0]}'")
    keys = facts["keys"]
    for name, right in (
        ("round", isinstance(facts["round"], int)),
        ("leaves", isinstance(facts["leaves"], list) and all(map(_is_leaf, facts["leaves"]))),
        ("keys", isinstance(keys, dict) and all(isinstance(x, str) for x in keys.values())),
    ):
        if not right:
            raise Damaged(f"'{name}' in checkpoint.json is not what was written")


def _is_leaf(leaf: Any) -> bool:
    """Whether it is like an entry of `describe`."""
    return (
        isinstance(leaf, dict)
        and set(leaf) == {"path", "shape", "dtype"}
        and isinstance(leaf["path"], str)
        and isinstance(leaf["dtype"], str)
        and isinstance(leaf["shape"], list)
        and all(isinstance(size, int) and size >= 0 for size in leaf["shape"])
    )


_MANIFEST = "state/manifest.ocdbt"
"""Without it Orbax does not only raise: reads that it has begun fail later, on other threads."""


def _read_from(path: Path) -> list[str]:
    """The files that a checkpoint is read from; another may lie beside them, as a user's notes."""
    arrays = [f"state/{name}" for name in _files(path / "state")]
    # Orbax names none of its own so, but a file manager does.
    arrays = [name for name in arrays if not Path(name).name.startswith(".")]
    about = [name for name in (model_file.FILE, learnt.FILE) if (path / name).exists()]
    return ["checkpoint.json", *about, *arrays, _MANIFEST]


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
