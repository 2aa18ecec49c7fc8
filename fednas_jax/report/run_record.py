"""Reads the rules of a run from run.json, and its result from summary.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.report.findings import IN_SUMMARY, Findings
from fednas_jax.report.rows import SELECTED_BY, SELECTED_EARLIEST
from fednas_jax.runtime import costs
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from fednas_jax.runtime.layout import (
    RUN_FILE,
    SUMMARY_FILE,
)

_NUMBERS = ("rounds", "best_round", "test_accuracy_round")

_MEASURED = ("held_out_accuracy", "test_accuracy")
"""Numbers that are null if they were not measured."""


def rules_of(run: Mapping[str, Any] | None) -> dict[str, Any]:
    """The rules of a run that differ between versions; a resumed run uses those it began with.

    Args:
      run: the content of run.json; None for a new run, which has this version's rules.

    Returns:
      `cut_by`, as for `datasets.load`, and `best_round_by`, as for `rows.best_round`.

    Raises:
      UserError: this version does not know a rule.
    """
    known = {
        "cut_by": ("class", "client"),
        "best_round_by": (list(SELECTED_EARLIEST), list(SELECTED_BY)),
    }
    rules = {name: values[-1] for name, values in known.items()}
    if run is not None:
        rules = {name: run.get(name, values[0]) for name, values in known.items()}
    for name, rule in rules.items():
        if rule not in known[name]:
            raise UserError(
                f"{RUN_FILE}: {name} is {rule}, which this version does not know; the version of "
                "fednas_jax that the run began with is needed"
            )
    return rules


def read_summary(folder: Path, findings: Findings | None = None) -> dict[str, Any]:
    """The summary of a finished run.

    Args:
      folder: the run's folder.
      findings: the findings of its algorithm, which check those in the summary; None: no check.

    Raises:
      UserError: the summary is damaged.
    """
    path, right = folder / SUMMARY_FILE, "remove it to resume the run"
    summary = read_json(path, right)
    if not isinstance(summary, dict):
        raise UserError(f"{path}: not a summary; {right}")
    for name in (*_NUMBERS, *costs.NAMES, *_MEASURED):
        absent = name in _MEASURED and name in summary and summary[name] is None
        if not (absent or isinstance(summary.get(name), int | float)):
            raise UserError(f"{path}: {name} is not a number; {right}")
    if IN_SUMMARY not in summary:
        raise UserError(f"{path}: {IN_SUMMARY} is missing; {right}")
    try:
        if findings is not None:
            findings.check(summary[IN_SUMMARY], IN_SUMMARY)
    except UserError as error:
        raise UserError(f"{path}: {error}; {right}") from error
    return summary
