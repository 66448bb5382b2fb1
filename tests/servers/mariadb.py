"""A MariaDB server for the tests that need one, on loopback; see ``servers.database``."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from .database import PASSWORD, DatabaseServer, home


class MariaServer(DatabaseServer):
    """MariaDB with password logins."""

    stop_signal = signal.SIGTERM
    program: str

    def options(self) -> list[str | Path]:
        return [
            "--no-defaults", f"--datadir={self.directory / 'data'}", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M", "--skip-log-bin", "--character-set-server=utf8mb4",
        ]  # fmt: skip

    def command(self):
        return [
            self.program, *self.options(), "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve",
            f"--socket={self.directory / 's'}", f"--pid-file={self.directory / 'pid'}", "--max-connections=80",
        ]  # fmt: skip

    def prepare(self) -> None:
        install = shutil.which("mariadb-install-db")
        assert install is not None, "mariadb-install-db comes with the server"
        self.run([
            install, *self.options(), "--skip-test-db", "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
        ])  # fmt: skip

    def ready(self) -> bool:
        try:
            self.connect(user="root", password="", database="mysql").close()
        except pymysql.OperationalError:
            return False
        return True

    def watcher(self):
        return self.connect(user="root", password="", database="mysql")

    def given(self, watcher):
        words = {f"Com_{word}": word.upper() for word in ("select", "insert", "update", "delete", "commit", "rollback")}
        words |= {"Com_begin": "BEGIN", "Com_set_option": "SET"}
        with watcher.cursor() as run:
            run.execute("SHOW GLOBAL STATUS LIKE 'Com%'")
            return Counter({words[name]: int(count) for name, count in run.fetchall() if name in words})

    def connect(self, **options: object) -> pymysql.Connection:
        """A connection of the tests' own, in autocommit mode."""
        mine = {"user": "tester", "password": PASSWORD, "database": "test", **options}
        return pymysql.connect(host="127.0.0.1", port=self.port, autocommit=True, **mine)


@pytest.fixture(scope="session")
def mariadb(require_program: Callable[[str], str]) -> Iterator[MariaServer]:
    """A running MariaDB; tests isolate themselves by table names. Whoever stops it starts it again."""
    found = shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")  # off the PATH of most
    program = found or require_program("mariadbd")
    with home("mariadb", "mysql") as (directory, account):
        server = MariaServer(directory, account)
        server.program = program
        server.prepare()
        server.start()
        try:
            with server.connect(user="root", password="", database="mysql") as connection, connection.cursor() as run:
                run.execute("CREATE DATABASE test")
                run.execute("CREATE USER tester@'%%' IDENTIFIED BY %s", (PASSWORD,))
                run.execute("GRANT ALL ON test.* TO tester@'%'")
            yield server
        finally:
            server.stop()
