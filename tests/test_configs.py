"""Every quick config runs: on data of the right shape, as the real images may not be at hand."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms.fednas import findings
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.experiment import assembly, stages
from fednas_jax.fields import config_file
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.files import read_json
from fednas_jax.spaces.darts import genotype
from tests.quick import compiled_quickly

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = {  # searches, then trains: as these two
    "cifar_hetero_search_train.py": ("cifar_hetero.py", "cifar_hetero_train.py"),
    "digits_search_train.py": ("digits_quick.py", "digits_train.py"),
}
QUICK = [
    f"{path.stem}.py:quick"
    for path in sorted(CONFIGS.glob("*.py"))
    if path.name not in (*STAGES, "cifar_homo.py")
]
CLASSES = 10


def coloured_squares(count: int, seed: int) -> Split:
    """Noise in which the class is the brightness of the first channel."""
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(CLASSES), count // CLASSES).astype(np.int32)
    images = rng.randint(0, 40, (len(labels), 32, 32, 3)).astype(np.uint8)
    images[..., 0] += (20 * labels)[:, None, None].astype(np.uint8)
    return Split(images, labels, None)


def as_cifar10(count: int = 1000) -> Dataset:
    """A fiftieth of the size: one image for each client of `pfl_cifar10`."""
    names = tuple(map(str, range(CLASSES)))
    moments = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return Dataset(
        "cifar10", coloured_squares(count, 0), coloured_squares(200, 1), CLASSES, names, *moments
    )


def as_mnist() -> Dataset:
    """60 images a class, 28 x 28, one channel."""
    data = as_cifar10(5000)
    train, test = (
        split._replace(images=split.images[::8, :28, :28, :1], labels=split.labels[::8])
        for split in (data.train, data.test)
    )
    return data._replace(name="mnist", train=train, test=test, mean=(0.5,), std=(0.25,))


def test_fedproxs_experiment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 20 of the 1,000 clients, and 2 of the 10 epochs, which leave stragglers one."""
    config: Any = config_file.load(str(CONFIGS / "mnist_fedavg.py:fedprox"))
    config.partition.num_clients = 20
    config.rounds, config.local_epochs = 1, 2
    for part in ("progress", "tensorboard", "plots", "page"):
        config.report[part] = False
    monkeypatch.setattr(assembly, "load_dataset", lambda config, *cut_by: as_mnist())
    stages.run(stages.resolve(config, {}), tmp_path)
    before, after = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (before["round"], after["round"]) == (0, 1)
    assert after["clients"] == config.clients_per_round == 10
    assert 1 <= after["stragglers"] <= 10
    assert after["test_loss"] < before["test_loss"]


def test_the_papers_train_stage() -> None:
    spec = str(CONFIGS / "cifar_hetero_train.py")
    ours, papers = (schema.resolve(config_file.load(spec + variant)) for variant in ("", ":paper"))
    assert (ours.rounds, ours.local_epochs, ours.batch_size) == (500, 15, 64)
    assert (ours.network.auxiliary, ours.optimizer.auxiliary_weight) == (True, 0.4)
    assert (papers.network.auxiliary, papers.client.held_out_fraction) == (False, 0.0)
    assert papers.server.batch_stats == "averaged"
    both = config_file.load(str(CONFIGS / "cifar_hetero_search_train.py:paper"))
    stages.resolve(both, {})
    assert both.search.order == "weights_first"
    assert both.server.batch_stats == both.then_train.server.batch_stats == "averaged"


@pytest.fixture
def _compiled_quickly(spec: str) -> Iterator[None]:
    """Small networks too compile as large ones; those of the quick start as users compile."""
    with contextlib.nullcontext() if spec.startswith("digits_quick") else compiled_quickly(1):
        yield


@pytest.mark.usefixtures("_compiled_quickly")
@pytest.mark.parametrize("spec", QUICK)
def test_every_quick_config_runs(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = config_file.load(str(CONFIGS / spec))
    config.rounds = config.local_epochs = 1
    config.report.progress = False
    if config.partition.name == "table":
        config.partition.table_fraction = 0.02  # all that `as_cifar10` has of each class
    if config.dataset.name in ("cifar10", "mnist"):
        dataset = as_cifar10() if config.dataset.name == "cifar10" else as_mnist()
        monkeypatch.setattr(assembly, "load_dataset", lambda config, *cut_by: dataset)
    if config.dataset.name.endswith(".npz"):
        train = coloured_squares(300, 2)
        config.dataset.name = str(tmp_path / "own.npz")
        np.savez(
            config.dataset.name,
            images=train.images,
            labels=train.labels,
            client=np.arange(len(train.labels)) % 3,
        )
    stages.run(stages.resolve(config, {}), tmp_path / "run")
    assert_agrees_with_itself(tmp_path / "run", schema.resolve(config))


def test_the_search_on_like_clients_is_the_other_but_for_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So what runs of `cifar_hetero.py` say of one round holds for it too."""
    unlike, like = (
        schema.resolve(config_file.load(str(CONFIGS / f"{name}.py:quick")))
        for name in ("cifar_hetero", "cifar_homo")
    )
    first, second = (config.to_dict() for config in (unlike, like))
    for config in (first, second):
        for name in ("dataset", "partition"):
            del config[name]
    assert first == second
    assert (unlike.dataset.name, like.dataset.name) == ("cifar10", "cifar10")
    dataset = as_cifar10()
    monkeypatch.setattr(assembly, "load_dataset", lambda config, *cut_by: dataset)
    dealt = assembly.make_partition(like, dataset).clients
    assert {len(indices) for indices in dealt} == {1000 // 16, 1000 // 16 + 1}
    population, _ = assembly.prepare(like)
    assert len(population.partition.clients) == like.partition.num_clients == 16


def assert_agrees_with_itself(run: Path, config: Any) -> None:
    """What a run of one round has left, held against its config and each part against another."""
    assert read_json(run / "run.json")["config"] == schema.to_json(config)
    dataset, searches = assembly.load_dataset(config), config.algorithm == "fednas"
    rows = {row["round"]: row for row in read_rows(run / "metrics.jsonl")}
    assert list(rows) == ([1] if searches else [0, 1])
    row, summary = rows[1], read_json(run / "summary.json")
    assert all(0 < row[name] < np.inf for name in ("train_loss", "test_loss"))
    for one in rows.values():
        right = one["test_accuracy"] * len(dataset.test.labels)
        assert right == pytest.approx(round(right), abs=1e-4), "a whole number of examples"
    assert searches or row["test_loss"] != rows[0]["test_loss"]
    assert (summary["rounds"], summary["best_round"], summary["test_accuracy_round"]) == (1, 1, 1)
    for name in ("test_accuracy", "held_out_accuracy"):
        assert summary[name] == row[name]
    # Every image is dealt once; of the paper's table of 5,000 a class a part.
    counts = np.array(read_json(run / "partition.json")["class_counts"])
    dealt = np.bincount(dataset.train.labels).tolist()
    if config.partition.name == "table":
        dealt = [round(5000 * config.partition.table_fraction)] * CLASSES
    assert counts.sum(axis=0).tolist() == dealt
    held_out = (config.client.held_out_fraction * counts.sum(axis=1)).astype(int)
    assert (row["held_out_loss"] is not None) == held_out.any()
    # A client gets all of the state in each phase; a server's optimiser is no part of it here.
    leaves = read_json(run / "checkpoints" / "000001" / "checkpoint.json")["leaves"]
    state_bytes = sum(4 * int(np.prod(leaf["shape"])) for leaf in leaves)
    assert row["bytes_down_per_client"] in (state_bytes, 2 * state_bytes)
    if searches:
        alphas = findings.read_alphas(run / "alphas.jsonl", last_round=1)[-1]
        assert summary["genotype"] == genotype.to_json(genotype.derive(alphas))
        assert not np.allclose(alphas["normal"], alphas["reduce"])
    picture = "cells.png" if searches else "accuracy_and_loss.png"
    assert (run / "plots" / picture).exists()


@pytest.mark.parametrize("variant", ["", ":quick"])
@pytest.mark.parametrize("name", STAGES)
def test_two_stages_are_the_configs_of_each(name: str, variant: str) -> None:
    """Which run: see above; what runs one after the other is tested in test_stages_whole.py."""
    both = stages.resolve(config_file.load(f"{CONFIGS / name}{variant}"), {})
    search, train = (
        schema.resolve(config_file.load(f"{CONFIGS / part}{variant}")) for part in STAGES[name]
    )
    assert both.first == search
    assert both.train == train
