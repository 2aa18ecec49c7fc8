"""How workers of pytest-xdist share the tests: a file each, the slowest first.

The tests of a file stay together, since they share fixtures and compiled programs. Those marked
`alone` are left to a run of their own (scripts/test.sh): they start ranks or load all cores.
"""

from collections.abc import Sequence
from typing import Any

SLOWEST_FIRST = (
    "tests/test_configs.py",
    "tests/test_notebooks.py",
    "tests/experiment/test_rounds.py",
    "tests/test_contributing.py",
    "tests/experiment/test_stages_whole.py",
    "tests/algorithms/test_fednas.py",
    "tests/algorithms/test_milenas.py",
    "tests/spaces/darts/test_supernet.py",
    "tests/experiment/test_rounds_fedavg.py",
    "tests/algorithms/test_fedavg.py",
    "tests/experiment/test_warm_start.py",
)
"""Begun last, one of these would leave the other workers without work."""

SHARE_NOTHING = ("tests/test_configs.py", "tests/test_notebooks.py")
"""Files of long tests without common fixtures; each test may go to another worker."""

TOGETHER = {"tests/experiment/test_stages_whole.py": "tests/experiment/test_rounds.py"}
"""Files to the file whose worker takes them too: both begin with the same long run."""


def in_order(nodeids: Sequence[str]) -> list[int]:
    """The positions of tests in the order in which to begin them; else they stay as they are."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST_FIRST)}
    last = len(SLOWEST_FIRST)
    return sorted(range(len(nodeids)), key=lambda i: ranks.get(file_of(nodeids[i]), last))


def file_of(nodeid: str) -> str:
    return nodeid.split("::", 1)[0]


def unit_of(nodeid: str) -> str:
    """What goes to one worker as a whole: a test that shares nothing, or its file, or two files."""
    name = file_of(nodeid)
    return nodeid if name in SHARE_NOTHING else TOGETHER.get(name, name)


def scheduler(config: Any, log: Any) -> Any:
    """The scheduler of pytest-xdist by such units."""
    from xdist.scheduler import LoadScopeScheduling  # not above: a run in one process lacks it

    class Units(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Units(config, log)
