"""What a workdir holds of a run, and whether it may be gone on with here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.algorithms import registry, schema
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.config import flat
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import workdir as folders
from fednas_jax.fields import extension
from fednas_jax.runtime import layout, settings
from fednas_jax.runtime.errors import UserError, suggest, warn


class Found(NamedTuple):
    """What lies there; made of what JSON can hold."""

    recorded: dict[str, Any] | None
    """run.json, if there is one."""
    begun: bool
    """Whether there is a checkpoint to go on from."""
    finished: bool
    """Whether there is a summary."""
    unlike: list[str]
    """What is otherwise than at the last start, and may change the last bits; see `unlike`."""


def look(folder: Path, config: Mapping[str, Any]) -> Found:
    """Looks into the folder of a run, and leaves it as it is.

    To be called before the lock makes the folder: a refused run should leave nothing behind.

    Args:
      folder: the workdir.
      config: resolved.

    Raises:
      UserError: it holds another run, or one of other `inputs`, or of other code of a user's, or
        one that was computed with other settings of JAX or XLA; or JAX finds no device.
    """
    recorded = folders.recorded_run(folder, config)
    if recorded is None:
        return Found(None, False, False, [])
    unknown = check_same_code(folder, recorded, code_of_user(config))
    check_same_inputs(folder, recorded, config, inputs(config))
    begun = bool(Checkpoints(folder / layout.CHECKPOINTS_FOLDER, reading=True).rounds())
    finished = (folder / layout.SUMMARY_FILE).exists()
    if not begun or finished:
        return Found(recorded, begun, finished, [])
    check_same_settings(folder, recorded, settings.recorded())
    with settings.fixed(say=False):
        return Found(recorded, begun, finished, unlike(recorded, folders.machine()) + unknown)


def tell(found: Found) -> None:
    """Says on stderr what is otherwise than at the last start."""
    for line in found.unlike:
        warn(line)


def code_of_user(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Where what a user brings stands, as run.json keeps it: field -> path and SHA-256.

    Of a field that names several, each has an entry, "field:reference". A digest is "" where the
    text of the code cannot be read. A `Dataset` itself has none: its examples are compared.

    Args:
      config: resolved.

    Raises:
      UserError: it cannot be loaded.
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
    """What fields of a config stand for, as run.json keeps it: field -> as JSON holds it.

    Args:
      config: resolved.

    Raises:
      UserError: as the room's `inputs`; or what that names is no field.
    """
    found = dict(registry.room(config["algorithm"]).inputs(config))
    known = {field.name for field in schema.of(flat(config)).fields}
    for name in found:
        if name not in known:
            raise UserError(
                f"config.algorithm: the inputs of the room of {config['algorithm']} name "
                f"{name!r}{suggest(name, known)}; the name of a field is needed"
            )
    return found


def check_same_inputs(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuses what is not as the run began with it; the same may have moved to another file.

    Args:
      folder: of the run.
      run: what run.json says.
      config: asked for now, resolved.
      now: of `inputs`.

    Raises:
      UserError: a field stands for something else.
    """
    for field, value in now.items():
        if field in run:
            same = run[field] == value
        else:  # recorded by an earlier version, which knew the fields alone
            same = _value(run["config"], field) == _value(config, field)
        if not same:
            raise UserError(
                f"config.{field}: {_value(config, field)} is not the one that the run in {folder} "
                f"began with; the {field} as it was is needed, or another workdir"
            )


def _value(config: Mapping[str, Any], field: str) -> Any:
    """The value of a field; None of one that is not there."""
    section, _, leaf = field.rpartition(".")
    return (config.get(section, {}) if section else config).get(leaf)


def check_same_code(
    folder: Path, run: Mapping[str, Any], now: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Refuses to go on with code of a user's that has changed; callbacks may.

    Args:
      folder: of the run.
      run: what run.json says.
      now: of `code_of_user`.

    Returns:
      A line for each piece of code that cannot be compared.

    Raises:
      UserError: a file is not as it was.
    """
    recorded = run.get("user_code", {})
    unknown = []
    for key, source in now.items():
        field, _, reference = key.partition(":")
        if field == extension.AFFECTS_NOTHING:
            continue
        was = recorded.get(key, {}).get("sha256", "")
        if not (was and source["sha256"]):
            unknown.append(
                f"config.{field}: whether {reference or 'its code'} is as it was when the run "
                "began cannot be checked, as its text was not recorded or cannot be read"
            )
        elif was != source["sha256"]:
            raise UserError(
                f"config.{field}: {source['path'] or 'its code'} is not as it was when the run in "
                f"{folder} began; the code as it was is needed, or another workdir"
            )
    return unknown


def check_same_settings(folder: Path, run: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with settings that would change the run's bits.

    Settings of JAX are compared where the release of JAX is the same, as others have other
    defaults. A run that was begun by a version that recorded none is not refused.

    Args:
      folder: of the run.
      run: what run.json says.
      now: of `settings.recorded`.

    Raises:
      UserError: a setting is not as it was.
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
            f"{needed} to go on with it, or another workdir"
        )


def unlike(run: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may make the bits of the rounds to come others than those of an undisturbed run.

    Args:
      run: what run.json says.
      now: of `workdir.machine`.

    Returns:
      Lines for people.
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
            "run.json is of an earlier version and does not say with which settings of JAX and "
            "XLA_FLAGS the run was begun, so they are not compared"
        )
    return lines


def _consequence(device: Any, now: str) -> str:
    """What a change means for the rounds to come."""
    if device is not None and str(device).partition(":")[0] != now.partition(":")[0]:
        return (
            "the rounds to come differ from those of a run that stayed on one kind of device, as a "
            "GPU may multiply in fewer bits (TF32)"
        )
    return (
        "the rounds to come may differ in the last bits from those of a run that went on "
        "undisturbed"
    )


def _last_start(run: Mapping[str, Any]) -> Mapping[str, Any]:
    starts = run["starts"]
    return starts[-1] if starts and isinstance(starts[-1], dict) else {}


def _versions(start: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = start.get("versions")
    return versions if isinstance(versions, dict) else {}
