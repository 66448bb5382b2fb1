"""What has to come of overlapping requests, said without versions, conflicts, retries or records.

Every request takes effect at one moment: that of its last store operation. In the order of these moments:

* A request that opened a session changes that session *as it is by then* (this is what merging means: the other's
  change is there too), wherever a regeneration has taken it meanwhile.
* If it is over by then, or was turned over to a new token without grace (login, logout, destroy, ``grace=0``), the
  changes are dropped. Two exceptions: a login stands on its own proof, in a new session with nothing else in it; and
  an ending (logout, destroy) of a session that somebody has just turned over follows it, unless a login did that.
* With the token of a closed session a request is anonymous and changes nothing, a login apart.
* With no token, or one nobody knows, it begins a session if there is anything to keep.
* A session with nothing to keep is gone.

So does every call of a SessionService, and its answer is that of this moment. A token that was replaced opens nothing,
nor does an older one that led to it; who was let in before goes on. Deadlines only grow, but where a lifetime is asked
for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from .calls import Call
    from .world import Request

__all__ = ["IDLE", "NOW", "Model", "View", "blank"]

NOW = 1_700_000_000
IDLE = 7200


class View(msgspec.Struct):
    """A session as an application sees it. ``login``: who logged in ("start", "A", "B")."""

    data: dict[str, Any]
    owner: str | None = None
    login: str | None = None
    former: str | None = None  # digest of the owner who logged out
    attempts: int = 0
    lifetime: int | None = None
    until: int = 0  # the deadline
    persistent: bool = False  # its cookie outlives the browser

    def slide(self) -> None:
        """Somebody was here."""
        self.until = max(self.until, NOW + (self.lifetime or IDLE))

    def copy(self) -> View:
        """Another one, to be changed."""
        return msgspec.structs.replace(self, data=dict(self.data))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is worth keeping."""
        return not (self.data or self.login or self.attempts or self.lifetime)


def blank() -> View:
    """A session nobody has touched."""
    return View({})


class Model:
    """Live sessions by label ("start", or the request that began them), and what became of others."""

    def __init__(self, sessions: dict[str, View], fates: dict[str, tuple[str, str]]) -> None:
        self.sessions = sessions
        self.fates = fates  # label -> (moved | hidden | closed | deleted, label it went on as)
        self.opened: dict[str, str] = {}  # request -> live | pointer | stale | nothing
        self.found: dict[str, str | None] = {}  # request -> the session it was let in to
        self.began: set[str] = set()  # requests whose response must carry a token
        self.proofs: dict[str, str | None] = {}  # label -> its only token, where that was replaced

    def find(self, label: str | None, *, ending: bool = False) -> str | None:
        """Where the session *label* lives now; an *ending* finds it behind a turn without grace, too."""
        while label is not None and label not in self.sessions:
            fate, onward = self.fates.get(label, ("deleted", ""))
            label = onward if fate == "moved" or (fate == "hidden" and ending) else None
        return label

    def proves(self, label: str | None, token: str | None) -> bool:
        """Whether *token* is the one of *label*."""
        return label not in self.proofs or self.proofs[label] == token

    def open(self, request: Request, label: str | None) -> None:
        """*request* looks its token up."""
        self.found[request.name] = self.find(label)
        if not self.proves(label, request.sent):
            how = "nothing"
        elif label in self.sessions:
            how = "live"
        elif self.find(label) is not None:
            how = "pointer"
        else:
            gone = label is None or self.fates.get(label, ("deleted", ""))[0] == "deleted"
            how = "nothing" if gone else "stale"
        self.opened[request.name] = how

    def serve(self, request: Request, call: Call) -> object:
        """A service call takes effect; what the caller must be told: ``None`` where nothing was found."""
        if call.what == "destroy user":
            ended = [label for label, view in self.sessions.items() if view.owner == "alice" and label != call.spared]
            for label in ended:
                self._end(label, "deleted")
            return None
        here = self.find(call.label, ending=call.what == "destroy")
        if here is None:
            return None
        if call.what == "destroy":
            self._end(here, "closed")
        elif call.what == "regenerate":
            self.sessions[request.name] = self.sessions.pop(here)
            self.fates[here], self.proofs[request.name] = ("hidden", request.name), None
        elif call.what == "issue":
            self.proofs[here] = call.answer
            for label, fate in self.fates.items():
                if fate == ("moved", here):
                    self.fates[label] = ("hidden", here)
        else:
            self.sessions[here] = call.effect(self.sessions[here].copy(), request)
        after = self.sessions.get(request.name if call.what == "regenerate" else here)
        if call.overlooked is not None and after is not None:
            after.until = call.overlooked
        return True

    def _end(self, label: str, fate: str) -> None:
        del self.sessions[label]
        self.fates[label] = (fate, "")

    def commit(self, request: Request, label: str | None) -> None:
        """*request* takes effect; *label* is what its token names."""
        kind, how = request.kind, self.opened[request.name]
        if how in ("stale", "nothing"):
            if kind.is_login or how == "nothing":
                self._begin(request)
            return
        ends = request.wipes or (request.ended is not None and not kind.is_login)
        here = self.find(self.found[request.name], ending=ends)
        if here is None:
            if kind.is_login:
                self._begin(request)
            return
        before = self.sessions[here]
        after = kind.effect(before.copy(), request)
        own = how == "live" and here == label and self.proves(label, request.sent)
        wished = kind.turns and not (kind.once and before.persistent)
        if kind.once and how != "pointer":  # who came by a pointer can send no cookie
            after.persistent = True
        turns = kind.is_login or kind.wipes or (own and (wished or (kind.ends and request.ended is not None)))
        if kind.is_login or request.wipes:
            after.until = 0  # a new life
        if after.until == before.until or not after.until:
            after.slide()
        if after.is_empty:
            self._end(here, "closed" if turns else "deleted")
        elif turns:
            del self.sessions[here]
            fate = "closed" if kind.is_login or request.wipes else "moved" if kind.turns == "grace" else "hidden"
            self.fates[here] = (fate, request.name)
            self.sessions[request.name] = after
            self.began.add(request.name)
        else:
            self.sessions[here] = after

    def _begin(self, request: Request) -> None:
        view = request.kind.effect(blank(), request)
        view.persistent = request.kind.once
        view.slide()
        if not view.is_empty:
            self.sessions[request.name] = view
            self.began.add(request.name)
