"""How a case of the kit meets a store: on every face it has, each on a store of its own.

Decided here: a case is written once, in operations. ``Face.ask`` makes them on whatever kind of face it is; flows run
``together`` on threads where the face is called, as tasks where it is awaited. What the ``inline()`` face declines is
repeated on the store itself, as an integration does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.operations import AnyStore, Flow, Operation
from ..errors import StoreBusyError
from ..stores.faces import is_awaited

__all__ = ["Face", "Faces", "case"]


class Face:
    """One face of a fresh store, made to answer: ``ask`` it an operation, or let flows run ``together``."""

    def __init__(self, name: str, store: Any, awaited: bool, spare: Any = None) -> None:
        self.name = name
        self.can_rotate: bool = store.can_rotate
        self._store = store
        self._spare = spare
        self._runner = asyncio.Runner() if awaited else None

    def ask(self, operation: Operation) -> Any:
        """The answer."""
        if self._runner is not None:
            return self._runner.run(_answer(self._store, operation))
        try:
            return operation.ask(self._store)
        except StoreBusyError:
            if self._spare is None:
                raise
            return operation.ask(self._spare)

    def call(self, method: str) -> None:
        """Call ``initialize`` or ``teardown``."""
        if self._runner is not None:
            self._runner.run(_call(self._store, method))
        else:
            getattr(self._spare or self._store, method)()

    def end(self) -> None:
        """Release the store."""
        try:
            self.call("teardown")
        finally:
            if self._runner is not None:
                self._runner.close()

    def together(self, flows: Iterable[Flow[Any]]) -> list[Any]:
        """The verdicts of all *flows*, each on its own thread, or its own task where the face is awaited."""
        if self._runner is not None:
            return self._runner.run(_gather(flows, self._store))
        todo = list(flows)
        verdicts: list[Any] = [None] * len(todo)
        barrier = threading.Barrier(len(todo))

        def work(index: int) -> None:
            barrier.wait()
            try:
                verdicts[index] = _drive(todo[index], self.ask)
            except Exception as error:
                verdicts[index] = error

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(todo))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for verdict in verdicts:
            if isinstance(verdict, Exception):
                raise verdict
        return verdicts


async def _answer(store: Any, operation: Operation) -> Any:
    return await operation.ask(store)


async def _call(store: Any, method: str) -> None:
    await getattr(store, method)()


async def _gather(flows: Iterable[Flow[Any]], store: Any) -> list[Any]:
    return await asyncio.gather(*(_adrive(flow, store) for flow in flows))


def _drive(flow: Flow[Any], ask: Callable[[Operation], Any]) -> Any:
    try:
        operation = next(flow)
        while True:
            operation = flow.send(ask(operation))
    except StopIteration as stop:
        return stop.value


async def _adrive(flow: Flow[Any], store: Any) -> Any:
    try:
        operation = next(flow)
        while True:
            await asyncio.sleep(0)  # let the others in between any two operations
            operation = flow.send(await operation.ask(store))
    except StopIteration as stop:
        return stop.value


def case(body: Callable[[Any, Face], None]) -> Callable[[Any, Path], None]:
    """A method for a test runner, which runs *body* on every face."""

    def method(self: Any, tmp_path: Path) -> None:
        for face in self.faces(tmp_path):
            try:
                body(self, face)
            except BaseException as error:
                error.add_note(f"on the {face.name} face of the store")
                with suppress(Exception):  # the first fault is the one to tell
                    face.end()
                raise
            face.end()

    method.__name__ = body.__name__
    method.__qualname__ = body.__qualname__
    method.__doc__ = body.__doc__
    return method


class Faces:
    """Base of the kit's parts: makes the stores and hands their faces to the cases."""

    def make_store(self, tmp_path: Path) -> AnyStore:
        """A new, empty store; *tmp_path* is a directory of its own. Called once for each face of each case."""
        raise TypeError("a StoreContract needs a method make_store(self, tmp_path)")

    def faces(self, tmp_path: Path) -> Iterator[Face]:
        """Every face of the store, each on a new store, ready."""
        names = ["called"]
        for name in names:
            directory = tmp_path / name
            directory.mkdir()
            store: Any = self.make_store(directory)
            if is_awaited(store):
                face = Face("awaited", store, awaited=True)
            elif name == "called":
                names += _more_faces(store)
                face = Face(name, store, awaited=False)
            elif name == "inline":
                face = Face(name, store.inline(), awaited=False, spare=store)
            else:
                face = Face(name, store.aio(), awaited=True)
            face.call("initialize")
            yield face


def _more_faces(store: Any) -> list[str]:
    names = [name for name in ("inline", "aio") if hasattr(store, name)]
    if "inline" in names and store.inline() is store:
        names.remove("inline")
    return names
