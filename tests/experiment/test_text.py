"""Text through a whole run: sequences of tokens, scored token by token."""

import json
import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax import evaluate, experiment, restore
from fednas_jax.data import datasets
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.task import Task, classification, next_tokens
from fednas_jax.experiment import assembly
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
WORDS, LENGTH, COUNT = 5, 6, 60


class Speaker(nn.Module):
    """Says for each token which one follows it."""

    num_classes: int

    @nn.compact
    def __call__(self, tokens: Any, train: bool) -> Any:
        return nn.Dense(self.num_classes)(nn.Embed(self.num_classes, 8)(tokens))


def text(config: Any) -> Dataset:
    """Each token is the one before it plus 1 or, by chance, 2; the last places are padding."""
    rng = np.random.RandomState(0)
    steps = rng.choice([1, 2], (COUNT, LENGTH), p=[0.9, 0.1]).cumsum(axis=1)
    tokens = (rng.randint(0, WORDS, (COUNT, 1)) + steps) % WORDS
    inputs, targets = tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int32)
    targets[:, -1] = np.where(rng.random_sample(COUNT) < 0.3, -1, targets[:, -1])
    task = Task(
        example=jax.ShapeDtypeStruct((LENGTH - 1,), jnp.int32),
        target=jax.ShapeDtypeStruct((LENGTH - 1,), jnp.int32),
        prepare=lambda tokens: tokens,
        augment=lambda key, tokens: tokens,
        score=next_tokens,
    )
    parts = [
        Split(inputs[part], np.zeros(len(inputs[part]), np.int32), None, targets[part])
        for part in (slice(0, 40), slice(40, COUNT))
    ]
    names = tuple("abcde")
    return Dataset("text", *parts, WORDS, names, (), (), task=task)


def config_of_text(**fields: Any) -> Any:
    config = fedavg_config()
    config.network.name = f"{__file__}:Speaker"
    config.dataset.name = f"{__file__}:text"
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.partition.name, config.partition.num_clients = "homo", 4
    config.optimizer.learning_rate, config.batch_size, config.rounds = 1.0, 4, 3
    config.client.held_out_fraction = 0.2
    config.update_from_flattened_dict(fields)
    return config


def test_a_network_learns_what_follows_a_token(tmp_path: Path, capsys: Any) -> None:
    summary = experiment.run(config_of_text(rounds=8, test_every=1), tmp_path / "whole")
    assert summary["test_accuracy"] > 0.8, "90 % of the tokens follow the rule"
    rows = read_rows(tmp_path / "whole/metrics.jsonl")
    model = restore(tmp_path / "whole")
    data = text(None)
    assert "classes" not in capsys.readouterr().err, "labels are zeros: there are no classes"
    predicted = model.predict(data.test.images)
    assert predicted.shape == data.test.truth.shape
    scored = data.test.truth >= 0
    right = (predicted == data.test.truth)[scored].mean()
    best = rows[int(summary["best_round"])]
    assert right == pytest.approx(best["test_accuracy"]), "a mean over tokens, without padding"
    with pytest.raises(
        UserError, match=r"inputs: float64 of shape \[2, 3\]; int32 of shape \[N, 5\]"
    ):
        model.predict(np.zeros((2, 3)))


SHIFT = 1000


def shifted(config: Any) -> Dataset:
    """As `text`, with raw inputs that are none of the tokens which the network reads."""
    data = text(config)
    prepare = lambda raw: raw - SHIFT  # noqa: E731
    task = data.task._replace(prepare=prepare, augment=lambda key, raw: prepare(raw))
    train, test = (part._replace(images=part.images + SHIFT) for part in (data.train, data.test))
    return data._replace(train=train, test=test, task=task)


def classes(config: Any) -> Dataset:
    """Is the first token even? One class an example, by a task of its own."""
    data = shifted(config)
    task = data.task._replace(
        target=jax.ShapeDtypeStruct((), jnp.int32),
        prepare=lambda raw: jax.nn.one_hot(raw[:, 0] - SHIFT, WORDS),
        augment=lambda key, raw: jax.nn.one_hot(raw[:, 0] - SHIFT, WORDS),
        score=classification,
    )
    parts = [
        Split(part.images, (part.images[:, 0] % 2).astype(np.int32), None)
        for part in (data.train, data.test)
    ]
    return data._replace(
        train=parts[0], test=parts[1], num_classes=2, class_names=("even", "odd"), task=task
    )


class Linear(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, inputs: Any, train: bool) -> Any:
        return nn.Dense(self.num_classes)(inputs)


def evaluated(folder: Path) -> dict[str, Any]:
    assert evaluate.main([str(folder)]) == 0
    return json.loads((folder / "evaluation/evaluation.json").read_text())


def test_evaluate_prepares_inputs_and_scores_as_the_task_says(tmp_path: Path, capsys: Any) -> None:
    fields = {"dataset.name": f"{__file__}:shifted"}
    summary = experiment.run(config_of_text(rounds=2, **fields), tmp_path / "run")
    told = evaluated(tmp_path / "run")
    data = shifted(None)
    scored = int((data.test.truth >= 0).sum())
    assert (told["examples"], told["units"]) == (20, scored)
    assert told["accuracy"] == pytest.approx(summary["test_accuracy"])
    best = read_rows(tmp_path / "run/metrics.jsonl")[int(summary["best_round"])]
    assert told["loss"] == pytest.approx(best["test_loss"], rel=1e-5)
    assert "confusion" not in told
    said = capsys.readouterr().out
    assert "No confusion matrix is made, as these examples do not have one class each" in said
    assert f"of {scored} units (such as tokens) of 20 examples of the test set of text" in said
    # Raw inputs are what digests are of.
    model = restore(tmp_path / "run")
    assert model.has_learnt_from(data.train.images).all()
    assert not model.has_learnt_from(data.train.images - SHIFT).any()
    assert evaluate.main([str(tmp_path / "run"), "--dataset=digits"]) == 2
    assert "neither --dataset nor --npz is needed" in capsys.readouterr().err


def test_evaluate_makes_a_matrix_where_examples_have_one_class_each(tmp_path: Path) -> None:
    fields = {"dataset.name": f"{__file__}:classes", "network.name": f"{__file__}:Linear"}
    summary = experiment.run(config_of_text(**fields, rounds=2), tmp_path / "run")
    told = evaluated(tmp_path / "run")
    assert told["accuracy"] == pytest.approx(summary["test_accuracy"])
    # Where labels are classes, a class without a test example is told of.
    data = classes(None)
    even = data.test._replace(labels=np.zeros(20, np.int32))
    says = "config.dataset: the test set has no example of 1 of 2 classes ('odd')"
    assert datasets.limited(data._replace(test=even), 0, 0, 0, "class").lost == (says,)
    labels = classes(None).test.labels
    assert np.sum(told["confusion"], axis=1).tolist() == np.bincount(labels).tolist()
    assert "units" not in told


def test_networks_for_images_are_refused(tmp_path: Path) -> None:
    message = r"network\.name: '2nn' is for images \[H, W, C\], not for inputs of \[5\]"
    with pytest.raises(UserError, match=message):
        experiment.run(config_of_text(**{"network.name": "2nn"}), tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.augment\.cutout: 3 is not used, since the task"):
        experiment.run(config_of_text(**{"augment.cutout": 3}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_limit_keeps_targets_beside_their_inputs(tmp_path: Path) -> None:
    config = config_of_text(**{"dataset.max_train_examples": 8, "rounds": 1})
    experiment.run(config, tmp_path / "run")
    population, _ = assembly.prepare(schema.resolve(config))
    part, whole = population.dataset.train, text(None).train
    pairs = {(x.tobytes(), y.tobytes()) for x, y in zip(whole.images, whole.truth, strict=True)}
    found = {(x.tobytes(), y.tobytes()) for x, y in zip(part.images, part.truth, strict=True)}
    assert found <= pairs
    assert len(part.truth) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": np.zeros((39, 5), np.int32)}, "40 inputs, 40 labels and 39 targets; equal"),
        (
            {"targets": np.zeros((40, 4), np.int32)},
            r"targets of its train part have shape \[40, 4\]",
        ),
        ({"images": [[1]] * 40}, r"inputs of its train part have no array; one array \[N, 5\] is"),
    ],
)
def test_parts_that_do_not_fit_the_task_are_refused(change: Any, says: str, tmp_path: Path) -> None:
    data = text(None)
    data = data._replace(train=data.train._replace(**change))
    with pytest.raises(UserError, match=says):
        experiment.run(config_of_text(), tmp_path / "run", dataset=data)


def test_the_example_of_the_document_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = (ROOT / "docs/extending.md").read_text()
    (block,) = [
        b for b in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if "Speaker" in b
    ]
    Path("text.py").write_text(block)
    config = config_of_text(rounds=2)
    config.dataset.name, config.network.name = "text.py:text", "text.py:Speaker"
    summary = experiment.run(config, "run")
    assert summary["test_accuracy"] > 0.9, "the next token follows from the last"
