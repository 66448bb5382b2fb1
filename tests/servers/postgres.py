"""A PostgreSQL server for the tests that need one, on loopback; see ``servers.database``."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from .database import PASSWORD, DatabaseServer, home


class PostgresServer(DatabaseServer):
    """PostgreSQL with password logins."""

    stop_signal = signal.SIGINT  # "fast": it does not wait for clients
    bin: Path

    def command(self):
        settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
                    "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory,
                    "shared_buffers": "32MB", "max_connections": 60, "deadlock_timeout": "50ms",
                    "shared_preload_libraries": "pg_stat_statements"}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.bin / "postgres", "-D", self.directory / "data", *options]

    def prepare(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self.run([
            self.bin / "initdb", "-D", self.directory / "data", "--no-sync", "--username=tester", f"--pwfile={secret}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions",
        ])  # fmt: skip

    def ready(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:  # not listening, or still starting up
            return False
        return True

    def watcher(self):
        return self.connect("postgres")

    def given(self, watcher):
        rows = watcher.execute(
            "SELECT upper(split_part(query, ' ', 1)), sum(calls)::int FROM pg_stat_statements"
            " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'test') GROUP BY 1"
        )
        return Counter(dict(rows.fetchall()))

    def connect(self, database: str = "test") -> psycopg.Connection:
        """A connection of the tests' own, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="tester", password=PASSWORD, dbname=database, autocommit=True
        )


@pytest.fixture(scope="session")
def postgres(require_program: Callable[[str], str]) -> Iterator[PostgresServer]:
    """A running PostgreSQL; tests isolate themselves by table names. Whoever stops it starts it again."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))  # where Debian keeps it, off the PATH
    program = Path(found[-1] if found else require_program("postgres"))
    with home("postgres", "postgres") as (directory, account):
        server = PostgresServer(directory, account)
        server.bin = program.parent
        server.prepare()
        server.start()
        try:
            with server.connect("postgres") as connection:
                connection.execute("CREATE DATABASE test")
                connection.execute("CREATE EXTENSION pg_stat_statements")
            yield server
        finally:
            server.stop()
