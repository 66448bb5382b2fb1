"""What a SessionService can do while requests are under way: the calls, and their effect in plain words.

The real flows are stepped, as those of requests are. ``ServiceFlows`` acts on the session of the start, by its id; a
call that comes too late is told so, which is an answer like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from session_mw.core.operations import Flow
from session_mw.managers.service import ServiceFlows

from .kinds import Effect, Kind
from .model import View

if TYPE_CHECKING:
    from .world import Request

__all__ = ["CALLS", "Call"]

MORE = 100  # seconds


class Call(NamedTuple):
    """A call that took effect, at *time*: about the session *label*, with *effect* on it."""

    what: str  # edit, issue, regenerate, destroy, destroy user
    time: int
    answer: Any  # None: there was no such session
    label: str
    effect: Effect
    overlooked: int | None  # the deadline it wrote where a touch came between its look and its write
    spared: str | None  # the session it left alone


def _stamp(request: Request) -> str:
    """A value that tells who wrote it; a service writes for the owner it knows of."""
    first = request.world.first
    value = request.value = f"{(first and first.owner) or '-'}:{request.name}"
    return value


def _update(service: ServiceFlows, request: Request) -> Flow[None]:
    changes = {"k": _stamp(request), f"own-{request.name}": request.value}
    yield from request.call("edit", service.update, request.world.start_id, changes, effect=_updated)


def _updated(view: View, request: Request) -> View:
    view.data |= {"k": request.value, f"own-{request.name}": request.value}
    return view


def _count(service: ServiceFlows, request: Request) -> Flow[None]:
    arguments = ("n", lambda n: n + 1, 0)
    yield from request.call("edit", service.update_with, request.world.start_id, *arguments, effect=_counted)


def _counted(view: View, request: Request) -> View:
    view.data["n"] = view.data.get("n", 0) + 1
    return view


def _replace(service: ServiceFlows, request: Request) -> Flow[None]:
    changes = {"all": _stamp(request)}
    yield from request.call("edit", service.replace, request.world.start_id, changes, effect=_replaced)


def _replaced(view: View, request: Request) -> View:
    view.data = {"all": request.value}
    return view


def _delete_keys(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("edit", service.delete_keys, request.world.start_id, ("k",), effect=_deleted)


def _deleted(view: View, request: Request) -> View:
    view.data.pop("k", None)
    return view


def _extend(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("edit", service.extend, request.world.start_id, MORE, effect=_extended)


def _extended(view: View, request: Request) -> View:
    view.until += MORE
    return view


def _touch(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("edit", service.touch, request.world.start_id, effect=_touched)


def _touched(view: View, request: Request) -> View:
    view.slide()
    return view


def _regenerate(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("regenerate", service.regenerate, request.world.start_id)


def _renew(service: ServiceFlows, request: Request) -> Flow[None]:
    handle = yield from request.call("regenerate", service.regenerate, request.world.start_id)
    if handle is not None:
        request.issued = yield from request.call("issue", service.issue_token, handle, False)


def _issue(service: ServiceFlows, request: Request) -> Flow[None]:
    request.issued = yield from request.call("issue", service.issue_token, request.world.start_id, True)


def _destroy(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("destroy", service.destroy, request.world.start_id)


def _destroy_user(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("destroy user", service.destroy_user, "alice", None)


def _destroy_others(service: ServiceFlows, request: Request) -> Flow[None]:
    yield from request.call("destroy user", service.destroy_user, "alice", request.world.start_id)


CALLS = (
    Kind("service: update", service=_update),
    Kind("service: update_with", service=_count),
    Kind("service: replace", service=_replace),
    Kind("service: delete keys", service=_delete_keys),
    Kind("service: extend", service=_extend),
    Kind("service: touch", service=_touch),
    Kind("service: regenerate", service=_regenerate),
    Kind("service: regenerate, issue token", service=_renew),
    Kind("service: issue token", service=_issue),
    Kind("service: destroy", service=_destroy),
    Kind("service: destroy user", service=_destroy_user),
    Kind("service: destroy others", service=_destroy_others),
)
