"""What a run records of the examples that it, and what it began with, have learnt from."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.checkpoints import checkpoint
from fednas_jax.data import datasets, learnt
from fednas_jax.experiment import assembly, provenance
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.spaces.darts import genotype
from tests.tiny import fedavg_config, first_checkpoint, genotype_config


def save(path: Path, first: int, number: int = 60, names: str = "abc") -> str:
    """Images with numbers from `first` on in their first pixels; the last 12 are the test set."""
    images = np.zeros((number, 8, 8), np.uint8)
    images[:, 0, 0] = first + np.arange(number)
    labels, cut = np.arange(number) % 3, number - 12
    test = {"test_images": images[cut:], "test_labels": labels[cut:]}
    arrays = {"images": images[:cut], "labels": labels[:cut], **test}
    np.savez(path, **arrays, class_names=np.array(list(names)))
    return str(path)


def config_of(name: str, make: Any = fedavg_config, **fields: Any) -> Any:
    config = make()
    config.dataset.name = name
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.update_from_flattened_dict(fields)
    return schema.resolve(config)


def of_run(config: Any, newest: Path | None = None) -> learnt.Learnt:
    dataset = assembly.load_dataset(config)
    return provenance.of_run(config, dataset, assembly.make_partition(config, dataset), newest)


def numbered(*numbers: int) -> np.ndarray:
    images = np.zeros((len(numbers), 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = numbers
    return images


def test_a_whole_run_records_what_its_clients_hold(finished_search: Path) -> None:
    config = schema.resolve(read_json(finished_search / "run.json")["config"])
    dataset = assembly.load_dataset(config)
    model = fednas_jax.restore(finished_search)
    assert model.learnt is not None
    assert model.has_learnt_from(dataset.train.images).all()
    assert not model.has_learnt_from(dataset.test.images).any()
    assert model.learnt.settings == {"name": "digits", "test_path": "", "test_fraction": 0.2,
        "max_train_examples": 90, "max_test_examples": 40, "seed": config.seed,
        "cut_by": "client"}  # fmt: skip
    recorded = read_json(finished_search / "run.json")["examples_sha256"]
    other = dataset._replace(train=dataset.test, test=dataset.train)
    assert recorded == datasets.examples_sha256(other)


def test_weights_bring_what_their_run_had_learnt_from(tmp_path: Path) -> None:
    first_checkpoint(config_of(save(tmp_path / "a.npz", 0)), tmp_path / "first")
    second = config_of(save(tmp_path / "b.npz", 100), warm_start=str(tmp_path / "first"))
    found = of_run(second)
    assert found.complete
    known = learnt.contains(found, numbered(0, 47, 48, 59, 100, 147, 148, 159))
    assert known.tolist() == [True, True, False, False, True, True, False, False]
    # And what comes after: the first run is not looked at again.
    path = first_checkpoint(second, tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    again = of_run(second, path)
    np.testing.assert_array_equal(again.images, found.images)
    assert again.complete
    assert not of_run(second).complete


def test_a_genotype_brings_what_its_search_had_learnt_from(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first_checkpoint(config_of(save(tmp_path / "a.npz", 0)), tmp_path / "search")
    found = tmp_path / "search" / "genotypes" / "best.json"
    found.parent.mkdir()
    genotype.save(found, genotype.load("FedNAS_V1"))
    data = save(tmp_path / "b.npz", 30)  # whose test images are 78 to 89
    config = config_of(data, genotype_config, genotype=str(found))
    assert learnt.contains(of_run(config), numbered(0, 29, 30)).all()
    assert not capsys.readouterr().err
    config = config_of(save(tmp_path / "c.npz", 200, 30), genotype_config, genotype=str(found))
    assert of_run(config).complete
    # 36 to 47 were learnt from by the search, and are test images here.
    config = config_of(save(tmp_path / "d.npz", 18, 30), genotype_config, genotype=str(found))
    of_run(config)
    assert "config.genotype: comes from a run that has learnt from 12 of this run's 12 test" in (
        capsys.readouterr().err
    )
    # Elsewhere nobody knows what its search has learnt from.
    moved = shutil.copy(found, tmp_path / "moved.json")
    config = config_of(data, genotype_config, genotype=str(moved))
    elsewhere = of_run(config)
    assert not learnt.contains(elsewhere, numbered(0)).any()
    assert not elsewhere.complete
    config = config_of(data, genotype_config, genotype="FedNAS_V1")
    assert of_run(config).complete  # it is of no run


def test_data_that_have_moved_are_recorded_at_their_new_place(tmp_path: Path) -> None:
    path = first_checkpoint(config_of(save(tmp_path / "a.npz", 0)), tmp_path / "run")
    shutil.move(tmp_path / "a.npz", tmp_path / "b.npz")
    found = of_run(config_of(str(tmp_path / "b.npz")), path)
    assert found.settings["name"] == str(tmp_path / "b.npz")
    assert learnt.contains(found, numbered(0, 47, 48)).tolist() == [True, True, False]


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    config = config_of(save(tmp_path / "a.npz", 0))
    path = first_checkpoint(config, tmp_path / "run")
    of_run(config, path)
    save(tmp_path / "a.npz", 1)
    with pytest.raises(UserError, match=r"000001: a checkpoint of a run on other data"):
        of_run(config, path)


def test_other_names_of_classes_are_refused(tmp_path: Path) -> None:
    config = config_of(save(tmp_path / "a.npz", 0))
    path = first_checkpoint(config, tmp_path / "run")
    save(tmp_path / "a.npz", 0, names="acb")
    with pytest.raises(UserError, match=r"its classes are a, c, b, those of .*000001 a, b, c; "):
        of_run(config, path)


def test_a_checkpoint_elsewhere_is_of_no_run(tmp_path: Path) -> None:
    config = config_of(save(tmp_path / "a.npz", 0))
    path = first_checkpoint(config, tmp_path / "run")
    assert provenance.of_checkpoint(path) is not None
    assert not provenance.data_have_changed(path)
    for record in ({}, {"config": {}}, {"config": schema.to_json(config), "data_sha256": "ab"}):
        write_json(tmp_path / "run" / "run.json", record)
        assert not provenance.data_have_changed(path)  # there is no partition


def test_a_damaged_record(tmp_path: Path) -> None:
    path = first_checkpoint(config_of(save(tmp_path / "a.npz", 0)), tmp_path / "run")
    content = (path / learnt.FILE).read_bytes()
    (path / learnt.FILE).write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"examples\.npz is truncated or has been edited"):
        checkpoint.learnt_of(path)
