"""No token, secret, key or payload value in any repr, log record or error message, whatever happens."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from harness import AWAY, KEY, App, Browser, both

from session_mw.errors import SessionError
from session_mw.managers import Verdict
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore

PAYLOAD = "payload-value-nobody-may-see"


class Watcher:
    """Collects what is shown, and what must not be."""

    def __init__(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.log = caplog
        self.shown: list[str] = []
        self.secrets = {PAYLOAD, KEY}
        self.store = FaultyStore(MemoryStore())
        settings: dict[str, Any] = {"store": self.store} if kind == "store" else {}
        self.app = App(
            kind,
            **settings,
            secret_key=KEY,
            encryption=kind == "store",
            strict_session_ip=True,
            on_validate=self.validate,
            on_ip_changed=self.moved,
            on_close=self.fail,
        )

    def validate(self, record: Any) -> bool:
        self.shown.append(repr(record))
        return True

    def moved(self, session: Any, ip: str, changes: Any) -> bool:
        self.shown += [repr(session), repr(session._state)]
        raise ValueError("refused")

    def fail(self, event: Any) -> None:
        self.shown.append(repr(event))
        raise ValueError("a broken listener")

    def request(self, work: Any, browser: Browser | None = None, **source: Any) -> None:
        browser = self.app.browser if browser is None else browser
        step = self.app.begin(browser, **source)
        session = step.session
        failed = False
        try:
            self.shown.append(repr(session))
            work(session)
            self.look(session)
            step.respond()
        except (SessionError, ValueError) as error:
            failed = True
            self.shown += [str(error), repr(error), *traceback.format_exception_only(error)]
        finally:
            try:
                step.end(failed=failed)
            except (SessionError, ValueError) as error:
                self.shown.append(repr(error))
        for text in (*step.sent, *browser.cookies.values()):
            value = text.partition(";")[0].partition("=")[2] if "=" in text else text
            self.secrets.add(value.partition(".")[2] or value)
        self.secrets -= {""}

    def look(self, session: Any) -> None:
        state = session._state
        if session.login_token:
            self.secrets.add(session.login_token)
        parts = [
            session,
            state.base,
            state.token,
            state.meta,
            session.manager,
            self.app.config,
            self.store,
            session._home,
        ]
        parts += [*state.all_logins().values(), *state.events, Verdict, self.app.layer]
        self.shown += [text for part in parts for text in (repr(part), str(part))]
        if state.token is not None:
            self.secrets.add(state.token.secret)
        if state.base is not None:
            self.secrets.add(state.base.digest.hex() or PAYLOAD)

    def check(self) -> None:
        everything = "\n".join([*self.shown, self.log.text, *(repr(call) for call in self.store.calls)])
        for secret in self.secrets:
            assert secret not in everything
        assert "Record" in everything
        assert "a broken listener" in everything


def bad(session: Any) -> None:
    session["deep"] = {"x": [PAYLOAD]}
    session["deep"]["x"].append({PAYLOAD: object()})


@both
def test_nothing_secret_is_shown(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watcher(kind, caplog)
    watch.request(lambda s: s.set("a", PAYLOAD))
    watch.request(lambda s: s.set_to("b", [PAYLOAD], "other").put("q", PAYLOAD))
    watch.request(lambda s: s.login(user_id="ann"))
    watch.request(lambda s: s.attempt())
    thief = watch.app.browser.copy()
    watch.request(lambda s: s.regenerate())
    watch.request(lambda s: s.set("b", PAYLOAD), thief)
    watch.request(lambda s: s.get("a"), thief, peer=AWAY)
    watch.request(lambda s: s.login(PAYLOAD))
    watch.request(lambda s: s.set("bad", {PAYLOAD: {1: PAYLOAD}}.values()))
    watch.request(lambda s: s.set("large", PAYLOAD * 200_000))
    watch.request(lambda s: s.set("a", PAYLOAD).typed("a", int))
    watch.request(lambda s: s.start(PAYLOAD))
    watch.request(lambda s: s.start(watch.app.browser.header.decode().partition("=")[2][:-3]))
    forged = Browser(**{name: value[:-4] + "AAAA" for name, value in watch.app.browser.cookies.items()})
    watch.request(lambda s: s.get("a"), forged)
    watch.request(lambda s: s.get("a"), Browser(**{"__Host-session": PAYLOAD}))
    for method in ("load", "save", "rotate", "create", "touch"):
        watch.store.fail(method)
        watch.request(lambda s: s.set("c", PAYLOAD))
        watch.request(lambda s: s.regenerate())
        watch.store.heal()
    watch.app.clock.advance(90)
    watch.request(lambda s: s.logout())
    watch.request(lambda s: s.destroy())
    watch.app.clock.advance(10**6)
    watch.request(lambda s: s.get("a"))
    watch.check()
    assert len(watch.secrets) > 10


def test_a_key_in_a_path_is_the_applications_own_and_bounded() -> None:
    app = App()
    with app.request() as s:
        with pytest.raises(SessionError) as refused:
            s.set("k" * 500, object())
        assert len(str(refused.value)) < 200
