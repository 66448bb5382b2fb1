"""The bench of the Redis store: every row does its work, round trips are what the store promises."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

from bench import growth, harness
from bench import redis as bench


@pytest.fixture(scope="module")
def place(redis_program):
    with bench.running(redis_program) as path:
        yield path


def test_a_call_is_one_round_trip_however_many_sessions_there_are(place):
    found = bench.trips(place)
    assert found.pop("purge") == 0, "the server expires what is over"
    assert set(found) == {
        "load", "save", "touch", "create", "rotate", "close", "delete", "list one user", "end one user",
    }  # fmt: skip
    assert set(found.values()) == {1}


def test_every_row_is_measured(place, monkeypatch):
    monkeypatch.setattr(bench, "AT_ONCE", 4)
    rows = bench.measure(place, rounds=2, seconds=0.002)
    assert [(row.name, row.tasks) for row in rows] == [
        ("load", 4), ("save", 4), ("load", 1), ("save", 1), ("request that reads", 4), ("request that reads", 1),
        ("request that changes", 4), ("request that changes", 1), ("load, called", 1), ("save, called", 1),
    ]  # fmt: skip
    for row in rows:
        assert len(row.speeds) == len(row.costs) == 2
        assert all(figure > 0 for pair in row.speeds + row.costs for figure in pair)
    lines = bench.table(rows, {"load": 1}).splitlines()
    assert len(lines) == 2 + len(rows) + 4
    assert len({line.count("|") for line in lines[: 2 + len(rows)]}) == 1


def test_a_budget_is_held_or_missed():
    fast = bench.Row("load", 64, "faster", 6, speeds=[(60, 10), (10, 10), (70, 10)], costs=[(1, 1)])
    assert fast.ratio == 6
    assert fast.holds
    slow = bench.Row("load", 1, "cpu", 0.7, speeds=[(1, 1)], costs=[(8, 10)])
    assert slow.ratio == 0.8
    assert not slow.holds
    assert bench.table([fast, slow], {}).count("✗") == 1


def test_the_processor_is_kept_awake_for_so_long_and_no_longer(monkeypatch):
    started, begin = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command: started.append(begin(command)) or started[-1])
    with harness.awake(really=False):
        assert started == []
    with harness.awake():
        assert [process.poll() for process in started] == [None] * (os.cpu_count() or 1)
    assert {process.poll() for process in started} == {-signal.SIGTERM}


def test_the_program(redis_program, tmp_path, capsys, monkeypatch):
    row = bench.Row("load", 64, "faster", 6, speeds=[(1, 1)], costs=[(1, 1)])
    monkeypatch.setattr(bench, "measure", lambda path, rounds, seconds: [row])
    assert bench.main(["--json", str(tmp_path / "out.json")]) == 0
    assert "| load | 64 |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept["round_trips"]["save"] == 1
    assert kept["rows"][0]["holds"] is False
    assert bench.main(["--check", "--awake"]) == 1
    monkeypatch.setattr(bench.shutil, "which", lambda name: None)
    assert bench.main([]) == 2
    assert "redis-server is not installed" in capsys.readouterr().err


def test_growth_on_a_server_of_its_own(redis_program, capsys):
    assert growth.main(["--redis", "--rows", "100", "600"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("| ")][1:] == [
        "load", "save", "touch", "list",
    ]  # fmt: skip
    assert "purged 60 in calls of 100" in shown
    alone, owned = map(int, re.findall(r"^(\d+) bytes a session", shown, re.MULTILINE))
    assert 500 < alone < 700 < owned < 1000
