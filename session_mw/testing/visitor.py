"""client_cookie: the cookie of somebody who is logged in already, for an app's own tests.

Decided here: where an app keeps its sessions, seen from outside, and how each kind of test client takes a cookie. The
session itself is made by the same layer as any other: in a request that nobody sent, to the same store or sealed with
the same keys. So nothing is loosened for tests: what the app's configuration refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.cookies import SimpleCookie
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from ..config import SessionConfig
from ..core.payload import DEFAULT_STORAGE
from ..core.session import Session
from ..errors import ConfigurationError
from ..layer import SessionLayer
from ..managers import Manager, Verdict
from ..service import UserId
from ..stores.faces import is_awaited

__all__ = ["ClientCookie", "aclient_cookie", "client_cookie"]

C = TypeVar("C")

_DJANGO = "session_mw.django"
_NOWHERE = (
    "client_cookie() needs to know where the app keeps its sessions: hand it the SessionConfig, the SessionMiddleware, "
    "the Starlette, FastAPI or Flask app, or Django's settings; not {}"
)


class ClientCookie(dict[str, str]):
    """``{name: value}``; a sealed session may need two. A credential, and not shown by ``repr``.

    ``into(client)`` is the way to give it to a client that keeps cookies. ``header`` is the value of a Cookie header.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], *, domain: str | None, path: str) -> None:
        super().__init__(pairs)
        self._domain = domain
        self._path = path

    @property
    def header(self) -> str:
        """The value of a Cookie header that carries it."""
        return "; ".join(f"{name}={value}" for name, value in self.items())

    def into(self, client: C, url: str | None = None) -> C:
        """Put it among the cookies of *client*, and return that: a client of httpx, Starlette, requests, werkzeug,
        Flask or Django.

        It is put where the app's own Set-Cookie will replace it. *url*: the app's, for a client that does not know it
        by its ``base_url``. Raises ``ValueError`` without one, ``TypeError`` for a client of another kind.
        """
        known: Any = client
        jar = getattr(known, "cookies", None)
        if callable(getattr(known, "set_cookie", None)):  # werkzeug, and Flask's
            host = self._domain or (urlsplit(url).hostname if url else None) or "localhost"
            for name, value in self.items():
                known.set_cookie(name, value, domain=host, origin_only=self._domain is None, path=self._path)
        elif isinstance(jar, SimpleCookie):  # Django's
            for name, value in self.items():
                jar[name] = value
        elif callable(getattr(jar, "set", None)):  # httpx, Starlette's, requests
            domain = f".{self._domain}" if self._domain else _jar_domain(known, url)
            for name, value in self.items():
                cast("Any", jar).set(name, value, domain=domain, path=self._path)
        else:
            raise TypeError(f"{type(client).__name__} keeps no cookies that are known here; send .header as Cookie")
        return client

    def __repr__(self) -> str:
        return f"<ClientCookie {', '.join(self)}>"


def client_cookie(
    app: Any,
    data: Mapping[str, Any] | None = None,
    *,
    user_id: UserId | None = None,
    storage: str = DEFAULT_STORAGE,
    ip: str | None = None,
) -> ClientCookie:
    """Begin a session as if *user_id* had just logged in and left *data*; the cookie that carries it.

    *app*: the ``SessionConfig``, the middleware, the Starlette, FastAPI or Flask app, or ``django.conf.settings``. Kept
    where the app keeps its sessions: a record in its store, or sealed with its key. *user_id* ``None``: nobody is
    logged in. *storage* holds data and login. *ip*: where the client will call from, for ``strict_session_ip`` and
    ``session_ip``. Under Django the user must exist, and ``request.user`` is that user.

    Raises ``ConfigurationError`` where sessions cannot be reached from here (a store that must be awaited wants
    ``aclient_cookie``), ``ValueError`` when there is nothing to keep, and what a login or a write raises.
    """
    config, manager = _home_of(app)
    if config.awaits:
        raise ConfigurationError("a callback of the app is a coroutine function: await aclient_cookie(…)")
    user = None if user_id is None else _django_user(app, user_id)
    layer = _layer(config, manager, on_loop=False)
    try:
        layer.open_store()
        session = layer.session((ip,))
        _visit(session, data, user_id, user, storage)
        verdict = layer.commit(session)
        layer.close(session)
    finally:
        if layer.home.store is not None and _is_ours(config, manager):
            layer.home.store.teardown()
    return _cookie(layer, cast("Verdict", verdict))


async def aclient_cookie(
    app: Any,
    data: Mapping[str, Any] | None = None,
    *,
    user_id: UserId | None = None,
    storage: str = DEFAULT_STORAGE,
    ip: str | None = None,
) -> ClientCookie:
    """``client_cookie``, awaited: for any store. Connections belong to a loop: await it on the one the app runs on."""
    config, manager = _home_of(app)
    user = None if user_id is None else await _adjango_user(app, user_id)
    layer = _layer(config, manager, on_loop=True)
    try:
        await layer.aopen_store()
        session = layer.session((ip,))
        await layer.afill(session)
        _visit(session, data, user_id, user, storage)
        verdict = layer.commit(session)
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        await layer.finish(session, failed=False)
    finally:
        if _is_ours(config, manager):
            await layer.aclose_store()
    return _cookie(layer, verdict)


# -- where the app keeps its sessions --------------------------------------------------------------------------------


def _home_of(app: Any) -> tuple[SessionConfig, Manager | None]:
    """The configuration of *app* and the manager it uses; ``None``: the one the configuration asks for."""
    if isinstance(app, SessionConfig):
        return app, None
    layer: SessionLayer | None
    if hasattr(app, "SESSION_ENGINE"):
        if app.SESSION_ENGINE != _DJANGO:
            raise ConfigurationError(f'these settings do not say SESSION_ENGINE = "{_DJANGO}"')
        from ..django.layer import current_layer

        layer = current_layer()
    elif hasattr(getattr(app, "session_interface", None), "config_for"):
        layer = app.session_interface._layer(app)
        if layer is None:
            raise ConfigurationError(
                "this Flask app has neither SECRET_KEY nor a store; there is nowhere to be logged in"
            )
    else:
        layer = _layer_in(app)
    return layer.config, layer.home.manager


def _layer_in(app: Any) -> SessionLayer:
    """The layer of the outermost session's middleware around *app*, or in its stack."""
    each = app
    if hasattr(app, "build_middleware_stack"):  # Starlette puts its stack together at the first request
        if app.middleware_stack is None:
            app.middleware_stack = app.build_middleware_stack()
        each = app.middleware_stack
    while each is not None:
        layer = getattr(each, "layer", None)
        if isinstance(layer, SessionLayer):
            return layer
        each = getattr(each, "app", None) or getattr(each, "wsgi_app", None)
    raise ConfigurationError(_NOWHERE.format(type(app).__name__))


def _is_ours(config: SessionConfig, manager: Manager | None) -> bool:
    """Whether the store was built here, of a URL, and is to be closed again."""
    return manager is None and (isinstance(config.store, str) or isinstance(config.revocation, str))


def _layer(config: SessionConfig, manager: Manager | None, *, on_loop: bool) -> SessionLayer:
    kept = manager.consults if manager is not None else None if isinstance(config.store, str) else config.store
    if kept is not None and not on_loop and is_awaited(kept):
        raise ConfigurationError(f"{type(kept).__name__} must be awaited: await aclient_cookie(…)")
    layer = SessionLayer(config, manager, _VisitReader(), on_loop=on_loop)
    if _is_ours(config, manager) and getattr(layer.home.manager.consults, "built_in", None) is not None:
        raise ConfigurationError(
            '"memory:" names another store each time: hand over the app, or give the configuration one store for both, '
            "store=MemoryStore()"
        )
    return layer


def _django_user(app: Any, user_id: UserId) -> dict[str, Any] | None:
    """What says who is logged in, where that is Django's."""
    if not hasattr(app, "SESSION_ENGINE"):
        return None
    from ..django.visiting import login_of

    return login_of(user_id)


async def _adjango_user(app: Any, user_id: UserId) -> dict[str, Any] | None:
    if not hasattr(app, "SESSION_ENGINE"):
        return None
    from ..django.visiting import alogin_of

    return await alogin_of(user_id)


# -- a request that nobody sent ---------------------------------------------------------------------------------------


class _VisitReader:
    """Reads a request that is nothing but its address."""

    def cookies(self, visit: tuple[str | None]) -> str:
        return ""

    def header(self, visit: tuple[str | None], name: str) -> str | None:
        return None

    def peer(self, visit: tuple[str | None]) -> str | None:
        return visit[0]

    def scheme(self, visit: tuple[str | None]) -> str:
        return "https"

    def method(self, visit: tuple[str | None]) -> str:
        return "GET"

    def target(self, visit: tuple[str | None]) -> str:
        return "/"


def _visit(
    session: Session,
    data: Mapping[str, Any] | None,
    user_id: UserId | None,
    user: Mapping[str, Any] | None,
    storage: str,
) -> None:
    if user_id is None and not data:
        raise ValueError("client_cookie() has nothing to keep: give it data, a user_id, or both")
    key = session._layer.owner_key
    with session.using_storage(storage):
        if user_id is not None:
            if storage == DEFAULT_STORAGE and key is not None:  # there an item of the app's is the login
                session.update(user or {key: str(user_id)})
            else:
                session.login(user_id=user_id)
        session.update(data or {})


def _cookie(layer: SessionLayer, verdict: Verdict) -> ClientCookie:
    lines = layer.exchange.set_cookies((None,), verdict, "")
    pairs = (line.partition(";")[0].partition("=")[::2] for line in lines)
    kept = [(name, value) for name, value in pairs if value]  # others clear what a client might have
    domain = layer.config.cookie_domain
    return ClientCookie(kept, domain=domain.lstrip(".") if domain else None, path=layer.config.cookie_path)


def _jar_domain(client: Any, url: str | None) -> str:
    """The domain under which the standard library's cookie jar files a host's cookies (``http.cookiejar``)."""
    host = urlsplit(str(url or getattr(client, "base_url", ""))).hostname
    if not host:
        raise ValueError("into() does not know the app's host: give it url=")
    return host if "." in host else f"{host}.local"
