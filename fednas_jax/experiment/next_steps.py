"""Suggestions for after a run: what to look at, and commands that fit what the run has made."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Finds
from fednas_jax.fields import config_file
from fednas_jax.report import run_record
from fednas_jax.report.findings import Findings
from fednas_jax.runtime import console, extras, layout, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json

_DATA = ("dataset.", "partition.", "augment.")
_ALSO_DATA = ("seed", "client.held_out_fraction")
_LENGTH = ("rounds", "local_epochs", "batch_size")
_SIZES = ("init_channels", "layers")
_MOST_RUNS = 12
"""Maximum number of runs that a suggested command names."""
_VARIANTS = ("", ":quick", ":paper")
"""Of the package's configs that train what a search finds; a config may lack some."""
_EVALUATE = "see the accuracy of each class, and the confusion matrix"
_EVALUATE_OWN = "evaluate the network on the test set"
"""Of a data set of a user's own code, which may have no classes."""


class Step(NamedTuple):
    """A suggestion."""

    what: str
    command: str = ""
    """The command that does it; "" if there is none."""


def tell(steps: Sequence[Step]) -> None:
    """Prints the suggestions, each command on a line of its own, below an empty line."""
    for number, step in enumerate(steps):
        first = "Then" if number else "\nNext:"
        console.show(f"{first} {step.what}{':' if step.command else ''}")
        if step.command:
            console.show(f"  {step.command}")


def of_run(workdir: Path) -> list[Step]:
    """The suggestions after all stages of a run are finished.

    Args:
      workdir: the run's folder.

    Raises:
      UserError: a record in the folder is damaged.
    """
    stages = [s.folder for s in layout.stages(workdir) if s.kind == layout.ROUNDS and s.finished]
    folder = stages[-1] if stages else workdir
    config = read_json(folder / layout.RUN_FILE)["config"]
    summary = run_record.read_summary(folder)
    findings = registry.room(config["algorithm"]).findings(config, folder)
    finds = registry.find(config["algorithm"]).finds
    steps = _to_look_at(folder, findings)
    if len(stages) > 1 and not extras.missing("page"):
        steps.append(Step("see all stages on one page", _page([workdir])))
    if not finds and summary["test_accuracy"] is not None:
        command = f"python -m fednas_jax.evaluate {shlex.quote(str(workdir))}"
        own = user_code.is_reference(config["dataset"]["name"])
        steps.append(Step(_EVALUATE_OWN if own else _EVALUATE, command))
    if finds and not stages:
        steps += _training(workdir, config, finds)
    return [*steps, *(Step(line) for line in findings.next_steps(config["dataset"]["name"]))]


def of_study(
    folders: Sequence[Path],
    workdir: Path,
    *,
    picture: str = "",
    table: str = "",
    firsts: Sequence[Path] = (),
) -> list[Step]:
    """The suggestions after a sweep or a comparison; none if no run has finished.

    Args:
      folders: the folders of the finished runs.
      workdir: the folder that contains them.
      picture: the name of a picture of all runs; "" if there is none.
      table: the name of a table of all runs, which is named where nothing else can be.
      firsts: the folders of one finished run of each network, for a page if all are too many.
    """
    if not folders:
        return []
    drawn = workdir / picture
    steps = [Step(f"look at {drawn}")] if picture and drawn.exists() else []
    pages = [("all runs", folders), ("one run of each network", firsts)]
    fitting = [(what, of) for what, of in pages if 2 <= len(of) <= _MOST_RUNS]
    if fitting and not extras.missing("page"):
        what, of = fitting[0]
        output = f" --output={shlex.quote(str(workdir / 'comparison.html'))}"
        steps.append(Step(f"see {what} on one page", _page(of) + output))
    return steps or ([Step(f"look at {workdir / table}")] if table else [])


def _page(folders: Sequence[Path]) -> str:
    named = " ".join(shlex.quote(str(folder)) for folder in folders)
    return f"python -m fednas_jax.report.page {named}"


def _to_look_at(folder: Path, findings: Findings) -> list[Step]:
    """The page, or else the main picture, if there is one."""
    for path in (folder / "report.html", folder / layout.PLOTS_FOLDER / findings.picture):
        if path.exists():
            return [Step(f"look at {path}")]
    return []


def _training(workdir: Path, recorded: Mapping[str, Any], finds: Finds) -> list[Step]:
    """The command that trains what a search has found, on the same clients.

    It starts from that config of the package which differs least from the search's. There is no
    suggestion if none fits.
    """
    search = schema.resolve(recorded)
    found = {finds.field: str(workdir / finds.file)}
    options: list[tuple[int, str, dict[str, str]]] = []
    for name in config_file.names():
        for spec in (f"{name}{variant}" for variant in _VARIANTS):
            try:
                fields = {**found, **_to_set(search, config_file.load(spec))}
                train = schema.resolve(config_file.load(spec), fields)
            except UserError:
                continue
            if finds.field in train and registry.find(train["algorithm"]).finds is None:
                options.append((_distance(search, config_file.load(spec)), spec, fields))
    if not options:
        return []
    _, spec, fields = min(options, key=lambda option: option[0])
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    words = [f"--config={spec}", *flags, f"--workdir={workdir}-train"]
    command = f"python -m fednas_jax.main {' '.join(map(shlex.quote, words))}"
    return [Step(f"train the network of this {finds.field} on the same clients", command)]


def _to_set(search: schema.Config, config: schema.Config) -> dict[str, str]:
    """The fields to set in a config so that it has the data and the clients of a search.

    For other data than its own, it also trains as long, and a network of the same size.
    """
    there, here = schema.flat(search), schema.flat(config)
    own = schema.fields_of_data(search, {})
    defaults = {field.name: field.default for field in schema.FIELDS}
    names = [n for n in {**here, **there} if n.startswith(_DATA) or n in own or n in _ALSO_DATA]
    wanted = {name: there.get(name, defaults.get(name)) for name in names}
    if there["dataset.name"] != here["dataset.name"]:
        wanted |= {name: there[name] for name in _LENGTH if name in there}
        sizes = {f"network.{name}": there.get(f"supernet.{name}") for name in _SIZES}
        wanted |= {name: size for name, size in sizes.items() if size is not None}
    return {n: _as_text(v) for n, v in wanted.items() if v is not None and v != here.get(n)}


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _distance(search: schema.Config, config: schema.Config) -> int:
    """How many fields differ; other data count most."""
    there, here = schema.flat(search), schema.flat(config)
    other_data = there["dataset.name"] != here["dataset.name"]
    return 1000 * other_data + sum(here[n] != there[n] for n in there if n in here)
