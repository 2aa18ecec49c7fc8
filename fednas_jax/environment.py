"""What helps only as environment: set by the command line itself, before JAX starts.

Such variables are read when a process starts, so `fednas-jax` and `python -m fednas_jax.main` set
what is missing and execute themselves once more. What a user has set stays as it is.
FEDNAS_JAX_ENVIRONMENT=off leaves everything alone, also what importing the package sets on some
releases of jaxlib (`runtime/releases.py`). A notebook is never executed anew: there, set the
variables before it starts. `python -m fednas_jax.environment` lists them.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SWITCH = "FEDNAS_JAX_ENVIRONMENT"
"""Of the user: `off`. Of the second execution: `done`, so that there is never a third."""

_RANKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many ranks there are: of Open MPI, of MPICH and its kin, and of SLURM's srun for these."""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class Setting(NamedTuple):
    """A tunable of a variable that may hold several, joined by colons."""

    variable: str
    name: str
    value: str
    why: str
    objection: str
    """Why this machine gets nothing from it; "" where it does."""


def settings(environment: Mapping[str, str]) -> list[Setting]:
    """What there is to set, in this environment (such as `os.environ`).

    glibc's other tunables were measured with these and gain nothing more: a round computes its
    local steps in one call, whose memory is asked for once. `trim_threshold` alone costs 20 %.
    """
    why = (
        "huge pages for large arrays: 350,000 page faults less in a call at the paper's sizes, "
        "0 to 30 % of a local step"
    )
    objection = _objection_to_huge_pages(environment)
    return [Setting("GLIBC_TUNABLES", "glibc.malloc.hugetlb", "1", why, objection)]


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set, with their new values: what is of use and was not set by the user."""
    if environment.get(SWITCH):
        return {}
    found: dict[str, str] = {}
    for setting in settings(environment):
        if setting.objection or chosen(setting, environment) is not None:
            continue
        before = found.get(setting.variable, environment.get(setting.variable, ""))
        found[setting.variable] = ":".join(filter(None, (before, _pair(setting))))
    return found


def chosen(setting: Setting, environment: Mapping[str, str]) -> str | None:
    """The value that the environment gives a setting; None where it gives none."""
    for part in environment.get(setting.variable, "").split(":"):
        name, equals, value = part.partition("=")
        if equals and name == setting.name:
            return value
    return None


def of_several_ranks(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several that a launcher of MPI has started."""
    sizes = [environment.get(name, "") for name in _RANKS]
    if "PMIX_RANK" in environment:  # by SLURM's srun --mpi=pmix, which sets none of these
        sizes.append(environment.get("SLURM_STEP_NUM_TASKS", ""))
    return any(size.isdecimal() and int(size) > 1 for size in sizes)


def prepare(module: str, script: str = "") -> None:
    """Sets what is missing and executes the program anew; returns where nothing is missing.

    The process keeps its id, terminal and working folder. To be called before anything of
    consequence is imported.

    Args:
      module: that runs as the program, by `python -m module`. Where the process was started
        otherwise, as by a debugger, a launcher in Python or a test, it is not known how to start it
        again, and nothing is done.
      script: the name of the console command that runs the module, if there is one.
    """
    if not _runs_as(sys.orig_argv, module, script):
        return
    found = missing(os.environ)
    if not found:
        return
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it is closed
        stream.flush()
    # By sys.executable: "python" might be found elsewhere on the path, outside a virtual
    # environment.
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, {**os.environ, **found, SWITCH: "done"})


def table(environment: Mapping[str, str]) -> str:
    """The settings as Markdown: what would be set, what is, and whether it is in effect."""
    lines = [
        "| variable | set by the command line | now | in effect | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in settings(environment):
        now = environment.get(setting.variable, "")
        cells = (setting.variable, _pair(setting), now, _effect(setting, environment), setting.why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(setting: Setting) -> str:
    return f"{setting.name}={setting.value}"


def _effect(setting: Setting, environment: Mapping[str, str]) -> str:
    value = chosen(setting, environment)
    if value is not None:
        return "yes" if value == setting.value else "no: set otherwise, and left so"
    if setting.objection:
        return f"no: {setting.objection}"
    if environment.get(SWITCH):
        return f"no: {SWITCH}={environment[SWITCH]}"
    return "in runs by the command line"


def _runs_as(arguments: Sequence[str], module: str, script: str) -> bool:
    """Whether the interpreter was given `-m module` or the script, after its own options only."""
    before = list(arguments[1:])
    while before:
        argument = before.pop(0)
        if argument == "-m":
            return before[:1] == [module]
        if argument in ("-X", "-W"):
            before = before[1:]
        elif argument == "-c":
            return False
        elif not argument.startswith("-"):
            return bool(script) and Path(argument).name == script
    return False


def _objection_to_huge_pages(environment: Mapping[str, str]) -> str:
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return "needs Linux with glibc 2.35 or later"
    try:
        offered = HUGE_PAGES.read_text()
    except OSError:
        offered = ""
    # Where the kernel gives them to all without being asked, there is nothing to ask for.
    if "[madvise]" not in offered:
        return f"{HUGE_PAGES} is not at 'madvise'"
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        return f"of use on a CPU, and JAX_PLATFORMS={platforms}"
    return ""


def main(argv: Sequence[str], program: str = "python -m fednas_jax.environment") -> int:
    """Prints the settings; returns the exit code: 0 done, 2 bad input."""
    from fednas_jax.command_line import listing  # not above: `prepare` goes before other imports
    from fednas_jax.runtime import releases

    about = f"Lists what the command line sets before JAX starts.\n\n  {program}\n"
    parts = (
        table(os.environ),
        releases.told(releases.installed()),
        f"{SWITCH}=off: nothing of this is set.",
    )
    text = "\n\n".join(filter(None, parts))
    return listing(argv, about, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
