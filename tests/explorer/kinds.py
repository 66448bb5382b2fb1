"""What a request can do: a handler as an application would write it, and its effect on a session in plain words.

Values tell who wrote them, and as whom ("alice:A"), so that a former owner's data can be recognised anywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from session_mw.core.login import NAMELESS, former_digest
from session_mw.core.operations import Flow
from session_mw.core.session import Session

from .model import NOW, View, blank

if TYPE_CHECKING:
    from session_mw.managers.service import ServiceFlows

    from .world import Request

__all__ = ["KINDS", "Effect", "Kind", "is_stranger", "same"]

LIFETIME = 600
Effect: TypeAlias = "Callable[[View, Request], View]"


def _nothing(session: Session, request: Request) -> None:
    """Look, change nothing."""
    session.get("k")


def same(view: View, request: Request) -> View:
    return view


class Kind(NamedTuple):
    """``turns``: gives the session a new token ("grace", "hard"); ``ends``: ends a login; ``wipes``: destroys.

    ``service``: no request, but calls of a SessionService (calls.py).
    """

    name: str
    handle: Callable[[Session, Request], Any] = _nothing
    effect: Effect = same
    turns: str = ""
    once: bool = False  # turns only a session whose cookie is not persistent yet, and makes it so
    is_login: bool = False
    user: str | None = None  # who logs in
    ends: bool = False
    wipes: bool = False
    dead: bool = False  # sent with the token of a session that ended before
    service: Callable[[ServiceFlows, Request], Flow[None]] | None = None


# -- data -----------------------------------------------------------------------------------------------------------


def _write(session: Session, request: Request) -> None:
    session["k"] = request.stamp(session)


def _written(view: View, request: Request) -> View:
    view.data["k"] = request.value
    return view


def _write_own(session: Session, request: Request) -> None:
    session[f"own-{request.name}"] = request.stamp(session)


def _written_own(view: View, request: Request) -> View:
    view.data[f"own-{request.name}"] = request.value
    return view


def _count(session: Session, request: Request) -> None:
    session.update_with("n", lambda n: n + 1, 0)


def _counted(view: View, request: Request) -> View:
    view.data["n"] = view.data.get("n", 0) + 1
    return view


def _nest(session: Session, request: Request) -> None:
    session.setdefault("cart", {"items": []})["items"].append(request.stamp(session))
    request.value = copy.deepcopy(session["cart"])


def _nested(view: View, request: Request) -> View:
    view.data["cart"] = request.value  # a nested value as a whole
    return view


def _queue(session: Session, request: Request) -> None:
    session.put(f"queued-{request.name}", request.stamp(session))


def _queued(view: View, request: Request) -> View:
    view.data[f"queued-{request.name}"] = request.value
    return view


def _attempt(session: Session, request: Request) -> None:
    session.attempt()


def _attempted(view: View, request: Request) -> View:
    view.attempts += 1
    return view


def _keep_longer(session: Session, request: Request) -> None:
    session.expire_after(timedelta(seconds=LIFETIME))


def _kept_longer(view: View, request: Request) -> View:
    view.lifetime = LIFETIME
    view.until = NOW + LIFETIME  # what it asked for, even if that is sooner
    return view


def _empty(session: Session, request: Request) -> None:
    for key in list(session):
        session.remove(key)


def _emptied(view: View, request: Request) -> View:
    for key in request.seen.data:
        view.data.pop(key, None)
    return view


# -- endings --------------------------------------------------------------------------------------------------------


def _logged_out(view: View, request: Request) -> View:
    if request.ended is not None:
        if view.owner is not None:
            view.former, view.owner = former_digest(view.owner), None
        view.former, view.login = view.former or NAMELESS, None
    return view


def _cleared(view: View, request: Request) -> View:
    view.data = {}
    return _logged_out(view, request)


def _wiped(view: View, request: Request) -> View:
    return blank()


def _destroy_and_write(session: Session, request: Request) -> None:
    session.destroy()
    session["after"] = request.stamp(session)


def _wiped_and_written(view: View, request: Request) -> View:
    return View({"after": request.value})


# -- logins ---------------------------------------------------------------------------------------------------------


def is_stranger(view: View, owner: str | None) -> bool:
    """Whether *owner* is neither the present nor the former owner of a session that somebody was logged in to."""
    if view.owner is not None:
        return owner is not None and owner != view.owner
    if owner is None:
        return view.former not in (None, NAMELESS)
    return view.login is not None or view.former not in (None, former_digest(owner))


def _logged_in(view: View, owner: str | None, request: Request) -> View:
    owner = owner or request.seen.owner
    if is_stranger(view, owner):
        view = blank()
    view.owner, view.login, view.attempts = owner, request.name, 0
    view.former = None if owner is not None else view.former
    return view


def _login(name: str, user_id: str | None) -> Kind:
    return Kind(
        name,
        lambda session, request: session.login(user_id=user_id),
        lambda view, request: _logged_in(view, user_id, request),
        is_login=True,
        user=user_id,
    )


def _login_and_write(session: Session, request: Request) -> None:
    session.login(user_id="alice")
    _write_own(session, request)


KINDS = (
    Kind("read"),
    Kind("write", _write, _written),
    Kind("write own key", _write_own, _written_own),
    Kind("update_with", _count, _counted),
    Kind("nested change", _nest, _nested),
    Kind("put", _queue, _queued),
    Kind("attempt", _attempt, _attempted),
    Kind("expire_after", _keep_longer, _kept_longer, turns="grace", once=True),
    Kind("remove all keys", _empty, _emptied),
    Kind("clear", lambda session, request: session.clear(), _cleared, ends=True),
    _login("login alice", "alice"),
    _login("login bob", "bob"),
    _login("login nobody", None),
    Kind(
        "login alice, write",
        _login_and_write,
        lambda view, request: _written_own(_logged_in(view, "alice", request), request),
        is_login=True,
        user="alice",
    ),
    Kind("logout", lambda session, request: session.logout(), _logged_out, ends=True),
    Kind("logout, data", lambda session, request: session.logout(clear_data=True), _cleared, ends=True),
    Kind("regenerate", lambda session, request: session.regenerate(), turns="grace"),
    Kind("regenerate hard", lambda session, request: session.regenerate(grace=0), turns="hard"),
    Kind("destroy", lambda session, request: session.destroy(), _wiped, ends=True, wipes=True),
    Kind("destroy, write", _destroy_and_write, _wiped_and_written, ends=True, wipes=True),
    Kind("destroy all", lambda session, request: session.destroy(True), _wiped, ends=True, wipes=True),
    Kind("dead token", _write, _written, dead=True),
    Kind(
        "dead token, login",
        lambda session, request: session.login(user_id="alice"),
        lambda view, request: _logged_in(view, "alice", request),
        is_login=True,
        user="alice",
        dead=True,
    ),
)
