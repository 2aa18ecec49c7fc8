"""What users bring with fields of its own, by name and as objects: checked, listed, recorded."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax import experiment, main
from fednas_jax.algorithms import parts
from fednas_jax.experiment import stages
from fednas_jax.federated.transforms import Transform
from fednas_jax.fields import extension
from fednas_jax.fields.extension import Extension, Kind
from fednas_jax.fields.field import FLOAT, INT, TEXT, Field, anything, at_least
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.studies import comparison
from tests.tiny import ROOT, fedavg_config, search_config

MADE = """
from fednas_jax.fields.extension import Extension
from fednas_jax.fields.field import INT, Field, at_least

def make(config):
    return config["rounds"]

SIZE = Field("mine.size", 3, INT, at_least(1), "Size of mine")
MINE = Extension(make, (SIZE,))
"""
NUMBER = Kind(int, "a function(config) that returns an int")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_code, "_given", {})
    Path("mine.py").write_text(MADE)
    return tmp_path


def with_fields(*fields: Field, text: str = "partition.name") -> Any:
    """A config that names an `Extension` with these fields."""
    reference = extension.given(text, Extension(lambda config: None, fields))
    config = fedavg_config()
    config.update_from_flattened_dict({text: reference})
    return config


def refusal(config: Any, **overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        schema.resolve(config, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("field", ["dataset.name", "partition.name", "callbacks"])
def test_its_fields_are_there_where_it_is_named(elsewhere: Path, field: str) -> None:
    named = {field: "mine.py:MINE"}
    config = fedavg_config()
    assert "mine" not in schema.resolve(config)
    assert schema.resolve(config, named)["mine"]["size"] == 3
    resolved = schema.resolve(config, {**named, "mine.size": "5"})
    assert schema.to_json(resolved)["mine"] == {"size": 5}
    assert refusal(config, **named, **{"mine.size": "0"}).startswith("config.mine.size: 0 is not")
    assert refusal(config, **named, **{"mine.sise": "4"}).endswith("did you mean config.mine.size?")
    assert refusal(config, **{"mine.size": "5"}).startswith("config.mine.size: no such field")
    # The function alone has none.
    assert "mine" not in schema.resolve(config, {field: "mine.py:make"})


def test_they_are_listed_by_help(elsewhere: Path, capsys: Any) -> None:
    assert main.main(["--help", "--config.dataset.name=mine.py:MINE"]) == 0
    assert "  mine.size=3\n      Size of mine\n" in capsys.readouterr().out
    assert main.main(["--help"]) == 0
    assert "mine.size" not in capsys.readouterr().out


def test_fields_that_are_taken(elsewhere: Path) -> None:
    def taken(name: str) -> str:
        return refusal(with_fields(Field(name, 1, INT, anything, "another")))

    for name in ("rounds", "partition.num_clients", "dataset", "rounds.more", "then_train"):
        assert f"declares a field {name!r}, which another algorithm, another" in taken(name)
    Path("other.py").write_text(
        MADE.replace('3, INT, at_least(1), "Size', '4, INT, at_least(1), "')
    )
    both = {"dataset.name": "mine.py:MINE", "partition.name": "other.py:MINE"}
    assert refusal(fedavg_config(), **both).startswith(
        "config.partition.name: other.py:MINE declares a field 'mine.size', which another"
    )
    # One and the same may be shared.
    both["partition.name"] = "mine.py:MINE"
    assert schema.resolve(fedavg_config(), both)["mine"]["size"] == 3


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("mine", "declares 'mine'; a fednas_jax.fields.field.Field is needed"),
        (Field("Mine.x", 1, INT, anything, "x"), "declares a field 'Mine.x'; a name such as"),
        (Field("a.b.c", 1, INT, anything, "x"), "declares a field 'a.b.c'; a name such as"),
        (Field("mine.x", "1", INT, anything, "x"), "'mine.x' with the default '1'; one of"),
        (Field("mine.x", [], (list,), anything, "x"), "'mine.x' with the default []; one of"),
    ],
)
def test_what_can_be_no_field(elsewhere: Path, field: Any, says: str) -> None:
    assert says in refusal(with_fields(field))


def test_a_check_that_fails(elsewhere: Path) -> None:
    broken = with_fields(Field("mine.x", 1, INT, lambda value: value.size, "x"))
    assert refusal(broken) == (
        "config.mine.x: 1 is not usable; its check fails (AttributeError: 'int' object has no "
        "attribute 'size'), and has to be mended"
    )


def test_fields_of_a_network_lie_in_its_section(elsewhere: Path) -> None:
    wrong = with_fields(Field("mine.width", 1, INT, anything, "x"), text="network.name")
    assert refusal(wrong).endswith(
        "fields of a network are named network.NAME, such as network.width"
    )


def test_callbacks_affect_no_result(elsewhere: Path) -> None:
    config = fedavg_config()
    recorded = schema.to_json(schema.resolve(config, {"callbacks": "mine.py:MINE"}))
    assert schema.differences(recorded, config) == []
    assert schema.differences(schema.to_json(config), schema.resolve(recorded)) == []
    recorded = schema.to_json(schema.resolve(config, {"partition.name": "mine.py:MINE"}))
    assert schema.differences(recorded, config) == [
        "config.partition.name: 'mine.py:MINE' there, 'homo' here",
        "config.mine.size: 3 there, no such field here",
    ]


def test_a_run_of_before_has_none_of_it(elsewhere: Path) -> None:
    recorded = schema.to_json(fedavg_config())
    assert recorded.keys().isdisjoint({"transforms", "reducer", "callbacks"})
    assert schema.differences(recorded, fedavg_config()) == []
    assert schema.resolve(recorded) == schema.resolve(fedavg_config())
    named = schema.to_json(schema.resolve(recorded, {"callbacks": "mine.py:make"}))
    assert named["callbacks"] == "mine.py:make"


def test_the_training_after_a_search_has_the_fields_of_its_data(elsewhere: Path) -> None:
    config, train = search_config(), fedavg_config()
    train.network.name = "genotype"
    for one in (config, train):
        one.dataset.name = "mine.py:MINE"
    config.then_train = train
    planned = stages.resolve(config, {"mine.size": "7"})
    assert planned.train is not None
    assert planned.first["mine"]["size"] == planned.train["mine"]["size"] == 7
    with pytest.raises(UserError, match=r"^config\.then_train\.mine\.size: 5 is not the search's"):
        stages.resolve(config, {"then_train.mine.size": "5"})


def test_objects_are_named_by_where_they_stand_or_kept(elsewhere: Path) -> None:
    assert extension.given("network.name", Extension) == "fednas_jax.fields.extension:Extension"
    assert extension.given("callbacks", refusal, WHOLE) == f"{__name__}:refusal,{__name__}:WHOLE"
    one, two = (lambda event: 1), (lambda event: 2)
    named = extension.given("callbacks", one, two, one)
    assert named == "given:callbacks_lambda,given:callbacks_lambda_2,given:callbacks_lambda"
    found = [user_code.load(name, "config.callbacks").value for name in named.split(",")]
    assert found == [one, two, one]
    assert extension.given("callbacks", functools.partial(refusal, 1)) == "given:callbacks_refusal"
    assert extension.given_fields({"reducer": None}, {"callbacks": ()}) == {}
    assert extension.given_fields({}, {"callbacks": refusal}) == {
        "callbacks": f"{__name__}:refusal"
    }


def test_a_single_object_stands_for_a_list_of_it(elsewhere: Path) -> None:
    def named(values: Any) -> dict[str, str]:
        return extension.given_fields({}, {"transforms": values})

    one = Transform("one")
    assert named(one) == named([one]) == named((one,)) == {"transforms": "given:transforms_one"}
    assert user_code.load("given:transforms_one", "config.transforms").value is one
    assert named("clip.py:CLIP") == named(["clip.py:CLIP"]) == {"transforms": "clip.py:CLIP"}
    assert named(WHOLE) == {"transforms": f"{__name__}:WHOLE"}
    assert named(None) == named([]) == {}
    config = fedavg_config()
    says = r"given:callbacks_int is of type int; a function\(event\)"
    with pytest.raises(UserError, match=says):
        experiment.run(config, elsewhere / "run", callbacks=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"given:transforms_int is of type int; a fednas_jax\."):
        parts.transforms(extension.given_fields({}, {"transforms": 3}))


WHOLE = Extension(lambda event: None)


def test_an_object_of_another_process_has_to_be_passed_again(elsewhere: Path) -> None:
    config = fedavg_config()
    recorded = schema.to_json(
        schema.resolve(config, {"partition.name": extension.given("partition.name", lambda: 1)})
    )
    user_code._given.clear()
    needed = "the object itself is needed: experiment.run(config, workdir, partition=...)"
    assert schema.differences(recorded, config) == [
        f"config.partition.name: 'given:partition_lambda' there, 'homo' here, where {needed}"
    ]
    assert refusal(recorded) == (
        "config.partition.name: given:partition_lambda is an object of another process; " + needed
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("make = 'x'", "mine.py:make is of type str; a function(config) that returns an int is"),
        ("def make(): pass", "mine.py:make fails (TypeError: make() takes 0 positional argument"),
        ("def make(config):\n    return 'x'", "mine.py:make returns str; a function(config) that"),
        ("def make(config):\n    return 1 / 0", "mine.py:2 (ZeroDivisionError: division by zero)"),
        ("def make(config):\n    raise SystemExit(3)", "mine.py:2 (SystemExit: 3); a function"),
        ("", "config.reducer: mine.py has no 'make'"),
        ("import no_such", "mine.py:1: ModuleNotFoundError: No module named 'no_such'; mend the"),
    ],
)
def test_what_makes_something_else_is_refused(elsewhere: Path, text: str, says: str) -> None:
    Path("mine.py").write_text(text)
    with pytest.raises(UserError) as raised:
        extension.made("mine.py:make", "config.reducer", NUMBER, fedavg_config())
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


BROUGHT = """
from fednas_jax.federated.reducers import buffered
from fednas_jax.federated.transforms import Transform
from fednas_jax.fields.extension import Extension

def make(config):
    return Transform(f"of {config['rounds']}")

def reducer(config):
    return buffered(f"of {config['rounds']}", lambda sent, present: sent)

MINE = Extension(make)
"""


def test_what_goes_through_the_loader(elsewhere: Path) -> None:
    config = {"rounds": 4, "transforms": "own.py:MINE, own.py:make", "reducer": "sum"}
    Path("own.py").write_text(BROUGHT)
    assert extension.made("mine.py:MINE", "config.reducer", NUMBER, config) == 4
    assert [transform.name for transform in parts.transforms(config)] == ["of 4", "of 4"]
    assert parts.transforms({"transforms": ""}) == ()
    assert parts.reducer(config) is None
    made = parts.reducer(config | {"reducer": "own.py:reducer"})
    assert made is not None
    assert made.name == "of 4"
    of_reducers = r"own\.py:make returns Transform; a fednas_jax\.federated\.reducers\.Reducer, or"
    with pytest.raises(UserError, match=of_reducers):
        parts.reducer(config | {"reducer": "own.py:make"})


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("transforms", "clip", "config.transforms: 'clip' is not usable; path/to/file.py:Name"),
        ("callbacks", "a.py:f,,b.py:g", "config.callbacks: 'a.py:f,,b.py:g' is not usable; path"),
        ("reducer", "median", "config.reducer: 'median' is not usable; one of sum, or path/to/fil"),
        ("dataset.name", "no_such:data", "config.dataset.name: there is no module 'no_such'; pac"),
        ("partition.name", "no.py:f", "no.py: cannot be read (No such file or directory)"),
    ],
)
def test_names_that_are_none(elsewhere: Path, field: str, text: str, says: str) -> None:
    assert refusal(fedavg_config(), **{field: text}).startswith(says)


def test_sources(elsewhere: Path) -> None:
    path = user_code.source_of(refusal)
    assert path.path == __file__
    assert user_code.source_of(functools.partial(refusal, 1)) == path
    assert user_code.source_of(WHOLE) == path
    assert user_code.source_of(functools.lru_cache(refusal)) == path
    assert user_code.source_of(eval("lambda: 1")) == user_code.Source("", "")
    assert user_code.source_of(3).sha256 == ""
    assert json.loads(json.dumps(path._asdict())) == path._asdict()


UNUSED = (
    Field("mine.rate", 0.5, FLOAT, at_least(0), "x"),
    Field("mine.name", "", TEXT, anything, ""),
)


RATE = Field("mine.rate", 0.5, FLOAT, at_least(0), "x")
NAME = Field("mine.name", "", TEXT, anything, "x")


def test_several_fields_are_listed_together(elsewhere: Path) -> None:
    names = [field.name for field in schema.fields_of(with_fields(RATE, NAME), {})]
    assert names[-2:] == ["mine.rate", "mine.name"]


def test_what_the_document_shows_is_short() -> None:
    sections = re.split(r"\n###? ", (ROOT / "docs/extending.md").read_text())[1:]
    shown = {section.partition("\n")[0]: len(section.splitlines()) for section in sections}
    assert "A transform of what clients send" in shown
    long = {name for name, lines in shown.items() if lines > 40}
    assert long <= {"What an algorithm consists of"}, "a table of parts, no example"


def test_a_search_beside_networks_has_the_same_data(elsewhere: Path) -> None:
    for name, function in (("c.py", "trained"), ("s.py", "searched")):
        Path(name).write_text(f"from tests.fields.test_extension import {function} as get_config\n")
    shared = {"mine.size": "7"}
    plan = comparison.plan("c.py", shared, "s.py", ["2nn"], [0], Path("out"))
    (search,) = plan.searches.values()
    assert search["mine"]["size"] == 7
    with pytest.raises(UserError, match=r"^--search: config\.mine\.size is 5, and 3 in --config;"):
        comparison.plan("c.py", {}, "s.py", ["2nn"], [0], Path("out"))


def trained(variant: str) -> Any:
    config = fedavg_config()
    config.dataset.name = "mine.py:MINE"
    return config


def searched(variant: str) -> Any:
    config, same = search_config(), trained("")
    config.dataset, config.partition, config.client = same.dataset, same.partition, same.client
    config.mine = {"size": 5}
    return config


def test_fields_of_others_are_not_named_as_those_of_a_network(elsewhere: Path) -> None:
    Path("other.py").write_text(
        "from fednas_jax.fields.extension import Extension\n"
        "from fednas_jax.fields.field import INT, Field, at_least\n"
        "MINE = Extension(len, (Field('network.width', 8, INT, at_least(1), 'Width'),))\n"
    )
    with pytest.raises(UserError, match=r"names that begin with network\. are those of a n"):
        schema.resolve(fedavg_config(), {"transforms": "other.py:MINE"})
