"""What ``test_processes`` runs in a process of its own: ``python processes_program.py <story> <store URL>``.

Eight workers as a web server would have them, each with the real middleware on its own store, and a browser whose one
cookie all of them are sent. An answer of 503 is what a client of a busy server sees, who then asks again.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from session_mw import Session, SessionConfig, StoreConflictError
from session_mw.stores.url import store_from_url
from session_mw.wsgi import SessionMiddleware

WORKERS = 8
UPDATES = 200
USER = "alice"


_lost: list[logging.LogRecord] = []  # by one who lost 64 times in a row against seven others, and asks again


def _unforeseen(record: logging.LogRecord) -> bool:
    if record.exc_info is None or not isinstance(record.exc_info[1], StoreConflictError):
        return True
    _lost.append(record)
    return False


logging.getLogger("session_mw").addFilter(_unforeseen)


class Site:
    """A site on the store at *url*: ``visit`` it with work for the handler to do."""

    def __init__(self, url: str) -> None:
        self.store: Any = store_from_url(url)
        self._app = SessionMiddleware(_handler, SessionConfig(store=self.store))

    def visit(self, work: Callable[[Session], object], cookie: str = "") -> str | None:
        """The cookie that was sent, if any, once the answer is 200."""
        for _ in range(100):
            status, headers = self._ask(work, cookie)
            if status == "200 OK":
                sent = headers.get("Set-Cookie")
                return None if sent is None else sent.partition(";")[0]
            assert status.startswith("503"), status
            _lost.pop()  # one line for each, and no other reason
        raise AssertionError("nothing but 503")

    def _ask(self, work: Callable[[Session], object], cookie: str) -> tuple[str, dict[str, str]]:
        answer: list[Any] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "REMOTE_ADDR": "203.0.113.9",
            "HTTP_COOKIE": cookie,
            "work": work,
        }
        body: Any = self._app(environ, lambda status, headers, exc_info=None: answer.append((status, headers)))
        b"".join(body)
        if hasattr(body, "close"):
            body.close()
        status, headers = answer[-1]
        return status, dict(headers)

    def leave(self) -> None:
        self.store.teardown()


def _handler(environ: Any, start_response: Any) -> list[bytes]:
    environ["work"](environ["session_mw.session"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def begin(url: str) -> str:
    """A session, logged in; its cookie."""

    def login(session: Session) -> None:
        session.login(user_id=USER)
        session["count"] = 0

    site = Site(url)
    cookie = site.visit(login)
    site.leave()  # before any fork
    assert cookie is not None
    return cookie


def work_together(url: str, work: Callable[[Site, int], None]) -> None:
    """*work*, in processes that begin at the same time."""
    ready, tell = os.pipe()
    wait, go = os.pipe()
    pids = []
    for number in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                site = Site(url)
                site.store.initialize()
                os.write(tell, b".")
                os.read(wait, 1)  # until the parent closes its end
                work(site, number)
                site.leave()
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        pids.append(pid)
    os.close(tell)
    begun = sum(len(os.read(ready, 1)) for _ in pids)
    os.close(go)
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert (begun, ended) == (WORKERS, [0] * WORKERS)


def count(url: str) -> None:
    """All of them count in one session, and each writes keys of its own."""

    def work(site: Site, number: int) -> None:
        def visit(step: int, session: Session) -> None:
            session.update_with("count", lambda value: value + 1)
            session[f"of {number}"] = step

        for step in range(UPDATES):
            assert site.visit(partial(visit, step), cookie) is None, "a counting request sent a cookie"

    cookie = begin(url)
    work_together(url, work)
    site, seen = Site(url), {}
    site.visit(lambda session: seen.update(session), cookie)
    (record,) = site.store.list_user(USER)
    site.leave()
    assert seen == {"count": WORKERS * UPDATES, **{f"of {number}": UPDATES - 1 for number in range(WORKERS)}}, seen
    assert record.version >= WORKERS * UPDATES, "each of them was a save of its own"


def destroy(url: str) -> None:
    """One destroys the session while the others write to it: nobody finds it any more, nobody brings it back."""

    def work(site: Site, number: int) -> None:
        def visit(session: Session) -> None:
            seen.append("count" in session)
            session.update_with("count", lambda value: value + 1, 0)

        seen: list[bool] = []
        after = 10
        while after:
            assert site.visit(visit, cookie) is None, "a straggler was sent a cookie"
            after -= not seen[-1]
            if number == 0 and len(seen) == 20:
                site.visit(lambda session: session.destroy(), cookie)
        assert seen == sorted(seen, reverse=True), "the session was gone, and came back"
        if number == 0:
            assert seen.count(True) == 20, "the session outlived its end"

    cookie = begin(url)
    work_together(url, work)
    site = Site(url)
    assert site.store.list_user(USER) == []
    record = site.store.load(cookie.partition("=")[2].partition(".")[0])
    assert record is not None
    assert record.closed
    site.leave()


if __name__ == "__main__":
    {"count": count, "destroy": destroy}[sys.argv[1]](sys.argv[2])
