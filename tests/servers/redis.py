"""Real Redis servers for the tests that need one, on loopback: a single one, one behind Sentinel, a Cluster.

No redis-cli: a Cluster is made by telling its nodes. Every wait is a bounded wait on a process or a connection.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .ports import unused_port

__all__ = ["ClusterSet", "RedisServer", "SentinelSet"]

SECONDS = 20


class RedisServer:
    """A server on 127.0.0.1:``port`` and a unix socket; ``stop()`` and ``start()`` at will.

    It forgets everything when it stops, unless *options* say ``appendonly yes``.
    """

    def __init__(self, program: str, directory: Path, *options: str, sentinel: bool = False) -> None:
        self.port = unused_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket = f"unix://{directory / 'socket'}?db=1"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        self._log = directory / "log"
        config = directory / "redis.conf"  # a sentinel writes into it
        common = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}"]
        keeper = [] if sentinel else [f"unixsocket {directory / 'socket'}", 'save ""']
        config.write_text("\n".join([*common, *keeper, *options]) + "\n")
        self._command = [program, str(config), *(["--sentinel"] if sentinel else [])]

    def start(self) -> None:
        """Until it answers. Raises ``AssertionError`` with its log when it does not."""
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.until(_answers, "it does not answer")

    def until(self, holds: Callable[[Any], Any], otherwise: str) -> None:
        """Wait until *holds(client)*. Raises ``AssertionError`` with the log and *otherwise*."""
        assert self.process is not None
        deadline = time.monotonic() + SECONDS
        with self.client() as client:
            while True:
                try:
                    if holds(client):
                        return
                except redis.RedisError:
                    pass
                assert time.monotonic() < deadline, f"{otherwise}:\n{self._log.read_text()}"
                try:
                    code = self.process.wait(0.01)  # the pause between tries ends early when the process does
                except subprocess.TimeoutExpired:
                    continue
                raise AssertionError(f"the server ended with {code}:\n{self._log.read_text()}")

    def client(self, **options: Any) -> redis.Redis:
        """A client that repeats nothing."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=SECONDS, **options)

    def stop(self) -> None:
        """End it as a power cut would. Idempotent."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(10)


def _answers(client: Any) -> bool:
    with suppress(redis.AuthenticationError):  # it asks for a password: it is there
        client.ping()
    return True


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    """Started, and stopped in the end."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_program(require_program: Callable[[str], str]) -> str:
    return require_program("redis-server")


@pytest.fixture(scope="session")
def redis_server(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests: each has a ``table_index`` of its own."""
    with running(RedisServer(redis_program, tmp_path_factory.mktemp("redis") / "single")) as server:
        yield server


@pytest.fixture
def new_redis(redis_program: str, tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """A server of the test's own, to be stopped, filled or locked: ``new_redis("requirepass x")``."""
    with ExitStack() as started:
        yield lambda *options: started.enter_context(
            running(RedisServer(redis_program, tmp_path / f"redis-{unused_port()}", *options))
        )


class SentinelSet:
    """A primary, its replica, and the Sentinel that watches both as ``main``."""

    def __init__(self, program: str, directory: Path) -> None:
        self.primary = RedisServer(program, directory / "primary", "repl-diskless-sync-delay 0")
        self.replica = RedisServer(
            program, directory / "replica", f"replicaof 127.0.0.1 {self.primary.port}", "repl-diskless-sync-delay 0"
        )
        self.sentinel = RedisServer(
            program,
            directory / "sentinel",
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 5000",
            sentinel=True,
        )
        self.url = f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main/0"

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start()
        self.replica.until(lambda client: client.info("replication")["master_link_status"] == "up", "no replication")
        self.sentinel.start()
        self.sentinel.until(lambda client: client.sentinel_slaves("main"), "the Sentinel knows no replica")

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()

    @contextmanager
    def switching(self) -> Iterator[None]:
        """Inside, something makes the Sentinel name another primary; it has done so afterwards."""
        with self.sentinel.client() as client, client.pubsub() as channel:
            channel.subscribe("+switch-master")
            assert channel.get_message(timeout=SECONDS)["type"] == "subscribe"
            yield
            message = channel.get_message(timeout=SECONDS)
            assert message is not None, "no fail-over"


@pytest.fixture(scope="session")
def redis_sentinel(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """For all tests that leave it as it is."""
    yield from _sentinel(redis_program, tmp_path_factory.mktemp("sentinel"))


@pytest.fixture
def new_sentinel(redis_program: str, tmp_path: Path) -> Iterator[SentinelSet]:
    """One to be broken."""
    yield from _sentinel(redis_program, tmp_path)


def _sentinel(program: str, directory: Path) -> Iterator[SentinelSet]:
    servers = SentinelSet(program, directory)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


class ClusterSet:
    """Three nodes that share the slots."""

    def __init__(self, program: str, directory: Path) -> None:
        options = ("cluster-enabled yes", "cluster-node-timeout 2000")
        self._buses = [unused_port() for _ in range(3)]
        self.nodes = [
            RedisServer(program, directory / f"node-{bus}", *options, f"cluster-port {bus}") for bus in self._buses
        ]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        bounds = (0, 5461, 10923, 16384)
        for node, first, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            node.start()
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", self.nodes.index(node) + 1)
        with self.nodes[0].client() as client:
            for node, bus in zip(self.nodes[1:], self._buses[1:], strict=True):
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        self.wait()

    def wait(self) -> None:
        """Until every node sees all slots served."""
        for node in self.nodes:
            node.until(_whole, "the Cluster does not come together")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def node_of(self, key: str) -> RedisServer:
        """The node that serves *key*."""
        with redis.RedisCluster("127.0.0.1", self.nodes[0].port) as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.nodes if node.port == port)

    def move(self, key: str) -> None:
        """Give the slot of *key*, with all keys in it, to another node."""
        source = self.node_of(key)
        target = self.nodes[self.nodes.index(source) - 1]
        with source.client() as old, target.client() as new:
            slot = old.execute_command("CLUSTER", "KEYSLOT", key)
            old_id, new_id = (client.execute_command("CLUSTER", "MYID").decode() for client in (old, new))
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            old.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            for client in (new, old):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)


def _whole(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")


@pytest.fixture(scope="session")
def redis_cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    """For all tests that leave it as it is."""
    servers = ClusterSet(redis_program, tmp_path_factory.mktemp("cluster"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
