"""An algorithm of a user's own with three stages: rounds, a choice on the server, rounds again."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.algorithms.room import Room
from fednas_jax.algorithms.stage_types import (
    Folders,
    RoundsStage,
    ServerContext,
    ServerStage,
    Stage,
)
from fednas_jax.checkpoints import model
from fednas_jax.fields.field import FLOAT, Field, above
from tests.tiny import fedavg_config

NAMES = ("first", "pick", "then/tier-1")


def pick(stage: ServerContext) -> Mapping[str, Any]:
    """Draws a class, and raises its logit in the model of the stage before."""
    there = model.restore(stage.before["first"])
    drawn = jax.random.randint(stage.key, (), 0, len(there.class_names))
    params = dict(there.variables["params"])
    last = sorted(params)[-1]
    bias = params[last]["bias"].at[drawn].add(stage.config["pick"]["raise"])
    params[last] = {**params[last], "bias": bias}
    changed = dataclasses.replace(there, variables={**there.variables, "params": params})
    model.save(changed, stage.folder)
    return {"drawn": drawn, "round": there.round, "bias": jnp.round(bias[drawn], 3)}


def stages(config: schema.Config) -> tuple[Stage, ...]:
    """Half of the rounds, a choice, and as many rounds from what is chosen."""

    def go_on(before: Folders) -> schema.Config:
        return schema.resolve(config, {"warm_start": str(before["pick"])})

    return (
        RoundsStage("first", lambda before: config),
        ServerStage("pick", lambda stage: pick(stage)),
        RoundsStage("then/tier-1", go_on),
    )


def room() -> Room:
    """FedAvg's, with stages."""
    from fednas_jax.algorithms.fedavg.room import ROOM

    return ROOM._replace(stages=lambda config: stages(config))


ALGORITHM: Declared = FEDAVG._replace(
    name="staged",
    title="Staged",
    room=room,
    fields=(*FEDAVG.fields, Field("pick.raise", 0.5, FLOAT, above(0), "added to a logit")),
)


def staged_config(**fields: Any) -> Any:
    """Two rounds before and two after, on the smallest data."""
    registry.add(ALGORITHM)
    config = schema.default("staged")
    tiny = fedavg_config()
    for name in tiny:
        if name != "algorithm":
            config[name] = tiny[name]
    config.rounds, config.checkpoint_every, config.test_every = 2, 1, 1
    config.update_from_flattened_dict(fields)
    return config
