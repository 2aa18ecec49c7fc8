"""Fields that are right by themselves and not beside others, or that nothing reads."""

from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.runtime.errors import UserError


def fedavg(**fields: Any) -> Any:
    config = schema.default()
    config.update_from_flattened_dict({"algorithm": "fedavg"} | fields)
    return config


def refusal(**fields: Any) -> str:
    with pytest.raises(UserError) as raised:
        schema.check(fedavg(**fields))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("network", ["resnet20", "densenet_small", "genotype"])
def test_all_examples_at_once_are_not_for_batch_normalisation(network: str) -> None:
    fields: dict[str, Any] = {"network.name": network, "batch_size": 0}
    assert refusal(**fields) == (
        "config.batch_size: 0 is not usable with batch normalisation, which would count some "
        "examples twice; at least 1, or config.network.normalization=group, is needed"
    )
    schema.check(fedavg(**fields, **{"network.normalization": "group"}))
    schema.check(fedavg(**fields | {"network.name": "2nn"}))


def test_infinity_is_written_as_0() -> None:
    with pytest.raises(UserError, match=r"^config\.batch_size: 'inf' .*such as 64, or 0 for all "):
        schema.resolve(fedavg(), {"batch_size": "inf"})


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_a_server_whose_steps_move_every_weight_by_one(optimizer: str) -> None:
    said = refusal(**{"server.optimizer": optimizer})
    wrong = f"1.0 is too large for config.server.optimizer '{optimizer}', which "
    assert said.startswith(f"config.server.learning_rate: {wrong}")
    assert said.endswith("; less than 1, such as 0.01, is needed")
    schema.check(fedavg(**{"server.optimizer": optimizer, "server.learning_rate": 0.01}))
    # A step to the mean, or past it.
    schema.check(fedavg(**{"server.optimizer": "momentum", "server.learning_rate": 1.5}))


STATISTICS = {"server.batch_stats": "averaged", "server.recalibration_fraction": 0.5}


@pytest.mark.parametrize("field", STATISTICS)
@pytest.mark.parametrize(
    ("network", "why"),
    [
        ({"network.name": "cnn"}, "config.network.name is 'cnn'"),
        ({"network.name": "2nn"}, "config.network.name is '2nn'"),
        (
            {"network.name": "resnet20", "network.normalization": "group"},
            "config.network.normalization is 'group'",
        ),
    ],
)
def test_statistics_of_a_network_that_has_none(
    field: str, network: dict[str, str], why: str
) -> None:
    value, default = STATISTICS[field], {f.name: f.default for f in schema.FIELDS}[field]
    assert refusal(**network, **{field: value}) == (
        f"config.{field}: {value!r} is not used where {why}; {default!r}, its default, is needed"
    )
    resolved = schema.resolve(fedavg(**network))
    assert not {"batch_stats", "recalibration_fraction"} & set(resolved["server"])
    schema.check(fedavg(**{"network.name": "resnet20", field: value}))


@pytest.mark.parametrize("algorithm", ["fednas", "fedavg"])
def test_a_part_of_the_batches_for_statistics_that_are_averaged(algorithm: str) -> None:
    fields: dict[str, Any] = {"algorithm": algorithm, "server.batch_stats": "averaged"}
    if algorithm == "fedavg":
        fields["network.name"] = "genotype"
    said = refusal(**fields, **{"server.recalibration_fraction": 0.5})
    assert said.startswith("config.server.recalibration_fraction: 0.5 is not used where config.")
    assert "recalibration_fraction" not in schema.resolve(fedavg(**fields))["server"]


def test_what_some_of_several_networks_read_is_left_out_for_the_others() -> None:
    base = fedavg(**{"server.batch_stats": "averaged"})
    for name, read in (("resnet20", True), ("cnn", False)):
        found = schema.resolve_one_of(base, {"network.name": name}, "network.name")
        assert ("batch_stats" in found["server"]) == read


def test_stragglers_that_there_are_not() -> None:
    assert refusal(stragglers="drop") == (
        "config.stragglers: 'drop' is not used where config.stragglers_share is 0; 'keep', its "
        "default, is needed"
    )
    schema.check(fedavg(stragglers="drop", stragglers_share=0.1))


def test_scores_on_examples_that_nobody_holds_out() -> None:
    assert refusal(**{"held_out_every": 5, "client.held_out_fraction": 0.0}) == (
        "config.held_out_every: 5 is not used where config.client.held_out_fraction is 0; 1, its "
        "default, is needed"
    )
    schema.check(fedavg(held_out_every=5))


@pytest.mark.parametrize(
    ("field", "value", "unset", "enough"),
    [
        ("dropouts", "keep", "config.faults.dropout_share is 0", {"dropout_share": 0.1}),
        ("late", "keep", "config.faults.deadline_steps is 0", {"deadline_steps": 5}),
        (
            "speed_sigma",
            0.5,
            "config.faults.deadline_steps and config.faults.extra_share are 0",
            {"deadline_steps": 5},
        ),
        ("too_few", "repeat", "config.faults.min_clients is 0", {"min_clients": 2}),
    ],
)
def test_what_is_done_about_faults_that_there_are_not(
    field: str, value: Any, unset: str, enough: dict[str, Any]
) -> None:
    name = f"faults.{field}"
    assert refusal(**{name: value}).startswith(
        f"config.{name}: {value!r} is not used where {unset}; "
    )
    schema.check(fedavg(**{name: value}, **{f"faults.{n}": v for n, v in enough.items()}))


def test_more_clients_than_there_are_cannot_be_drawn() -> None:
    assert refusal(**{"faults.extra_share": 0.5}).startswith(
        "config.faults.extra_share: 0.5 is not usable if all clients take part; 0 is needed, or a "
    )
    schema.check(fedavg(**{"faults.extra_share": 0.5, "clients_fraction": 0.5}))
