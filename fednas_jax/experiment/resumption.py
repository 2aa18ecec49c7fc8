"""Reads the state of a run from its workdir, and checks whether the run may be resumed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fednas_jax.algorithms import registry, schema
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.config import flat
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import contents, longer, moved
from fednas_jax.experiment import workdir as folders
from fednas_jax.experiment.longer import Length
from fednas_jax.fields import extension
from fednas_jax.runtime import console, layout, settings
from fednas_jax.runtime.errors import UserError, suggest, warn


class Found(NamedTuple):
    """What a workdir holds, in JSON's types."""

    recorded: dict[str, Any] | None
    """Content of run.json, if there is one."""
    begun: bool
    """Whether there is a checkpoint to resume from."""
    finished: bool
    """Whether all rounds that are asked for are done, and there is a summary."""
    unlike: list[str]
    """Changes since the last start that may change the last bits, one line each; see `unlike`."""
    said: Sequence[str] = ()
    """Lines about fields that affect the result and have another value than before."""
    length: list[Any] | None = None
    """The values of a `Length`; None of a new run."""


def look(folder: Path, config: Mapping[str, Any]) -> Found:
    """Reads the folder of a run, without changing it.

    Call this before the lock makes the folder, so that a refused run leaves no folder behind.

    Args:
      folder: the workdir.
      config: the resolved config.

    Raises:
      UserError: the folder holds another run, or one with other `inputs`, another version of a
        user's code, other data, more rounds, or other settings of JAX or XLA; a file is missing; or
        JAX finds no device.
    """
    recorded = folders.recorded_run(folder, config)
    if recorded is None:
        return Found(None, False, False, [])
    places = moved.fields(recorded["config"], config)
    moved.check_there(folder, recorded["config"], config, moved.of_inputs(recorded, config))
    unknown = check_same_code(folder, recorded, code_of_user(config), places)
    check_same_inputs(folder, recorded, config, inputs(config))
    begun, length = _length(folder, recorded, config)
    if not length.finished:
        moved.check_there(folder, recorded["config"], config, moved.OF_DATA)
    said = longer.described(length, recorded["starts"], config)
    said += contents.check(folder, recorded, config, places)
    if not begun or length.finished:
        return Found(recorded, begun, length.finished, [], said, list(length))
    check_same_settings(folder, recorded, settings.recorded())
    with settings.fixed(say=False):
        changed = unlike(recorded, folders.machine()) + unknown
    return Found(recorded, begun, False, changed, said, list(length))


def is_finished(folder: Path, recorded: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a run has done all rounds that are asked for.

    Args:
      folder: the run's folder.
      recorded: content of run.json.
      config: the resolved config of this start.

    Raises:
      UserError: as `longer.length`.
    """
    return _length(folder, recorded, config)[1].finished


def _length(
    folder: Path, recorded: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[bool, Length]:
    """Whether there is a checkpoint, and how long the run is and has to be."""
    rounds = Checkpoints(folder / layout.CHECKPOINTS_FOLDER, reading=True).rounds()
    return bool(rounds), longer.length(folder, recorded, config, rounds)


def tell(found: Found) -> None:
    """Says what is changed in this start; warns of what has changed since the last one."""
    for line in found.said:
        console.show(f"fednas_jax: {line}")
    for line in found.unlike:
        warn(line)


def begin(folder: Path, found: Found, facts: dict[str, Any], done: int) -> None:
    """Records a start; from here on, a finished run that goes on counts as interrupted.

    Args:
      folder: the run's folder.
      found: as `look` returns it.
      facts: as for `workdir.write_run`.
      done: the last round before this start.

    Raises:
      UserError: the folder cannot be written, or `config.warm_start` names no checkpoint.
    """
    first = contents.digests(facts["config"]) if found.recorded is None else {}
    folders.reopen(folder)
    of_start = {"done": done, "said": list(found.said)}
    folders.write_run(folder, found.recorded, {**facts, **first, **of_start})


def code_of_user(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The files of a user's own code, as run.json records them: field -> path and SHA-256.

    A field that names several functions has an entry "field:reference" for each. The digest is ""
    if the text of the code cannot be read. A `Dataset` object has no entry, since its examples are
    compared instead.

    Args:
      config: the resolved config.

    Raises:
      UserError: the code cannot be loaded.
    """
    found = {}
    source = registry.source(config["algorithm"])
    if source is not None:
        found["algorithm"] = source._asdict()
    values = {"network.name": config.get("network", {}).get("name", "")}
    values |= {f"{part}.name": config[part]["name"] for part in ("dataset", "partition")}
    # A run records no default of these.
    values |= {field: config.get(field, "") for field in ("reducer", *extension.SEVERAL)}
    for one in extension.named(values):
        value, source = extension.unwrapped(one.reference, f"config.{one.field}")
        if not isinstance(value, Dataset):
            found[one.key] = source._asdict()
    return found


def inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run, as run.json records them: field -> content, in JSON's types.

    Args:
      config: the resolved config.

    Raises:
      UserError: as the room's `inputs`; or these name something that is not a field.
    """
    found = dict(registry.room(config["algorithm"]).inputs(config))
    known = {field.name for field in schema.of(flat(config)).fields}
    for name in found:
        if name not in known:
            raise UserError(
                f"config.algorithm: the inputs of the room of {config['algorithm']} name {name!r}, "
                f"which is not a field{suggest(name, known)}; the name of a field is needed"
            )
    return found


def check_same_inputs(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuses inputs that have changed since the run began.

    The same content may come from another file.

    Args:
      folder: the run's folder.
      run: content of run.json.
      config: the resolved config of this start.
      now: as `inputs` returns it.

    Raises:
      UserError: the content of a field has changed.
    """
    for field, value in now.items():
        if field in run:
            same = run[field] == value
        else:  # recorded by an earlier version, which recorded only the fields
            same = _value(run["config"], field) == _value(config, field)
        if not same:
            raise UserError(
                f"config.{field}: {_value(config, field)} is not the one that the run in {folder} "
                f"began with; the original {field} is needed, or another workdir"
            )


def _value(config: Mapping[str, Any], field: str) -> Any:
    """The value of a field; None if the config lacks it."""
    section, _, leaf = field.rpartition(".")
    return (config.get(section, {}) if section else config).get(leaf)


def check_same_code(
    folder: Path,
    run: Mapping[str, Any],
    now: Mapping[str, Mapping[str, str]],
    places: moved.Places = MappingProxyType({}),
) -> list[str]:
    """Refuses to resume a run if a user's code has changed; callbacks may change.

    Args:
      folder: the run's folder.
      run: content of run.json.
      now: as `code_of_user` returns it.
      places: fields whose code lies elsewhere now, as of `moved.fields`.

    Returns:
      A line for each piece of code that cannot be compared.

    Raises:
      UserError: a file has changed; or it lies elsewhere, and cannot be compared.
    """
    recorded = run.get("user_code", {})
    unknown = []
    for key, source in now.items():
        field, _, reference = key.partition(":")
        if field == extension.AFFECTS_NOTHING:
            continue
        was = recorded.get(moved.earlier_key(key, places), {}).get("sha256", "")
        if not (was and source["sha256"]):
            if field in places:
                raise contents.other(folder, {field: places[field]})
            unknown.append(
                f"config.{field}: whether {reference or 'its code'} is as it was when the run "
                "began cannot be checked, since its text was not recorded or cannot be read"
            )
        elif was != source["sha256"]:
            raise UserError(
                f"config.{field}: {source['path'] or 'its code'} is not as it was when the run in "
                f"{folder} began; the original code is needed, or another workdir"
            )
    return unknown


def check_same_settings(folder: Path, run: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to resume a run with settings that would change its bits.

    Settings of JAX are compared only if the release of JAX is the same, since defaults change
    between releases. A run of an earlier version, which recorded no settings, is not refused.

    Args:
      folder: the run's folder.
      run: content of run.json.
      now: as `settings.recorded` returns it.

    Raises:
      UserError: a setting has changed.
    """
    last = _last_start(run)
    before = last.get("settings")
    if not isinstance(before, dict):
        return
    same_release = _versions(last).get("jax") == folders.versions()["jax"]
    for name, value in now.items():
        of_release = name not in settings.VARIABLES
        if name not in before or before[name] == value or (of_release and not same_release):
            continue
        was = before[name]
        needed = f"{name}={was} is needed" if was != "" else f"{name} has to be unset"
        is_now = f"is {value!r}" if value != "" else "is not set"
        raise UserError(
            f"--workdir: {name} {is_now}, and the run in {folder} was computed with {was!r}; "
            f"{needed} to resume it, or another workdir"
        )


def unlike(run: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Changes since the last start that may change bits of the next rounds.

    Args:
      run: content of run.json.
      now: as `workdir.machine` returns it.

    Returns:
      Lines of text.
    """
    last = _last_start(run)
    before, versions = _versions(last), now["versions"]
    pairs = {
        **{name: (before.get(name), versions[name]) for name in versions},
        "device": (last.get("device"), now["device"]),
    }
    if now["device"].startswith("cpu:"):
        pairs["cores"] = last.get("cores"), now["cores"]
    changed = [f"{n} {a} -> {b}" for n, (a, b) in pairs.items() if a is not None and a != b]
    lines = []
    if changed:
        means = _consequence(*pairs["device"])
        lines.append(f"since the last start: {', '.join(changed)}; {means}")
    if not isinstance(last.get("settings"), dict):
        lines.append(
            "run.json is of an earlier version and has no record of the settings of JAX and "
            "XLA_FLAGS, so they are not compared"
        )
    return lines


def _consequence(device: Any, now: str) -> str:
    """What a change of the machine means for the next rounds."""
    if device is not None and str(device).partition(":")[0] != now.partition(":")[0]:
        return (
            "the next rounds differ from those of a run on one kind of device, since a GPU may "
            "multiply in fewer bits (TF32)"
        )
    return (
        "the next rounds may differ in the last bits from those of a run that was not interrupted"
    )


def _last_start(run: Mapping[str, Any]) -> Mapping[str, Any]:
    starts = run["starts"]
    return starts[-1] if starts and isinstance(starts[-1], dict) else {}


def _versions(start: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = start.get("versions")
    return versions if isinstance(versions, dict) else {}
