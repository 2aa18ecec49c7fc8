"""What labels mean when `evaluate` scores data with labels 1, 2, 3 and class names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.checkpoints.model_file import from_json
from fednas_jax.data import datasets
from fednas_jax.experiment import assembly, provenance, scored, scored_labels, warm_start
from fednas_jax.runtime.errors import UserError
from tests.tiny import fedavg_config, first_checkpoint

NAMES = ("ant", "bee", "cow")
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (90, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(60) % 3 + 1
SITES = np.array(["Oslo", "Anna"])[np.arange(60) % 2]


def own_config(path: str, **fields: Any) -> Any:
    config = fedavg_config()
    config.dataset.name = path
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.clients_per_round = 0
    config.update_from_flattened_dict(fields)
    return schema.resolve(config)


def save(path: Path, start: int, labels: Any, names: Any = NAMES, **more: Any) -> str:
    """Images from number `start` on, one for each label."""
    about = {} if names is None else {"class_names": np.array(names)}
    images = IMAGES[start : start + len(labels)]
    np.savez(path, images=images, labels=np.asarray(labels), **about, **more)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on labels 1, 2, 3, whose test set has only 2 and 3."""
    folder = tmp_path_factory.mktemp("labels")
    test = {"test_images": IMAGES[60:70], "test_labels": np.array([2, 3] * 5)}
    path = save(folder / "raw.npz", 0, LABELS, client=SITES, **test)
    first_checkpoint(own_config(path), folder / "run")
    return folder / "run"


def test_the_runs_test_set_without_the_first_class(run: Path) -> None:
    """Its labels are already numbers of classes: 2 is "bee", also where no "ant" is tested."""
    model = fednas_jax.restore(run)
    assert model.description.raw_labels == (1, 2, 3)
    assert scored.choose(model).labels.tolist() == [1, 2] * 5
    again = scored.choose(model, dataset=str(run.parent / "raw.npz"))
    assert again.labels.tolist() == [1, 2] * 5


@pytest.mark.parametrize(
    ("labels", "names", "wanted"),
    [
        ([1, 2, 3], NAMES, [0, 1, 2]),
        ([1, 2], NAMES, [0, 1]),
        ([2, 3], None, [1, 2]),
        ([0, 1, 2], ("cow", "ant", "bee"), [2, 0, 1]),
        ([1, 2, 3], ("cow", "ant", "bee"), [2, 0, 1]),
        (["bee", "cow"], None, [1, 2]),
        (np.eye(3)[[1, 2]], None, [1, 2]),
        (np.eye(3)[[1, 2]], NAMES, [1, 2]),
        (np.eye(3)[[1, 2]], ("cow", "ant", "bee"), [0, 1]),
        (
            [0, 1, 2],
            NAMES,
            "label 0; one of 1, 2, 3, the labels of this model's classes, is needed",
        ),
        ([0, 1], None, "label 0; one of 1, 2, 3, the labels of this model's classes, is needed"),
        ([1, 2], ("cow", "ant", "bee"), "label 1 may be 'ant', counted from 0, or 'cow', counted"),
    ],
)
def test_another_file_means_the_same_by_npz_and_by_dataset(
    run: Path, tmp_path: Path, labels: Any, names: Any, wanted: Any
) -> None:
    model = fednas_jax.restore(run)
    options = {"npz": save(tmp_path / "npz.npz", 70, labels, names)}
    # As a data set of its own: the labels are the test set, and the training examples.
    test = {"test_images": 255 - IMAGES[70 : 70 + len(labels)], "test_labels": np.asarray(labels)}
    options["dataset"] = save(tmp_path / "data.npz", 70, labels, names, **test)
    for name, path in options.items():
        if isinstance(wanted, list):
            assert scored.choose(model, **{name: path}).labels.tolist() == wanted
        else:
            with pytest.raises(UserError) as raised:
                scored.choose(model, **{name: path})
            assert wanted in str(raised.value)


def test_labels_that_are_refused_as_training_data_are_those_of_the_model_by_npz(
    run: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.npz", 70, [2, 3])
    assert scored.choose(fednas_jax.restore(run), npz=path).labels.tolist() == [1, 2]


def test_a_limit_that_drops_a_rare_class(run: Path, tmp_path: Path) -> None:
    data = datasets.load(str(run.parent / "raw.npz"))
    few = data._replace(test=data.test._replace(images=IMAGES[:1], labels=np.array([1], np.int32)))
    model = fednas_jax.restore(run)
    assert scored_labels.of_the_runs(model, few, few.test).tolist() == [1]
    # Renamed, with the classes in another order, they are matched by name.
    turned = few._replace(class_names=NAMES[::-1], raw_labels=())
    assert scored_labels.of_the_runs(model, turned, turned.test).tolist() == [1]
    turned = turned._replace(test=turned.test._replace(labels=np.array([0], np.int32)))
    assert scored_labels.of_the_runs(model, turned, turned.test).tolist() == [2]


def test_names_of_earlier_versions_were_not_cleaned(run: Path, monkeypatch: Any) -> None:
    old: Any = SimpleNamespace(
        class_names=("ant ", "bee", "cow"), description=SimpleNamespace(raw_labels=())
    )
    assert scored_labels.classes(old).names == NAMES
    data: Any = SimpleNamespace(class_names=NAMES, name="x", named=True, raw_labels=())
    monkeypatch.setattr(provenance, "read_model", lambda path: {"class_names": old.class_names})
    provenance.check_class_names(run, data)
    warm_start._check_classes(old, data)


def test_a_model_knows_the_names_of_its_clients(run: Path) -> None:
    path = str(run.parent / "raw.npz")
    assert fednas_jax.restore(run).client_names == ()  # as of a checkpoint without them

    def written(**fields: Any) -> Any:
        config = own_config(path, **fields)
        return assembly.model_json(config, assembly.prepare(config)[0])

    named = written(**{"partition.name": "natural"})
    assert named["data"]["client_names"] == ["Anna", "Oslo"]
    described = from_json(named, "here")
    assert described.client_names == ("Anna", "Oslo")
    assert "client_names" not in described.data
    # The clients that a partition makes have no names.
    assert "client_names" not in written(**{"partition.name": "homo"})["data"]
