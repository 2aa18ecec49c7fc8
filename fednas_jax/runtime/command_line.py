"""Shared by all commands: parsing arguments, and reporting errors in one line with an exit code."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fednas_jax.runtime import signals, slow_compile_box
from fednas_jax.runtime.errors import UserError, begun, closest, one_line, suggest_of_few
from fednas_jax.runtime.paths import expand

HELP_FLAGS = ("-h", "--help", "--helpfull")
CONFIG_PREFIX = "config."
"""Prefix of a flag that sets a field of the config."""


def guarded(action: Callable[[], None], interrupted: str) -> int:
    """Runs a command, and prints errors as one line on stderr.

    Args:
      action: the command.
      interrupted: the message after an interruption.

    Returns:
      The exit code: 0 done, 2 bad input, 130 interrupted by Ctrl-C, 143 by SIGTERM.
    """
    slow_compile_box.drain()  # its process was started long ago; says so if it has failed
    try:
        with signals.raised():
            action()
    except UserError as error:
        print(f"fednas_jax: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # unexpected, such as a full disk or a deleted folder
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"fednas_jax: error: {where}{one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\nfednas_jax: interrupted; {interrupted}", file=sys.stderr)
        return signals.exit_code(error)
    return 0


def listing(argv: Sequence[str], about: str, text: str) -> int:
    """Runs a command without arguments, which prints `text`; with --help, `about`.

    Returns:
      The exit code: 0 done, 2 bad input.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print(about, end="")
        return 0
    if argv:
        print(f"fednas_jax: error: {argv[0]}: not a flag; none is needed", file=sys.stderr)
        return 2
    print(text)
    return 0


def no_field(name: str) -> str:
    """The hint about an unknown flag of a command that sets no fields: none."""
    return ""


def options(
    argv: Sequence[str], defaults: dict[str, str], meant: Callable[[str], str] = no_field
) -> tuple[dict[str, str], dict[str, str]]:
    """Parses the flags of a command, and the flags that set fields of the config.

    Args:
      argv: the arguments, without the program's name.
      defaults: the command's flags, with their default values.
      meant: name of an unknown flag -> what was meant, such as a field without `config.`; "" if it
        is not clear.

    Returns:
      Flag -> value, and field -> value as text. If a flag is given twice, the last value is used.

    Raises:
      UserError: the command does not have the flag, or a flag has no value.
    """
    values, fields = dict(defaults), {}
    for name, value in _flags(argv, defaults, meant):
        if name.startswith(CONFIG_PREFIX):
            fields[name.removeprefix(CONFIG_PREFIX)] = _given(name, value)
        elif name not in values:
            raise UserError(f"--{name}: no such flag{_flag_hint(name, values, meant)}")
        else:
            values[name] = _given(name, value)
            if not value:
                raise UserError(f"--{name}: is empty; a value is needed")
    return values, fields


def _flag_hint(name: str, known: Iterable[str], meant: Callable[[str], str]) -> str:
    """The end of an error about an unknown flag."""
    flags = [*known, "help"]
    if not closest(name, flags) and not begun(name, flags) and (right := meant(name)):
        return f"; {right}"
    return suggest_of_few(f"--{name}", [f"--{flag}" for flag in flags])


def _not_a_flag(argument: str, known: Iterable[str], meant: Callable[[str], str]) -> str:
    """What was meant by an argument that does not begin with `--`."""
    name, equals, value = argument.lstrip("-").partition("=")
    if equals and name in known:
        return f"did you mean --{name}={value}?"
    if equals and (right := meant(name.removeprefix(CONFIG_PREFIX))):
        same = name.startswith(CONFIG_PREFIX) and right == f"did you mean --{name}?"
        return f"did you mean --{name}={value}?" if same else right
    if not argument.startswith("-") and not equals and "config" in known:
        return f"did you mean --config={argument}?"
    return "--name=value is needed, see --help"


def _given(name: str, value: str | None) -> str:
    if value is None:
        raise UserError(f"--{name}: has no value; --{name}=value is needed")
    return value


def one_folder(
    argv: Sequence[str], known: Sequence[str], meant: Callable[[str], str] = no_field
) -> tuple[str, dict[str, str]]:
    """Parses the arguments of a command about one folder: `DIR [--name=value ...]`.

    Args:
      argv: the arguments, without the program's name.
      known: the flags of the command.
      meant: as for `options`.

    Returns:
      The folder, and flag -> value; "" for a flag that is not given.

    Raises:
      UserError: the first argument is not a folder; or as `options`.
    """
    if not argv or argv[0].startswith("-"):
        raise UserError("DIR: missing; a run's workdir or a checkpoint is needed, see --help")
    return argv[0], _flags_of(argv[1:], known, meant)


def folders(
    argv: Sequence[str], known: Sequence[str], meant: Callable[[str], str] = no_field
) -> tuple[list[str], dict[str, str]]:
    """Parses the arguments of a command about several runs: `RUN [RUN ...] [--name=value ...]`.

    Args:
      argv: the arguments, without the program's name.
      known: the flags of the command.
      meant: as for `options`.

    Returns:
      The folders, at least one, and flag -> value; "" for a flag that is not given.

    Raises:
      UserError: the first argument is not a folder; or as `options`.
    """
    count = next((n for n, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    if not count:
        raise UserError("RUN: missing; the workdir of a run is needed first, see --help")
    return list(argv[:count]), _flags_of(argv[count:], known, meant)


def _flags_of(
    argv: Sequence[str], known: Sequence[str], meant: Callable[[str], str]
) -> dict[str, str]:
    """Parses the flags of a command that sets no fields of a config: flag -> value."""
    values, fields = options(argv, dict.fromkeys(known, ""), meant)
    for name in fields:
        raise UserError(f"--{CONFIG_PREFIX}{name}: no such flag{suggest_of_few('', known)}")
    return values


def out_folder(folder: str, given: str, name: str) -> Path:
    """The folder into which a command about one folder writes.

    Args:
      folder: the folder, from `one_folder`.
      given: the value of `--out`, or "".
      name: name of the folder in the run's workdir if `--out` is not given.

    Raises:
      UserError: `--out` is not given, and `folder` is a checkpoint, which cannot contain other
        files since it will be deleted when it is no longer kept.
    """
    if given:
        return expand(given, "--out")
    path = expand(folder, "DIR")
    if (path / "checkpoint.json").exists() or path.name == "checkpoints":
        raise UserError(f"--out: missing; {folder} cannot hold other files, so a folder is needed")
    return path / name


def round_of(text: str) -> int | str:
    """The value of `--round`: a number, or "best" if it is not given.

    Raises:
      UserError: the value is not a number.
    """
    if text and not text.isdecimal():
        raise UserError(f"--round: {text!r} is not usable; a whole number is needed")
    return int(text) if text else "best"


def _flags(
    argv: Sequence[str], known: Iterable[str], meant: Callable[[str], str]
) -> Iterator[tuple[str, str | None]]:
    """The pairs of `--name=value` or `--name value`; None for a missing value."""
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith("--"):
            raise UserError(f"{argument}: not a flag; {_not_a_flag(argument, known, meant)}")
        name, equals, value = argument[2:].partition("=")
        if equals:
            yield name, value
            continue
        following = next(rest, "--")
        yield name, None if following.startswith("--") else following
