"""What an algorithm may ask of a run: groups, facts, personal state, a schedule of its own."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.room import ClientLayout, Room
from fednas_jax.checkpoints.checkpoint import read_saved
from fednas_jax.data.task import Scores
from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.algorithm import Algorithm, Phase, weighted_update
from fednas_jax.federated.cohort import client_metrics
from fednas_jax.federated.schedule import ClientRound, Schedule, Service
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from tests.tiny import fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")


class State(NamedTuple):
    params: dict[str, jax.Array]


def toy(lacking: str = "", **more: Any) -> Declared:
    """Clients of two tiers send their tier's draw and how often they have taken part."""

    def build(config: Any, dataset: Any) -> Algorithm:
        def client_update(state, client, facts, examples, key):
            rounds = client.personal["rounds"] + 1
            # A chunk is of one tier, or its draw would not be that of each of its clients.
            draw = jnp.where(client.facts["tier"] == facts.group, jax.random.uniform(facts.key), 9)
            update = weighted_update(
                {"draw": draw, "rounds": rounds},
                client,
                loss=draw,
                train_loss=draw,
                train_accuracy=jnp.float32(0),
                local_steps=client.local_steps.astype(jnp.float32),
                taken_part=rounds,
            )
            metrics = {name: m for name, m in update.metrics.items() if name != lacking}
            return update._replace(metrics=metrics, personal={"rounds": rounds})

        def server_update(state, sums, weights, facts):
            return State(jax.tree.map(lambda x: x / weights, sums))

        def evaluate(state, inputs, targets):
            ones = jnp.ones(targets.shape)
            return Scores(ones * state.params["draw"], ones, ones.astype(jnp.int32))

        return Algorithm(
            lambda key: State({"draw": jnp.zeros(()), "rounds": jnp.zeros(())}),
            [Phase(client_update, server_update)],
            evaluate,
            group_by="tier",
            personal=lambda state: {"rounds": jnp.float32(0)},
        )

    def facts(config: Any, partition: Any) -> dict[str, Any]:
        return {"tier": np.arange(len(partition.clients), dtype=np.int32) % 2}

    room = Room(
        lambda config: ClientLayout(), build, lambda config: {"name": "toy"}, facts=facts
    )._replace(**more)
    return Declared("places", "Places", lambda: room)


def late(service: Service, state: Any, number: int) -> ClientRound:
    """Clients compute from the state before the last, which the schedule keeps."""
    participation, engine = service.participation, service.engine
    old = state._replace(params=state.schedule["before"])
    present = participation.participants(number)
    cohort = participation.cohort(present, number, engine.clients_per_chunk)
    key = participation.key(number)
    collected = engine.collect(old, cohort, key)
    metrics = client_metrics(engine.metrics(collected), cohort.ids)
    after = engine.apply(state, collected, key)
    return ClientRound(after._replace(schedule={"before": state.params}), metrics, {})


LATE = Schedule("late", late, lambda state: {"before": state.params})


def config(**fields: Any) -> Any:
    found = schema.default("places")
    tiny = fedavg_config()
    found.dataset, found.partition = tiny.dataset, tiny.partition
    found.augment, found.report = tiny.augment, tiny.report
    found.batch_size, found.local_epochs, found.rounds = 4, 1, 4
    found.clients_per_round, found.checkpoint_every, found.test_every = 4, 1, 1
    found.update_from_flattened_dict(fields)
    return found


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_added", {})
    monkeypatch.chdir(tmp_path)


def state_of(folder: str, number: int) -> Any:
    saved = read_saved(Path(folder) / f"checkpoints/{number:06d}", ("personal", "schedule"))
    return saved.variables


@pytest.mark.parametrize("size", [1, 3])
def test_all_of_it_is_kept_in_checkpoints_and_gone_on_with(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = toy(schedule=LATE)
    registry.add(algorithm)
    runner.run(config(clients_per_chunk=size), "whole", algorithm=algorithm)
    record = Experiment._record

    def stop(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == 2:
            raise RuntimeError("stopped on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_record", stop)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            runner.run(config(clients_per_chunk=size), "parts", algorithm=algorithm)
    runner.run(config(clients_per_chunk=size), "parts", algorithm=algorithm)
    whole, parts = (read_rows(Path(folder) / "metrics.jsonl") for folder in ("whole", "parts"))
    names = ("train_loss", "test_loss", "taken_part")
    for one, two in zip(whole, parts, strict=True):
        assert [one.get(name) for name in names] == [two.get(name) for name in names]
    after = [state_of(folder, 4) for folder in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *after)
    rounds = after[0]["personal"]["algorithm"]["rounds"]
    assert rounds.sum() == 4 * 4, "four clients of six took part in each of four rounds"
    assert rounds.max() > 1
    assert all(row["train_loss"] < 1 for row in whole[1:]), "no chunk has mixed tiers"
    assert set(after[0]["schedule"]["before"]) == {"draw", "rounds"}


def test_draws_of_a_tier_do_not_depend_on_chunks() -> None:
    registry.add(toy())
    losses = []
    for size in (1, 2, 4):
        runner.run(config(clients_per_chunk=size, rounds=2), f"of-{size}", algorithm=toy())
        losses.append([row["test_loss"] for row in read_rows(Path(f"of-{size}/metrics.jsonl"))])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "says"),
    [
        (
            toy(facts=lambda c, p: {"tier": np.zeros(2)}),
            r"fact 'tier' has shape \[2\]; \[6, \.\.\.\]",
        ),
        (toy(lacking="finite"), "its clients' metrics lack finite; a ClientUpdate of the first"),
        (
            toy(facts=lambda c, p: {"tier": np.array([0.25, 0.5, 0.75] * 2)}),
            "the fact 'tier', which is float64; integers that fit 32 bits are needed",
        ),
        (
            toy(facts=lambda c, p: {"local_epochs": np.ones(6)}),
            "fact 'local_epochs' has the name of a fact of the round; another name is needed",
        ),
        (toy(facts=lambda c, p: {}), r"groups clients by the fact 'tier', which its room's facts"),
    ],
)
def test_what_does_not_fit_is_refused(algorithm: Declared, says: str) -> None:
    registry.add(algorithm)
    with pytest.raises(UserError, match=says):
        runner.run(config(), "run", algorithm=algorithm)
