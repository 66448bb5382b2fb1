"""The rules, one function each. A rule yields what it finds wrong, in words; nothing found is nothing yielded.

Rules of a *world* look at the store after both requests ended; rules of *arrivals* also at the jar, after the
responses reached the browser in one order. A request that was *stopped* died between two operations; one that was
*lost* died after its last one, so that its response never left.

Two responses that both had the right to change the cookie can reach the browser in the wrong order; no server can
help that (RFC 6265 §4.1.2: the last one received wins). Such an arrival is *reversed*: the cookie it replaces was
decided later than its own. It may cost the browser a good token; ``reversed_arrival`` counts it, outside the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from session_mw.core.operations import Close, Create, Delete, Load, Outcome, Rotate, Touch
from session_mw.managers import Action

from .calls import Call
from .model import Model, View
from .world import Arrival, Request, World, apply

__all__ = ["ARRIVAL_RULES", "WORLD_RULES", "End", "reversed_arrival"]


class End:
    """A world in which nothing happens any more, and what the rules ask of it."""

    def __init__(self, world: World) -> None:
        world.settle()
        self.world = world
        self.requests = world.requests
        self.model, self.told = _expected(world)
        self.live = {world.labels.get(record.id, record.id): world.read(record) for record in world.store.records()}
        self.stopped = {request.name for request in self.requests if request.stopped}
        self.served = [request for request in self.requests if request.kind.service is None]
        left = [(world.under_way, -1)] if world.under_way else []
        left += [(r.verdict.value, r.point) for r in self.served if r.verdict.action is Action.SET and not r.lost]
        left += [(r.issued, r.point) for r in self.requests if r.issued is not None and not r.lost]
        self.decided = dict(left)  # every token in a response that left, and when it was decided
        self.tokens = [token for token in (world.first_token, *self.decided) if token is not None]
        self._opens: dict[str, str | None] = {}

    def opens(self, token: str | None) -> str | None:
        """The label of the live session a fresh request with *token* gets."""
        if token is None:
            return None
        if token not in self._opens:
            record = self.world.opens(token)
            self._opens[token] = None if record is None else self.world.labels.get(record.id, record.id)
        return self._opens[token]

    def holds(self) -> dict[str, View]:
        """Live sessions, but for what a stopped request had begun and nobody was ever told of."""
        kept = self.live.items()
        return {label: view for label, view in kept if label not in self.stopped or label in self.model.sessions}

    def ended_logins(self) -> set[str]:
        """Logins that must be over: ended by a handler that saw them, or by a service call after them."""
        ended = set()
        for request in self.requests:
            if request.ended is not None and not request.stopped:
                ended.add(request.ended)
            for call in request.calls:
                if call.what == "destroy" and call.answer:
                    ended.add("start")
                if call.what == "destroy user" and call.spared is None:
                    ended |= {"start"} if self.world.start in ("alice", "pointer") else set()
                    ended |= {r.name for r in self.served if r.user == "alice" and not r.stopped and r.took < call.time}
        return ended


def _expected(world: World) -> tuple[Model, list[tuple[str, Call, object]]]:
    """What the model says of the schedule that *world* went through; and of what service calls were told."""
    first = {"start": world.first} if world.first is not None else {}
    model = Model(first, {"dead": ("closed", ""), "old": ("moved", "start")})
    moments: list[tuple[int, int, Callable[[], None]]] = []
    told: list[tuple[str, Call, object]] = []
    for rank, request in enumerate(world.requests):
        moments += [(call.time, rank, _act(_tell, told, model, request, call)) for call in request.calls]
        if request.kind.service is not None:
            continue
        label = None if request.sent is None else world.label(request.sent)
        opened = request.log[request.opened - 1][0] if request.opened else -1
        moments.append((opened, rank, _act(model.open, request, label)))
        if not request.stopped:
            moments.append((request.took, rank + 2, _act(model.commit, request, label)))
    for _, _, act in sorted(moments, key=lambda moment: moment[:2]):
        act()
    return model, told


def _tell(told: list[tuple[str, Call, object]], model: Model, request: Request, call: Call) -> None:
    told.append((request.name, call, model.serve(request, call)))


def _act(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: function(*arguments)


# -- rules of a world -----------------------------------------------------------------------------------------------


def ends_well(end: End) -> Iterator[str]:
    """Every request ends without an exception."""
    for request in end.requests:
        if request.error is not None:
            yield f"{request.name} raised {request.error!r}"


def keeps_every_update(end: End) -> Iterator[str]:
    """The store holds what the model says: nothing lost, nothing merged wrongly, nothing more."""
    held = end.holds()
    if held != end.model.sessions:
        yield f"store holds {held}, not {end.model.sessions}"


def stays_ended(end: End) -> Iterator[str]:
    """No session holds a login that was ended."""
    ended = end.ended_logins()
    for label, view in end.holds().items():
        if view.login in ended:
            yield f"login {view.login!r} was ended and lives on in {label!r}"


def no_orphan(end: End) -> Iterator[str]:
    """Every session has a token that left; and there are no more of them than were rightfully begun."""
    held = end.holds()
    told = {end.world.label(token) for token in end.tokens}
    told |= {end.opens(token) or "" for token in end.tokens}
    told |= {request.name for request in end.served if request.lost}
    told |= {name for name, call, _ in end.told if call.what == "regenerate" and call.answer}
    for label in held.keys() - told:
        yield f"session {label!r} lives, and no token of it ever left"
    begun = (end.world.start != "nobody") + sum(r.kind.is_login or not r.found for r in end.served)
    if len(held) > begun:
        yield f"{len(held)} sessions live, {begun} were begun"


def no_cookie_after_the_end(end: End) -> Iterator[str]:
    """A cookie is set or cleared only by who has just begun or ended a session; never by one whose session had gone."""
    for request in end.served:
        action = request.verdict.action
        if action is Action.LEAVE:
            continue
        _, operation, answer = request.log[-1]
        replaced = isinstance(operation, Rotate | Close | Delete) and answer in (Outcome.SAVED, Outcome.DELETED)
        began = isinstance(operation, Create) and answer is True
        stale = end.model.opened.get(request.name) == "stale"
        if not (replaced or (began and (request.kind.is_login or not (request.found or stale)))):
            yield f"{request.name}: {action.value} after {type(operation).__name__} -> {answer}"


def sends_the_token_it_began(end: End) -> Iterator[str]:
    """Who began a session sends its token, nobody else sends one."""
    sent = {request.name for request in end.served if request.verdict.action is Action.SET}
    due = {name for name in end.model.began if name not in end.stopped}
    if sent != due:
        yield f"tokens were sent by {sorted(sent)}, due from {sorted(due)}"


def no_token_before_the_end(end: End) -> Iterator[str]:
    """No token leaves before its predecessor ended."""
    for request in end.served:
        for label in request.unfinished:
            yield f"{request.name}: a new token left while {label!r} was alive"


def tokens_open_what_they_should(end: End) -> Iterator[str]:
    """Each token that left opens its session, what became of it, or nothing; wherever requests died, never a third."""
    for token in end.tokens:
        label = end.world.label(token)
        found, due = end.opens(token), end.model.find(label) if end.model.proves(label, token) else None
        if found != due:
            yield f"the token of {label!r} opens {found!r}, not {due!r}"


def no_former_owners_data(end: End) -> Iterator[str]:
    """Nobody finds what another owner wrote: neither a handler, nor anybody later."""
    seen = [(f"{r.name}'s handler", r.seen) for r in end.served]
    for where, view in (*seen, *end.live.items()):
        writers = {by.partition(":")[0] for by in _strings(view.data)} - {"-"}
        if (view.login is not None and writers - {view.owner}) or len(writers) > 1:
            yield f"{where}: {view.owner!r} finds what {sorted(writers)} wrote"


def reading_writes_nothing(end: End) -> Iterator[str]:
    """A read-only request asks for nothing but a record and a due touch, and answers without a cookie."""
    for request in end.served:
        if request.kind.name == "read":
            others = [type(o).__name__ for _, o, _ in request.log if not isinstance(o, Load | Touch)]
            if others or request.verdict.action is not Action.LEAVE:
                yield f"{request.name}: {others} {request.verdict}"


def answers_are_true(end: End) -> Iterator[str]:
    """Who calls a service is told whether there was such a session."""
    for name, call, due in end.told:
        if call.what != "destroy user" and bool(call.answer) != bool(due):
            yield f"{name}: {call.what} of {call.label!r} answered {call.answer!r}, not {due!r}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


# -- rules of arrivals ----------------------------------------------------------------------------------------------


def no_good_cookie_lost(end: End, arrivals: Sequence[Arrival]) -> Iterator[str]:
    """In no arrival but a reversed one does the jar give up a token that opens a session for one that opens none.

    A request with a token older than the jar's knows nothing of the jar's session, nor that one's requests of it: of
    their responses the last one wins, whatever it says. Nor can a response be called back when a service replaces the
    token in it.
    """
    if any(request.kind.dead for request in end.served):
        return
    jar, decided = end.world.first_token, -2
    for point, verdict in arrivals:
        if verdict.action is Action.LEAVE:
            continue
        after = apply(jar, verdict)
        replaced = after is not None and not end.model.proves(end.world.label(after), after)
        if decided < point and not replaced and end.opens(jar) is not None and end.opens(after) is None:
            yield f"a token of {end.opens(jar)!r} gave way to one that opens nothing"
        jar, decided = after, point


def logout_is_final(end: End, arrivals: Sequence[Arrival]) -> Iterator[str]:
    """After everything arrived the jar's session is not logged in by a login that was ended, nor by none of ours."""
    jar = end.world.first_token
    for _, verdict in arrivals:
        jar = apply(jar, verdict)
    label = end.opens(jar)
    ended = end.ended_logins()
    login = end.live[label].login if label is not None else None
    if ended and login is not None and not any(r.name == login and r.kind.is_login for r in end.served):
        yield f"the jar opens {label!r}, logged in by {login!r}"


def reversed_arrival(end: End, arrivals: Sequence[Arrival]) -> bool:
    """Whether a response overtaken by a later one cost the jar a token that opens a session."""
    jar, decided = end.world.first_token, -2
    cost = False
    for point, verdict in arrivals:
        if verdict.action is Action.LEAVE:
            continue
        after = apply(jar, verdict)
        cost = cost or (decided > point and end.opens(jar) is not None and end.opens(after) != end.opens(jar))
        jar, decided = after, point
    return cost


WORLD_RULES: tuple[Callable[[End], Iterator[str]], ...] = (
    ends_well,
    no_former_owners_data,
    stays_ended,
    no_cookie_after_the_end,
    no_token_before_the_end,
    tokens_open_what_they_should,
    no_orphan,
    reading_writes_nothing,
    sends_the_token_it_began,
    keeps_every_update,
    answers_are_true,
)
ARRIVAL_RULES: tuple[Callable[[End, Sequence[Arrival]], Iterator[str]], ...] = (no_good_cookie_lost, logout_is_final)
