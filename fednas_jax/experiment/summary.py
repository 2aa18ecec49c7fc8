"""The end of a run: its summary, its page, and the lines that are printed."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.algorithms import registry
from fednas_jax.experiment.shared_workdir import Unwritten
from fednas_jax.report import rows, run_record
from fednas_jax.report.findings import Findings
from fednas_jax.report.records import Records
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import console, extras, layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import plain, write_json


def summarize(
    folder: Path, config: Mapping[str, Any], records: Records | Unwritten, costs: Mapping[str, Any]
) -> dict[str, Any]:
    """Draws the last pictures, writes the summary and the page, and prints the result.

    Args:
      folder: the workdir.
      config: the resolved config.
      records: the records of all rounds.
      costs: the costs so far; see `fednas_jax.runtime.costs`.

    Returns:
      The summary, as in summary.json.
    """
    records.draw()
    found = rows.summary(records.rows, records.findings.best, records.selected_by)
    summary = plain({**found, **costs})
    write_json(folder / layout.SUMMARY_FILE, summary)
    if extras.enabled(config["report"], "page"):
        from fednas_jax.report import page  # slow to import, and not every run needs it

        page.write(folder)
    if config["report"]["progress"]:
        _tell(summary, folder, records.findings, rows.is_selected(records.rows))
    return summary


def already_finished(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Prints the result of a run that had finished before this start.

    Args:
      config: the resolved config.
      folder: the workdir.

    Returns:
      The summary, as in summary.json.

    Raises:
      UserError: the summary cannot be read.
    """
    findings = registry.room(config["algorithm"]).findings(config, folder)
    summary = run_record.read_summary(folder, findings)
    console.show(
        f"{folder}: this run is finished; a larger --config.rounds continues it, another "
        "--workdir starts a new one"
    )
    _tell(summary, folder, findings, _was_selected(folder, summary))
    return summary


def _was_selected(folder: Path, summary: Mapping[str, Any]) -> bool:
    """As `rows.is_selected`; without the rows, it is known only from the summary."""
    with contextlib.suppress(UserError):
        return rows.is_selected(read_rows(folder / layout.METRICS_FILE))
    return summary["held_out_accuracy"] is not None and summary["rounds"] > 1


def _tell(summary: dict[str, Any], folder: Path, findings: Findings, selected: bool) -> None:
    text = rows.summary_text(
        summary,
        folder,
        findings,
        selected=selected,
        with_pictures=(folder / layout.PLOTS_FOLDER / "accuracy_and_loss.png").exists(),
        with_page=(folder / layout.PAGE_FILE).exists(),
    )
    console.show(text)
