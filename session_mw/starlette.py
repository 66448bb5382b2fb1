"""Starlette: ``SessionMiddleware`` in the place of Starlette's own, and ``request.user`` from the session.

    from session_mw.starlette import SessionMiddleware      # was: from starlette.middleware.sessions import …

Decided here: what Starlette's arguments mean for us. Where one of our own settings (*settings*, see ``SessionConfig``)
says the same thing, ours wins. Everything about sessions is ``asgi``'s; for FastAPI see ``fastapi``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, cast

from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.datastructures import Secret
from starlette.requests import HTTPConnection

from . import asgi
from .core.session import Session
from .errors import ConfigurationError, SessionStateError
from .layer import SessionLayer
from .managers import Action, Manager, Verdict
from .profiles import Profile
from .settings import Settings, named_in
from .takeover import framework_keys, framework_lifetime, insists_on_secure

__all__ = ["SessionBackend", "SessionMiddleware", "SessionUser", "StarletteSession", "session_of"]

_BY_NAME: Any = None
_DEFAULT_MAX_AGE = 14 * 24 * 60 * 60  # seconds, 14 days; Starlette's
_THEIRS = {
    "cookie_name": "session_cookie",
    "cookie_path": "path",
    "cookie_domain": "domain",
    "cookie_secure": "https_only",
    "idle_timeout": "max_age",
}
_REMEDIES = """one of these lines mends it:
    app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET"])          # 32 random bytes or more
    app.add_middleware(SessionMiddleware, store="sqlite:///sessions.db")            # kept on the server; needs no key
    app.add_middleware(SessionMiddleware, secret_key=…, profile="DEVELOPMENT")      # on your own machine only"""
_MISSING = """no session of ours in this request; add the line
    app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET"])          # from session_mw.starlette
It belongs around what uses sessions: before AuthenticationMiddleware in middleware=[…], after it among the calls of
add_middleware(), for the last one added is the outermost."""


class StarletteSession(Session):
    """What ``request.session`` is: a ``Session`` with the two hooks Starlette's own has."""

    __slots__ = ()
    _layer: _Layer

    def mark_accessed(self) -> None:
        """Called by ``request.session``: the session is filled, unless it must be awaited first (``load()``)."""
        at_once = self._state is not None or (self._layer.answers and self._before is None)
        if at_once or not self._layer.must_wait(self):
            self._wake()

    def mark_modified(self) -> None:
        """Nothing to do but to see whether it is too late: changes are found by comparing, nested ones too."""
        self._writable()


class _Layer(SessionLayer):
    """Makes Starlette's sessions, and cookies that live for *max_age*."""

    session_class = StarletteSession

    def __init__(self, middleware: SessionMiddleware, manager: Manager | None) -> None:
        max_age = middleware.max_age
        never = max_age is not None and max_age < 1
        super().__init__(middleware.config, manager, _NoCookies() if never else asgi.ScopeReader(), on_loop=True)
        # A sealed cookie is sent again while its session is used; a token is not, so it lives as long as that may.
        sliding = self.home.manager.store is None
        self._max_age = max_age if sliding or never or max_age is None else self.config.absolute_timeout
        if "persistent" in self.config.named:
            self._max_age = None  # ours: Max-Age as ``asgi`` sends it, or none
        self.set_cookies = self._set_cookies
        self.answers = not self.may_wait  # nothing needs to be awaited, unless a request keeps its session elsewhere

    def _set_cookies(self, source: Any, verdict: Verdict, header: str | None = None) -> list[str]:
        if verdict.action is Action.SET and verdict.max_age is None:  # else it has a life of its own: expire_after()
            verdict = type(verdict)(Action.SET, verdict.value, self._max_age)  # a logout stays one: legacy cookies go
        return self.exchange.set_cookies(source, verdict, header)


class _NoCookies(asgi.ScopeReader):
    """For ``max_age=0`` and less: what a client sends is over, whatever it is."""

    def cookies(self, scope: asgi.Scope) -> str:
        return ""


class SessionMiddleware(asgi.SessionMiddleware):
    """Starlette's ``SessionMiddleware``, with our sessions: the arguments are Starlette's, and mean the same.

    ``max_age`` (seconds) ends a session that long after its last use and is sent as Max-Age; ``None``: no Max-Age, 14
    days of disuse; 0 and less: what is written is gone with the response. ``https_only=None``: Secure whenever the
    request came over https. *settings*: those of ``SessionConfig``, ``store=`` first of all (then ``secret_key`` is not
    needed); and ``manager=``. Raises ``ConfigurationError`` for what cannot be.
    """

    def __init__(
        self,
        app: asgi.App = _BY_NAME,
        /,  # for type checkers, which would see a clash with *settings*; by name it works as well
        secret_key: str | Secret | bytes | Sequence[str | Secret | bytes] | None = None,
        session_cookie: str = "session",
        max_age: int | None = _DEFAULT_MAX_AGE,
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool | None = None,
        domain: str | None = None,
        partitioned: bool = False,
        *,
        manager: Manager | None = None,
        **settings: Any,
    ) -> None:
        app = settings.pop("app", app)
        if app is _BY_NAME:
            raise TypeError("SessionMiddleware() needs the app to wrap")
        if max_age is not None and type(max_age) is not int:
            raise ConfigurationError(f"max_age must be a whole number of seconds or None, not {max_age!r}")
        if "config" in settings:
            raise ConfigurationError(
                "a SessionConfig is for session_mw.asgi.SessionMiddleware, which goes here as well"
            )
        ours = {name: value for name, value in settings.items() if value is not None}
        profile = Profile.of(ours["profile"]) if "profile" in ours else None
        starlettes: dict[str, Any] = {
            "cookie_name": session_cookie,
            "cookie_path": path,
            "cookie_domain": domain,
            "same_site": same_site,
            "partitioned": partitioned,
            "secret_key": _keys(secret_key, relaxed=profile is not None and profile.relaxed),
        }
        secure = https_only if https_only is not None else insists_on_secure({**starlettes, **ours}) or "auto"
        starlettes["cookie_secure"] = secure
        times = {**(profile.times if profile is not None else {}), **ours}
        starlettes |= framework_lifetime(_DEFAULT_MAX_AGE if max_age is None else max(1, max_age), times)
        self.max_age = max_age
        try:
            super().__init__(app, manager=manager, **cast("Settings", {**starlettes, **ours}))
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}{_translated(str(error), ours)}") from error

    def _layer(self, manager: Manager | None) -> SessionLayer:
        return _Layer(self, manager)

    def _check_outer(self, outer: object, session: Session) -> None:
        if not isinstance(outer, Session):
            raise ConfigurationError(
                "another SessionMiddleware, not one of session_mw, stands around this one; remove it: they would "
                "overwrite each other's cookies"
            )
        super()._check_outer(outer, session)


def _keys(given: Any, *, relaxed: bool) -> Any:
    """The key ring of ``secret_key``, which may be Starlette's ``Secret``: a framework's own key."""
    if given is None:
        return None
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    keys = [str(key) if isinstance(key, Secret) else key for key in (given if several else (given,))]
    return framework_keys(keys, name="secret_key", remedies=_REMEDIES, relaxed=relaxed)


def _translated(message: str, ours: dict[str, Any]) -> str:
    """How Starlette calls the settings that *message* speaks of."""
    pairs = [f"{name} is {_THEIRS[name]}= here" for name in named_in(message, _THEIRS) if name not in ours]
    return f" ({', '.join(pairs)})" if pairs else ""


def session_of(connection: HTTPConnection) -> Session:
    """The session of a request or websocket, typed as ours; it may still have to be awaited (``load()``).

    Raises ``SessionStateError`` naming the line to add where there is none, or none of ours.
    """
    session = connection.scope.get("session")
    if not isinstance(session, Session):
        raise SessionStateError(_MISSING)
    return session


class SessionUser(BaseUser):
    """Who is logged in: ``identity`` and ``display_name`` are the owner of the session, empty for an unlisted login."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self._user_id

    @property
    def identity(self) -> str:
        return self._user_id


class SessionBackend(AuthenticationBackend):
    """For Starlette's ``AuthenticationMiddleware``: ``request.user`` and ``request.auth`` from the session's login.

    *load* (plain or async) makes the app's own user of ``session.user_id``; where it gives ``None``, as for an account
    that is gone, nobody is authenticated. *scopes* gives the credentials of a session, besides ``"authenticated"``.
    *storage* must be logged in (the current one).
    """

    def __init__(
        self,
        load: Callable[[str], Any] | None = None,
        *,
        scopes: Callable[[Session], Iterable[str]] | None = None,
        storage: str | None = None,
    ) -> None:
        self._load = load
        self._scopes = scopes
        self._storage = storage

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, Any] | None:
        """Who is logged in, if anybody. Raises ``SessionStateError`` without a session, ``StoreError``."""
        session = session_of(conn)
        if session._state is None and (opening := session._layer.opening(session)) is not None:
            await opening
        if not session.online(self._storage):
            return None
        user_id = session.user_id or ""
        user: Any = SessionUser(user_id)
        if self._load is not None:
            user = self._load(user_id)
            if isinstance(user, Awaitable):
                user = await user
            if user is None:
                return None
        scopes = ["authenticated", *(self._scopes(session) if self._scopes is not None else ())]
        return AuthCredentials(scopes), user
