"""What run.json and summary.json say of a run, read back: its rules, its result."""

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
"""Null where it was not measured."""


def rules_of(run: Mapping[str, Any] | None) -> dict[str, Any]:
    """By which rules a run goes on, where versions differ.

    Args:
      run: what run.json says; None of a new run, which has this version's rules.

    Returns:
      `cut_by`, as of `datasets.load`; `best_round_by`, as of `rows.best_round`.

    Raises:
      UserError: a rule is none that this version knows.
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
      folder: of the run.
      findings: of its algorithm, which checks what it has found; if not given, that is not checked.

    Raises:
      UserError: it is damaged.
    """
    path, right = folder / SUMMARY_FILE, "remove it to go on with the run"
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
