"""The page of a run, and a page that compares runs: one file each that needs nothing else.

    python -m fednas_jax.report.page RUN [RUN ...] [--output=FILE]

The page contains Vega-Lite (0.9 MB), which draws the charts in the browser as SVG. The packages
that pages need may not be installed, so they are imported only when a page is written.
"""

import contextlib
import functools
import html
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fednas_jax.runtime import console, extras, layout, start

if __name__ == "__main__":
    start.import_jax_or_exit()

from fednas_jax.fields import words
from fednas_jax.report import colors, run_folder
from fednas_jax.report.page_parts import Chart, Page
from fednas_jax.report.run_types import RunFolder
from fednas_jax.runtime.command_line import HELP_FLAGS, folders, guarded
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_atomic
from fednas_jax.runtime.layout import (
    METRICS_FILE,
    PAGE_FILE,
    ROUNDS,
    RUN_FILE,
    SERVER,
    StageFolder,
)
from fednas_jax.runtime.paths import expand

REPORT_FILE = PAGE_FILE
_ASSETS = Path(__file__).resolve().parent / "assets"

HELP = """Writes the page of a run, or one that compares runs: a file that needs nothing else.

  {program} RUN [RUN ...] [--output=FILE]

  RUN        the workdir of a run, which need not be finished; if the run has several stages, such
             as a search and a training, its page shows all of them, and a comparison of runs shows
             the last
  --output   the file; the default is RUN/report.html for one run, comparison.html for several

Exit codes: 0 done, 2 bad input, 130 interrupted. Example:

  {program} runs/quickstart runs/other --output=both.html
"""


def write(folder: Path, path: Path | None = None, on_server: Sequence[StageFolder] = ()) -> Path:
    """Writes the page of a run.

    Args:
      folder: the run's folder.
      path: the file; by default report.html in the folder.
      on_server: finished stages on the server, which the page also shows.

    Raises:
      UserError: the folder is not that of a run, no round is finished, the file cannot be written,
        or a package that pages need is not installed.
    """
    run = _read(folder)
    from fednas_jax.report import run_sections

    path = path or folder / REPORT_FILE
    _write(run_sections.page(run), path, on_server)
    return path


def write_of_server(workdir: Path, path: Path, on_server: Sequence[StageFolder]) -> Path:
    """Writes a page of finished stages on the server, for a run without a finished round.

    Raises:
      UserError: as `write`.
    """
    extras.need("page", "report")
    from fednas_jax.report import stage_sections

    _write(stage_sections.page(layout.title(workdir)), path, on_server)
    return path


def _write(page: Page, path: Path, on_server: Sequence[StageFolder]) -> None:
    from fednas_jax.report import stage_sections

    shown = stage_sections.with_sections(page, stage_sections.sections(on_server))
    write_atomic(path, render(shown).encode())


def write_comparison(
    folders: Sequence[Path], path: Path, on_server: Sequence[StageFolder] = ()
) -> Path:
    """Writes a page that compares runs; `on_server` as for `write`.

    Raises:
      UserError: as `write`.
    """
    runs = [_read(folder) for folder in folders]
    from fednas_jax.report import comparison

    _write(comparison.page(runs), path, on_server)
    return path


def _read(folder: Path) -> RunFolder:
    extras.need("page", "report")
    return run_folder.read(folder)


def render(page: Page) -> str:
    """The page as HTML, with its charts, their library, its style and its script."""
    import jinja2

    charts = {
        part.id: part.spec
        for section in page.sections
        for part in section.parts
        if isinstance(part, Chart)
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html").render(
        **page._asdict(),
        charts=_embedded(charts),
        colors=_variables(
            colors.OPERATION_COLORS
            | {k: c for k, (_, c) in colors.SERIES.items()}
            | {"on-skip_connect": colors.ON_OPERATION_COLORS["skip_connect"]}
        ),
        dark_colors=_variables(
            colors.OPERATION_COLORS_IN_THE_DARK
            | colors.SERIES_IN_THE_DARK
            | {"on-skip_connect": colors.ON_SKIP_IN_THE_DARK}
        ),
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        script=(_ASSETS / "page.js").read_text(encoding="utf-8"),
        library=_library(),
    )


def _embedded(charts: dict[str, dict[str, Any]]) -> str:
    """The specs and, once each, the data that they name, as JSON for use inside HTML."""
    datasets: dict[str, Any] = {}
    for spec in charts.values():
        datasets |= spec.get("datasets", {})
    specs = {
        id: {key: value for key, value in spec.items() if key != "datasets"}
        for id, spec in charts.items()
    }
    content = {"specs": specs, "datasets": datasets}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _breakable(text: str) -> str:
    """HTML of a text that may be broken inside names and paths, but not inside words and numbers.

    It is escaped here, so that templates mark it as safe.
    """
    return re.sub(r"(?<=[^\W\d])([._/=])(?=\w)", r"\1<wbr>", html.escape(str(text)))


def _variables(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {color};" for name, color in values.items())


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    versions = vl_convert.get_vegalite_versions()
    # Its stub asks for a snippet, which it does not need.
    return vl_convert.javascript_bundle(vl_version=versions[-1])  # type: ignore[call-arg]


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.report.page") -> int:
    """The command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP.format(program=program), end="")
        return 0
    return guarded(lambda: _run(argv), "no page is written")


def _run(argv: Sequence[str]) -> None:
    runs, given = folders(argv, ("output",), words.flag_of_results)
    workdirs = [expand(run, "RUN") for run in runs]
    path = workdirs[0] / REPORT_FILE if len(workdirs) == 1 else Path("comparison.html")
    if given["output"]:
        path = expand(given["output"], "--output")
    print(_write_of(workdirs, path))


def _write_of(workdirs: Sequence[Path], path: Path) -> Path:
    if len(workdirs) > 1:
        return write_comparison([([*_runs(w)] or [w])[-1] for w in workdirs], path)
    (workdir,) = workdirs
    runs, on_server = _runs(workdir), _on_server(workdir)
    if not runs and on_server:
        return write_of_server(workdir, path, on_server)
    if _is_on_server(workdir):
        raise UserError(f"{workdir}: this stage on the server is not finished; wait for its end")
    if len(runs) > 1:
        return write_comparison(runs, path, on_server)
    return write((runs or [workdir])[0], path, on_server)


def _runs(workdir: Path) -> list[Path]:
    """The stages of rounds in a workdir that have begun; or the workdir itself, if it is one."""
    if (workdir / RUN_FILE).exists():
        return [] if _is_on_server(workdir) else [workdir]
    stages = layout.stages(workdir)
    return [stage.folder for stage in stages if stage.kind == ROUNDS and _begun(stage.folder)]


def _on_server(workdir: Path) -> list[StageFolder]:
    """The finished stages on the server in a workdir; or the workdir itself, if it is one."""
    stages = layout.stages(workdir)
    if (workdir / RUN_FILE).exists():
        name = workdir.resolve().name
        stages = [StageFolder(name, workdir, SERVER)] if _is_on_server(workdir) else []
    return [stage for stage in stages if stage.kind == SERVER and stage.finished]


def _is_on_server(workdir: Path) -> bool:
    with contextlib.suppress(UserError):  # a damaged file is refused later, where it is read
        record = read_json(workdir / RUN_FILE)
        return isinstance(record, dict) and record.get("kind") == SERVER
    return False


def _begun(folder: Path) -> bool:
    metrics = folder / METRICS_FILE
    return metrics.is_file() and metrics.stat().st_size > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
