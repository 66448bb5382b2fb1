"""StoreErrorMiddleware: what Django's own ``SessionMiddleware`` has no place for. It stands right above it.

    MIDDLEWARE = [
        …
        "session_mw.django.StoreErrorMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        …
    ]

* While the store fails: 503, ``Retry-After``, ``no-store``, no cookie.
* ``current_session()`` during views and the middlewares below, and with it the guard; addresses of clients.
* Django sends the cookie again with every change, and deletes one it does not know. Both may hit a newer cookie that
  another response has just set, so only news leaves: a new key, the end of this session, another lifetime. A
  persistent cookie therefore lasts until the absolute deadline; the idle one is the server's to enforce.
* The cookie is read by its name to the byte. Django also takes names with any white space around them for it, which
  sibling hosts can set past the rules of ``__Host-``.
* ``Cache-Control: no-store`` beside a session cookie.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.utils.http import http_date

from ..core.cookies import cache_control
from ..errors import StoreError
from ..exchange import unavailable
from ..headers import lets_some_store, log_replaced
from .layer import EXPIRY, Seat, current_layer, response_of

__all__ = ["StoreErrorMiddleware"]

logger = logging.getLogger("session_mw")


class StoreErrorMiddleware:
    """Put it into ``MIDDLEWARE`` right above ``django.contrib.sessions.middleware.SessionMiddleware``."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The response below, or 503."""
        if self._is_async:
            return self._acall(request)
        with Seat(request) as here:
            response = self.get_response(request)
        return _finish(here, response)

    async def _acall(self, request: HttpRequest) -> Any:
        with Seat(request) as here:
            response = await _awaitable(self.get_response(request))
        return _finish(here, response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Any:
        """A view let a ``StoreError`` through: 503, before Django makes 500 of it."""
        return _unavailable(request, exception) if isinstance(exception, StoreError) else None


async def _awaitable(response: Awaitable[Any]) -> Any:
    return await response


def _finish(here: Seat, response: Any) -> Any:
    session = here.session
    if session is None:
        return response
    if here.failure is not None and response.status_code == 500:  # raised in a middleware, or by the save
        response = _unavailable(here.request, here.failure)
    name = session._layer.cookie_name
    cookie = response.cookies.get(name)
    if cookie is not None:
        if session._news:
            _announce(session, response, cookie)
        else:
            del response.cookies[name]
    session._started = True  # for whoever has not been looked at yet
    if session._state is not None:
        session._state.start_response()
    session._source = None  # no cycle between request and session
    return response


def _announce(session: Any, response: Any, cookie: Any) -> None:
    value, replaced = cache_control(response.get("Cache-Control"))
    for name in [name for name, targeted in response.items() if lets_some_store(name, targeted)]:
        del response[name]
        replaced = True
    if replaced:
        log_replaced()
    response["Cache-Control"] = value
    state = session._state
    if cookie["max-age"] and state is not None and state.base is not None and not isinstance(session.get(EXPIRY), str):
        age = state.base.absolute_expires_at - session._layer.now()
        cookie["max-age"], cookie["expires"] = age, http_date(time.time() + age)


def _unavailable(request: HttpRequest, error: BaseException) -> Any:
    logger.error("session_mw: the session store failed: %s", error, exc_info=error)
    status, headers, body = unavailable(current_layer().config, request)
    return response_of(status, headers, body)
