"""Trainings that begin with what a checkpoint holds."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.experiment import assembly, warm_start
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype
from fednas_jax.spaces.darts.inherit import inherit
from tests.quick import quick_jit
from tests.tiny import fedavg_config, first_checkpoint, genotype_config, search_config

FOUND = genotype.load("FedNAS_V1")


def begin(config: Any) -> Any:
    """The state that a run begins with."""
    resolved = schema.resolve(config)
    algorithm = assembly.build_algorithm(resolved, assembly.load_dataset(resolved))
    return quick_jit(algorithm.init)(jax.random.key(5))


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a search that has just begun."""
    folder = tmp_path_factory.mktemp("search")
    first_checkpoint(search_config(), folder)
    return folder


def test_from_a_supernet(supernet: Path) -> None:
    started = begin(genotype_config(warm_start=str(supernet)))
    taken = inherit(fednas_jax.restore(supernet).variables, FOUND)
    fresh = begin(genotype_config())
    changed = 0
    for name in ("params", "batch_stats"):
        expected = dict(jax.tree_util.tree_leaves_with_path(taken[name]))
        before = jax.tree.leaves(getattr(fresh, name))
        after = jax.tree_util.tree_leaves_with_path(getattr(started, name))
        for (path, leaf), own in zip(after, before, strict=True):
            np.testing.assert_array_equal(leaf, expected.pop(path, own))
            changed += bool((np.asarray(leaf) != np.asarray(own)).any())
        assert not expected
    assert changed > 20


def test_from_the_same_network(tmp_path: Path) -> None:
    first_checkpoint(fedavg_config(), tmp_path)
    config = fedavg_config()
    config.warm_start = str(tmp_path)
    there = fednas_jax.restore(tmp_path).variables["params"]
    jax.tree.map(np.testing.assert_array_equal, begin(config).params, there)
    new = jax.tree.leaves(begin(fedavg_config()).params)
    assert any((x != y).any() for x, y in zip(new, jax.tree.leaves(there), strict=True))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a training of FedNAS_V1 that has just begun."""
    folder = tmp_path_factory.mktemp("train")
    first_checkpoint(genotype_config(), folder)
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # All arrays of the first three would have found a place.
        ({"genotype": "POOLS"}, "is of another genotype than config.genotype; a checkpoint of"),
        ({"network.normalization": "group"}, "has normalization batch; .* is group, and the same"),
        ({"network.layers": 5}, "has layers 3; config.network.layers is 5, and the same"),
        ({"network.name": "2nn"}, "has name genotype; config.network.name is 2nn, and the same"),
        ({"seed": 1}, "learnt from this run's test images.*: seed 0 there, 1 here; the same"),
        ({"dataset.test_fraction": 0.3}, "images.*: dataset.test_fraction 0.2 there, 0.3 here"),
    ],
)
def test_another_network_or_another_cut(
    network: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    if fields.get("genotype") == "POOLS":  # nothing that is learnt has another shape
        pools = [("avg_pool_3x3" if op == "max_pool_3x3" else op, s) for op, s in FOUND.reduce]
        assert tuple(pools) != FOUND.reduce
        fields = {"genotype": str(tmp_path / "pools.json")}
        genotype.save(fields["genotype"], FOUND._replace(reduce=tuple(pools)))
    config = genotype_config(**({"warm_start": str(network)} | fields))
    if config.network.name == "2nn":
        config = fedavg_config()
        config.warm_start = str(network)
    resolved = schema.resolve(config)
    with pytest.raises(UserError, match=message) as caught:
        assembly.build_algorithm(resolved, assembly.load_dataset(resolved))
    assert "\n" not in str(caught.value)


def test_a_first_state_is_not_looked_for_where_there_is_a_later_one(network: Path) -> None:
    resolved = schema.resolve(genotype_config(warm_start="nowhere"))
    dataset = assembly.load_dataset(resolved)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        assembly.build_algorithm(resolved, dataset)
    assembly.build_algorithm(resolved, dataset, begun=True)


def test_a_second_classifier_may_be_new(network: Path) -> None:
    fields = {"warm_start": str(network), "network.auxiliary": True}
    resolved = schema.resolve(genotype_config(**fields))
    algorithm = assembly.build_algorithm(resolved, assembly.load_dataset(resolved))
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert "auxiliary_head" in state.params


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warm_start": "nowhere"}, "config.warm_start: nowhere: no such folder"),
        ({"network.init_channels": 4}, "has init_channels 2; config.network.init_channels is 4"),
        ({"network.layers": 5}, "has layers 3; config.network.layers is 5"),
        ({"dataset.name": "own"}, r"of another network: classifier/.* is \[.*10\], not \[.*3\]"),
    ],
)
def test_what_does_not_fit(
    supernet: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    if fields.get("dataset.name") == "own":  # three classes
        path = str(tmp_path / "own.npz")
        labels = np.arange(90) % 3
        images = np.random.RandomState(0).randint(0, 256, (90, 8, 8, 1)).astype(np.uint8)
        np.savez(path, images=images, labels=labels)
        fields = {"dataset.name": path}
    with pytest.raises(UserError, match=message) as caught:
        begin(genotype_config(**({"warm_start": str(supernet)} | fields)))
    assert "\n" not in str(caught.value)


def test_a_network_made_by_hand_has_no_supernet(supernet: Path) -> None:
    config = fedavg_config()
    config.warm_start = str(supernet)
    with pytest.raises(UserError, match=r"is of a supernet; config\.network\.name 'genotype' is"):
        begin(config)


def test_a_cut_that_looked_at_clients_is_another_cut() -> None:
    """An earlier version cut blindly and recorded nothing: it may have learnt from other images."""
    data = {"name": "digits", "test_path": "", "test_fraction": 0.2, "seed": 0}
    earlier, now = (warm_start._test_choice(d) for d in (data, data | {"cut_by": "client"}))
    assert earlier != now
    assert earlier == warm_start._test_choice(data | {"cut_by": "class"})


def own(path: Path, first: int, *, names: str = "abc") -> str:
    """60 numbered images; the last 12 are the test set."""
    images = np.zeros((60, 8, 8), np.uint8)
    images[:, 0, 0] = first + np.arange(60)
    labels = np.arange(60) % 3
    test = {"test_images": images[48:], "test_labels": labels[48:]}
    named = {"class_names": np.array(list(names))} if names else {}
    np.savez(path, images=images[:48], labels=labels[:48], **test, **named)
    return str(path)


def on(name: str, **fields: Any) -> Any:
    """A config that trains a 2NN on own data."""
    config = fedavg_config()
    config.dataset.name = name
    config.update_from_flattened_dict(fields)
    return config


def prepared(config: Any) -> None:
    resolved = schema.resolve(config)
    assembly.build_algorithm(resolved, assembly.load_dataset(resolved))


def test_test_images_that_the_model_has_learnt_from(tmp_path: Path) -> None:
    """Whatever the file is called."""
    first_checkpoint(on(own(tmp_path / "a.npz", 0)), tmp_path / "run")
    started = {"warm_start": str(tmp_path / "run")}
    prepared(on(own(tmp_path / "copy.npz", 0), **started))
    prepared(on(own(tmp_path / "others.npz", 100), **started))
    message = r"000001 has learnt from 7 of this run's 12 test images; a model that has not is"
    with pytest.raises(UserError, match=message):  # it tests on 41 to 52, as 256 is 0 again
        prepared(on(own(tmp_path / "b.npz", 256 - 7), **started))


@pytest.mark.parametrize(
    ("names", "message"),
    [("bca", "class 0 of this run, 'b', is class 1 of .*the same order of classes is needed"),
     ("ade", ""), ("abc", None), ("", "")],
)  # fmt: skip
def test_classes_of_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture, names: str, message: str | None
) -> None:
    first_checkpoint(on(own(tmp_path / "a.npz", 0)), tmp_path / "run")
    config = on(own(tmp_path / "b.npz", 100, names=names), warm_start=str(tmp_path / "run"))
    if message:
        with pytest.raises(UserError, match=message):
            prepared(config)
        return
    prepared(config)
    told = "has other class names (a, b, c) than this run ("
    assert (told in capsys.readouterr().err) == (message is not None)


def test_labels_with_gaps_are_names_too(capsys: pytest.CaptureFixture) -> None:
    """Class 1 of a run on the labels 1 and 5 is class 2 of a model of 1, 2 and 5."""
    model: Any = SimpleNamespace(class_names=("1", "2", "5"), path="runs/a")
    run: Any = SimpleNamespace(class_names=("1", "5"), named=False, raw_labels=(1, 5))
    with pytest.raises(UserError, match="class 1 of this run, '5', is class 2 of runs/a; the same"):
        warm_start._check_classes(model, run)
    run.raw_labels, run.class_names = (), ("0", "1", "2")
    warm_start._check_classes(model, run)
    assert "its classes are matched to those of this run by number" in capsys.readouterr().err


def test_a_model_of_an_earlier_version(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of which nobody knows what it has learnt from: a line says so."""
    path = first_checkpoint(on(own(tmp_path / "a.npz", 0)), tmp_path / "run")
    (path / "examples.npz").unlink()
    sums = json.loads((path / "checksums.json").read_text())
    del sums["examples.npz"]
    (path / "checksums.json").write_text(json.dumps(sums))
    prepared(on(own(tmp_path / "b.npz", 100), warm_start=str(tmp_path / "run")))
    assert "no record of the images that its model has learnt from; whether this run's test" in (
        capsys.readouterr().err
    )
