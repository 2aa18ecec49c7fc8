"""How a peer is asked: a line of JSON in, a line of JSON out. Needs nothing but Python."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any


class Channel:
    """A peer's side of the conversation.

    Made first of all in a peer's process: the answers keep the standard output for themselves, and
    what libraries print goes to the standard error.
    """

    def __init__(self) -> None:
        """Takes the standard output."""
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def ready(self, **facts: Any) -> None:
        """Says that requests are welcome, and what the asker may check: versions, parameters."""
        self.answer(ready=True, **facts)

    def requests(self) -> Iterator[dict[str, Any]]:
        """The requests, until the asker hangs up."""
        for line in sys.stdin:
            yield json.loads(line)

    def answer(self, **values: Any) -> None:
        """Answers the latest request."""
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()
