"""Stores from URLs: what is understood, and that refusals help without showing a password."""

from __future__ import annotations

import sys
import traceback

import pytest

from session_mw.config import SessionConfig
from session_mw.errors import ConfigurationError
from session_mw.service import SessionService
from session_mw.stores import url as urls
from session_mw.stores.filesystem import FilesystemStore
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sql import DatabaseStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.stores.url import StoreURL, flag, store_from_url


def test_memory():
    store = store_from_url("memory:?max_sessions=5")
    assert isinstance(store, MemoryStore)
    assert repr(store) == "<MemoryStore 0 of 5>"
    assert repr(store_from_url("memory:")) == "<MemoryStore 0 of 100000>"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///file.db", "file.db"),
        ("sqlite:///sub/file%20%23%3F.db", "sub/file #?.db"),
        ("SQLite:///file.db?durable=1&lock_timeout=2.5&table=web", "file.db"),
    ],
)
def test_sqlite_relative(url, path, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    store = store_from_url(url)
    assert isinstance(store, SQLiteStore)
    assert repr(store) == f"<SQLiteStore {tmp_path / path}>"
    store.initialize()
    assert (tmp_path / path).is_file()
    store.teardown()


def test_sqlite_absolute_with_options(tmp_path):
    store = store_from_url(f"sqlite:///{tmp_path}/a.db?durable=yes&lock_timeout=0.5&table=web")
    store.initialize()
    connection = store._pool.acquire()
    connection.lock.release()
    found = [connection.cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "busy_timeout")]
    tables = {row[0] for row in connection.cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    store.teardown()
    assert (tmp_path / "a.db").is_file()
    assert found == [2, 500]
    assert tables == {"web"}


@pytest.mark.parametrize(
    ("url", "save_path", "path"),
    [
        ("file:///below/a%20%23%3F", None, "{here}/below/a #?"),
        ("file:///{here}/x?durable=0&lock_timeout=2.5", None, "{here}/x"),
        ("FILE:", "below", "{here}/below"),
        ("file:?durable=0&lock_timeout=2.5", "{here}/%20#?", "{here}/%20#?"),
    ],
)
def test_file(url, save_path, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = store_from_url(url.format(here=tmp_path), save_path=save_path and save_path.format(here=tmp_path))
    assert isinstance(store, FilesystemStore)
    assert repr(store) == f"<FilesystemStore {path.format(here=tmp_path)}>"
    assert (store.tree.durable, store._wait) == ((False, 2.5) if "?" in url else (True, 5.0))


@pytest.mark.parametrize("url", ["file:///x", "file://x", "sqlite:", "memory:"])
def test_save_path_goes_with_a_file_url_that_has_no_path(url):
    with pytest.raises(ConfigurationError, match="save_path is the directory of a file: URL that has no path"):
        store_from_url(url, save_path="y")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqllite:///x", r"unknown store scheme 'sqllite', did you mean 'sqlite'\?; known: .*memory.*sqlite"),
        ("xyzzy://user:hunter2@host", "unknown store scheme 'xyzzy'; known: .*memory"),
        ("sessions.db", "a store URL starts with its scheme; known: .*sqlite"),
        ("", "a store URL starts with its scheme"),
        (":memory:", "a store URL starts with its scheme"),
        ("memory://host", "a memory: URL has no path"),
        ("memory:5", "a memory: URL has no path"),
        ("memory:?max_session=5", "no option 'max_session', did you mean 'max_sessions'"),
        ("memory:?max_sessions=many", "option 'max_sessions' of a memory: URL has a bad value"),
        ("memory:?max_sessions=0", "max_sessions must be"),
        ("memory:?max_sessions=1&max_sessions=2", "gives an option twice"),
        ("memory:?max_sessions", "cannot be read"),
        ("memory:#x", "write # as %23"),
        ("sqlite:file.db", "sqlite:///relative/path or sqlite:////absolute/path"),
        ("sqlite://file.db", "sqlite:///relative/path"),
        ("sqlite:///", "sqlite:///relative/path"),
        ("sqlite://[x/y", "cannot be read"),
        ("sqlite:///x.db?durable=maybe", "option 'durable' of a sqlite: URL has a bad value"),
        ("sqlite:///x.db?lock_timeout=nan", "lock_timeout must be"),
        ("sqlite:///:memory:", "for records in memory use MemoryStore"),
        ("sqlite:///a%00b", "needs the path of a file"),
        ("file:", r"a file: URL without a path needs save_path=, the directory; or file:///directory"),
        ("file:sessions", "file:///relative/path or file:////absolute/path"),
        ("file://sessions", "file:///relative/path"),
        ("file://host/sessions", "file:///relative/path"),
        ("file:///x?durable=maybe", "option 'durable' of a file: URL has a bad value"),
        ("file:///x?timeout=5", r"no option 'timeout', did you mean 'lock_timeout'\?; known: durable, lock_timeout"),
    ],
)
def test_a_refusal_names_what_is_wrong(url, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        store_from_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("redis://host", "redis", "redis"),
        ("unix:///run/redis.sock", "redis", "redis"),
        ("rediss+cluster://host", "redis", "redis"),
        ("postgresql+asyncpg://host/db", "sqlalchemy", "postgresql"),
        ("mariadb://host/db", "sqlalchemy", "mysql"),
    ],
)
def test_a_missing_extra_is_told_with_the_line_that_installs_it(monkeypatch, url, package, extra):
    scheme = url.partition(":")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"session_mw.stores.{urls.SCHEMES[scheme]}", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        store_from_url(url)
    said = f"a {scheme}: URL needs the package {package}: pip install 'session_mw[{extra}]'"
    assert str(caught.value).replace("sqlalchemy.ext", "sqlalchemy").replace("redis.asyncio", "redis") == said


PASSWORDS = [
    f"{one}{special}{other}"
    for one, other in (("Qz7Wm", "4Rt9Kx"), ("86420", "97531"), ("86420", "4Rt9=Kx"), ("", "97531=Kx"))
    for special in (
        "",
        "/",
        "?",
        "#",
        "@",
        ":",
        "[",
        "]",
        "%",
        "%4",
        " ",
        "\\",
        "&",
        ";",
        ",",
        "\n",
        "\0",
        "é",
        "℀",
        "/0?",
        "@/",
    )
]
PLACES = [
    "{scheme}://user:{password}@host/0",
    "{scheme}://:{password}@host:6379/0?db=1",
    "{scheme}://user:{password}@host:port/0",
    "{scheme}://user:{password}@host/part/0",
    "{scheme}://user:{password}@one,two:5/0",
    "{scheme}://user:{password}@[::1/0",
    "{scheme}://user:{password}@host/0?tabel=x",
    "{scheme}://user:{password}@host/0?timeout=x&socket_timeout=x",
    "{scheme}://host/0?password={password}",
    "{scheme}://host/0?timeout=x{password}&db=x{password}&lock_timeout=x{password}&max_sessions=x{password}",
    "{scheme}:user:{password}@host",
    "user:{password}@host/0",
    "{password}@host",
    "{password}@host:6379/0",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "scheme",
    ["memory", "file", "sqlite", "unix", "redis", "rediss+sentinel", "redis+cluster", "postgresql", "mysql+asyncmy"],
)
def test_no_piece_of_a_password_is_shown(scheme, place):
    """However a URL is misspelled, neither what was refused nor what was made of it tells four characters in a row."""
    for password in PASSWORDS:
        url = place.format(scheme=scheme, password=password)
        pieces = {password[at : at + 4] for at in range(len(password) - 3)}
        makers = [store_from_url, lambda url: SessionConfig(store=url)]
        if urls.SCHEMES[scheme] == "sql":
            makers.append(DatabaseStore)
        for make in makers:
            try:
                shown = repr(make(url))
            except ConfigurationError as error:
                shown = "\n".join([str(error), repr(error), *traceback.format_exception(error)])
            assert not [piece for piece in pieces if piece in shown], (url, shown)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("True", True), ("on", True), ("0", False), ("no", False)])
def test_flags(text, value):
    assert flag(text) is value


def test_a_url_taken_apart_does_not_show_its_password():
    assert repr(StoreURL("redis", "u:hunter2@h", "/0", {}, "redis://u:hunter2@h/0")) == "<StoreURL redis>"


def test_every_scheme_has_its_module():
    from importlib import import_module
    from importlib.util import find_spec

    for module in set(urls.SCHEMES.values()):
        assert find_spec(f"session_mw.stores.{module}") is not None
    for module in ("memory", "sqlite", "filesystem"):
        assert callable(import_module(f"session_mw.stores.{module}").from_url)


@pytest.mark.parametrize("url", ["sqlite:///{0}/sessions.db", "file:///{0}/sessions"])
def test_applications_keep_their_sessions_apart(url, tmp_path):
    """One URL, two ``table_index``: neither sees, lists or ends what is the other's."""
    services = [
        SessionService(store=url.format(tmp_path), table_index=index) for index in ("default", "shop-2", "shop-2")
    ]
    home, shop, again = services
    kept = home.create_session("alice", {"a": 1})
    other = shop.create_session("alice", {"b": 2})
    assert home.list_sessions("alice") == [kept]
    assert again.list_sessions("alice") == [other]
    assert shop.get_session(kept) is None
    assert shop.destroy_user_sessions("alice") == 1
    assert home.get_session(kept) == {"a": 1}
    for service in services:
        service.teardown()
