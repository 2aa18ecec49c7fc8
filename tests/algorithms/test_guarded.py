"""Rooms and declarations of a user's own that are not what is needed: one line each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.fedavg.config import DECLARED
from fednas_jax.algorithms.fedavg.room import ROOM
from fednas_jax.algorithms.room import ClientLayout
from fednas_jax.algorithms.stage_types import RoundsStage, ServerStage
from fednas_jax.fields import extension
from fednas_jax.fields.extension import Extension
from fednas_jax.fields.field import INT, Field, anything
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from tests.tiny import fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {})
    monkeypatch.setattr(user_code, "_given", {})


def algorithm(**parts: Any) -> Declared:
    return DECLARED._replace(name="mine", title="Mine", room=lambda: ROOM._replace(**parts))


def one_line(call: Any) -> str:
    with pytest.raises(UserError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def nothing(*arguments: Any) -> None:
    return None


def fails(*arguments: Any) -> Any:
    raise ValueError("boom")


HERE = nothing.__code__.co_firstlineno, fails.__code__.co_firstlineno + 1


@pytest.mark.parametrize(
    ("part", "signature"),
    [
        ("build", "a function(config, dataset) that returns a fednas_jax.federated.algorithm.Alg"),
        ("layout", "a function(config) that returns a ClientLayout is needed"),
        ("facts", "a function(config, partition) that returns a dictionary of arrays is needed"),
    ],
)
def test_a_part_that_returns_nothing_or_fails(part: str, signature: str, tmp_path: Path) -> None:
    for function, says in (
        (nothing, f"{part} of its room ({__file__}:{HERE[0]}) returns NoneType; {signature}"),
        (
            fails,
            f"{part} of its room fails at {__file__}:{HERE[1]} (ValueError: boom); {signature}",
        ),
        (3, f"{part} of its room is of type int; {signature}"),
    ):
        mine = algorithm(**{part: function})
        said = one_line(lambda m=mine: experiment.run(fedavg_config(), tmp_path / "r", algorithm=m))
        assert said.startswith(f"config.algorithm: mine: {says}")
        assert not (tmp_path / "r").exists()
        registry._added.clear()


@pytest.mark.parametrize("part", ["network", "findings", "sections", "inputs", "origins"])
def test_every_other_part_too(part: str) -> None:
    arguments = {"findings": 2}.get(part, 1) * [fedavg_config()]
    for function, says in ((nothing, "returns NoneType; a"), (fails, "ValueError: boom); a func")):
        registry._added.clear()
        registry.add(algorithm(**{part: function}))
        room = registry.room("mine")
        assert says in one_line(lambda r=room: getattr(r, part)(*arguments))


def test_what_is_right_passes() -> None:
    registry.add(algorithm(layout=lambda config: ClientLayout(0.5)))
    room = registry.room("mine")
    assert room.layout(fedavg_config()) == ClientLayout(0.5)
    assert room.build is ROOM.build
    assert registry.room("fedavg") is ROOM


def test_values_of_parts() -> None:
    config = fedavg_config()
    registry.add(algorithm(schedule=3))
    assert "mine: the schedule of its room is of type int; a" in one_line(
        lambda: registry.room("mine")
    )
    registry._added.clear()
    registry.add(
        algorithm(
            network=lambda config: {"width": 3},
            facts=lambda config, partition: {"tier": ["a", "b"]},
            stages=lambda config: (RoundsStage("", nothing),),
        )
    )
    room = registry.room("mine")
    assert "network of its room has no name" in one_line(lambda: room.network(config))
    facts: Any = np.arange(2)
    assert "the fact 'tier' of its room is no array of numbers" in one_line(
        lambda: room.facts(config, facts)
    )
    (stage,) = room.stages(config)
    assert isinstance(stage, RoundsStage)
    assert "returns NoneType; a function(folders) that" in one_line(lambda: stage.config({}))
    registry._added.clear()
    registry.add(algorithm(stages=lambda config: (ServerStage("a", fails),)))
    (on_server,) = registry.room("mine").stages(config)
    assert isinstance(on_server, ServerStage)
    context: Any = None
    assert f"mine: compute fails at {__file__}:{HERE[1]} (ValueError: boom); a function" in (
        one_line(lambda: on_server.compute(context))
    )
    for given in (None, (), RoundsStage("", nothing), (3,)):
        registry._added.clear()
        registry.add(algorithm(stages=lambda config, given=given: given))
        assert "the stages of 'mine'" in one_line(lambda: registry.room("mine").stages(config))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": 3}, "algorithm: 3 has the name 3; text is needed"),
        ({"title": None}, "algorithm: 'mine' has the title None; text is needed"),
        ({"room": None}, "algorithm: 'mine' has the room None; a function() that returns a Room"),
        ({"fields": None}, "algorithm: 'mine' has the fields None; a tuple of Field is needed"),
        ({"fields": 3}, "algorithm: 'mine' has the fields 3; a tuple of Field is needed"),
        ({"reads": "network."}, "algorithm: 'mine' has the reads 'network.'; a set of names"),
        ({"check": None}, "algorithm: 'mine' has the check None; a function(values) that"),
        ({"finds": "x"}, "algorithm: 'mine' has the finds 'x'; a Finds, or None, is needed"),
        (
            {"reads": {"optimzer."}},
            "config.algorithm: mine reads 'optimzer.'; the name of a field, or of a section such "
            "as 'network.', is needed; did you mean 'optimizer.'?",
        ),
    ],
)
def test_what_is_declared(changed: dict[str, Any], says: str) -> None:
    mine = algorithm()._replace(**changed)

    def declared() -> None:
        registry.add(mine)
        schema.default("mine")

    assert one_line(declared).startswith(says)


def test_lists_and_sets_will_do() -> None:
    field: Any = [Field("mine.x", 1, INT, anything, "x")]
    reads: Any = {*DECLARED.reads}
    registry.add(algorithm()._replace(fields=[*DECLARED.fields, *field], reads=reads))
    assert schema.default("mine").mine.x == 1


RIGHT = Field("mine.x", 1, INT, anything, "x")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (3, "has the fields 3; a tuple of fednas_jax.fields.field.Field is needed"),
        (RIGHT, "; a tuple of fednas_jax.fields.field.Field is needed"),
        ((RIGHT._replace(name=3),), "declares a field 3; a name such as 'mine' or 'mine.size' is"),
        ((RIGHT._replace(types=int),), "declares a field 'mine.x' with the default 1; one of the"),
        ((RIGHT._replace(check=None),), "'mine.x' with the check None; a function(value) that"),
        ((RIGHT._replace(help=None),), "declares a field 'mine.x' with the help None; text is"),
        ((RIGHT._replace(needs=("rounds",)),), "'mine.x' with the needs ('rounds',); None, or"),
        ((RIGHT._replace(needs=("rounds", ([],))),), "'mine.x' with the needs ('rounds', ([],));"),
        (
            (RIGHT._replace(needs=("no.such", (1,))),),
            "declares a field 'mine.x' that needs 'no.such'; there is no such field",
        ),
        ((RIGHT._replace(optional=True),), "declares the field 'mine.x' as optional, so that no"),
    ],
)
def test_fields_of_an_extension(fields: Any, says: str) -> None:
    config = fedavg_config()
    config.transforms = extension.given("transforms", Extension(nothing, fields))
    said = one_line(lambda: schema.resolve(config))
    assert said.startswith("config.transforms: given:transforms_nothing ")
    assert says in said
