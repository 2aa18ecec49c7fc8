"""Rounds of several clients against single ones, without the runs."""

import pytest

from benchmarks import cases, clients


def test_ratios_and_the_projection(monkeypatch):
    seconds = {"1 client": 1.0, "4 clients, mapped": 4.0, "4 clients, vmapped": 2.0}
    monkeypatch.setattr(clients, "_rounds", lambda case, chunks: dict.fromkeys(chunks))
    monkeypatch.setattr(
        clients.harness, "interleaved", lambda made, repeats: {n: [seconds[n]] for n in made}
    )
    rows = {row.name: row for row in clients.growth(cases.find("paper64"), (1, 4), 1)}
    assert rows["paper64: 4 clients, vmapped, against 4 single ones"].value == 2
    # 96,000 local steps; two steps of one of four clients side by side take half a second.
    projected = rows["paper64: the paper's whole search, projected"]
    assert projected.value == pytest.approx(96_000 * 0.25 / 60)
