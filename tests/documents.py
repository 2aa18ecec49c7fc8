"""The documents as tests read them: fenced blocks, the commands in them, the files they tell of."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import fednas_jax

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
FENCED = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")))
CONFIGS = tuple(sorted(f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py")))
NOTEBOOKS = tuple(sorted(f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")))

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SHOWN_IN_DOCSTRING = re.compile(r"^    ((?:python|bash|fednas-jax) .*)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    language: str
    text: str
    before: str
    """The paragraph that stands before it."""


class Command(NamedTuple):
    """A command line of a document."""

    document: str
    words: tuple[str, ...]
    """Without the variables that are set in front of it."""


def text(name: str) -> str:
    """A document, the text cells of a notebook, or the docstring of a config file."""
    content = (ROOT / name).read_text()
    if name.endswith(".py"):
        return ast.get_docstring(ast.parse(content)) or ""
    if name.endswith(".ipynb"):
        cells = json.loads(content)["cells"]
        return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return content


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a document, in their order."""
    whole = text(name)
    found = []
    for match in _BLOCK.finditer(whole):
        before = whole[: match.start()].rstrip().rpartition("\n\n")[2]
        found.append(Block(name, match.group(2), match.group(3), before))
    return found


def commands(name: str) -> list[Command]:
    """The command lines of a document's blocks, or of a config's docstring."""
    if name.endswith(".py"):
        shown = "\n".join(_SHOWN_IN_DOCSTRING.findall(_joined(text(name))))
    else:
        shown = "\n".join(_joined(b.text) for b in blocks(name) if b.language in ("", "bash"))
    lines = [part for line in shown.splitlines() for part in line.split(" && ")]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            found.append(Command(name, tuple(words)))
    return found


def files(name: str) -> dict[str, str]:
    """The Python files that a document tells its reader to write, by name.

    The paragraph before such a block ends with a colon, and names the file last: "`small.py`:". A
    second block of a file follows the first.
    """
    found: dict[str, str] = {}
    for block in blocks(name):
        named = re.findall(r"`(\w+\.py)`", block.before)
        if block.language == "python" and named and block.before.endswith(":"):
            found[named[-1]] = found.get(named[-1], "") + block.text
    return found


def _joined(shown: str) -> str:
    """With lines that a backslash continues as one."""
    return re.sub(r"\\\n\s*", "", shown)
