"""The bench of the database store: every case does its work on real servers, statements are what the docs say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
from conftest import ROOT

from bench import growth, sql_bare, sql_servers
from bench import sql as bench
from bench.harness import Run

DRIVERS = {"postgresql": ("psycopg", "asyncpg"), "mariadb": ("pymysql", "asyncmy")}


@pytest.fixture(scope="module")
def program(tmp_path_factory, require_program):
    """What one short run of the program printed and kept. In a process of its own: it sets up a Django."""
    for name, file in (("postgresql", "postgres"), ("mariadb", "mariadbd")):
        if bench.missing(name):
            require_program(file)
    kept = tmp_path_factory.mktemp("bench") / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.sql", "--rounds=1", "--batch-ms=1", f"--json={kept}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, json.loads(kept.read_text())["servers"]


def test_every_call_is_measured_beside_its_driver(program):
    _, servers = program
    assert set(servers) == set(DRIVERS)
    for name, found in servers.items():
        measured = [(row["driver"], row["call"]) for row in found["calls"]]
        assert measured == [(driver, work) for driver in DRIVERS[name] for work in bench.WORKS]
        assert all(row["us"] > 0 and row["bare_us"] > 0 and row["ratio"] > 0 for row in found["calls"])


def test_nobody_is_left_out_and_every_request_is_counted(program):
    _, servers = program
    for found in servers.values():
        assert found["left_out"] == []
        assert len(found["requests"]) == 9
        ours, django, flask = (found["requests"][at::3] for at in range(3))
        assert {row["subject"].partition(",")[0] for row in ours} == {"session_mw"}
        assert {row["subject"].partition(",")[0] for row in django} == {"Django db"}
        assert {row["subject"].partition(",")[0] for row in flask} == {"Flask-Session"}
        for mine, others in zip(ours, zip(django, flask, strict=True), strict=True):
            assert all(mine["statements"] <= other["statements"] for other in others)


def test_a_request_of_ours_gives_the_server_what_it_must(program):
    _, servers = program
    given = {
        name: {
            row["scenario"]: row["statements"] for row in found["requests"] if row["subject"].startswith("session_mw")
        }
        for name, found in servers.items()
    }
    assert given == {
        "postgresql": {"S2": 1, "S3": 2, "login": 2},
        "mariadb": {"S2": 1, "S3": 2, "login": 5},  # a load and a transaction of four
    }


def test_a_call_gives_the_server_what_the_docs_say(program):
    _, servers = program
    one = dict.fromkeys(("load", "save", "touch", "create", "close", "delete", "list one user"), 1)
    assert servers["postgresql"]["statements"] == one | {"rotate": 1, "end one user": 2, "purge, each 100": 1}
    assert servers["mariadb"]["statements"] == one | {"rotate": 4, "end one user": 2, "purge, each 100": 4}


def test_the_tables_have_a_row_for_everything(program):
    lines = [line for line in program[0].stdout.splitlines() if line.startswith("|")]
    assert len(lines) == (2 + 20) + (2 + 6) + (2 + 10)
    assert "| CPU µs over the bare app / statements | read (S2) | change (S3) | login |" in lines
    assert "| rotate | 1 | 4 |" in lines


def test_a_budget_is_held_or_missed_and_a_case_of_ours_left_out_is_told(monkeypatch, tmp_path, capsys):
    good = bench.Row("load", "psycopg", [(20.0, 10.0), (90.0, 10.0), (10.0, 10.0)])
    assert good.ratio == 2
    assert good.holds
    bad = bench.Row("save", "psycopg", [(21.0, 10.0)])
    assert not bad.holds
    run = Run([], [], 1, 1, 1)
    found = bench.Found("postgresql", [good, bad], run, {"load": 1}, {})
    assert bench.table([found]).count("✗") == 1
    monkeypatch.setattr(bench, "measure", lambda server, **settings: found)
    monkeypatch.setattr(bench, "running", lambda name: nullcontext())
    monkeypatch.setattr(bench, "missing", lambda name: False)
    asked = ["--only", "postgresql", "--quick"]
    assert bench.main(asked) == 0
    assert bench.main([*asked, "--check", "--json", str(tmp_path / "x.json")]) == 1
    kept = json.loads((tmp_path / "x.json").read_text())["servers"]["postgresql"]["calls"]
    assert [row["holds"] for row in kept] == [True, False]
    found.rows.pop()
    assert bench.main([*asked, "--check"]) == 0
    run.left_out.append("session_mw, PostgreSQL, S2: status 500")
    assert bench.main([*asked, "--check"]) == 2
    monkeypatch.setattr(bench, "missing", lambda name: name == "mariadb")
    assert bench.main([]) == 2
    assert "not installed: mariadb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "work", "good", "bad"),
    [
        (True, "load", sql_bare.record(), None),
        (True, "save", bench.Outcome.SAVED, bench.Outcome.CONFLICT),
        (True, "touch", True, False),
        (False, "load", [("a row",)], []),
        (False, "save", 1, 0),
    ],
)
def test_a_call_that_does_not_do_its_work_is_not_timed(ours, work, good, bad):
    made = bench._Work(work, lambda *arguments: good, ours, [sql_bare.record()], "")
    made.check(good)
    with pytest.raises(AssertionError, match=work):
        made.check(bad)


def test_a_server_that_does_not_start_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(sql_servers.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "made"))
    (tmp_path / "made").mkdir()
    false = shutil.which("false")
    monkeypatch.setattr(sql_servers, "_PROGRAMS", {"mariadb": lambda: sql_servers.Path(false)})
    monkeypatch.setattr(sql_servers, "_ACCOUNTS", {"mariadb": "root"})
    monkeypatch.setattr(sql_servers, "_commands", lambda *names: ([shutil.which("ls"), "/nowhere/at/all"], []))
    with pytest.raises(OSError, match="/nowhere/at/all"), sql_servers.running("mariadb"):
        pass
    monkeypatch.setattr(sql_servers, "_commands", lambda *names: ([shutil.which("true")], [false]))
    (tmp_path / "made").mkdir()
    with pytest.raises(OSError, match="mariadb does not answer"), sql_servers.running("mariadb"):
        pass
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("name", "file"), [("postgresql", "postgres"), ("mariadb", "mariadbd")])
def test_growth_on_a_server_of_its_own(name, file, require_program, capsys):
    if bench.missing(name):
        require_program(file)
    assert growth.main(["--sql", name, "--rows", "100", "600"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("| ")][1:] == [
        "load", "save", "touch", "list",
    ]  # fmt: skip
    assert "purged 60 in calls of 100" in shown
