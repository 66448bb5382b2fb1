"""The guard: ``login_required`` and ``requires``, one policy for every framework.

    @login_required
    async def account(request): ...

    @requires(lambda session: session.get("role") == "admin", fresh=300, redirect_to="/login")
    def admin(request): ...

They judge ``current_session()`` before the view runs. Whom they refuse gets an ``Answer`` (``refusal``), handed to the
session's layer: a framework's integration makes its own response of it; else ``AccessRefused`` is raised, and the
middleware sends it. Whole apps and path prefixes are ``guard``'s.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar, overload

from .core.session import WRAPPED_BY, Session, current_session
from .errors import ConfigurationError, SessionStateError
from .exchange import AccessRefused, Answer
from .refusal import CHECK, LOGIN, STALE, Fault, LoginPage, check_login_page, refusal, safe_next
from .settings import is_async

__all__ = ["AccessRefused", "Check", "Policy", "login_required", "requires", "safe_next"]

View = TypeVar("View", bound=Callable[..., Any])
Check = Callable[[Session], bool | Awaitable[bool]]
"""Whether a logged-in session may go on; a coroutine function only where the view is one."""

_MISSING = f"the guard finds no session in this request; add the line, around the guarded app:\n{WRAPPED_BY}"

_ENTRANCES = ("__call__", "dispatch_request", "dispatch")
_BEGINS_REQUEST = "on_"  # Falcon's responders: on_get, on_post, …


class Policy:
    """Who may go on, and what the others are told.

    *storage* must be logged in (the session's current one), less than *fresh* seconds ago, and *check* must agree.
    *redirect_to* is the path of the login page (or a function that gives it), *status* replaces 401 and 403.
    Raises ``ConfigurationError`` for what cannot be.
    """

    __slots__ = ("check", "fresh", "redirect_to", "status", "storage")

    def __init__(
        self,
        *,
        storage: str | None = None,
        fresh: int | timedelta | None = None,
        check: Check | None = None,
        redirect_to: LoginPage | None = None,
        status: int | None = None,
    ) -> None:
        seconds = int(fresh.total_seconds()) if isinstance(fresh, timedelta) else fresh
        if seconds is not None and (type(seconds) is not int or seconds < 1):
            raise ConfigurationError("fresh must be a whole number of seconds above 0 (int or timedelta)")
        if storage is not None and (not isinstance(storage, str) or not storage):
            raise ConfigurationError("storage must be a non-empty string")
        if check is not None and not callable(check):
            raise ConfigurationError("check must be a function of the session")
        if redirect_to is not None and not callable(redirect_to):
            check_login_page(redirect_to)
        if status is not None and (type(status) is not int or not 400 <= status <= 499):
            raise ConfigurationError("status must be a whole number from 400 to 499")
        self.storage, self.fresh, self.check = storage, seconds, check
        self.redirect_to, self.status = redirect_to, status

    def judge(self, session: Session) -> Answer | None:
        """``None`` for who may go on. Raises ``StoreError`` when the store fails, and what the check raises."""
        fault = self._fault(session)
        if fault is None and self.check is not None:
            verdict = self.check(session)
            if isinstance(verdict, Awaitable):
                if inspect.iscoroutine(verdict):
                    verdict.close()
                raise ConfigurationError("check must be awaited, and this view is not async; make the view async too")
            fault = None if verdict else CHECK
        return fault and self._refuse(session, fault)

    async def ajudge(self, session: Session) -> Answer | None:
        """``judge``, where the session or the check may have to be awaited."""
        if session._state is None and (opening := session._layer.opening(session)) is not None:
            await opening
        fault = self._fault(session)
        if fault is None and self.check is not None:
            verdict = self.check(session)
            if isinstance(verdict, Awaitable):
                verdict = await verdict
            fault = None if verdict else CHECK
        return fault and self._refuse(session, fault)

    def _fault(self, session: Session) -> Fault | None:
        if not session.online(self.storage):
            return LOGIN
        if self.fresh is not None:
            at: int = session.get_meta("timestamp", self.storage, 0)
            if session._layer.now() - at >= self.fresh:
                return STALE
        return None

    def _refuse(self, session: Session, fault: Fault) -> Answer:
        reader = session._layer.exchange.reader
        return refusal(fault, reader, session._source, self.redirect_to, self.status)


def guarded_session() -> Session:
    """The session to judge. Raises ``SessionStateError`` naming the line to add where there is none."""
    try:
        session = current_session()
    except SessionStateError:
        raise SessionStateError(_MISSING) from None
    if session._source is None:
        raise SessionStateError("the request is over; a guard judges while it lasts")
    return session


@overload
def login_required(view: View, /) -> View: ...


@overload
def login_required(
    *,
    storage: str | None = None,
    fresh: int | timedelta | None = None,
    check: Check | None = None,
    redirect_to: LoginPage | None = None,
    status: int | None = None,
) -> Callable[[View], View]: ...


def login_required(view: Any = None, /, **options: Any) -> Any:
    """Let only logged-in sessions through to a view: a function, method or class, sync or async, http or websocket.

    Options are those of ``Policy``. Browsers are sent to ``redirect_to`` where it is given; others get 401 with a
    problem, and 403 when ``check`` says no. Raises ``ConfigurationError`` for options or a view that cannot be, and
    when called ``SessionStateError`` without a session.
    """
    policy = Policy(**options)
    return _guarding(policy) if view is None else _guarding(policy)(view)


def requires(
    check: Check,
    /,
    *,
    storage: str | None = None,
    fresh: int | timedelta | None = None,
    redirect_to: LoginPage | None = None,
    status: int | None = None,
) -> Callable[[View], View]:
    """``login_required`` with *check*: data outlives a logout, so a check alone would let too many through."""
    return _guarding(Policy(storage=storage, fresh=fresh, check=check, redirect_to=redirect_to, status=status))


def _guarding(policy: Policy) -> Callable[[View], View]:
    def guard(view: Any) -> Any:
        return _guard_class(policy, view) if isinstance(view, type) else _guard_function(policy, view)

    return guard


def _guard_function(policy: Policy, view: Callable[..., Any]) -> Callable[..., Any]:
    if isinstance(view, staticmethod | classmethod):
        raise ConfigurationError("put login_required below @staticmethod and @classmethod, next to the function")
    if not callable(view):
        raise ConfigurationError(f"login_required guards functions and classes, not {type(view).__name__}")
    if inspect.isgeneratorfunction(view) or inspect.isasyncgenfunction(view):
        raise ConfigurationError("login_required cannot guard a generator; guard the function that returns it")
    if is_async(view):
        awaited: Callable[..., Awaitable[Any]] = view

        @functools.wraps(view)
        async def aguarded(*args: Any, **kwargs: Any) -> Any:
            session = guarded_session()
            answer = await policy.ajudge(session)
            return await awaited(*args, **kwargs) if answer is None else session._layer.refused(answer)

        return aguarded
    if policy.check is not None and is_async(policy.check):
        raise ConfigurationError("check is a coroutine function, and this view is not; make the view async too")

    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        session = guarded_session()
        answer = policy.judge(session)
        return view(*args, **kwargs) if answer is None else session._layer.refused(answer)

    return guarded


def _guard_class(policy: Policy, view: type[Any]) -> type[Any]:
    """Guard where requests enter *view*, in place: ``super()`` and type stay what they are."""
    methods: Mapping[str, Any] = {name: getattr(view, name) for name in dir(view) if name.startswith(_BEGINS_REQUEST)}
    entrances = [name for name in _ENTRANCES if inspect.isfunction(getattr(view, name, None))]
    names = entrances[:1] or [name for name, method in methods.items() if inspect.isfunction(method)]
    if not names:
        raise ConfigurationError(
            f"login_required finds no way into {view.__name__}: it has none of {', '.join(_ENTRANCES)} and no on_…"
        )
    for name in names:
        setattr(view, name, _guard_function(policy, getattr(view, name)))
    return view
