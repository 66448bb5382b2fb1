"""FastAPI: the session as a dependency, shown in OpenAPI as a cookie security scheme.

    @app.get("/me")
    def me(session: OnlineSession) -> dict[str, str | None]:
        return {"user": session.user_id}

The middleware is ``starlette``'s, the policy ``access``'s. ``CurrentSession`` is anybody's session, ``OnlineSession``
that of somebody logged in; others are refused as by ``login_required``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends
from fastapi.openapi.models import APIKey
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from .access import Check, Policy
from .core.session import Session
from .refusal import LoginPage
from .starlette import session_of

__all__ = ["CurrentSession", "OnlineSession", "SessionCookie"]


class SessionCookie(SecurityBase):
    """A dependency that gives the session: ``Annotated[Session, Depends(SessionCookie(online=True, fresh=300))]``.

    *name* is the cookie's, for OpenAPI. With *online*, or any option of ``login_required``, only logged-in sessions go
    on. Raises ``ConfigurationError`` as ``Policy``; at a request ``SessionStateError`` without a session.
    """

    def __init__(
        self,
        name: str = "session",
        *,
        online: bool = False,
        storage: str | None = None,
        fresh: int | timedelta | None = None,
        check: Check | None = None,
        redirect_to: LoginPage | None = None,
        status: int | None = None,
        scheme_name: str = "SessionCookie",
        description: str = "Set by logging in.",
    ) -> None:
        self.model = APIKey.model_validate({"in": "cookie", "name": name, "description": description})
        self.scheme_name = scheme_name
        options: dict[str, Any] = {"storage": storage, "fresh": fresh, "check": check, "redirect_to": redirect_to}
        self._policy = Policy(**options, status=status)
        self._online = online or status is not None or any(option is not None for option in options.values())

    async def __call__(self, connection: HTTPConnection) -> Session:
        session = session_of(connection)
        if session._state is None and (opening := session._layer.opening(session)) is not None:
            await opening
        if self._online:
            answer = await self._policy.ajudge(session)
            if answer is not None:
                session._layer.refused(answer)
        return session


CurrentSession = Annotated[Session, Depends(SessionCookie())]
"""The session of the request, whoever sent it."""

OnlineSession = Annotated[Session, Depends(SessionCookie(online=True))]
"""The session of somebody logged in."""
