"""The sections of a page for stages on the server."""

from collections.abc import Iterable

from fednas_jax.report.page_parts import Page, Section, Table
from fednas_jax.report.page_text import duration, setting
from fednas_jax.report.run_sections import flat
from fednas_jax.runtime import costs
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from fednas_jax.runtime.layout import SUMMARY_FILE, StageFolder

_MOST_CHARACTERS = 200
"""The largest length of a shown value; a list may be very long."""


def sections(stages: Iterable[StageFolder]) -> list[Section]:
    """A section for each stage on the server that is finished: its summary as a table.

    Raises:
      UserError: a summary is damaged.
    """
    return [_section(stage) for stage in stages if stage.finished]


def page(title: str) -> Page:
    """A page for stages on the server only, to which their sections are added."""
    return Page(title, "computed on the server", [], "This page needs no network.")


def with_sections(shown: Page, more: list[Section]) -> Page:
    """A page with further sections after its first one, the summary."""
    return shown._replace(sections=[*shown.sections[:1], *more, *shown.sections[1:]])


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"


def _section(stage: StageFolder) -> Section:
    path = stage.folder / SUMMARY_FILE
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise UserError(f"{path}: not a summary; the unchanged file is needed")
    rows = [
        [name, _short(setting(value))] for name, value in flat(summary) if name not in costs.NAMES
    ]
    seconds = summary.get("seconds")
    took = f" in {duration(seconds)}" if isinstance(seconds, int | float) else ""
    name = stage.name.replace("/", "-")
    text = f"Computed on the server{took}."
    return Section(f"stage-{name}", f"Stage {stage.name}", text, [Table(["what", "value"], rows)])
