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

from fednas_jax.checkpoints import model_file
from fednas_jax.data import learnt
from fednas_jax.data.learnt import Learnt
from fednas_jax.runtime.errors import UserError, one_line
from fednas_jax.runtime.files import read_json

CHECKSUMS_FILE = "checksums.json"


class Damaged(Exception):
    """A checkpoint is damaged; the message says how."""


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
        raise ValueError("two leaves of the state have the same path; names must not contain '/'")
    return leaves


def first_difference(saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> str:
    """The first difference between two descriptions, in words; "" where they are equal."""
    there = {leaf["path"]: leaf for leaf in saved}
    for leaf in wanted:
        other = there.pop(leaf["path"], None)
        if other is None:
            return f"{leaf['path']} {_shape(leaf)} is missing there"
        if other != leaf:
            return f"{leaf['path']} is {_shape(other)} there and {_shape(leaf)} here"
    return next((f"{path} {_shape(leaf)} is only there" for path, leaf in there.items()), "")


def _shape(leaf: dict[str, Any]) -> str:
    return f"{leaf['dtype']}[{','.join(map(str, leaf['shape']))}]"


def _dtype(leaf: Any) -> Any:
    # A Python number gets the dtype that JAX gives it, so that an abstract state matches.
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
      folder: an empty folder.
      state: a tree of arrays, numbers and typed keys.
      facts: JSON; `leaves` is `describe(state)`.
      model: JSON for `model.json`; None for no such file.
      examples: the content of `examples.npz`; empty for no such file.

    Raises:
      OSError: the disk is full, or the system refuses to write.
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
    (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=1), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        sync(path)


def _to_host(leaf: Any) -> np.ndarray:
    raw = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    return np.asarray(jax.device_get(raw), _dtype(raw))


def _write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    filled = {path: array for path, array in arrays.items() if array.size}  # Orbax needs elements
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            orbax.save(folder.absolute(), filled)
    except ValueError as error:
        if "os_error_code" not in str(error):  # TensorStore's way to report errors of the system
            raise
        raise OSError(errno.EIO, " ".join(str(error).split())) from error


def _read_arrays(folder: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reads the arrays at given paths, and no others.

    Raises:
      Damaged: Orbax cannot read them, although the checksums of all files are correct.
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
    """Reads the arrays of an intact checkpoint.

    Args:
      folder: its `state` folder.
      implementations: path of each typed key -> name of its random generator.
      abstract_state: a tree with the same leaves as the checkpoint.

    Returns:
      A tree like `abstract_state`, with arrays on the default device.

    Raises:
      Damaged: the arrays cannot be read.
    """
    leaves, tree = jax.tree.flatten(abstract_state)
    paths = [leaf["path"] for leaf in describe(abstract_state)]
    like = {path: _room_for(leaf) for path, leaf in zip(paths, leaves, strict=True)}
    arrays = _read_arrays(folder, like)
    restored = [_to_device(arrays[path], implementations.get(path)) for path in paths]
    return jax.tree.unflatten(tree, restored)


def read_part(folder: Path, leaves: list[dict[str, Any]]) -> dict[str, Any]:
    """Reads some arrays of an intact checkpoint.

    Args:
      folder: its `state` folder.
      leaves: the entries of its description to read; no typed keys.

    Returns:
      NumPy arrays in nested dicts, by the parts of their paths.

    Raises:
      Damaged: the arrays cannot be read.
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
    # A copy, since JAX cannot donate memory that it shares with NumPy.
    placed = jax.device_put(array, may_alias=False)
    if implementation is not None:
        return jax.random.wrap_key_data(placed, impl=implementation)
    return placed if placed.dtype == array.dtype else array  # 64-bit arrays stay NumPy arrays


def room_bytes(state: Any) -> int:
    """Approximate size of the checkpoint of a state: its arrays, and 1 MB for the rest."""
    return _room_bytes(_to_host(leaf) for leaf in jax.tree.leaves(state))


def _room_bytes(arrays: Iterable[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays) + 2**20


def _claim_space(folder: Path, size_bytes: int) -> None:
    """Raises OSError if the disk is full, which Orbax's threads would report many times."""
    if not hasattr(os, "posix_fallocate"):
        return
    path = folder / "room"
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not known on this file system
                raise
    path.unlink()


def verify(path: Path) -> None:
    """Checks every file of a checkpoint against its checksum.

    Raises:
      Damaged: a file is missing, truncated or edited, or has no checksum.
    """
    try:
        checksums = dict(read_json(path / CHECKSUMS_FILE))
    except (UserError, TypeError, ValueError) as error:
        raise Damaged("checksums.json is missing or damaged") from error
    if lacking := [name for name in _read_from(path) if name not in checksums]:
        raise Damaged(f"checksums.json has no checksum of {lacking[0]}")
    for name, checksum in checksums.items():
        try:
            right = _sha256(path / name) == checksum
        except (OSError, ValueError) as error:  # ValueError: not a possible name of a file
            raise Damaged(f"{name} cannot be read ({one_line(error)})") from error
        if not right:
            raise Damaged(f"{name} is truncated or has been edited")


def read_model(path: Path) -> Any:
    """Reads `model.json`.

    Raises:
      UserError: there is no such file.
      Damaged: the file is not JSON.
    """
    if not (path / model_file.FILE).exists():
        raise UserError(
            f"{path}: a checkpoint without {model_file.FILE}, which can only resume its run; "
            "a checkpoint with this file is needed"
        )
    try:
        return read_json(path / model_file.FILE)
    except UserError as error:
        raise Damaged(f"{model_file.FILE} is damaged") from error


def read_learnt(path: Path) -> Learnt | None:
    """Reads `examples.npz`; None in checkpoints of earlier versions, which have no such file.

    Raises:
      Damaged: the file does not have the expected content.
    """
    if not (path / learnt.FILE).exists():
        return None
    try:
        return learnt.read(path / learnt.FILE)
    except UserError as error:
        raise Damaged(f"{learnt.FILE} does not have the expected content ({error})") from error


def read_facts(path: Path) -> dict[str, Any]:
    """Reads `checkpoint.json`.

    Raises:
      Damaged: the file is missing, or does not have the expected content.
    """
    try:
        facts = read_json(path / "checkpoint.json")
        return {**facts, "best_round": int(facts["best_round"])}
    except (UserError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Damaged("checkpoint.json is missing or damaged") from error


def check_facts(facts: dict[str, Any]) -> None:
    """Checks the description of the arrays in `checkpoint.json`.

    Raises:
      Damaged: the description does not have the expected form.
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
            raise Damaged(f"'{name}' in checkpoint.json does not have the expected content")


def _is_leaf(leaf: Any) -> bool:
    """Whether a value has the form of an entry of `describe`."""
    return (
        isinstance(leaf, dict)
        and set(leaf) == {"path", "shape", "dtype"}
        and isinstance(leaf["path"], str)
        and isinstance(leaf["dtype"], str)
        and isinstance(leaf["shape"], list)
        and all(isinstance(size, int) and size >= 0 for size in leaf["shape"])
    )


_MANIFEST = "state/manifest.ocdbt"
"""A file that Orbax needs. Without it Orbax raises, and reads on other threads fail later."""


def _read_from(path: Path) -> list[str]:
    """The files of a checkpoint; other files beside them, such as a user's notes, are ignored."""
    arrays = [f"state/{name}" for name in _files(path / "state")]
    # Names that begin with a dot are not Orbax's, but those of file managers.
    arrays = [name for name in arrays if not Path(name).name.startswith(".")]
    about = [name for name in (model_file.FILE, learnt.FILE) if (path / name).exists()]
    return ["checkpoint.json", *about, *arrays, _MANIFEST]


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the list of files in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
