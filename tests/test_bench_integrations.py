"""The bench of the integrations: each cell does its work beside the framework's own; verdicts follow from ratios."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import frameworks
from bench import integrations as bench
from bench.harness import Cell, Run, build, groups, measure, prove, workshop
from bench.scenarios import SCENARIOS
from bench.subjects import Subject

DJANGO = ("S1", "S2", "S3", "S4", "S5r", "S6")


@pytest.fixture
def shop():
    with workshop() as made:
        yield made


@pytest.mark.parametrize("name", ["starlette", "flask"])  # Django's settings are a process's: below
def test_every_cell_does_the_work_it_is_timed_for(shop, name):
    subjects, missing = build(shop, frameworks.BUILDERS[name])
    assert missing == []
    for column, group in zip(
        bench.COLUMNS, groups(shop, subjects, bench.COLUMNS, against="peer", frames=frameworks.FRAMES), strict=True
    ):
        bare, own, ours = group
        assert [cell.subject.group for cell in group] == ["bare", "peer", "ours"]
        assert {cell.subject.frame for cell in group} == {name}
        assert ours.bare is own.bare is bare
        assert ours.floor is own
        assert (ours.column, ours.scenario, own.scenario.name) == (
            column, SCENARIOS[column], "S4" if column == "login" else column,
        )  # fmt: skip
        for cell in (own, ours):
            prove(cell)


def test_the_bare_app_and_ours_are_the_frameworks(shop):
    """A bare app without the framework's routing would make ours look dearer, and theirs too."""
    bare = frameworks.starlette(shop)
    reply = bare.driver.exchange(bare.app, bare.driver.template("/read", None))
    assert (reply.status, reply.cookies, reply.body) == (200, [], b"ok")
    assert bare.driver.exchange(bare.app, bare.driver.template("/nowhere", None)).status == 404


@pytest.fixture(scope="module")
def figures(redis_program, tmp_path_factory):
    """The program itself, all frameworks, one round: its table and its JSON."""
    path = tmp_path_factory.mktemp("bench") / "out.json"
    command = [sys.executable, "-m", "bench.integrations", "--rounds", "1", "--batch-ms", "1", "--json", str(path)]
    place = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(place)}
    ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, json.loads(path.read_text())


def test_every_framework_is_measured_beside_its_own(figures):
    _, found = figures
    assert found["left_out"] == []
    assert [(cell["subject"], cell["beside"], cell["scenario"]) for cell in found["cells"]] == [
        (subject, beside, column)
        for column in bench.COLUMNS
        for subject, beside, columns in (
            ("session_mw.starlette, encrypted cookie", "Starlette, signed cookie", bench.COLUMNS),
            ("session_mw.flask, encrypted cookie", "Flask, signed cookie", bench.COLUMNS),
            ("session_mw.django, SQLite", "Django, db on SQLite", DJANGO),
            ("session_mw.django, Redis", "Django, cache on Redis", DJANGO),
        )
        if column in columns
    ]
    for cell in found["cells"]:
        assert cell["budget"] == bench.BUDGETS.get(cell["scenario"])
        assert cell["bare_us"] > 0
    assert {"starlette", "flask", "django", "redis"} <= found["versions"].keys()


def test_the_table_has_a_row_a_framework(figures):
    text, _ = figures
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert len({len(line) for line in lines}) == 1
    assert [part.strip() for part in lines[0].split("|")[2:-1]] == list(bench.COLUMNS)
    assert "1 rounds of 1 ms" in text


# -- verdicts ----------------------------------------------------------------------------------------------------------


def run_of(*costs, column="S2", left_out=()):
    """A run of one of our cells: (ours, the framework's own) a round, in µs over a bare app of 100."""
    subject = Subject("ours", "ours", "flask", "cookie", None, None)
    other = Subject("its own", "peer", "flask", "cookie", None, None)
    bare = Cell(other, column, SCENARIOS[column], samples=[100.0] * len(costs))
    own = Cell(other, column, SCENARIOS[column], bare, samples=[100 + theirs for _, theirs in costs])
    cell = Cell(subject, column, SCENARIOS[column], bare, own, samples=[100 + ours for ours, _ in costs])
    return Run([own, cell], list(left_out), len(costs), 1, 0)


@pytest.mark.parametrize("column", ["S2", "S3", "S4"])
def test_a_budget_is_half_of_the_frameworks_own(column):
    assert bench.missed(run_of((5, 10), (9, 10), (5, 10), column=column)) == []
    missed = bench.missed(run_of((6, 10), (1, 10), (6, 10), column=column))
    assert missed == [f"ours, {column}: 0.60 × its own, allowed 0.5 ×"]


def test_other_columns_are_told_and_not_judged():
    run = run_of((50, 10), column="S1")
    assert bench.missed(run) == []
    assert "5.00 (50.0 / 10.0)" in bench.table(run)
    assert bench.as_json(run)["cells"][0]["holds"] is None


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (run_of((5, 10)), 0),
        (run_of((6, 10)), 1),
        (run_of((6, 10), column="S1"), 2),
        (run_of((5, 10), left_out=["frameworks: flask_ours (No module named 'flask')"]), 2),
    ],
    ids=["kept", "missed", "nothing to check", "left out"],
)
def test_what_the_program_says(run, status, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda builders, **_: run)
    assert bench.main(["--check"]) == status
    assert bench.main([]) == 0
    assert ("✗" in capsys.readouterr().out) == (status == 1)


def test_what_is_asked_for_is_run(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(bench, "measure", lambda builders, **rest: asked.append((builders, rest)) or run_of((5, 10)))
    assert bench.main(["--quick", "--only", "flask", "--scenario", "S2,S6"]) == 0
    [(builders, rest)] = asked
    assert builders == list(frameworks.BUILDERS["flask"])
    assert rest["columns"] == ["S2", "S6"]
    assert rest["against"] == "peer"
    assert rest["rounds"] == bench.QUICK["rounds"]


def test_without_the_server_redis_is_left_out(monkeypatch):
    monkeypatch.setattr(frameworks.shutil, "which", lambda name: None)
    found = measure(
        frameworks.BUILDERS["django"][2:],
        columns=["S1"],
        rounds=1,
        batch_ms=1,
        limit=60,
        against="peer",
        frames=frameworks.FRAMES,
    )
    assert found.cells == []
    assert found.left_out == ["frameworks: django_redis_own, django_redis_ours (the program redis-server)"]


def test_the_names_of_builders_are_their_own():
    names = [builder.__name__ for builder in itertools.chain(*frameworks.BUILDERS.values())]
    assert len(set(names)) == len(names)
