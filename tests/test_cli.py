"""``session-mw``: what it prints, how it ends, and what it says in one line when something is wrong."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import click
import httpx
import pytest
from cli_driver import one_line, real, run
from click.testing import CliRunner
from conftest import StartServer

from session_mw import KeyRing, SessionConfig, StoreError
from session_mw.cli import main
from session_mw.demo import server as serving

# -- the program -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_it_says_what_it_can(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 0
    assert "Usage: session-mw" in done.stdout
    for command in ("cleanup", "demo", "keygen", "schema", "sessions", "stats"):
        assert f"\n  {command} " in done.stdout


LOCAL = [("keygen",), ("demo",), ("schema",)]
ASKING = [
    (), ("sessions",), ("sessions", "list"), ("sessions", "show"), ("sessions", "destroy"),
    ("sessions", "destroy-user"), ("cleanup",), ("stats",),
]  # fmt: skip


@pytest.mark.parametrize("command", [*LOCAL, *ASKING], ids=" ".join)
def test_every_help_tells_the_exit_codes(command: tuple[str, ...]) -> None:
    text = " ".join(run(*command, "--help").stdout.split())
    assert "Exit codes: 0 done; 1 an unexpected failure; 2 bad input, told in one line on stderr." in text
    assert ("3 no such session; 4 the store failed; 130 stopped." in text) is (command in ASKING)


def test_it_tells_its_version() -> None:
    assert re.fullmatch(r"session-mw, version \d+\.\d+\.\d+\n", run("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense"]),
        (["--nonsense"], ["--nonsense"]),
        (["keygen", "--bytes", "many"], ["--bytes", "many"]),
        (["keygen", "more"], ["more"]),
        (["demo", "--port", "65536"], ["--port"]),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: list[str]) -> None:
    one_line(run(*arguments), *words)


def test_as_a_function_it_raises_as_click_does() -> None:
    with pytest.raises(click.UsageError):
        main(["nonsense"], standalone_mode=False)
    assert main(["keygen"], standalone_mode=False) is None


def test_interrupted_it_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "prepared", interrupted)
    assert run("demo", "--store", "memory:").exit_code == 130


def test_python_m_is_the_same_program() -> None:
    done = real("-W", "error", "-m", "session_mw", "keygen", "--bytes", "32")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 44


@pytest.mark.parametrize(
    "entry",
    ["from session_mw.cli import main; main()", "import runpy; runpy.run_module('session_mw', run_name='__main__')"],
    ids=["script", "module"],
)
def test_without_its_extra_it_asks_for_it(entry: str) -> None:
    done = real("-W", "error", "-c", f"import sys, bare; sys.meta_path.insert(0, bare.OnlyBare()); {entry}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "session-mw: the command line is an extra: pip install 'session_mw[cli]'\n"


HIDING = """
import sys
class Hides:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hides())
from session_mw.cli import main
main({arguments!r})
"""


def test_another_missing_module_is_not_taken_for_the_extra() -> None:
    done = real("-c", HIDING.format(name="session_mw.core.keys", arguments=[]))
    assert done.returncode == 1
    assert "ModuleNotFoundError: session_mw.core.keys" in done.stderr


def test_a_demo_without_a_server_asks_for_its_extra() -> None:
    done = real("-c", HIDING.format(name="uvicorn", arguments=["demo", "--store", "memory:"]))
    assert done.returncode == 2
    assert done.stderr == "session-mw: the demo needs a server: pip install 'session_mw[demo]'\n"


def test_a_demo_that_is_broken_says_so() -> None:
    done = real("-c", HIDING.format(name="starlette.routing", arguments=["demo", "--store", "memory:"]))
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


# -- keygen ------------------------------------------------------------------------------------------------------------


def test_a_key_is_fresh_and_one_that_a_ring_takes() -> None:
    keys = {run("keygen").stdout for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        assert re.fullmatch(r"[\w-]{64}\n", key, re.ASCII)
        KeyRing(key.strip())


def test_a_key_of_another_size() -> None:
    assert len(run("keygen", "--bytes", "32").stdout) == 44
    one_line(run("keygen", "--bytes", "31"), "31")


def test_a_key_for_an_environment_file() -> None:
    name, _, value = run("keygen", "--env").stdout.strip().partition("=")
    config = SessionConfig.from_env({name: value})
    assert config.keys is not None


# -- demo: what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", "not a host", ""])  # noqa: S104
def test_only_loopback_is_served(host: str) -> None:
    one_line(run("demo", "--store", "memory:", "--host", host), "not a loopback address")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense:x", ["unknown store scheme 'nonsense'"]),
        ("sqlit:///x", ["sqlite"]),
        ("x.db", ["scheme"]),
        ("sqlite:///x.db?colour=red", ["colour"]),
        ("sqlite:////nonexistent/demo.db", ["/nonexistent/demo.db", "create the directory"]),
    ],
)
def test_a_store_that_cannot_be_is_one_line(url: str, words: list[str]) -> None:
    one_line(run("demo", "--store", url), *words)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no database at all, but long enough to be looked at " * 30)
    one_line(run("demo", "--store", f"sqlite:///{file}"), "not an SQLite database")


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_line(run("demo", "--store", "memory:", "--port", str(port)), f"port {port}", "in use", "--port 0")


def test_a_cache_directory_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = CliRunner().invoke(main, ["demo"], env={"XDG_CACHE_HOME": str(file)})
    one_line(done, str(file), "--store sqlite:///file.db")


# -- demo: what is served ----------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The demo, but for serving: the addresses it would have served on."""
    urls: list[str] = []
    monkeypatch.setattr(serving, "serve", lambda app, listening: urls.append(serving.url_of(listening)))
    return urls


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", r"http://127\.0\.0\.1:\d+"),
        ("127.0.0.5", r"http://127\.0\.0\.5:\d+"),
        ("::1", r"http://\[::1\]:\d+"),
    ],
)
def test_it_tells_where_and_as_whom(served: list[str], host: str, url: str) -> None:
    done = run("demo", "--host", host, "--port", "0", "--store", "memory:")
    if host == "::1" and "cannot" in done.stderr:
        pytest.skip("no IPv6 here")
    assert done.exit_code == 0
    assert re.fullmatch(url, served[0])
    for word in (served[0], "alice", "bob", "carol", "correct horse", "memory:", "Ctrl+C"):
        assert word in done.stdout


def test_the_default_store_is_a_private_file_that_stays(served: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "a cache [x] #1"
    done = CliRunner().invoke(main, ["demo", "--port", "0"], env={"XDG_CACHE_HOME": str(cache)})
    assert done.exit_code == 0, done.stderr
    file = cache / "session-mw" / "demo.db"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_password_in_a_store_url_is_not_shown(served: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "prepared", lambda store: None)
    done = run("demo", "--port", "0", "--store", "postgresql://me:hunter2@host/db")
    assert done.exit_code == 0
    assert "hunter2" not in done.stdout
    assert "postgresql://host/db" in done.stdout


def test_a_store_is_closed_again_when_it_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        serving.prepared(f"sqlite:///{tmp_path / 'missing' / 'demo.db'}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_it_serves_until_it_is_stopped(server: StartServer, tmp_path: Path, how: signal.Signals) -> None:
    arguments = ["-W", "error", "-m", "session_mw", "demo", "--port", "{port}", "--store", "sqlite:///demo.db"]
    running = server(arguments, cwd=tmp_path)
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        assert "Sessions, seen at work" in client.get("/").text
        assert "server" not in client.get("/").headers
        running.process.send_signal(how)
        assert running.process.wait(10) == (0 if how == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in running.output()
    assert running.url in running.output()
