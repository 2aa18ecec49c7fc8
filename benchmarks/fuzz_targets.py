"""All readers of files and settings, with generators of their inputs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from benchmarks import fuzz_inputs as inputs
from fednas_jax import config as schema
from fednas_jax.algorithms.fednas.findings import SearchFindings
from fednas_jax.checkpoints import model, model_file
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.data import own, partition_file
from fednas_jax.data.tables import read_table
from fednas_jax.experiment import workdir
from fednas_jax.report import ledger, run_folder, run_record
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as genotypes

EXAMPLES = 12
"""Number of examples of the data for partition files."""


class Target(NamedTuple):
    """A reader, which must do nothing but read, or raise a UserError of one line."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], object]
    """Reads; takes an input and the folder in which it is."""
    put: Callable[[Any, Path], object] = lambda given, folder: None
    """Writes the input into a folder; takes an input and an empty folder."""


def _file(name: str, contents: st.SearchStrategy[bytes], read: Callable[[Path], object]) -> Target:
    """The target for a reader of one file."""
    return Target(
        contents,
        lambda content, folder: read(folder / name),
        lambda content, folder: (folder / name).write_bytes(content),
    )


def check_line(error: UserError) -> None:
    """Fails if the message is not one line with text."""
    text = str(error)
    if not text.strip() or "\n" in text:
        raise AssertionError(f"not a line: {text!r}")


def _all_of(*readers: Callable[[], object]) -> None:
    """Calls all readers, also after one has raised a UserError."""
    for read in readers:
        try:
            read()
        except UserError as error:
            check_line(error)


# --- Settings, genotypes, data ---


def _overridden(overrides: dict[str, str], folder: Path) -> object:
    return schema.to_json(schema.resolve(schema.default(), overrides))


def _configured(values: dict[str, Any], folder: Path) -> object:
    flat = {field.name: field.default for field in schema.FIELDS} | values
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, leaf = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    return schema.to_json(schema.resolve(nested))


def _genotype(path: Path) -> object:
    found = genotypes.load(path)
    assert genotypes.from_json(json.loads(json.dumps(genotypes.to_json(found))), "again") == found
    return found


GENOTYPE = genotypes.to_json(genotypes.random_genotype(np.random.RandomState(0)))
PARTITION = {"indices": np.arange(EXAMPLES)[::-1], "counts": np.array([5, 0, 7])}
OWN = {
    "images": np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1),
    "labels": np.array([0, 1, 1]),
    "client": np.array([4, 4, 2]),
    "class_names": np.array(["no", "yes"]),
}


# --- The files of a run ---

DEFAULT = schema.resolve(schema.default())
ROW = {"round": 1, "train_loss": 1.5, "held_out_accuracy": 0.5, "test_accuracy": 0.25, "clients": 3}
ALPHAS = [{"round": n, "normal": [[0.0] * 8] * 14, "reduce": [[0.0] * 8] * 14} for n in range(3)]
SUMMARY = {
    "rounds": 2,
    "best_round": 1,
    "held_out_accuracy": 0.5,
    "test_accuracy": 0.25,
    "test_accuracy_round": 1,
    "seconds": 3.0,
    "compile_seconds": 1.0,
    "peak_memory_bytes": 5,
    "genotype": GENOTYPE,
}
RUN = {
    "config": schema.to_json(schema.default()),
    "clients_per_chunk": 1,
    "data_sha256": "0",
    "genotype": GENOTYPE,
    "starts": [{"time": "2020-01-01", "versions": {}, "device": "cpu"}],
}
FILES: dict[str, tuple[Any, bool]] = {
    "run.json": (RUN, False),
    "summary.json": (SUMMARY, False),
    "metrics.jsonl": ([ROW, ROW | {"round": 2}], True),
    "alphas.jsonl": (ALPHAS, True),
    "partition.json": ({"class_names": ["a", "b"], "class_counts": [[1, 2], [3, 4]]}, False),
}


def _run_files() -> st.SearchStrategy[dict[str, bytes]]:
    """All files of a run, of which one or two are damaged or missing."""

    def whole(name: str) -> bytes:
        value, lines = FILES[name]
        parts = [inputs.encoded(v) + b"\n" for v in value] if lines else [inputs.encoded(value)]
        return b"".join(parts)

    damaged = {
        name: inputs.json_lines(value) if lines else inputs.json_file(value)
        for name, (value, lines) in FILES.items()
    }
    chosen = st.lists(st.sampled_from(list(FILES)), min_size=1, max_size=2, unique=True)
    faults = chosen.flatmap(
        lambda names: st.fixed_dictionaries({n: st.none() | damaged[n] for n in names})
    )
    kept = {name: whole(name) for name in FILES}
    return faults.map(lambda f: {n: c for n, c in (kept | f).items() if c is not None})


def _put_run(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _read_run(files: dict[str, bytes], folder: Path) -> None:
    _all_of(
        lambda: workdir.recorded_run(folder, DEFAULT),
        lambda: run_record.read_summary(folder, SearchFindings({}, folder)),
        lambda: run_folder.read(folder),
    )


# --- Checkpoints' own JSON ---

STATE = {"params": {"w": np.ones(2, np.float32)}, "arch": np.zeros((1, 2), np.float32)}
MODEL = {
    "format": model_file.FORMAT,
    "network": {"name": "2nn"},
    "genotype": None,
    "class_names": ["no", "yes"],
    "image_shape": [8, 8, 1],
    "dtype": "uint8",
    "mean": [0.5],
    "std": [0.25],
    "data": {"name": "digits", "test_path": "", "test_fraction": 0.2, "seed": 0},
}
JSONS = ("checkpoint.json", "model.json", "checksums.json")


class CheckpointJson:
    """A checkpoint with one damaged JSON file, whose checksum may still be correct."""

    def __init__(self, folder: Path) -> None:
        """Writes the checkpoints of rounds 1 and 2."""
        self.folder = folder
        checkpoints, self.rows = Checkpoints(folder), folder / ledger.FILE
        rows = ledger.Ledger(self.rows, b"")
        for number in (1, 2):
            rows.append(inputs.encoded(ROW | {"round": number}) + b"\n")
            extra = {ledger.KEY: rows.mark(), "best_genotype": None, "costs": {}}
            checkpoints.save(number, STATE, extra, is_best=number == 1, model=MODEL)
        self.newest = folder / "000002"
        self.whole = {name: (self.newest / name).read_bytes() for name in JSONS}

    def target(self) -> Target:
        """The target: damage to one file, and whether its checksum is corrected."""
        damaged = {n: inputs.json_file(json.loads(c)) for n, c in self.whole.items()}
        chosen = st.sampled_from(JSONS).flatmap(lambda n: st.tuples(st.just(n), damaged[n]))
        return Target(st.tuples(chosen, st.booleans()), self._read, self._put)

    def _put(self, given: tuple[tuple[str, bytes], bool], folder: Path) -> None:
        (name, content), mend = given
        files = self.whole | {name: content}
        if mend and name != "checksums.json":
            checksums = json.loads(files["checksums.json"])
            checksums[name] = hashlib.sha256(content).hexdigest()
            files["checksums.json"] = json.dumps(checksums).encode()
        for changed, text in files.items():
            (self.newest / changed).write_bytes(text)

    def _with_rows(self, extra: Any) -> Any:
        return ledger.with_rows(extra, self.rows)

    def _read(self, given: Any, folder: Path) -> None:
        said: list[str] = []
        checkpoints = Checkpoints(self.folder, say=said.append, reading=True)
        _all_of(
            lambda: checkpoints.restore_latest(STATE, self._with_rows),
            lambda: checkpoints.restore("best", STATE),
            lambda: model.restore(self.newest),
        )
        assert not any("\n" in line for line in said), said


def targets(folder: Path) -> dict[str, Target]:
    """All targets by name.

    Args:
      folder: an empty folder for other files that they read.
    """
    return {
        "config overrides": Target(inputs.OVERRIDES, _overridden),
        "config values": Target(inputs.VALUES, _configured),
        "genotype JSON": _file("found.json", inputs.json_file(GENOTYPE), _genotype),
        "partition files": _file(
            "partition.npz",
            inputs.npz_file(PARTITION),
            lambda path: partition_file.load(path, EXAMPLES),
        ),
        "table CSV": _file("table.csv", inputs.TABLES, read_table),
        "own .npz": _file("own.npz", inputs.npz_file(OWN), own.read),
        "run files": Target(_run_files(), _read_run, _put_run),
        "checkpoints' JSON": CheckpointJson(folder / "checkpoints").target(),
    }
