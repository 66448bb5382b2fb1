"""Guards around whole apps: ``ASGIGuard`` and ``WSGIGuard``, for all paths or for some.

    app = SessionMiddleware(ASGIGuard(app, only=["/admin"], redirect_to="/login"), secret_key=…)

A guard stands inside the session's middleware. Paths are those the app sees, without where it is mounted. What might
mean another path to the app behind it (``//admin``, ``/static/../admin``) never slips through: ``only`` covers it,
``open`` does not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, MutableMapping
from datetime import timedelta
from typing import Any

from .access import Check, Policy, guarded_session
from .errors import ConfigurationError
from .refusal import LoginPage

__all__ = ["ASGIGuard", "WSGIGuard"]

Scope = MutableMapping[str, Any]


class _Guard:
    """*only*: prefixes that are guarded (else all are). *open*: prefixes that are not; the login page never is."""

    def __init__(
        self,
        app: Any,
        *,
        only: Iterable[str] | None = None,
        open: Iterable[str] = (),
        storage: str | None = None,
        fresh: int | timedelta | None = None,
        check: Check | None = None,
        redirect_to: LoginPage | None = None,
        status: int | None = None,
    ) -> None:
        self.app = app
        self.policy = Policy(storage=storage, fresh=fresh, check=check, redirect_to=redirect_to, status=status)
        self._only = None if only is None else [_prefix(each).casefold() for each in _prefixes("only", only)]
        self._open = [_prefix(each) for each in _prefixes("open", open)]
        page = self.policy.redirect_to
        self._login_page = page.partition("?")[0] if isinstance(page, str) else None

    def guards(self, path: str, root: str = "") -> bool:
        """Whether *path* is guarded: the app's own, as the request has it, decoded; *root* is where it is mounted."""
        plain = _plain(path)
        if plain == path and (root + path == self._login_page or any(_under(path, prefix) for prefix in self._open)):
            return False
        return self._only is None or any(_under(plain.casefold(), prefix) for prefix in self._only)


class ASGIGuard(_Guard):
    """Let only logged-in sessions through to an ASGI app; options as ``login_required``, beside *only* and *open*.

    Raises ``ConfigurationError`` for what cannot be; at a request ``SessionStateError`` without a session.
    """

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and self.guards(*_own_path(scope)):
            session = guarded_session()
            answer = await self.policy.ajudge(session)
            if answer is not None:
                session._layer.refused(answer)
        await self.app(scope, receive, send)


class WSGIGuard(_Guard):
    """``ASGIGuard`` for a WSGI app."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        root, path = (
            environ.get(name, "").encode("latin-1").decode("utf-8", "replace") for name in ("SCRIPT_NAME", "PATH_INFO")
        )
        if self.guards(path or "/", root):
            session = guarded_session()
            answer = self.policy.judge(session)
            if answer is not None:
                session._layer.refused(answer)
        return self.app(environ, start_response)


def _own_path(scope: Scope) -> tuple[str, str]:
    path: str = scope["path"]
    root = str(scope.get("root_path", "")).rstrip("/")
    if root and _under(path, root):
        path = path[len(root) :]
    return path or "/", root


def _prefixes(name: str, given: Iterable[str]) -> Iterable[str]:
    if isinstance(given, str):
        raise ConfigurationError(f'{name} is a list of paths: {name}=["{given}"]')
    return given


def _prefix(path: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or _plain(path) != path:
        raise ConfigurationError(f'a path begins with "/", and holds no "//" or dots: not {path!r}')
    return path.rstrip("/")


def _plain(path: str) -> str:
    """*path* as the most lenient router would read it: one slash for many and for backslashes, dots resolved."""
    plain = posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))
    return f"{plain}/" if path.endswith("/") and plain != "/" else plain


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
