"""The command line: `python -m fednas_jax.main --config=FILE[:variant] [--workdir=DIR]`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fednas_jax import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.main")  # may start the process anew, so before other imports

from fednas_jax import config as schema
from fednas_jax import config_file
from fednas_jax.errors import UserError, one_line, suggest
from fednas_jax.paths import expand

HELP = """Searches a network architecture with federated clients, as a config file describes.

  python -m fednas_jax.main --config=FILE[:variant] [--workdir=DIR] [--config.FIELD=VALUE ...]

  --config          a file under configs/, with a variant of it after a colon
  --workdir         where results go; runs/<name of the file>[-<variant>] if not given
  --config.FIELD    sets a field of the config, such as --config.optimizer.learning_rate=0.05

The same command again goes on with an interrupted run. Exit codes: 0 done, 2 bad input,
130 interrupted. Example:

  python -m fednas_jax.main --config=configs/digits_quick.py --config.rounds=3

Fields, with their defaults:
"""


def main(argv: Sequence[str]) -> int:
    """Runs one experiment.

    Args:
      argv: the arguments, without the program's name.

    Returns:
      The exit code: 0 done (or help shown), 2 bad input, 130 interrupted.
    """
    if any(argument in ("-h", "--help", "--helpfull") for argument in argv):
        print(HELP + "\n".join(f"  {f.name}={f.default}\n      {f.help}" for f in schema.FIELDS))
        return 0
    try:
        config, workdir = _parse(argv)
        print(f"fednas_jax: workdir {workdir}", flush=True)
        # Here, not above: it imports jax, and bad arguments should fail at once.
        from fednas_jax import experiment

        experiment.run(config, workdir)
    except UserError as error:
        print(f"fednas_jax: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # what no one foresaw: a full disk, a folder taken away
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"fednas_jax: error: {where}{one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nfednas_jax: interrupted; the same command goes on with the run", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> tuple[schema.Config, Path]:
    options, fields = {"config": "", "workdir": ""}, {}
    for name, value in _flags(argv):
        if name.startswith("config."):
            fields[name.removeprefix("config.")] = value
        elif name not in options:
            raise UserError(f"--{name}: no such flag{suggest(name, [*options, 'help'])}")
        elif not value:
            raise UserError(f"--{name}: is empty; a path is needed")
        else:
            options[name] = value
    if not options["config"]:
        raise UserError("--config: missing; a config file is needed, such as configs/x.py:quick")
    config = schema.resolve(config_file.load(options["config"]), fields)
    path, variant = config_file.split(options["config"])
    default = Path("runs") / "-".join(filter(None, (path.stem, variant)))
    return config, expand(options["workdir"] or str(default), "--workdir")


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of `--name=value` or `--name value`."""
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith("--"):
            raise UserError(f"{argument}: not a flag; --name=value is needed, see --help")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise UserError(f"--{name}: has no value; --{name}=value is needed")
        yield name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
