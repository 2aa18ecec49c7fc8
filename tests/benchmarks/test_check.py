"""Which kept results count, and which of their rows are named."""

import json

import pytest

from benchmarks import check
from fednas_jax.runtime.errors import UserError


def write(folder, name, *, benchmark="step", device="CPU", date="2026-01-02", met=True):
    row = {"name": "ratio", "value": 5.0, "unit": "x", "bar": ">= 4", "met": met}
    free = {"name": "time", "value": 1.0, "unit": "s", "bar": None, "met": None}
    head = {"benchmark": benchmark, "device": device, "date": date, "command": "c"}
    (folder / name).write_text(json.dumps({**head, "rows": [row, free]}))


def test_only_the_newest_of_a_benchmark_and_device_counts(tmp_path):
    write(tmp_path, "1.json", date="2026-01-03", met=False)
    write(tmp_path, "2.json", date="2026-01-02T10:00:00+00:00", met=True)
    write(tmp_path, "3.json", device="GPU", date="2026-01-01", met=False)
    write(tmp_path, "4.json", benchmark="clients", date="2026-01-01", met=True)
    results = check.newest(tmp_path)
    assert [(r["benchmark"], r["device"], r["date"]) for r in results] == [
        ("clients", "CPU", "2026-01-01"),
        ("step", "CPU", "2026-01-03"),
        ("step", "GPU", "2026-01-01"),
    ]
    assert check.missed(results) == [
        "step on CPU (2026-01-03): ratio: 5 x, bar >= 4",
        "step on GPU (2026-01-01): ratio: 5 x, bar >= 4",
    ]


@pytest.mark.parametrize(("met", "status"), [(True, 0), (False, 1)])
def test_status(tmp_path, monkeypatch, capsys, met, status):
    write(tmp_path, "1.json", met=met)
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        check.main()
    assert end.value.code == status
    assert f"{1 - met:d} of 1 bars missed" in capsys.readouterr().err


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="holds no whole results"):
        check.newest(tmp_path)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UserError, match=r"x\.json: not a result"):
        check.newest(tmp_path)


def test_a_run_of_a_part_does_not_count_and_what_is_absent_is_said(tmp_path, monkeypatch, capsys):
    write(tmp_path, "1.json", benchmark="clients", date="2026-01-01")
    write(tmp_path, "2.json", benchmark="clients", date="2026-01-02", met=False)
    path = tmp_path / "2.json"
    path.write_text(path.read_text().replace('"command": "c"', '"command": "c --quick"'))
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path)])
    with pytest.raises(SystemExit):
        check.main()
    out = capsys.readouterr().out
    assert "local_step: no whole run is kept" in out
    assert "clients" not in out
