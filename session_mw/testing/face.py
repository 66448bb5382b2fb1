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

from ..core.operations import Flow, Operation
from ..errors import StoreBusyError
from ..stores.faces import is_awaited
from .hooks import Hooks

__all__ = ["Face", "Faces", "case"]


class Face:
    """One face of a store, made to answer: ``ask`` it an operation, ``play`` a flow, let flows run ``together``.

    ``store`` is the object the face belongs to, ``directory`` the one it was made in; ``awaited``: its kind.
    """

    def __init__(self, name: str, store: Any, hooks: Hooks, directory: Path) -> None:
        self.name = name
        self.store = store
        self.directory = directory
        self.can_rotate: bool = store.can_rotate
        self.can_list = hooks.can_list
        self._asked = store.inline() if name == "inline" else store.aio() if name == "aio" else store
        self.awaited = is_awaited(self._asked)
        self._runner = asyncio.Runner() if self.awaited else None

    def ask(self, operation: Operation) -> Any:
        """The answer."""
        if self._runner is not None:
            return self._runner.run(_answer(self._asked, operation))
        try:
            return operation.ask(self._asked)
        except StoreBusyError:
            if self._asked is self.store:
                raise
            return operation.ask(self.store)

    def play(self, flow: Flow[Any]) -> Any:
        """The verdict of *flow*."""
        return _drive(flow, self.ask)

    def call(self, method: str) -> None:
        """Call ``initialize`` or ``teardown``."""
        if self._runner is not None:
            self._runner.run(_call(self._asked, method))
        else:
            getattr(self.store, method)()

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
            return self._runner.run(_gather(flows, self._asked))
        todo = list(flows)
        verdicts: list[Any] = [None] * len(todo)
        barrier = threading.Barrier(len(todo))

        def work(index: int) -> None:
            barrier.wait()
            try:
                verdicts[index] = self.play(todo[index])
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


def case(
    body: Callable[[Any, Face], None] | None = None, *, needs: tuple[str, ...] = (), once: bool = False
) -> Callable[..., Any]:
    """A method for a test runner, which runs *body* on every face, or *once*, on the first.

    *needs*: names from ``hooks.NEEDS``; where one is lacking, the case is none.
    """
    if body is None:
        return lambda body: case(body, needs=needs, once=once)
    run: Callable[[Any, Face], None] = body

    def method(self: Any, tmp_path: Path) -> None:
        for face in self.faces(tmp_path, once=once):
            try:
                run(self, face)
            except BaseException as error:
                error.add_note(f"on the {face.name} face of the store")
                with suppress(Exception):  # the first fault is the one to tell
                    face.end()
                raise
            face.end()

    method.__name__ = run.__name__
    method.__qualname__ = run.__qualname__
    method.__doc__ = run.__doc__
    method.needs = needs  # type: ignore[attr-defined]
    return method


class Faces(Hooks):
    """Base of the kit's parts: makes the stores and hands their faces to the cases."""

    def faces(self, tmp_path: Path, *, once: bool = False) -> Iterator[Face]:
        """Every face of the store, or the first, each on a new store, ready."""
        names = ["called"]
        for name in names:
            directory = tmp_path / name
            directory.mkdir()
            store: Any = self.make_store(directory)
            if is_awaited(store):
                name = "awaited"
            elif name == "called" and not once:
                names += _more_faces(store)
            face = Face(name, store, self, directory)
            face.call("initialize")
            yield face

    def again(self, face: Face) -> Face:
        """Another store object on the data of *face*, ready."""
        store: Any = self.open_again(face.directory)
        other = Face("awaited" if is_awaited(store) else "called", store, self, face.directory)
        other.call("initialize")
        return other


def _more_faces(store: Any) -> list[str]:
    names = [name for name in ("inline", "aio") if hasattr(store, name)]
    if "inline" in names and store.inline() is store:
        names.remove("inline")
    return names
