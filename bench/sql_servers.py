"""The servers of ``bench.sql``: a PostgreSQL and a MariaDB of its own, each on a unix socket in a directory of its own.

Decided here: how they are started (no network, no fsync: what is measured is the client), and how their own counters
tell how many statements they were given. As root they run under the accounts their packages made. Stopped by pid.
"""

# ruff: noqa: S608  (tables of its own)
from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["DATABASE", "FOUND_ROWS", "NAMES", "USER", "Server", "missing", "running"]

NAMES = ("postgresql", "mariadb")
USER = DATABASE = "bench"
FOUND_ROWS = 2  # MySQL's client flag: a compare-and-swap must know whether its row was there
_ACCOUNTS = {"postgresql": "postgres", "mariadb": "mysql"}
_STOP = {"postgresql": signal.SIGINT, "mariadb": signal.SIGTERM}  # neither waits for clients


class Server:
    """A running server. ``host`` is what leads to its socket: PostgreSQL's directory, MariaDB's file."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.host = str(directory if name == "postgresql" else directory / "socket")
        self._admin: Any = None

    def url(self, driver: str) -> str:
        """For SQLAlchemy: ``url("psycopg")``."""
        backend, option = ("postgresql", "host") if self.name == "postgresql" else ("mysql", "unix_socket")
        return f"{backend}+{driver}://{USER}@/{DATABASE}?{option}={quote(self.host, safe='')}"

    def connect(self, database: str = DATABASE, user: str = USER) -> Any:
        """A connection by the driver that is called, in autocommit mode; rows that matched count, changed or not."""
        if self.name == "postgresql":
            import psycopg

            return psycopg.connect(host=self.host, user=USER, dbname=database, autocommit=True)
        import pymysql

        return pymysql.connect(
            unix_socket=self.host, user=user, database=database, autocommit=True, client_flag=FOUND_ROWS
        )

    def prepare(self) -> None:
        """Make the database, and what counts."""
        if self.name == "postgresql":
            self._admin = self.connect("postgres")
            self.ask("CREATE EXTENSION pg_stat_statements")
            self.ask(f"CREATE DATABASE {DATABASE}")
        else:
            self._admin = self.connect("mysql", "root")
            self.ask(f"CREATE DATABASE {DATABASE}")
            self.ask(f"CREATE USER {USER}@localhost")
            self.ask(f"GRANT ALL ON {DATABASE}.* TO {USER}@localhost")

    def ask(self, text: str) -> list[Any]:
        """A statement on a connection that no count includes."""
        with self._admin.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall()) if cursor.description else []

    def empty(self, table: str) -> None:
        """Delete every row of *table*."""
        where = f"{DATABASE}.{table}"
        if self.name == "mariadb":
            self.ask(f"DELETE FROM {where}")
        else:
            with self.connect() as connection:
                connection.execute(f"DELETE FROM {table}")

    def count(self, work: Callable[[], object]) -> int:
        """How many statements the server was given meanwhile, BEGIN and COMMIT and settings included."""
        before = self._given()
        work()
        return self._given() - before

    def _given(self) -> int:
        if self.name == "postgresql":
            mine = f"(SELECT oid FROM pg_database WHERE datname = '{DATABASE}')"
            return int(self.ask(f"SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid = {mine}")[0][0])
        self._asked = getattr(self, "_asked", 0) + 1  # which it counts as well
        return int(self.ask("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1]) - self._asked

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()


def _postgres() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))  # where Debian keeps it, off the PATH
    program = str(found[-1]) if found else shutil.which("postgres")
    return None if program is None else Path(program)


def _mariadbd() -> Path | None:
    program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return None if program is None or shutil.which("mariadb-install-db") is None else Path(program)


_PROGRAMS = {"postgresql": _postgres, "mariadb": _mariadbd}


def missing(name: str) -> bool:
    """Whether the server's program is not installed."""
    return _PROGRAMS[name]() is None


@contextmanager
def running(name: str) -> Iterator[Server]:
    """The server *name*, with an empty database. Raises OSError with its log when it does not start."""
    program = _PROGRAMS[name]()
    if program is None:
        raise OSError(f"{name} is not installed")
    account = _ACCOUNTS[name] if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="session-bench-"))
    try:
        if account is not None:
            os.chown(directory, pwd.getpwnam(account).pw_uid, -1)
        install, command = _commands(name, program, directory)
        with (directory / "log").open("wb") as log:
            settings: Any = {"cwd": directory, "user": account, "stdout": log, "stderr": log}
            done = subprocess.run(install, check=False, **settings)  # noqa: S603  (of our own making)
            if done.returncode:
                raise OSError((directory / "log").read_text(errors="replace"))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **settings)  # noqa: S603
        server = Server(name, directory)
        try:
            _until_it_answers(server, process, directory / "log")
            server.prepare()
            yield server
        finally:
            server.close()
            process.send_signal(_STOP[name])
            process.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _commands(name: str, program: Path, directory: Path) -> tuple[Sequence[str | Path], Sequence[str | Path]]:
    """What makes the data directory, and what serves it."""
    data = directory / "data"
    if name == "postgresql":
        install = [program.parent / "initdb", "-D", data, "--no-sync", f"--username={USER}", "--auth=trust",
                   "--encoding=UTF8", "--locale=C", "--no-instructions"]  # fmt: skip
        settings = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off",
                    "shared_preload_libraries": "pg_stat_statements"}  # fmt: skip
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return install, [program, "-D", data, *options]
    common = ["--no-defaults", f"--datadir={data}", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]
    install = [shutil.which("mariadb-install-db") or "", *common, "--skip-test-db", "--skip-name-resolve",
               "--auth-root-authentication-method=normal"]  # fmt: skip
    serve = [
        program,
        *common,
        "--skip-networking",
        "--innodb-buffer-pool-size=2G",  # it reads past the system's cache: with less, the disk is measured
        f"--socket={directory / 'socket'}",
        f"--pid-file={directory / 'pid'}",
    ]
    return install, serve


def _until_it_answers(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    login = ("postgres", USER) if server.name == "postgresql" else ("mysql", "root")
    for _ in range(600):
        try:
            if Path(server.host).exists():  # MariaDB's appears when it listens
                server.connect(*login).close()
                return
        except Exception as error:  # still starting up
            if "OperationalError" not in type(error).__name__:
                raise
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise OSError(f"{server.name} does not answer:\n{log.read_text(errors='replace')}")
