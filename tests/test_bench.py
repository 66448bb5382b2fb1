"""The bench measures what it says: every case is proven, figures have their shape, verdicts follow from them."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import closing

import pytest
from conftest import in_ci

from bench import floors, growth, ours, peers
from bench.__main__ import main
from bench.budgets import BUDGETS, Budget, Pace, judge, pace
from bench.drivers import Wsgi
from bench.garbage import garbage
from bench.harness import Cell, UnprovenError, build, groups, measure, prove, workshop
from bench.report import as_json, missed, table
from bench.scenarios import SCENARIOS, SESSION, forged, routes
from bench.sqlite_lock import LockWatch
from bench.subjects import Subject, wsgi_app
from session_mw.stores.url import store_from_url

SMALLEST = {"rounds": 2, "batch_ms": 1, "limit": 60}


@pytest.fixture
def shop():
    with workshop() as made:
        yield made


def proven(shop, builder):
    """The columns *builder*'s subject is proven in; skips where a peer's package is missing, but not in CI."""
    subjects, missing = build(shop, [builder])
    if missing and builder in peers.BUILDERS and not in_ci():
        pytest.skip(missing[0])
    assert missing == []
    cells = [cell for group in groups(shop, subjects, SCENARIOS) for cell in group if cell.bare is not None]
    for cell in cells:
        prove(cell)
    return tuple(cell.column for cell in cells)


@pytest.mark.parametrize("builder", [*floors.BUILDERS, *ours.BUILDERS, *peers.BUILDERS], ids=lambda b: b.__name__)
def test_every_case_does_the_work_it_is_timed_for(shop, builder):
    columns = proven(shop, builder)
    assert columns == ("touch",) or columns[:4] == ("S1", "S2", "S3", "S4")


@pytest.fixture(scope="module")
def run():
    return measure((*floors.BUILDERS, peers.starlette_cookie), columns=("S2", "S4", "S5r"), **SMALLEST)


def test_the_table_has_a_row_a_subject_and_a_column_a_scenario(run):
    lines = table(run).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0] == ["CPU µs over the bare app", "S2", "S4", "S5r"]
    assert [row[0] for row in rows[1:]] == [
        *(f"floor, {protocol} {kind}" for protocol in ("ASGI", "WSGI") for kind in ("cookie", "memory", "sqlite")),
        "Starlette, signed cookie",
    ]
    assert all(re.fullmatch(r"-?\d+\.\d", cell) for row in rows[1:-1] for cell in row[1:])
    assert all(re.fullmatch(r"-?\d+\.\d \(\d+\.\d\d×\)", cell) for cell in rows[-1][1:])
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    assert "2 rounds of 1 ms" in table(run)


def test_the_json_holds_every_cell(run):
    found = json.loads(json.dumps(as_json(run)))
    assert (found["rounds"], found["batch_ms"], found["left_out"]) == (2, 1, [])
    assert found["pace"] > 0
    assert "msgspec" in found["versions"]
    assert len(found["cells"]) == 7 * 3
    for cell in found["cells"]:
        low, high = cell["quartiles_us"]
        assert low <= cell["us"] <= high
        assert cell["budget"] is cell["holds"] is None  # only ours is judged
        assert (cell["ratio"] is None) == (cell["group"] == "floor")


def test_rounds_end_with_the_time_allowed():
    small = measure([floors.wsgi_cookie], columns=["S1"], rounds=1000, batch_ms=1, limit=0)
    assert small.rounds == 1


def test_the_command_prints_and_writes_and_refuses_to_pass_what_it_did_not_check(tmp_path, capsys):
    path = tmp_path / "figures.json"
    size = ["--rounds", "1", "--batch-ms", "1", "--json", str(path)]
    assert main(["--only", "floor", "--scenario", "S1,S6", *size]) == 0
    assert "| floor, WSGI sqlite" in capsys.readouterr().out
    assert {cell["scenario"] for cell in json.loads(path.read_text())["cells"]} == {"S1", "S6"}
    assert main(["--only", "floor", "--scenario", "S1", "--check", *size]) == 2
    with pytest.raises(SystemExit):
        main(["--scenario", "S7"])
    assert "unknown: S7; known: S1" in capsys.readouterr().err


def test_a_missing_package_is_one_line():
    def absent(workshop):
        raise ModuleNotFoundError("No module named 'absent'")

    def absent_too(workshop):
        raise ModuleNotFoundError("No module named 'absent'")

    with workshop() as shop:
        built, missing = build(shop, [absent, floors.wsgi_memory, absent_too])
    assert [subject.name for subject in built] == ["floor, WSGI memory"]
    assert missing == ["test_bench: absent, absent_too (No module named 'absent')"]


# -- proving -----------------------------------------------------------------------------------------------------


class Forgetful(floors.Memory):
    def save(self, session):
        return super().save(session) if session.key is None or session.renewed else None


class Chatty(floors.Memory):
    def save(self, session):
        return super().save(session) or b"again"


class Trusting(floors.Memory):
    def load(self, session, cookie):
        return dict(SESSION)


@pytest.mark.parametrize(
    ("backend", "column", "complaint"),
    [
        (Forgetful, "S3", "does not see the change"),
        (Chatty, "S3", "nobody asked for"),
        (Trusting, "S5r", "answered something else"),
    ],
)
def test_a_case_that_does_not_do_its_work_is_not_timed(shop, monkeypatch, backend, column, complaint):
    monkeypatch.setattr(floors, "Memory", backend)
    found = measure([floors.wsgi_memory], columns=[column], **SMALLEST)
    assert found.cells == []
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith(f"floor, WSGI memory, {column}: ")
    assert complaint in found.left_out[0]


def test_nobody_is_compared_with_a_floor_that_was_left_out(monkeypatch):
    def peer(workshop):
        subject = floors.wsgi_cookie(workshop)
        subject.name, subject.group, subject.kind = "peer", "peer", "memory"
        return subject

    def raising(workshop):
        subject = peer(workshop)
        subject.name, subject.app = "raising", None
        return subject

    monkeypatch.setattr(floors, "Memory", Trusting)
    found = measure([peer, floors.wsgi_memory, raising], columns=["S5r"], **SMALLEST)
    assert [(cell.subject.name, cell.ratio) for cell in found.cells] == [("peer", None)]
    assert found.left_out == [
        "floor, WSGI memory, S5r: the handler answered something else",
        "raising, S5r: TypeError: 'NoneType' object is not callable",
    ]


def test_a_failing_app_and_a_missing_cookie_are_noticed(shop):
    def failing(environ, start_response):
        start_response("500 Oops", [])
        return [b""]

    subject = Subject("nothing", "ours", "wsgi", "cookie", wsgi_app({**routes("session")}), Wsgi(), ("S4",))
    mute = wsgi_app({"/renew": lambda environ: b"ok"})
    cases = (
        (failing, None, "no session cookie"),
        (None, failing, "status 500"),
        (None, mute, "no Set-Cookie"),
    )
    for app, last, complaint in cases:
        subject.app = app or _afterwards(floors.wsgi_cookie(shop).app, last)
        with pytest.raises(UnprovenError, match=complaint):
            prove(Cell(subject, "S4", SCENARIOS["S4"]))


def _afterwards(first, then):
    """*first* for the first request, *then* for all others."""
    apps = [first]
    return lambda environ, start_response: (apps.pop() if apps else then)(environ, start_response)


@pytest.mark.parametrize("at", [-10, 0, 40])
def test_a_forgery_differs_in_one_character_only(at):
    value = "ab" * 30
    wrong = forged(value, at)
    assert len(wrong) == len(value)
    assert [i for i in range(60) if wrong[i] != value[i]] == [at % 60]


def test_the_example_session_is_as_large_as_the_scenarios_say():
    assert len(SESSION) == 8
    assert len(floors.encode(SESSION)) == pytest.approx(430, abs=15)
    assert {type(value) for value in SESSION.values()} == {str, int}  # containers cost more, and docs say how much


def test_the_sqlite_floor_has_our_columns_and_indexes(shop):
    store = store_from_url(f"sqlite:///{shop.directory}/ours.db")
    shop.closing.callback(store.teardown)
    store.initialize()
    floors.wsgi_sqlite(shop)
    layouts = []
    for name in ("ours", "floor-wsgi"):
        with closing(sqlite3.connect(shop.directory / f"{name}.db")) as database:
            columns = database.execute("PRAGMA table_info(sessions)").fetchall()
            partial = {row[1]: row[2:] for row in database.execute("PRAGMA index_list(sessions)")}
            indexes = {name: database.execute(f"PRAGMA index_info({name})").fetchall() for name in partial}
            layouts.append((columns, partial, indexes))
    assert layouts[0] == layouts[1]


# -- verdicts ----------------------------------------------------------------------------------------------------


def cell(group, column, samples, floor=None, kind="cookie", bare=4.0):
    """A cell whose costs are *samples*, over a bare app that costs *bare* in every round."""
    driver = floors.Asgi(None)  # never driven: only its protocol is read
    subject = Subject(f"{group}, ASGI {kind}", group, "asgi", kind, None, driver)
    under = Cell(subject, column, SCENARIOS[column], samples=[bare] * len(samples))
    return Cell(subject, column, SCENARIOS[column], under, floor, samples=[bare + cost for cost in samples])


def test_a_budget_is_a_ratio_and_a_fixed_part_that_grows_with_a_slower_machine():
    floor = cell("floor", "S2", [10.0, 10.0, 10.0])  # 5 µs on the reference machine: twice as slow
    known = pace([floor])
    assert known == Pace(2, {"asgi": 2})
    good = cell("ours", "S2", [17.9, 18.0, 18.1], floor)
    verdict = judge(good, known)
    assert verdict is not None
    assert verdict.budget == BUDGETS["cookie", "S2"] == Budget(1.5, 1.5)
    assert (verdict.ratio, verdict.allowed, verdict.holds) == pytest.approx((1.8, 1.8, True))
    bad = judge(cell("ours", "S2", [18.1, 18.1, 18.1], floor), known)
    assert bad is not None
    assert not bad.holds
    assert pace([good]) is None
    assert judge(good, None) is judge(good, Pace(2, {})) is None
    assert judge(cell("peer", "S2", [18.0] * 3, floor), known) is None
    assert judge(cell("ours", "S2", [18.0] * 3), known) is None


def test_a_group_measured_while_the_machine_was_slower_is_judged_by_its_own_bare_app():
    known = pace([cell("floor", "S2", [10.0] * 3)])
    floor = cell("floor", "S3", [60.0] * 3, kind="memory", bare=12.0)  # three times slower still: 10 µs of reference
    verdict = judge(cell("ours", "S3", [90.0] * 3, floor, kind="memory", bare=12.0), known)
    assert verdict is not None
    assert verdict.allowed == pytest.approx(1 + 8 / 10)


def test_a_missed_budget_is_named_marked_and_counted(monkeypatch, tmp_path):
    floor = cell("floor", "S2", [5.0, 5.0])
    found = measure([], columns=[], **SMALLEST)
    found.cells = [floor, cell("ours", "S2", [10.0, 10.0], floor)]
    assert missed(found) == ["ours, ASGI cookie, S2: 2.00× the floor, allowed 1.80× (1.5 × floor + 1.5 µs)"]
    assert "10.0 (2.00×) ✗" in table(found)
    assert [entry["holds"] for entry in as_json(found)["cells"]] == [None, False]
    monkeypatch.setattr("bench.__main__.measure", lambda *args, **settings: found)
    assert main(["--check", "--json", str(tmp_path / "x.json")]) == 1
    found.cells[1].samples[:] = [12.99, 12.99]
    assert "9.0 (1.80×) ✓" in table(found)
    assert main(["--check", "--json", str(tmp_path / "x.json")]) == 0
    found.left_out.append("session_mw, ASGI cookie, S3: no Set-Cookie")
    assert main(["--check", "--json", str(tmp_path / "x.json")]) == 2


def test_the_cost_is_the_median_difference_of_the_same_round():
    measured = cell("ours", "S1", [0.0, 0.0, 0.0], floor=cell("floor", "S1", [1.0, 1.0, 0.0]))
    measured.samples[:], measured.bare.samples[:] = [11.0, 22.0, 33.0], [10.0, 20.0, 30.0]
    assert measured.cost == 2.0
    assert measured.ratio == 1.5  # of two rounds: a floor of nothing says nothing


# -- no garbage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", [*floors.BUILDERS, *ours.BUILDERS], ids=lambda b: b.__name__)
def test_requests_leave_nothing_for_the_collector(builder):
    assert garbage(builder.__name__, builders=[builder]) == 0


@pytest.mark.parametrize("make", [floors.asgi_cookie, floors.wsgi_cookie], ids=["asgi", "wsgi"])
def test_a_cycle_in_a_request_is_found(make):
    def leaky(workshop):
        subject = make(workshop)
        app = subject.app

        def knotted(request, *rest):
            request["itself"] = request
            return app(request, *rest)

        subject.app = knotted
        return subject

    assert garbage("leaky", count=20, builders=[leaky]) >= 20
    with pytest.raises(LookupError):
        garbage("absent")


def test_growth_compares_a_small_store_with_a_large_one(tmp_path, capsys):
    status = growth.main(["--rows", "200", "900", "--store", f"sqlite:///{tmp_path}/{{rows}}.db"])
    shown = capsys.readouterr().out
    assert status == 0
    for name in ("load", "save", "touch", "list"):
        assert re.search(rf"^\| {name} \| \d+ \| \d+ \| \d+\.\d\d \|$", shown, re.MULTILINE)
    assert "purged 90 in calls of 100" in shown
    for line in ("a call took", "and held the write lock for"):
        assert re.search(rf"^{line} \d+\.\d ms \(median\), \d+\.\d ms \(longest\)$", shown, re.MULTILINE)
    with closing(sqlite3.connect(tmp_path / "900.db")) as database:
        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (810,)


def test_growth_weighs_a_session_in_files_of_its_own(tmp_path):
    example, known = growth.in_files(tmp_path, 500).values()
    assert 430 < example < known < 1000


def test_growth_says_what_is_over_its_budget():
    dear, cheap = {"load": 3.0}, {"load": 2.0}
    grown = growth.Growth((10, 20), {"load": 1.0}, dear, dear, 2, [1.0, 60.0], [], {growth.EXAMPLE: 701.0})
    assert len(grown.missed) == 3
    assert "load: 3.00 times as dear" in grown.missed[0]
    assert "one call took 60 ms" in grown.missed[1]
    assert "701 bytes" in grown.missed[2]
    held = grown._replace(ratios=cheap, locks_ms=[55.0, 1.0], bytes_each={growth.EXAMPLE: 700.0, "others": 900.0})
    assert held.missed == ["purge: one call held the write lock for 55 ms, allowed 50"]
    assert held._replace(locks_ms=[2.0]).missed == []
    assert "over budget: purge" in growth.report(held)


def test_a_watch_sees_who_holds_the_write_lock_and_nothing_else(tmp_path):
    path = tmp_path / "watched.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer, LockWatch(path) as watch:
        asked = threading.Event()
        ask = watch._ask
        watch._ask = lambda connection: (ask(connection), asked.set())

        def work(begin):
            writer.execute(begin)
            for _ in range(2):  # two questions that begin and end within
                asked.clear()
                assert asked.wait(10)
            writer.execute("COMMIT")
            return 7

        for begin in ("BEGIN", "BEGIN IMMEDIATE"):
            assert watch.during(lambda begin=begin: work(begin)) == 7
    nobody, somebody = watch.held
    assert nobody == 0
    assert somebody > 0
