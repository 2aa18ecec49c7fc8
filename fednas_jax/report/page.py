"""The page of a run, and a page that compares runs: one file each that needs nothing else.

    python -m fednas_jax.report.page RUN                      writes RUN/report.html
    python -m fednas_jax.report.page RUN RUN ... [--output=FILE]   compares; comparison.html

The charts are drawn in the browser by Vega-Lite, which the page carries (0.9 MB), in SVG.
"""

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fednas_jax.command_line import guarded
from fednas_jax.files import write_atomic
from fednas_jax.paths import expand
from fednas_jax.report import colors, comparison, run_folder, run_sections
from fednas_jax.report.page_parts import Chart, Page

REPORT_FILE = "report.html"
_ASSETS = Path(__file__).resolve().parent / "assets"


def write(folder: Path) -> Path:
    """Writes the page of a run into its folder.

    Raises:
      UserError: the folder is no run's or cannot be written, or no round is done yet.
    """
    path = folder / REPORT_FILE
    write_atomic(path, render(run_sections.page(run_folder.read(folder))).encode())
    return path


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Writes a page that compares runs.

    Raises:
      UserError: as `write`.
    """
    runs = [run_folder.read(folder) for folder in folders]
    write_atomic(path, render(comparison.page(runs)).encode())
    return path


def render(page: Page) -> str:
    """The page as HTML, with its charts, their library, its style and its script."""
    charts = {
        part.id: part.spec
        for section in page.sections
        for part in section.parts
        if isinstance(part, Chart)
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        **page._asdict(),
        charts=_embedded(charts),
        colors=_variables(colors.OPERATION_COLORS | {k: c for k, (_, c) in colors.SERIES.items()}),
        dark_colors=_variables(colors.OPERATION_COLORS_IN_THE_DARK | colors.SERIES_IN_THE_DARK),
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        script=(_ASSETS / "page.js").read_text(encoding="utf-8"),
        library=_library(),
    )


def _embedded(charts: dict[str, dict[str, Any]]) -> str:
    """The specs, and once each the data that they name, as JSON that may stand in HTML."""
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


def _variables(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {color};" for name, color in values.items())


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    versions = vl_convert.get_vegalite_versions()
    # Its stub asks for a snippet, which it does not need.
    return vl_convert.javascript_bundle(vl_version=versions[-1])  # type: ignore[call-arg]


def main(argv: Sequence[str]) -> int:
    """The command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m fednas_jax.report.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the workdir of a run")
    parser.add_argument("--output", default="comparison.html", help="of several runs; the file")
    options = parser.parse_args(argv)
    return guarded(lambda: _run(options.runs, options.output), "no page is written")


def _run(runs: Sequence[str], output: str) -> None:
    folders = [expand(run, "RUN") for run in runs]
    several = len(folders) > 1
    print(write_comparison(folders, expand(output, "--output")) if several else write(folders[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
