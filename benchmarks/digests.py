"""Digests of the results of short runs, to compare two versions of the code bit by bit.

Bits depend on the processor and on the release of JAX, so that the digests of two versions must be
made on the same machine in the same environment:

    python -m benchmarks.digests --json before.json      # in one clone
    python -m benchmarks.digests --against before.json   # in the other; exit code 1: they differ

The digests of a run are those of every array of its last checkpoint, by path; of its metrics,
without times; of its partition and its model.json; and of its alphas and genotypes, if any.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.fields import config_file
from fednas_jax.runtime.files import read_json, write_json

TIMES = ("seconds", "client_steps_per_second")
SEARCH, FEDAVG, GENOTYPE = "search", "fedavg", "genotype"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": (SEARCH, {}),
    "search, averaged statistics, two side by side": (
        SEARCH,
        {"server.batch_stats": "averaged", "clients_per_chunk": 2, "search.order": "alpha_first"},
    ),
    "search with faults": (
        SEARCH,
        {
            "faults.dropout_share": 0.3,
            "faults.dropouts": "keep",
            "faults.not_finite": "leave_out",
            "search.order": "weights_first",
        },
    ),
    "2nn": (FEDAVG, {}),
    "cnn, server's Adam, FedProx, three side by side": (
        FEDAVG,
        {
            "network.name": "cnn",
            "server.optimizer": "adam",
            "server.learning_rate": 0.01,
            "fedprox_mu": 0.1,
            "clients_per_chunk": 3,
        },
    ),
    "2nn with every fault": (
        FEDAVG,
        {
            "local_epochs": 3,
            "unreachable_share": 0.2,
            "stragglers_share": 0.3,
            "faults.dropout_share": 0.2,
            "faults.dropouts": "keep",
            "faults.deadline_steps": 8,
            "faults.late": "keep",
            "faults.speed_sigma": 0.5,
            "faults.extra_share": 0.25,
            "faults.min_clients": 2,
            "faults.too_few": "repeat",
            "faults.not_finite": "leave_out",
        },
    ),
    "genotype, drop path, auxiliary head": (
        GENOTYPE,
        {
            "network.auxiliary": True,
            "optimizer.auxiliary_weight": 0.4,
            "optimizer.drop_path_rate": 0.2,
            "optimizer.momentum": 0.9,
            "optimizer.weight_decay": 3e-4,
            "rounds": 2,
        },
    ),
}
"""Name -> smallest config of its kind, and the fields that it sets."""

_QUIET = {"report.progress": False, "report.page": False, "report.plots": False}
_DATA = {"dataset.max_train_examples": 88, "dataset.max_test_examples": 40}
_OF_KIND: dict[str, dict[str, Any]] = {
    SEARCH: {
        "rounds": 3,
        "local_epochs": 2,
        "batch_size": 8,
        "partition.num_clients": 3,
        "partition.min_size": 5,
        "supernet.init_channels": 2,
    },
    FEDAVG: {
        "algorithm": "fedavg",
        "network.name": "2nn",
        "rounds": 5,
        "local_epochs": 1,
        "batch_size": 4,
        "clients_per_round": 4,
        "optimizer.learning_rate": 0.1,
        "optimizer.schedule": "constant",
        "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0,
        "optimizer.clip_norm": 0.0,
        "dataset.name": "digits",
        "partition.name": "homo",
        "partition.num_clients": 6,
        "augment.crop_padding": 1,
        "augment.cutout": 2,
    },
}
_OF_KIND[GENOTYPE] = _OF_KIND[FEDAVG] | {
    "network.name": "genotype",
    "network.init_channels": 2,
    "network.layers": 3,
}


def config_of(name: str) -> Any:
    """The config of a run."""
    kind, fields = RUNS[name]
    config = config_file.load("digits_quick:quick") if kind == SEARCH else schema.default()
    config.update_from_flattened_dict(_OF_KIND[kind] | _DATA | _QUIET | fields)
    return schema.resolve(config)


def digest(content: bytes) -> str:
    """The first 16 digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def of_run(folder: Path) -> dict[str, str]:
    """The digests of a finished run.

    Args:
      folder: workdir of the run.

    Returns:
      Name -> digest; an array's name is its path in the checkpoint.
    """
    last = max((folder / "checkpoints").glob("[0-9]*"))
    found = {f"state/{name}": value for name, value in _of_state(last / "state").items()}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    found["metrics.jsonl"] = digest(json.dumps(kept).encode())
    found["model.json"] = digest((last / "model.json").read_bytes())
    found["config"] = digest(json.dumps(read_json(folder / "run.json")["config"]).encode())
    with np.load(folder / "partition.npz", allow_pickle=False) as partition:
        found["partition"] = digest(b"".join(partition[name].tobytes() for name in partition))
    for name in ("alphas.jsonl", "genotypes/best.json"):
        if (folder / name).exists():
            found[name] = digest((folder / name).read_bytes())
    return found


def _of_state(folder: Path) -> dict[str, str]:
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(folder.absolute())
    flat = ocp.utils.to_flat_dict(tree, sep="/")
    return {name: digest(np.asarray(leaf).tobytes()) for name, leaf in sorted(flat.items())}


def measure(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Makes runs by name, in a temporary folder; returns the digests of each by its name."""
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            experiment.run(config_of(name), Path(folder) / "run")
            found[name] = of_run(Path(folder) / "run")
        print(f"{name}: {len(found[name])} digests", flush=True)
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The differences between the digests of two versions, as "run: name"."""
    return [
        f"{run}: {name}"
        for run in {**before, **after}
        for name in {**before.get(run, {}), **after.get(run, {})}
        if before.get(run, {}).get(name) != after.get(run, {}).get(name)
    ]


def main(argv: Sequence[str]) -> int:
    """Makes all or the named runs; returns 1 where digests differ from those in a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digests", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the digests")
    parser.add_argument("--against", type=Path, help="file with digests of another version")
    parser.add_argument("names", nargs="*", help=f"runs: {', '.join(RUNS)}")
    arguments = parser.parse_args(argv)
    found = measure(arguments.names or list(RUNS))
    if arguments.json:
        write_json(arguments.json, found)
    if not arguments.against:
        return 0
    before = {
        name: digests for name, digests in read_json(arguments.against).items() if name in found
    }
    changed = differences(before, found)
    total = sum(map(len, found.values()))
    print("\n".join([*changed, f"{total - len(changed)} of {total} digests are the same"]))
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
