"""Models out of checkpoints: the very network of the run, with nothing else of it at hand."""

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.checkpoints import checkpoint_folder, model
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.data import datasets
from fednas_jax.experiment import assembly
from fednas_jax.networks import registry as networks
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype
from tests.tiny import (
    abstract_state,
    any_checkpoint,
    fedavg_config,
    first_checkpoint,
    genotype_config,
    image_task,
    search_config,
)

DIGITS = datasets.load("digits").test
KEPT = Path(__file__).resolve().parents[1] / "kept"


@pytest.fixture(scope="module", params=["fedavg", "fednas"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run of each algorithm."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    config = fedavg_config() if request.param == "fedavg" else search_config()
    config.test_every = 1
    config.report.plots = config.report.tensorboard = False
    experiment.run(config, folder)
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkpoint of a 2NN's first state, as its run would write it."""
    return first_checkpoint(fedavg_config(), tmp_path / "run")


def rewrite(path: Path, change: Any) -> None:
    """Changes model.json of a checkpoint, and its checksum."""
    text = json.loads((path / "model.json").read_text())
    change(text)
    (path / "model.json").write_text(json.dumps(text))
    checksums = json.loads((path / "checksums.json").read_text())
    checksums["model.json"] = checkpoint_folder._sha256(path / "model.json")
    (path / "checksums.json").write_text(json.dumps(checksums))


def test_predicts_what_the_run_measured(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    config = schema.resolve(json.loads((run / "run.json").read_text())["config"])
    model = fednas_jax.restore(run)
    assert model.round == summary["best_round"]
    test = assembly.load_dataset(config).test
    right = model.predict(test.images) == test.labels
    assert right.mean() == pytest.approx(summary["test_accuracy"], abs=1e-6)
    if summary["genotype"]:
        assert model.is_supernet
        assert model.genotype == genotype.from_json(summary["genotype"], "summary")
    else:
        assert model.genotype is None


def test_what_python_prints_of_a_model_is_a_line(run: Path) -> None:
    restored = fednas_jax.restore(run)
    weights = sum(leaf.size for leaf in jax.tree.leaves(restored.variables["params"]))
    shown = repr(restored)
    assert f"{weights:,} parameters, inputs 8 x 8 x 1 uint8, 10 classes" in shown
    assert str(restored.path) in shown
    for one in (restored, restored.learnt, DIGITS, datasets.load("digits")):
        assert len(repr(one)) < 400
        assert "\n" not in repr(one)


def test_parameters_of_the_auxiliary_head_are_told_apart(fresh: Path) -> None:
    plain = fednas_jax.restore(fresh)
    own = sum(leaf.size for leaf in jax.tree.leaves(plain.variables["params"]))
    params = plain.variables["params"] | {"auxiliary_head": {"kernel": np.zeros((3, 4))}}
    with_head = dataclasses.replace(plain, variables=plain.variables | {"params": params})
    assert f"{own:,} parameters and 12 of its auxiliary head" in repr(with_head)


def test_nothing_else_of_the_run_is_needed(run: Path, tmp_path: Path) -> None:
    best = fednas_jax.restore(run)
    alone = shutil.copytree(best.path, tmp_path / "alone")
    model = fednas_jax.restore(alone)
    assert model.class_names == tuple("0123456789")
    assert model.preprocessing.image_shape == (8, 8, 1)
    assert model.preprocessing.dtype == "uint8"
    images = DIGITS.images[:5]
    np.testing.assert_array_equal(model.logits(images), best.logits(images))


def test_logits_are_the_networks_on_normalised_images(fresh: Path) -> None:
    model = fednas_jax.restore(fresh)
    images = DIGITS.images[:133]  # more than a batch
    (mean,), (std,) = model.preprocessing.mean, model.preprocessing.std
    normal = (images / 255 - mean) / std
    # The 2NN written out: two layers of ReLU, one linear.
    x = normal.reshape(len(images), -1)
    layers = [model.variables["params"][name] for name in sorted(model.variables["params"])]
    for layer in layers[:-1]:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    logits = x @ layers[-1]["kernel"] + layers[-1]["bias"]
    np.testing.assert_allclose(model.logits(images), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.predict(images), logits.argmax(axis=1))
    powers = np.exp(logits)
    np.testing.assert_allclose(
        model.probabilities(images), powers / powers.sum(axis=1, keepdims=True), atol=1e-5
    )


def test_images_without_a_channel_axis_and_no_images(fresh: Path) -> None:
    model = fednas_jax.restore(fresh)
    images = DIGITS.images[:3]
    np.testing.assert_array_equal(model.predict(images[..., 0]), model.predict(images))
    assert model.predict(images[:0]).shape == model.predict_names(images[:0]).shape == (0,)
    names = [model.class_names[k] for k in model.predict(images)]
    assert model.predict_names(images).tolist() == names


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 9, 8, 1), np.uint8), r"images: shape \[2, 9, 8, 1\]; \[N, 8, 8, 1\] is"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"images: shape \[2, 8, 8, 3\]; \[N, 8, 8, 1\] is"),
        (np.zeros((8, 8), np.uint8), r"images: shape \[8, 8\]; \[N, 8, 8, 1\] is"),
        (np.zeros((8, 8, 1), np.uint8), r"images: shape \[8, 8, 1\]; \[N, 8, 8, 1\] is"),
        (np.zeros((2, 8, 8, 1)), "images: float64; uint8 is needed, since this model was"),
        (
            np.zeros((2, 1, 8, 8), np.uint8),
            r"images: shape \[2, 1, 8, 8\]; \[N, 8, 8, 1\] is needed, since .*; this looks like "
            r"channels first, \[N, C, H, W\]: np\.moveaxis\(images, 1, -1\) makes it",
        ),
        ([["a"]], r"images: shape \[1, 1\]; "),
        ([[[0] * 8] * 8, [[0] * 7] * 8], r"images: not an array; one of shape \[N, 8, 8, 1\] is"),
    ],
)
def test_images_that_do_not_fit(fresh: Path, images: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fednas_jax.restore(fresh).predict(images)


def test_which_checkpoint(tmp_path: Path, fresh: Path) -> None:
    run = fresh.parents[1]
    first = fednas_jax.restore(run)
    for folder, which in ((run, 1), (run / "checkpoints", "best"), (fresh, "best")):
        assert fednas_jax.restore(folder, which).path == first.path == fresh
    with pytest.raises(UserError, match="no checkpoint of round 7; there are: 1"):
        fednas_jax.restore(run, 7)
    with pytest.raises(UserError, match=r"model\.json: a file; a run's workdir or a checkpoint"):
        fednas_jax.restore(fresh / "model.json")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        fednas_jax.restore(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no checkpoint"):
        fednas_jax.restore(tmp_path / "empty")


def test_the_best_checkpoint_is_gone(fresh: Path) -> None:
    checkpoints = Checkpoints(fresh.parent)
    checkpoints.save(2, {"params": np.zeros(3)}, None, is_best=False)
    shutil.rmtree(fresh)
    with pytest.raises(UserError, match="no checkpoint of round 1, its best; there are: 2"):
        fednas_jax.restore(fresh.parents[1])


def test_a_run_that_goes_on_elsewhere_is_left_alone(fresh: Path) -> None:
    half_written = fresh.parent / ".tmp-2-999999999"
    half_written.mkdir()
    fednas_jax.restore(fresh.parents[1])
    assert half_written.exists()


@pytest.mark.parametrize("harm", ["cut", "emptied", "removed"])
def test_any_file_of_it_damaged(fresh: Path, harm: str) -> None:
    files = sorted(path for path in fresh.rglob("*") if path.is_file())
    assert len(files) > 5
    for victim in files:
        content = victim.read_bytes()
        assert content
        if harm == "removed":
            victim.unlink()
        else:
            victim.write_bytes(content[:-1] if harm == "cut" else b"")
        for folder in (fresh, fresh.parents[1]):
            with pytest.raises(UserError, match=rf"^{folder}.* (is|are) needed$") as caught:
                fednas_jax.restore(folder)
            assert "\n" not in str(caught.value)
        victim.write_bytes(content)
    fednas_jax.restore(fresh)


def test_an_emptied_checkpoint(fresh: Path) -> None:
    shutil.rmtree(fresh)
    fresh.mkdir()
    with pytest.raises(UserError, match="run: all its checkpoints are damaged; an intact one is"):
        fednas_jax.restore(fresh.parents[1])
    with pytest.raises(UserError, match="000001: holds no checkpoint; "):
        fednas_jax.restore(fresh)


def test_without_a_model(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, {"params": np.zeros(3)}, None, is_best=True)
    with pytest.raises(UserError, match=r"a checkpoint without model\.json"):
        fednas_jax.restore(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "written in format 2; format 1 or an earlier"),
        (lambda m: m.pop("format"), "not the description of a model"),
        (lambda m: m.pop("std"), "not the description of a model .KeyError: 'std'"),
        (lambda m: m.update(image_shape=[8, 8]), "not the description of a model .ValueError"),
        (lambda m: m["network"].update(name="3nn"), "config.network.name: '3nn' is no network"),
        (lambda m: m["network"].update(width=3), "'width'; a field that this version"),
        (lambda m: m.update(class_names=["a", "b"]), "of another network: params/.* is float32"),
    ],
)
def test_a_description_of_something_else(fresh: Path, change: Any, message: str) -> None:
    rewrite(fresh, change)
    with pytest.raises(UserError, match=message) as caught:
        fednas_jax.restore(fresh)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.zip")), ids=lambda path: path.stem)
def test_checkpoints_of_earlier_versions_open(kept: Path, tmp_path: Path) -> None:
    """What lies there is never written anew: a change that it does not survive needs a format."""
    with zipfile.ZipFile(kept) as archive:
        archive.extractall(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    model = fednas_jax.restore(tmp_path / "checkpoint")
    images = DIGITS.images[: len(expected["logits"])]
    np.testing.assert_allclose(model.logits(images), expected["logits"], rtol=1e-3, atol=1e-4)
    assert list(model.class_names) == expected["class_names"]
    if expected["genotype"]:
        assert model.genotype == genotype.from_json(expected["genotype"], kept.stem)


@pytest.mark.parametrize(
    ("kept", "config", "last"),
    [("network_1", genotype_config(), 2), ("supernet_1", search_config(), 1)],
)
def test_runs_of_earlier_versions_can_be_gone_on_with(
    kept: str, config: Any, last: int, tmp_path: Path
) -> None:
    """The state has the very leaves that a run of today has, and the rows are there."""
    with zipfile.ZipFile(KEPT / f"{kept}.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "checkpoint").rename(tmp_path / f"{last:06d}")
    abstract = abstract_state(config)
    restored = Checkpoints(tmp_path).restore_latest(abstract)
    assert restored is not None
    assert restored.round == last == restored.extra["rows"][-1]["round"]
    assert jax.tree.structure(restored.state) == jax.tree.structure(abstract)
    assert set(restored.extra) == {"rows", "best_genotype", "costs"}


def test_some_are_kept() -> None:
    assert {path.stem for path in KEPT.iterdir()} >= {"network_1", "supernet_1"}


@pytest.mark.parametrize(
    "fields",
    [
        {
            "network.name": "genotype",
            "network.auxiliary": True,
            "network.normalization": "group",
        },
        {"network.name": "resnet20"},
    ],
    ids=["genotype", "resnet20"],
)
def test_networks_of_other_kinds_come_back_as_they_were(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    config = genotype_config() if fields["network.name"] == "genotype" else fedavg_config()
    config.update_from_flattened_dict(fields)
    written = any_checkpoint(config, tmp_path)
    model = fednas_jax.restore(tmp_path)
    assert model.network == networks.from_config(schema.resolve(config), image_task((8, 8, 1)), 10)
    assert model.path == written
    state = Checkpoints(tmp_path / "checkpoints").restore(1, abstract_state(config)).state
    for name, tree in model.variables.items():
        jax.tree.map(np.testing.assert_array_equal, tree, getattr(state, name))
    assert bool(model.variables.get("batch_stats")) == (config.network.normalization == "batch")


def test_a_changed_model_is_saved_and_restored(fresh: Path, tmp_path: Path) -> None:
    there = fednas_jax.restore(fresh)
    doubled = jax.tree.map(lambda x: 2 * x, there.variables)
    path = model.save(dataclasses.replace(there, variables=doubled, round=7), tmp_path / "new")
    assert path == tmp_path / "new" / "checkpoints" / "000007"
    again = fednas_jax.restore(tmp_path / "new")
    assert (again.round, again.description) == (7, there.description)
    jax.tree.map(np.testing.assert_array_equal, again.variables, doubled)
    assert (path / "examples.npz").read_bytes() == (fresh / "examples.npz").read_bytes()
    model.save(dataclasses.replace(there, learnt=None, round=8), tmp_path / "new")
    assert not (tmp_path / "new" / "checkpoints" / "000008" / "examples.npz").exists()


def test_variables_of_another_network_are_not_saved(fresh: Path, tmp_path: Path) -> None:
    there = fednas_jax.restore(fresh)
    with pytest.raises(
        UserError, match=r"model\.json: the checkpoint's arrays are of another netw"
    ):
        model.save(dataclasses.replace(there, variables={"params": {}}), tmp_path / "new")
    assert not (tmp_path / "new").exists()
