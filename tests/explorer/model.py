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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from .world import Request

__all__ = ["Model", "View", "blank"]


class View(msgspec.Struct):
    """A session as an application sees it. ``login``: who logged in ("start", "A", "B")."""

    data: dict[str, Any]
    owner: str | None = None
    login: str | None = None
    former: str | None = None  # digest of the owner who logged out
    attempts: int = 0
    lifetime: int | None = None

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
        self.began: set[str] = set()  # requests whose response must carry a token

    def find(self, label: str | None, *, ending: bool = False) -> str | None:
        """Where the session *label* lives now; an *ending* finds it behind a turn without grace, too."""
        while label is not None and label not in self.sessions:
            fate, onward = self.fates.get(label, ("deleted", ""))
            label = onward if fate == "moved" or (fate == "hidden" and ending) else None
        return label

    def open(self, request: Request, label: str | None) -> None:
        """*request* looks its token up."""
        if label in self.sessions:
            how = "live"
        elif self.find(label) is not None:
            how = "pointer"
        else:
            gone = label is None or self.fates.get(label, ("deleted", ""))[0] == "deleted"
            how = "nothing" if gone else "stale"
        self.opened[request.name] = how

    def serve(self, request: Request) -> None:
        """A service call: every session of alice, or the first session."""
        for label, view in list(self.sessions.items()):
            if label == request.kind.ends_label or (view.owner is not None and view.owner == request.kind.ends_owner):
                del self.sessions[label]
                self.fates[label] = ("deleted", "")
        if request.kind.ends_label in self.fates:
            self.fates[request.kind.ends_label] = ("deleted", "")

    def commit(self, request: Request, label: str | None) -> None:
        """*request* takes effect; *label* is what its token names."""
        kind, how = request.kind, self.opened[request.name]
        if how in ("stale", "nothing"):
            if kind.is_login or how == "nothing":
                self._begin(request)
            return
        here = self.find(label, ending=request.wipes or (request.ended is not None and not kind.is_login))
        if here is None:
            if kind.is_login:
                self._begin(request)
            return
        after = kind.effect(self.sessions[here].copy(), request)
        own = how == "live" and here == label
        wished = kind.turns and not (kind.once and self.sessions[here].lifetime)
        turns = kind.is_login or kind.wipes or (own and (wished or (kind.ends and request.ended is not None)))
        if after.is_empty:
            del self.sessions[here]
            self.fates[here] = ("closed" if turns else "deleted", "")
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
        if not view.is_empty:
            self.sessions[request.name] = view
            self.began.add(request.name)
