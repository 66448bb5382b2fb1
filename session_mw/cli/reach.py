"""The store a command works on: which one, with which settings, opened and closed again.

Decided here: ``--store`` beats the environment, where all other settings come from, so that payloads are unsealed and
deadlines judged as in the app. Nothing is made: a store that is not there is a failure, never a new, empty one.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..config import SessionConfig
from ..errors import ConfigurationError, StoreError
from ..service import AsyncSessionService, SessionService
from ..settings import scheme_of
from ..stores import Inspectable
from ..stores.faces import is_awaited, store_of
from .output import shown_url
from .program import STORE_FAILED, Failure

__all__ = ["Reached", "configured", "json_option", "reached", "store_option"]

PREFIX = "SESSION_MW_"
WHERE = {"STORE", "MIGRATE_FROM", "SAVE_PATH", "REVOCATION", "REVOCATION_STALENESS", "ENCRYPT_COOKIE_DATA"}
"""Settings that say where sessions are kept, in whose place ``--store`` stands."""

Command = TypeVar("Command", bound=Callable[..., Any])


def store_option(command: Command) -> Command:
    """The option ``--store``."""
    return click.option(
        "--store",
        metavar="URL",
        help="Where sessions are kept, such as sqlite:///sessions.db. [default: SESSION_MW_STORE, which unlike an"
        " option is in no list of processes: the place for a URL with a password. All other settings come from"
        " SESSION_MW_… too]",
    )(command)


def json_option(command: Command) -> Command:
    """The option ``--json``."""
    return click.option("--json", "json", is_flag=True, help="Print one JSON document.")(command)


class Reached:
    """A store and the service over it; ``url`` is safe to show, ``now`` the moment the command acts at."""

    def __init__(self, config: SessionConfig) -> None:
        self.url = shown_url(config.store)
        self.now = int(config.clock())
        self.store: Any = store_of(config)
        awaited = is_awaited(self.store)
        config = config.replace(store=self.store, save_path=None, migrate_from=None)
        self.service: Any = AsyncSessionService(config) if awaited else SessionService(config)
        self._runner: Any = None
        if awaited:
            import asyncio

            self._runner = asyncio.Runner()

    def ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What *call* answers, awaited where the store is."""
        if self._runner is None:
            return call(*arguments, **options)
        return self._runner.run(_answer(call(*arguments, **options)))

    def inspect(self, method: str) -> Any:
        """What the store's *method* of ``Inspectable`` tells of now. Raises ``UsageError`` where it has none."""
        if not isinstance(self.store, Inspectable):
            raise click.UsageError(f"{self.url}: this kind of store cannot count its records")
        return self.ask(getattr(self.store, method), self.now)

    def open(self) -> None:
        """Open the store; it must be there. Raises ``StoreError``."""
        self.ask(getattr(self.store, "open_existing", self.store.initialize))

    def close(self) -> None:
        """Release the store."""
        try:
            self.ask(self.service.teardown)
        finally:
            if self._runner is not None:
                self._runner.close()


async def _answer(answer: Awaitable[Any]) -> Any:
    return await answer


@contextmanager
def reached(url: str | None) -> Iterator[Reached]:
    """The store of *url*, or of the environment, open. Its faults end the command with an exit code of their own."""
    at = Reached(configured(url))
    try:
        try:
            at.open()
            yield at
        finally:
            at.close()
    except StoreError as error:
        raise Failure(f"{error}", STORE_FAILED) from error


def configured(url: str | None) -> SessionConfig:
    """The settings of the environment, with the store of *url* if that is given.

    Raises ``ConfigurationError``; ``click.UsageError`` without a store, or with one that no other process sees.
    """
    environ = dict(os.environ)
    if url is not None:
        where = {name for name in environ if name.startswith(PREFIX) and name[len(PREFIX) :].upper() in WHERE}
        environ = {name: text for name, text in environ.items() if name not in where}
        environ[f"{PREFIX}STORE"] = url
    try:
        config = SessionConfig.from_env(environ)
    except ConfigurationError as error:
        if url is None:
            raise
        raise ConfigurationError(str(error).replace(f"{PREFIX}STORE", "--store")) from error
    if config.store is None:
        raise click.UsageError("which store? Pass --store URL, or set SESSION_MW_STORE")
    if scheme_of(config.store) == "memory":
        raise click.UsageError("memory: is inside the app's own process, and nobody else sees it; no command can help")
    return config
