"""Every link of the documents leads somewhere: to a file, to a heading of it, to a picture."""

import json
import re
from pathlib import Path

import pytest

from tests.documents import ROOT

_SKIPPED = {"runs", "build", "dist"}


def _all(pattern: str) -> list[Path]:
    found = (path.relative_to(ROOT) for path in ROOT.rglob(pattern))
    return sorted(
        p for p in found if p.parts[0] not in _SKIPPED and not any(x[0] == "." for x in p.parts)
    )


DOCUMENTS = [str(path) for path in (*_all("*.md"), *_all("*.ipynb"))]
SOURCES = [str(path) for name in ("*.py", "*.sh", "*.toml", "*.cff", "*.md") for path in _all(name)]


def prose(name: str) -> str:
    """A document, or the text cells of a notebook, without its blocks of code."""
    content = (ROOT / name).read_text()
    if name.endswith(".ipynb"):
        cells = json.loads(content)["cells"]
        content = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^ *```.*?^ *```$", "", content, flags=re.DOTALL | re.MULTILINE)


def links(content: str) -> list[str]:
    """The targets of Markdown's links and pictures, and of HTML's, but those on other hosts."""
    plain = re.sub(r"`[^`\n]*`", "", content)
    found = re.findall(r"\]\(([^)\s]+)\)", plain) + re.findall(r'(?:src|href)="([^"]+)"', plain)
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def anchors(content: str) -> set[str]:
    """What GitHub makes of the headings of a document."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", content, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        count = found.get(slug, -1) + 1
        found[slug] = count
        if count:
            found[f"{slug}-{count}"] = 0
    return set(found)


def broken(name: str, content: str) -> list[str]:
    """The links of a document that lead nowhere."""
    found = []
    for link in links(content):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        right = target.exists() and target.resolve().is_relative_to(ROOT)
        if right and anchor:
            headings = content if not path else prose(str(target.resolve().relative_to(ROOT)))
            right = anchor in anchors(headings)
        if not right:
            found.append(link)
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    assert broken(name, prose(name)) == []


def test_links_that_lead_nowhere_are_found() -> None:
    content = (
        "# A b: `c.d`\n## Twice\n## Twice\n[1](docs/nothing.md) [2](#a-b-cd) [3](#ab)\n"
        "[4](docs/outputs.md#metricsjsonl) [5](docs/outputs.md#metrics.jsonl) ![6](no.png)\n"
        '[7](#twice-1) [8](#twice-2) `[9](no.md)` <img src="no.svg"> [10](https://example.org/x)\n'
    )
    assert broken("README.md", content) == [
        *("docs/nothing.md", "#ab", "docs/outputs.md#metrics.jsonl", "no.png", "#twice-2"),
        "no.svg",
    ]


def test_documents_that_are_named_in_text_exist() -> None:
    """In docstrings, comments, messages and scripts, where they are named from the root."""
    named = {
        path
        for name in SOURCES
        if name != str(Path(__file__).relative_to(ROOT))
        for path in re.findall(r"\bdocs/[\w./-]+\.(?:md|png)\b", (ROOT / name).read_text())
    }
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tables_are_whole(name: str) -> None:
    """Each row has as many cells as the head, which a line of dashes follows."""
    tables = re.findall(r"(?:^ *\|.*\|$\n?)+", prose(name), re.MULTILINE)
    for table in tables:
        rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines()]
        assert {len(row) for row in rows} == {len(rows[0])}, rows[0]
        assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1]), rows[0]


def test_every_document_and_picture_is_led_to() -> None:
    led = [link.partition("#")[0] for link in links(prose("docs/index.md"))]
    index = {(ROOT / "docs" / path).resolve() for path in led}
    documents = {path.resolve() for path in (ROOT / "docs").glob("*.md")} - {ROOT / "docs/index.md"}
    assert documents <= index
    shown = {Path(link).name for name in DOCUMENTS for link in links(prose(name))}
    assert {path.name for path in (ROOT / "docs/images").iterdir()} <= shown
    readme = set(links(prose("README.md")))
    assert "docs/index.md" in readme
