"""The schema, and every way to get a field wrong."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.runtime.errors import UserError

CONFIGS = Path(schema.__file__).resolve().parents[1] / "configs"


def changed(name: str, value: object, *, plain: bool = False) -> Any:
    """The default config with one field set; plain: dicts, as read from a run's JSON."""
    config = schema.default().to_dict() if plain else schema.default()
    section, _, leaf = name.rpartition(".")
    (config[section] if section else config)[leaf] = value
    return config


def refusal(config: object) -> str:
    with pytest.raises(UserError) as raised:
        schema.check(config)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_defaults_are_the_papers() -> None:
    config = schema.resolve(schema.default())
    assert (config.rounds, config.local_epochs, config.batch_size) == (50, 5, 64)
    assert (config.supernet.init_channels, config.supernet.layers) == (16, 8)
    assert (config.optimizer.learning_rate, config.optimizer.learning_rate_min) == (0.025, 0.001)
    assert (config.arch_optimizer.beta1, config.arch_optimizer.beta2) == (0.5, 0.999)


@pytest.mark.parametrize("field", schema.FIELDS, ids=lambda field: field.name)
def test_every_field_has_a_usable_default_and_a_meaning(field: schema.Field) -> None:
    assert isinstance(field.default, field.types)
    assert field.check(field.default) == ""
    assert field.help


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("seed", -1, "0 <= value"),
        ("rounds", 0, "at least 1"),
        ("local_epochs", 0, "at least 1"),
        ("batch_size", -64, "at least 0"),
        ("clients_per_chunk", 0, "'auto', 'measured' or a whole number"),
        ("clients_per_chunk", "many", "'auto', 'measured' or a whole number"),
        ("clients_per_round", -1, "at least 0"),
        ("checkpoints_to_keep", 0, "at least 1"),
        ("algorithm", "fednass", "did you mean 'fednas'"),
        ("dataset.name", " ", "a name or a path"),
        ("dataset.test_fraction", 1.0, "0 < value < 1"),
        ("partition.name", "hetro", "did you mean 'hetero'"),
        ("partition.num_clients", 0, "at least 1"),
        ("partition.seed", -2, "-1 <= value"),
        ("partition.concentration", 0.0, "more than 0"),
        ("partition.table_fraction", 1.5, "0 < value <= 1"),
        ("client.held_out_fraction", 1.0, "0 <= value < 1"),
        ("client.train_fraction", 0.0, "0 < value < 1"),
        ("supernet.init_channels", 7, "an even number"),
        ("supernet.init_channels", 0, "an even number"),
        ("supernet.layers", 2, "at least 3"),
        ("network.init_channels", 7, "an even number"),
        ("network.init_channels", 0, "an even number"),
        ("network.init_channels", 10**9, "at most 10000"),
        ("network.layers", 2, "at least 3"),
        ("network.layers", 10**12, "at most 1000"),
        ("search.order", "alpha-first", "did you mean 'alpha_first'"),
        ("search.lambda_valid", -0.5, "at least 0"),
        ("optimizer.learning_rate", -0.1, "more than 0"),
        ("optimizer.momentum", 1.0, "0 <= value < 1"),
        ("optimizer.clip_norm", -5.0, "at least 0"),
        ("arch_optimizer.learning_rate", -3e-4, "at least 0"),
        ("server.batch_stats", "mean", "one of averaged, recalibrated"),
        ("augment.crop_padding", -1, "at least 0"),
        ("batch_size", 10**11, "at most 1048576"),
        ("local_epochs", 10**12, "at most 10000"),
        ("rounds", 2**31, "at most 2147483647"),
        ("partition.concentration", 1e308, "at most 1000000000"),
        ("supernet.init_channels", 10**9, "at most 10000"),
        ("supernet.layers", 10**12, "at most 1000"),
        ("augment.crop_padding", 2**30, "at most 10000"),
        ("augment.cutout", 10**12, "at most 10000"),
        ("clients_per_chunk", 2**31, "'auto', 'measured' or a whole number"),
    ],
)
def test_out_of_range(name: str, value: object, right: str) -> None:
    message = refusal(changed(name, value))
    assert message.startswith(f"config.{name}: {value!r} is not usable; ")
    assert right in message


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("rounds", "ten", "a whole number"),
        ("rounds", 10.0, "a whole number"),
        ("rounds", True, "a whole number"),
        ("rounds", None, "a whole number"),
        ("clients_per_chunk", 2.5, "a whole number or text"),
        ("optimizer.learning_rate", "0.1", "a number"),
        ("optimizer.learning_rate", False, "a number"),
        ("optimizer.learning_rate", (0.1, 0.2), "a number"),
        ("dataset.name", 10, "text"),
        ("augment.flip", 1, "true or false"),
        ("augment.flip", "yes\nno", "true or false"),
    ],
)
def test_wrong_type(name: str, value: object, right: str) -> None:
    message = refusal(changed(name, value, plain=True))
    assert message.startswith(f"config.{name}: ")
    assert f"; {right} is needed" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite(value: float) -> None:
    assert "a finite number is needed" in refusal(changed("search.lambda_train", value, plain=True))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("round", "did you mean config.rounds?"),
        ("optimiser.learning_rate", "did you mean config.optimizer.learning_rate?"),
        ("layers", "did you mean config.supernet.layers?"),
        ("quantum", "`python -m fednas_jax.config` lists the fields"),
    ],
)
def test_unknown_field(name: str, hint: str) -> None:
    config = schema.default()
    if "." in name:
        config[name.split(".")[0]] = {name.split(".")[1]: 0.1}
    else:
        config[name] = 3
    message = refusal(config)
    assert message.startswith(f"config.{name}: no such field; ")
    assert hint in message


def test_a_group_given_as_a_field_and_a_field_left_out() -> None:
    assert "is a group of fields; set one of search." in refusal(changed("search", 3))
    config = schema.default()
    del config.supernet.layers
    assert refusal(config).startswith("config.supernet.layers: missing; ")


def test_fields_that_must_fit_together() -> None:
    config = changed("optimizer.learning_rate_min", 0.05)
    assert "at most 0.025 is needed" in refusal(config)
    assert "at most 16 is needed" in refusal(changed("clients_per_round", 17))
    schema.check(changed("clients_per_round", 16))
    assert refusal(changed("partition.name", "file")).startswith("config.partition.path: empty")
    config = changed("partition.path", "mine.npz")
    assert "'mine.npz' is not used where config.partition.name is 'hetero'" in refusal(config)
    config.partition.name = "file"
    schema.check(config)


def test_the_number_of_clients_is_the_datas_own_where_the_partition_brings_it() -> None:
    config = changed("clients_per_round", 17)
    config.partition.name = "natural"
    schema.check(config)


def test_resolve_brings_values_to_their_types_and_freezes() -> None:
    config = changed("clients_per_chunk", "4")
    config.optimizer.learning_rate = 1
    config.rounds = np.int64(7)
    config.search.lambda_train = np.float32(0.5)
    resolved = schema.resolve(config)
    values = (resolved.clients_per_chunk, resolved.optimizer.learning_rate, resolved.rounds)
    assert values == (4, 1.0, 7)
    assert [type(value) for value in values] == [int, float, int]
    assert type(resolved.search.lambda_train) is float
    with pytest.raises(AttributeError):
        resolved.rounds = 3
    assert config.clients_per_chunk == "4", "the config given is left as it was"


def test_a_path_is_taken_as_text_in_every_field_of_text() -> None:
    base = schema.default("fedavg")
    texts = [field.name for field in schema.FIELDS if field.types == (str,)]
    paths = {"dataset.name": "x.npz", "dataset.test_path": "y.npz", "dataset.data_dir": "z"}
    paths |= {"warm_start": "runs/a", "compilation_cache": "cache"}
    assert paths.keys() <= set(texts)
    for name, text in paths.items():
        base.update_from_flattened_dict({name: Path(text)})
    plain = schema.to_json(base)  # a mapping that is no ConfigDict
    for found in (schema.resolve(base), schema.resolve(plain)):
        values = schema.flat(found)
        assert {name: values[name] for name in paths} == paths
        assert all(type(values[name]) is str for name in paths)
    given = schema.resolve(schema.default("fedavg"), {"dataset.name": Path("x.npz")})  # type: ignore[dict-item]
    assert type(given["dataset"]["name"]) is str
    assert schema.differences(schema.to_json(base), base) == []
    wrong = schema.default("fedavg")
    wrong.rounds = Path("3")
    with pytest.raises(UserError, match=r"config\.rounds: '3' "):
        schema.check(wrong)


def test_resolving_twice_changes_nothing() -> None:
    once = schema.resolve(changed("clients_per_chunk", "4"))
    assert schema.resolve(once) == once


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rounds", "10", 10),
        ("optimizer.learning_rate", "5e-2", 0.05),
        ("clients_per_chunk", "auto", "auto"),
        ("clients_per_chunk", "3", 3),
        ("augment.flip", "False", False),
        ("augment.flip", "1", True),
        ("dataset.data_dir", "10", "10"),
        ("partition.seed", "-1", -1),
    ],
)
def test_overrides_are_text(name: str, text: str, value: object) -> None:
    resolved = schema.resolve(schema.default(), {name: text})
    assert dict(schema._flatten(resolved))[name] == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("rounds", "1e3"), ("rounds", ""), ("augment.flip", "maybe"), ("seed", "0x1"),
     ("optimizer.learning_rate", "nan"), ("optimizer.learning_rate", "fast"),
     ("round", "3"), ("optimizer", "3"), ("clients_per_chunk", "2.5")],
)  # fmt: skip
def test_overrides_that_are_wrong(name: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"^config\.{name}: "):
        schema.resolve(schema.default(), {name: text})


def test_json_gives_the_same_config_back() -> None:
    config = changed("clients_per_chunk", "4")
    config.optimizer.weight_decay = 1 / 3
    text = json.dumps(schema.to_json(config), allow_nan=False)
    assert schema.resolve(json.loads(text)) == schema.resolve(config)
    assert list(json.loads(text))[:3] == ["seed", "algorithm", "rounds"]


def test_differences_name_the_fields_that_affect_the_result() -> None:
    recorded = json.loads(json.dumps(schema.to_json(schema.default())))
    assert schema.differences(recorded, schema.default()) == []
    config = schema.default()
    config.rounds = 10
    config.optimizer.learning_rate = 0.05
    config.report.plots = False
    config.clients_per_chunk = 2
    config.dataset.data_dir = "elsewhere"
    assert schema.differences(recorded, config) == [
        "config.rounds: 50 there, 10 here",
        "config.optimizer.learning_rate: 0.025 there, 0.05 here",
    ]


def test_differences_with_the_run_of_another_version() -> None:
    recorded = schema.to_json(schema.default())
    del recorded["search"]["order"]
    recorded["search"]["temperature"] = 5.0
    assert schema.differences(recorded, schema.default()) == [
        "config.search.temperature: 5.0 there, no such field here"
    ]


def test_what_an_algorithm_does_not_read_is_left_out() -> None:
    config = schema.default()
    assert "network" not in schema.to_json(config)
    config.algorithm = "fedavg"
    used = schema.to_json(config)
    assert used["network"] == {"name": "cnn", "padding": "same"}
    assert used["client"] == {"held_out_fraction": 0.1}
    assert not {"supernet", "search", "arch_optimizer"} & set(used)
    assert schema.to_json(used) == used  # as a run reads back what it recorded
    assert schema.differences(used, config) == []


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        ("fedavg", "supernet.layers", 5),
        ("fednas", "optimizer.schedule", "both"),
        ("fedavg", "client.train_fraction", 0.9),
        ("fednas", "network.name", "2nn"),
    ],
)
def test_a_field_that_has_no_effect_is_refused(algorithm: str, name: str, value: object) -> None:
    config = changed(name, value)
    config.algorithm = algorithm
    said = refusal(config)
    assert said.startswith(f"config.{name}: {value!r} is not used where config.algorithm is")
    assert f"{algorithm!r}; " in said


def test_a_field_that_has_no_effect_still_has_to_be_right() -> None:
    config = changed("supernet.layers", "many")
    config.algorithm = "fedavg"
    assert "a whole number is needed" in refusal(config)


def test_markdown_has_a_row_for_every_field() -> None:
    rows = schema.markdown().splitlines()
    assert len(rows) == 2 + len(schema.FIELDS)
    assert all(row.count(" | ") == 2 for row in rows)


def test_all_names_of_the_schema_are_dotted_once_at_most() -> None:
    assert all(re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)?", field.name) for field in schema.FIELDS)


def test_a_field_that_another_ones_value_leaves_unread() -> None:
    config = schema.default()
    config.algorithm = "fedavg"
    assert schema.resolve(config)["optimizer"]["learning_rate_min"] == 0.001
    config.optimizer.schedule = "constant"
    assert "learning_rate_min" not in schema.resolve(config)["optimizer"]
    config.optimizer.learning_rate = 0.0005  # below the floor that nobody reads
    schema.check(config)
    config.optimizer.learning_rate_min = 0.0001
    message = r"^config\.optimizer\.learning_rate_min: 0\.0001 is not used where config\."
    with pytest.raises(UserError, match=message + r"optimizer\.schedule is 'constant'; 0\.001, "):
        schema.check(config)
    # The search does not read the schedule either: it has the cosine.
    config.algorithm = "fednas"
    with pytest.raises(UserError, match=r"^config\.optimizer\.schedule: 'constant' is not used"):
        schema.check(config)


def test_a_field_behind_a_field_that_is_not_read() -> None:
    config = changed("optimizer.auxiliary_weight", 0.3)
    config.algorithm = "fedavg"
    assert "0.3 is not used where config.network.name is 'cnn'" in refusal(config)
    config.network.name = "genotype"
    assert "0.3 is not used where config.network.auxiliary is False" in refusal(config)
    config.network.auxiliary = True
    assert schema.resolve(config)["optimizer"]["auxiliary_weight"] == 0.3


def test_all_of_a_clients_examples_at_once_are_for_fedavg() -> None:
    config = schema.default()
    config.batch_size = 0
    with pytest.raises(UserError, match=r"^config\.batch_size: 0 is not usable where .* 'fednas'"):
        schema.check(config)
    config.algorithm = "fedavg"
    schema.check(config)


@pytest.mark.parametrize("fraction", [0.0, 1.5, -0.1])
def test_a_fraction_of_the_clients_that_there_cannot_be(fraction: float) -> None:
    said = refusal(changed("clients_fraction", fraction))
    assert said == f"config.clients_fraction: {fraction} is not usable; " + (
        "at most 1 is needed" if fraction > 1 else "more than 0 is needed"
    )


def test_a_number_and_a_fraction_of_the_clients() -> None:
    config = changed("clients_fraction", 0.5)
    config.clients_per_round = 4
    assert refusal(config).startswith("config.clients_fraction: 0.5 is not used together with")


def test_stragglers_need_epochs_that_they_do_not_make() -> None:
    config = changed("stragglers_share", 0.5)
    config.algorithm, config.local_epochs = "fedavg", 1
    assert refusal(config).startswith("config.stragglers_share: 0.5 is not usable with one")
    config.stragglers = "drop"
    schema.check(config)


def test_fields_of_a_server_optimiser_that_is_not_the_one() -> None:
    config = changed("server.beta1", 0.5)
    config.algorithm = "fedavg"
    assert "is not used where config.server.optimizer is 'sgd'; 0.9, its" in refusal(config)
    config.server.optimizer, config.server.learning_rate = "yogi", 0.01
    assert schema.resolve(config)["server"]["beta1"] == 0.5
    assert "momentum" not in schema.resolve(config)["server"]
