"""Reads genotypes as DARTS and the projects that follow it print them; no code is evaluated.

`Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=..., ...)` is how
the code of DARTS (https://github.com/quark0/darts, `cnn/genotypes.py`) keeps and logs genotypes.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from fednas_jax.runtime.errors import UserError, listed

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_START = re.compile(r"\bGenotype\s*\(")
_LONGEST = 4000  # characters of one genotype; those of DARTS have about 500


def is_text(given: str) -> bool:
    """Whether a text holds a genotype as DARTS prints it, rather than a name or a path."""
    return re.search(r"\bGenotype\s*\(\s*([\w]+\s*=|[\[(])", given) is not None


def read(text: str, source: str) -> dict[str, Any]:
    """The genotype in a text, as `genotype.from_json` takes it.

    Args:
      text: one genotype, or lines of a log among which it stands; it may stand there repeatedly.
      source: the file or field that it is from, for error messages.

    Raises:
      UserError: the text holds no genotype, a damaged one, or several that differ.
    """
    found: list[dict[str, Any]] = []
    lines: list[int] = []
    for start, expression in _expressions(text, source):
        one = _fields(expression, source)
        if one not in found:
            found.append(one)
            lines.append(text.count("\n", 0, start) + 1)
    if not found:
        raise UserError(f"{source}: holds no genotype; {_NEEDED}")
    if len(found) > 1:
        raise UserError(
            f"{source}: holds {len(found)} genotypes that differ, in the lines {listed(lines)}; a "
            "file with one of them is needed"
        )
    return found[0]


_NEEDED = f"Genotype({', '.join(f'{name}=...' for name in FIELDS)}) is needed, as DARTS prints it"


def _expressions(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Each `Genotype(...)` in a text, up to the bracket that closes it, and where it starts."""
    for match in _START.finditer(text):
        depth = 0
        for at in range(match.end() - 1, min(len(text), match.start() + _LONGEST)):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if depth == 0:
                yield match.start(), text[match.start() : at + 1]
                break
        else:
            raise UserError(f"{source}: the bracket of Genotype( is not closed; {_NEEDED}")


def _fields(expression: str, source: str) -> dict[str, Any]:
    try:
        call = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{source}: its genotype is not Python ({error}); {_NEEDED}") from error
    if not isinstance(call, ast.Call):
        raise UserError(f"{source}: its genotype is not one call; {_NEEDED}")
    named = dict(zip(FIELDS, call.args, strict=False))
    named |= {keyword.arg or "**": keyword.value for keyword in call.keywords}
    if len(call.args) + len(call.keywords) != len(FIELDS) or set(named) != set(FIELDS):
        raise UserError(f"{source}: its genotype has other fields; {_NEEDED}")
    values = {}
    for name in FIELDS:
        try:
            values[name] = _value(named[name])
        except _NoList as error:
            shown = ast.get_source_segment(expression, named[name]) or ""
            cut = shown if len(shown) <= 60 else f"{shown[:60]}..."
            raise UserError(f"{source}: {name}: {cut}; a plain list is needed") from error
    return values


class _NoList(ValueError):
    """A value is neither a list nor a range of small numbers."""


def _value(node: ast.expr) -> list[Any]:
    """A list, a tuple, `range(...)` or `list(range(...))`, as JSON holds it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id in ("list", "tuple") and len(node.args) == 1:
            return _value(node.args[0])
        if node.func.id == "range" and 1 <= len(node.args) <= 2:
            bounds = [_literal(argument) for argument in node.args]
            if all(type(bound) is int and 0 <= bound < 100 for bound in bounds):
                return list(range(*bounds))
    value = _literal(node)
    if not isinstance(value, list | tuple):
        raise _NoList
    return [list(item) if isinstance(item, tuple) else item for item in value]


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise _NoList from error
