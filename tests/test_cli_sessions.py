"""``session-mw sessions``: looking at sessions and ending them, from another process than the app's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_driver import name_store, on_terminal, one_line, real, run
from msgspec import structs

from session_mw import SessionService, generate_key
from session_mw.core.record import pointer
from session_mw.core.tokens import ID_LENGTH
from session_mw.errors import StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import FaultyStore
from session_mw.testing.contract import new_record

NOW = 1_700_000_000
ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
FIELDS = [
    "session_id", "user_id", "created_at", "last_activity", "expires_at", "absolute_expires_at", "login_ip",
    "login_user_agent", "version",
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def service(url: str) -> Iterator[SessionService]:
    with SessionService.from_url(url) as service:
        yield service


def later(service: SessionService, seconds: int) -> SessionService:
    """A service on the same file, *seconds* from now."""
    clock = service.config.clock
    return SessionService(service.config, clock=lambda: clock() + seconds)


# -- list --------------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_of_one_user(service: SessionService, url: str) -> None:
    ids = [service.create_session("alice")]
    for age in (7000, -5):  # of the first, little is left
        with later(service, -age) as other:
            ids.append(other.create_session("alice"))
    with later(service, -9000) as past:
        past.create_session("alice")  # expired
    service.destroy_session(service.create_session("alice"))
    service.create_session("bob")
    done = run("sessions", "list", "--user", "alice", "--store", url)
    assert done.exit_code == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [ids[2], ids[0], ids[1]]
    for row in rows:
        assert len(row) == 6
        for time in row[1:4]:
            assert re.fullmatch(rf"{ISO} \((\d+ [a-z]+ ago|in \d+ [a-z]+|now)\)", time)
        assert row[4:] == ["-", "-"]
    assert "(1 hour ago)" in rows[2][1]


def test_a_list_as_json(service: SessionService, url: str) -> None:
    ids = [service.create_session("alice", {"note": "private"}) for _ in range(2)]
    listed = json.loads(run("sessions", "list", "--user", "alice", "--store", url, "--json").stdout)
    assert {each["session_id"] for each in listed} == set(ids)
    assert [list(each) for each in listed] == [FIELDS, FIELDS]
    for name in ("created_at", "last_activity", "expires_at", "absolute_expires_at"):
        assert re.fullmatch(ISO, listed[0][name])


def test_nobody_has_no_sessions(service: SessionService, url: str) -> None:
    assert (run("sessions", "list", "--user", "nobody", "--store", url).stdout) == ""
    assert json.loads(run("sessions", "list", "--user", "nobody", "--store", url, "--json").stdout) == []


@pytest.mark.parametrize("user", ["", "x" * 256, "\udcff"])
def test_a_user_who_cannot_be(service: SessionService, url: str, user: str) -> None:
    one_line(run("sessions", "list", "--user", user, "--store", url), "user_id")
    one_line(run("sessions", "destroy-user", user, "--yes", "--except", "x" * ID_LENGTH, "--store", url), "user_id")
    one_line(run("sessions", "destroy-user", user, "--yes", "--store", url), "user_id")


def test_a_list_needs_a_user(url: str) -> None:
    one_line(run("sessions", "list", "--store", url), "--user")


def test_what_a_client_sent_does_not_reach_the_terminal(service: SessionService, path: Path, url: str) -> None:
    nasty = "\x1b]0;owned\x07\x1b[31m\r\n\t\x9b2J\u202e\x7f[bold]Mozilla[/bold]"
    store = SQLiteStore(path)
    record = new_record(user_id="alice", login_ip="192.0.2.7", login_user_agent=nasty)
    store.create(structs.replace(record, expires_at=2**32, absolute_expires_at=2**32))
    store.teardown()
    for command in (["list", "--user", "alice"], ["show", record.id], ["list", "--user", "alice", "--json"]):
        text = run("sessions", *command, "--store", url).stdout
        assert "Mozilla" in text
        assert not [each for each in text if not each.isprintable() and each not in "\n\t"], command
    assert text.isascii(), "JSON is in ASCII"
    assert json.loads(text)[0]["login_user_agent"] == nasty


# -- show --------------------------------------------------------------------------------------------------------------


def test_showing_a_session(service: SessionService, url: str) -> None:
    handle = service.create_session("alice", {"note": "private"})
    done = run("sessions", "show", handle, "--store", url)
    assert done.exit_code == 0
    values = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(values) == FIELDS
    assert values["session_id"] == handle
    assert values["user_id"] == "alice"
    assert values["login_ip"] == "-"
    assert values["version"] == "1"
    assert re.fullmatch(rf"{ISO} \(in .+\)", values["expires_at"])
    document = json.loads(run("sessions", "show", handle, "--json", "--store", url).stdout)
    assert list(document) == FIELDS
    assert document["user_id"] == "alice"
    assert document["login_ip"] is None
    assert document["version"] == 1


def test_data_are_shown_when_asked_for(service: SessionService, url: str) -> None:
    handle = service.create_session("alice", {"note": "pri\x1bvate", "count": 3})
    assert "vate" not in run("sessions", "show", handle, "--store", url).stdout
    done = run("sessions", "show", handle, "--data", "--store", url).stdout
    assert done.splitlines()[-1] == 'data\t{"note": "pri\\u001bvate", "count": 3}'
    document = json.loads(run("sessions", "show", handle, "--data", "--json", "--store", url).stdout)
    assert document["data"] == {"note": "pri\x1bvate", "count": 3}


def test_secrets_are_never_shown(service: SessionService, path: Path, url: str) -> None:
    handle = service.create_session("alice", {"note": "private"})
    token = service.issue_token(handle)
    record = SQLiteStore(path).load(handle)
    assert record is not None
    assert record.digest
    hidden = {token.partition(".")[2], record.digest.hex(), repr(record.digest), "login_token", "token"}
    shown = ""
    for words in (
        ["sessions", "list", "--user", "alice"],
        ["sessions", "show", handle],
        ["sessions", "show", handle, "--data"],
        ["stats"],
        ["cleanup"],
        ["schema"],
        ["sessions", "destroy", handle],
    ):
        for form in ([], ["--json"]):
            done = run(*words, *form, "--store", url)
            shown += done.stdout + done.stderr
    assert handle in shown
    assert not [secret for secret in hidden if secret in shown]


def test_an_id_that_looks_like_an_option(path: Path, url: str) -> None:
    store = SQLiteStore(path)
    for start in ("-", "--", "--data", "-h"):
        record = new_record(id=start.ljust(ID_LENGTH, "x"), user_id="alice")
        store.create(structs.replace(record, expires_at=2**32, absolute_expires_at=2**32))
        assert run("sessions", "show", record.id, "--store", url).exit_code == 0
        kept = run("sessions", "destroy-user", "alice", "--except", record.id, "--yes", "--store", url)
        assert kept.exit_code == 0
        assert store.load(record.id) is not None
        assert run("sessions", "destroy", "--store", url, record.id).exit_code == 0
    store.teardown()


@pytest.mark.parametrize("command", [["show"], ["destroy"], ["destroy-user", "alice", "--yes", "--except"]])
@pytest.mark.parametrize("text", ["", "nonsense", "x" * 23, "x" * 25, "é" * ID_LENGTH, "--jsno", "x" * 24 + "\n"])
def test_what_is_no_id_is_refused(url: str, command: list[str], text: str) -> None:
    done = run("sessions", *command, text, "--store", url)
    one_line(done, "no session id")
    assert len(text) < 6 or text not in done.stderr


def test_a_whole_token_is_refused_and_not_repeated(service: SessionService, url: str) -> None:
    token = service.issue_token(service.create_session("alice"))
    for command in ("show", "destroy"):
        done = run("sessions", command, token, "--store", url)
        one_line(done, "a whole token", "before the dot")
        assert token.partition(".")[2] not in done.stderr
    assert service.authenticate(token) is not None


def test_what_has_ended_is_not_found_and_left_as_it_is(service: SessionService, path: Path, url: str) -> None:
    store = SQLiteStore(path)
    with later(service, -8000) as past:
        over = past.create_session("alice")
    ended = service.create_session("alice")
    service.destroy_session(ended)
    first = service.create_session("alice")
    second = service.regenerate_session(first)
    now = int(service.config.clock())
    followed, stale = new_record(), new_record()
    for record, until in ((followed, now + 30), (stale, now - 30)):
        store.create(record)
        store.close(record.id, 1, until=now + 60, successor=pointer(new_record(second), until))
    for handle, words in [
        (over, "expired at "),
        (ended, "ended a moment ago"),
        (followed.id, f"is now {second}"),
        (stale.id, "ended a moment ago"),
        ("x" * ID_LENGTH, "there is no such session"),
    ]:
        one_line(run("sessions", "show", handle, "--store", url), words, code=3)
        one_line(run("sessions", "show", handle, "--json", "--store", url), words, code=3)
    assert store.load(over) is not None, "looking deleted it"
    store.teardown()


def test_sealed_data_need_the_apps_settings(path: Path, url: str) -> None:
    key = generate_key()
    with SessionService.from_url(url, secret_key=key, encryption=True) as service:
        handle = service.create_session("alice", {"note": "private"})
    settings = {"SESSION_MW_SECRET_KEY": key, "SESSION_MW_ENCRYPTION": "true", "SESSION_MW_STORE": url}
    assert "private" in run("sessions", "show", handle, "--data", env=settings).stdout
    for wrong in (
        {"SESSION_MW_STORE": url},
        settings | {"SESSION_MW_SECRET_KEY": generate_key()},
    ):
        done = run("sessions", "show", handle, "--data", env=wrong)
        one_line(done, "SESSION_MW_ENCRYPTION", "SESSION_MW_SECRET_KEY", code=4)
        assert key not in done.stderr
        assert run("sessions", "show", handle, env=wrong).exit_code == 0, "the rest of it is not sealed"
        assert run("sessions", "list", "--user", "alice", env=wrong).exit_code == 0
    assert run("sessions", "destroy", handle, "--store", url).exit_code == 0, "ending it needs no key"


class Failing(MemoryStore):
    """Fails from the second reading of a record on, or has lost it by then."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__()
        self.lost = lost
        self.reads = 0

    def load(self, id: str) -> Any:
        self.reads += 1
        if self.reads < 2:
            return super().load(id)
        if self.lost:
            return None
        raise StoreError("the line was cut") from ConnectionError("far away")


def test_a_store_that_fails_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    for lost, words, code in ((False, "the line was cut", 4), (True, "there is no such session", 3)):
        store = Failing(lost=lost)
        record = new_record()
        store.create(structs.replace(record, expires_at=2**32, absolute_expires_at=2**32))
        url = name_store(monkeypatch, store)
        one_line(run("sessions", "show", record.id, "--data", "--store", url), words, code=code)


# -- destroy -----------------------------------------------------------------------------------------------------------


def test_destroying_a_session(service: SessionService, url: str) -> None:
    handles = [service.create_session("alice") for _ in range(3)]
    token = service.issue_token(handles[0])
    done = run("sessions", "destroy", handles[0], "--store", url)
    assert (done.exit_code, done.stdout) == (0, f"Destroyed {handles[0]}.\n")
    assert service.authenticate(token) is None
    done = run("sessions", "destroy", handles[1], "--json", "--store", url)
    assert json.loads(done.stdout) == {"session_id": handles[1], "destroyed": 1}
    assert service.list_sessions("alice") == [handles[2]]
    for gone in (handles[0], "x" * ID_LENGTH):
        one_line(run("sessions", "destroy", gone, "--store", url), "there is no such session", code=3)
        one_line(run("sessions", "destroy", gone, "--json", "--store", url), "there is no such session", code=3)


def test_destroying_all_sessions_of_a_user(service: SessionService, url: str) -> None:
    kept, others = service.create_session("alice"), [service.create_session("alice") for _ in range(3)]
    bobs = service.create_session("bob")
    done = run("sessions", "destroy-user", "alice", "--except", kept, "--yes", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Destroyed 3 sessions.\n")
    assert service.list_sessions("alice") == [kept]
    assert all(service.get_session(each) is None for each in others)
    done = run("sessions", "destroy-user", "alice", "--yes", "--json", "--store", url)
    assert json.loads(done.stdout) == {"user_id": "alice", "destroyed": 1}
    done = run("sessions", "destroy-user", "alice", "--yes", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Destroyed 0 sessions.\n"), "done already is done"
    assert service.list_sessions("bob") == [bobs]


def test_where_nobody_can_be_asked_yes_must_be_said(service: SessionService, url: str) -> None:
    handle = service.create_session("alice")
    one_line(run("sessions", "destroy-user", "alice", "--store", url), "--yes")
    assert service.list_sessions("alice") == [handle]


def test_the_session_to_keep_must_be_one_of_theirs(service: SessionService, url: str) -> None:
    handle, bobs = service.create_session("alice"), service.create_session("bob")
    for wrong in ("x" * ID_LENGTH, bobs):
        done = run("sessions", "destroy-user", "alice", "--except", wrong, "--yes", "--store", url)
        one_line(done, "nothing was destroyed", code=3)
    assert service.list_sessions("alice") == [handle]


def test_on_a_terminal_somebody_is_asked(service: SessionService, url: str) -> None:
    handles = [service.create_session("al\x1b[31mice") for _ in range(2)]
    command = ["sessions", "destroy-user", "al\x1b[31mice", "--store", f"{url}?lock_timeout=1"]
    done = on_terminal(*command, asked="[y/N]", answer="\n")
    assert f"Destroy 2 sessions of al\\x1b[31mice in {url}? [y/N]: " in done.text
    assert "nothing was destroyed" in done.text
    assert done.code == 130
    assert len(service.list_sessions("al\x1b[31mice")) == 2
    done = on_terminal(*command, "--except", handles[0], asked="Destroy 1 session of ", answer="y\n")
    assert done.code == 0
    assert "Destroyed 1 session." in done.text
    assert service.list_sessions("al\x1b[31mice") == [handles[0]]


# -- on a terminal, and as a program -----------------------------------------------------------------------------------


def test_on_a_terminal_there_is_a_table(service: SessionService, path: Path, url: str) -> None:
    store = SQLiteStore(path)
    record = new_record(user_id="alice", login_ip="192.0.2.7", login_user_agent="Agent [bold]x[/bold] " + "y" * 60)
    store.create(structs.replace(record, expires_at=2**32, absolute_expires_at=2**32))
    store.teardown()
    done = on_terminal("sessions", "list", "--user", "alice", "--store", url)
    assert done.code == 0
    for words in ("Session", "Last activity", "Expires", "From", record.id, "2106-02-07T06:28:16Z", "in ", "192.0.2.7"):
        assert words in done.text
    assert "[bold]" in done.text, "what clients send is no markup"
    assert done.text.count("y") > 60, "cut off"
    done = on_terminal("sessions", "show", record.id, "--store", url)
    assert done.code == 0
    assert record.id in done.text
    assert "\x1b[1mlogin_ip" in done.text


def test_as_a_program_with_the_url_in_the_environment(service: SessionService, url: str) -> None:
    handle = service.create_session("alice")
    command = ["-W", "error", "-m", "session_mw", "sessions"]
    done = real(*command, "list", "--user", "alice", "--json", env={"SESSION_MW_STORE": url})
    assert (done.returncode, done.stderr) == (0, "")
    assert [each["session_id"] for each in json.loads(done.stdout)] == [handle]
    done = real(*command, "destroy", handle, env={"SESSION_MW_STORE": url})
    assert (done.returncode, done.stderr) == (0, "")
    done = real(*command, "destroy", handle, env={"SESSION_MW_STORE": url})
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "session-mw: there is no such session\n")


def test_the_group_alone_says_what_it_can() -> None:
    done = run("sessions")
    assert done.exit_code == 0
    for command in ("list", "show", "destroy", "destroy-user"):
        assert f"\n  {command} " in done.stdout


def test_every_command_says_that_the_store_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore(MemoryStore())
    url = name_store(monkeypatch, store)
    handle = "x" * ID_LENGTH
    for words in (
        ["list", "--user", "alice"],
        ["show", handle],
        ["destroy", handle],
        ["destroy-user", "alice", "--yes"],
        ["destroy-user", "alice", "--yes", "--except", handle],
    ):
        store.fail(None, after=1, times=None)  # opening works
        done = run("sessions", *words, "--store", url)
        one_line(done, "told to fail", code=4)
        assert "hunter2" not in done.stderr
        store.heal()
