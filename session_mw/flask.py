"""Flask: ``SessionMW(app)``, or ``app.session_interface = SessionInterface()``; ``flask.session`` is then our Session.

Decided here: which layer serves an app, and that the layers of one app share a store. What Flask's settings
mean is ``flask_settings``', and what happens in a request ``flask_session``'s.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import flask
from flask.sessions import SessionInterface as FlaskInterface

from .config import SessionConfig
from .errors import ConfigurationError, StoreError
from .flask_session import FlaskLayer, NullSession, Session, null_layer, request_ended, request_raised
from .flask_settings import CONFIG_KEY, COOKIE_METHODS, Given, flask_config, kept, spelt
from .layer import check_single
from .service import SessionService
from .wsgi import ENVIRON_KEY

if TYPE_CHECKING:
    from flask import Flask, Request, Response

__all__ = ["NullSession", "Session", "SessionInterface", "SessionMW", "session"]

_VARIANTS = 8  # settings of one app kept ready at once


class _Variant(NamedTuple):
    """An app's settings, and the layer they built; ``None``: there is nowhere to keep a session."""

    said: tuple[Any, ...]
    layer: FlaskLayer | None


class SessionInterface(FlaskInterface):
    """Puts our Session in the place of Flask's: ``app.session_interface = SessionInterface()``.

    One instance may serve many apps. Settings are Flask's and ``app.config["SESSION_MW"]``, read at each request. What
    cannot be raises ``ConfigurationError`` at the first one.
    """

    null_session_class = NullSession  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        self._variants: WeakKeyDictionary[Flask, list[_Variant]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        own = type(self)
        self._overrides = any(getattr(own, name) is not getattr(FlaskInterface, name) for name in COOKIE_METHODS)

    def open_session(self, app: Flask, request: Request) -> Session | None:
        """A session that fills when somebody looks; ``None`` without a key and without a store.

        Raises ``ConfigurationError`` for settings that cannot be, and beside a middleware with the same cookie.
        """
        layer = self._layer(app)
        if layer is None:
            return None
        environ = request.environ
        session = layer.session(environ)
        outer = environ.get(ENVIRON_KEY)
        if outer is not None:
            check_single(outer, session)
            session._outer = outer
        if not layer.ready:
            try:
                layer.open_store()
            except StoreError as error:  # raised at first touch: a view that ignores the session works
                session._prepare().failure = error
        return session

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """Commit, and tell the client; again for each response Flask makes for this request."""
        if isinstance(session, Session):  # else the request failed before it had one
            session._layer.save(session, response)

    def make_null_session(self, app: Flask) -> NullSession:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """What takes the place of a session where there is nowhere to keep one."""
        environ = flask.request.environ if flask.has_request_context() else {}
        return cast("NullSession", null_layer(Given.of(self, app)).session(environ))

    def config_for(self, app: Flask) -> SessionConfig | None:
        """The configuration *app* has now; ``None`` without a key and without a store. Raises ``ConfigurationError``.

        Within a request context where the cookie depends on it.
        """
        layer = self._layer(app)
        return None if layer is None else layer.config

    def service_for(self, app: Flask) -> SessionService:
        """A service over the store of *app*: lists of a user's sessions, log-out-everywhere, clean-up.

        Raises ``ConfigurationError`` where nothing is kept on the server.
        """
        layer = self._layer(app)
        if layer is None or layer.config.store is None:
            raise ConfigurationError(f'nothing is kept on the server; add app.config["{CONFIG_KEY}"] = {{"store": …}}')
        return SessionService(layer.config.replace(store=layer.home.store, save_path=None, migrate_from=None))

    def _layer(self, app: Flask) -> FlaskLayer | None:
        said = Given.of(self, app) if self._overrides else spelt(app.config)
        for variant in self._variants.get(app, ()):
            if variant.said == said:
                return variant.layer
        with self._lock:
            variants = self._variants.get(app, [])
            for variant in variants:
                if variant.said == said:
                    return variant.layer
            variant = _Variant(kept(said), self._build(app, variants))
            self._variants[app] = [variant, *variants][:_VARIANTS]
        return variant.layer

    def _build(self, app: Flask, others: list[_Variant]) -> FlaskLayer | None:
        stray = next((name for name in app.config if name.startswith(f"{CONFIG_KEY}_")), None)
        if stray is not None:
            inside = stray.removeprefix(f"{CONFIG_KEY}_").lower()
            raise ConfigurationError(
                f'nobody reads app.config["{stray}"]; it goes into app.config["{CONFIG_KEY}"] as "{inside}"'
            )
        given = Given.of(self, app)
        config = flask_config(given)
        if config is None:
            return None
        flask.got_request_exception.connect(request_raised, app)
        flask.request_tearing_down.connect(request_ended, app)
        layers = [other.layer for other in others if other.layer is not None]
        shared = next((layer for layer in layers if _same_home(layer.config, config)), None)
        manager: Any = None if shared is None else shared.home.manager
        if manager is not None:
            manager = type(manager)(manager.consults) if manager.consults is not None else None
        return FlaskLayer(config, manager, given)


class SessionMW:
    """The Flask extension: ``SessionMW(app)``, or ``sessions = SessionMW()`` and later ``sessions.init_app(app)``.

    It sets ``app.session_interface`` and nothing else; settings are those of ``SessionInterface``.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self.interface = SessionInterface()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put our Session in the place of Flask's, for *app*. Raises ``ConfigurationError`` where another did."""
        if app.extensions.get("session_mw", self) is not self:
            raise ConfigurationError("SessionMW is installed in this app already; take one SessionMW(app) out")
        app.session_interface = self.interface
        app.extensions["session_mw"] = self

    def service(self) -> SessionService:
        """``SessionInterface.service_for`` the current app."""
        return self.interface.service_for(cast("Any", flask.current_app)._get_current_object())


session: Session = cast("Session", flask.session)
"""``flask.session``, the same object, with our methods known to type checkers."""


def _same_home(a: SessionConfig, b: SessionConfig) -> bool:
    """Whether sessions are kept in the same place under both: then in one and the same store."""
    return all(getattr(a, name) == getattr(b, name) for name in ("store", "save_path", "migrate_from", "revocation"))
