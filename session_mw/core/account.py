"""Account: the login half of a session. Who is behind each storage, since when, from where; what a login drops."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import SessionClosedError, SessionLogicError, SessionStateError
from . import changes
from . import login as logins
from .client import normalise_address
from .login import IpChange, Login
from .payload import DEFAULT_STORAGE
from .state import OPEN, State
from .storages import Storages

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Account", "IpCallback"]

_RESET = (True, 0)  # attempts: counted anew, none yet
IpCallback = Callable[["Session", str, list[IpChange]], bool | Awaitable[bool]]


class Account(Storages):
    """Login state belongs to a storage; the owner (``user_id``) to the session."""

    __slots__ = ()

    # -- login -------------------------------------------------------------------------------------------------

    def login(self, ip: str | None = None, *, user_id: object = None) -> Literal[True]:
        """Log in the current storage: credentials were checked just now.

        Rotates id and token, renews login time and token, binds the owner *user_id* (kept when ``None``), resets
        attempts. Anybody else than the present or former owner first drops everything that was there.
        *ip* overrides the detected address. Raises ``ValueError`` for an *ip* that is no address or an impossible
        *user_id*, ``SessionLogicError`` for an *ip* while IP binding is off, or on and the address unknown.
        """
        owner = None if user_id is None else logins.owner_id(user_id)
        layer = self._layer
        if ip is not None:
            ip = normalise_address(ip) if isinstance(ip, str) else None
            if ip is None:
                raise ValueError("login(ip=…): this is no address; to name who logs in: login(user_id=…)")
            if not layer.strict_ip:
                raise SessionLogicError(
                    "login(ip=…) needs strict_session_ip=True; without it no login is held to an ip"
                )
        state = self._changing("login()")
        self._writable()
        address = ip or self._address_of_login()
        key = layer.owner_key if state.storage == DEFAULT_STORAGE else None
        if key is not None and user_id is None and dict.get(self, key) is None:
            raise SessionLogicError(f"owner_key is {key!r}: name who logs in, login(user_id=…)")
        if self._is_stranger(state, owner):
            self._wipe(state)
        if key is not None and user_id is not None:
            dict.__setitem__(self, key, user_id)
        self._log_in(state, state.storage, owner, address)
        return True

    def _is_stranger(self, state: State, owner: str | None) -> bool:
        """Whether *owner* is anybody else than the present or former owner; nobody owned an anonymous session."""
        last = state.last_owner()
        if last is None:
            kept = state.kept()
            if owner is None:  # of two logins without a name nobody can tell whether one person made both
                return kept.former not in ("", logins.NAMELESS)
            return state.wish.released or bool(kept.logins) or kept.former not in ("", logins.former_digest(owner))
        # without a name the present owner goes on, but nobody who logged out in this very request
        return owner != last and (owner is not None or state.user_id() is None)

    def _address_of_login(self) -> str | None:
        """Where a login comes from. Raises ``SessionLogicError`` where it is to be held to that, and it is unknown."""
        address = self._layer.address(self._source)
        if address is None and self._layer.strict_ip and self._source is not None:
            raise SessionLogicError("strict_session_ip: the client's address is unknown; pass login(ip=…)")
        return address

    def _log_in(self, state: State, storage: str, owner: str | None, address: str | None) -> None:
        layer = self._layer
        now, random = layer.now(), layer.random(logins.LOGIN_RANDOM_BYTES)
        login = logins.new_login(now, random, address, layer.user_agent(self._source), bound=layer.strict_ip)
        wish = state.wishing()
        wish.logins = {**wish.logins, storage: login} if wish.logins else {storage: login}
        wish.attempts = {**wish.attempts, storage: _RESET} if wish.attempts else {storage: _RESET}
        if owner is not None:
            wish.owner = owner
        wish.logged_in, wish.released, state.refused = login, False, False
        handle = self._rotate(state)
        if state.tells:
            state.note("login", now, handle=handle, user=state.user_id())

    def _names(self, value: Any) -> None:
        """As ``login`` does, but for the login itself, which the commit makes: a stranger finds nothing here."""
        owner = None if value is None else logins.owner_id(value)
        state = self._touch()
        if owner is None or owner == state.user_id():
            return
        if state.phase != OPEN:
            raise SessionClosedError(
                f"{self._layer.owner_key!r} names another user, and a login needs a new cookie, but the response has "
                "started; set it earlier"
            )
        if self._is_stranger(state, owner):
            self._wipe(state)

    def _follow_owner(self, key: str) -> None:
        """Bind the owner to whom the application's own login key (``owner_key``) names now, if anybody."""
        state = self._touch()
        items = self._items(DEFAULT_STORAGE)
        value = items.get(key)
        owner = None if value is None else logins.owner_id(value)
        if owner == state.user_id():
            return
        if owner is None:
            self._end_login(DEFAULT_STORAGE)
            wish = state.wishing()
            wish.released, wish.ended = True, {DEFAULT_STORAGE: False, **wish.ended}
            return
        if state.phase != OPEN:  # set past our methods, or by the service: the next request makes the login
            return
        address = self._address_of_login()
        if self._is_stranger(state, owner):
            before = state.stored_items(DEFAULT_STORAGE)
            written = changes.diff(before, items, cleared=False, replays={}).sets
            state.wipe()
            if state.storage == DEFAULT_STORAGE:
                self._pour(written)
            else:
                dict.clear(self)
                state.others = {DEFAULT_STORAGE: written}
        self._log_in(state, DEFAULT_STORAGE, owner, address)

    def synchronize(self, ip: str | None = None, *, user_id: object = None) -> Literal[True]:
        """The seed's other name for ``login``."""
        return self.login(ip, user_id=user_id)

    def logout(self, *, clear_data: bool = False) -> bool:
        """End the login of the current storage; whether there was one. Rotates; data stays unless *clear_data*.

        When no storage is online any more, the owner is released. After the response started it ends the login in
        place.
        """
        self._writable()
        state = self._touch()
        was_online = state.login(state.storage) is not None or self.online()
        if clear_data:
            self.clear()
        else:
            self._end_login(state.storage)
        return was_online

    def terminate(self, *, clear_data: bool = False) -> bool:
        """The seed's other name for ``logout``."""
        return self.logout(clear_data=clear_data)

    def _end_login(self, storage: str) -> None:
        state, key = self._touch(), self._layer.owner_key
        if key is not None and storage == DEFAULT_STORAGE:
            dict.pop(self._items(storage), key, None)
        if state.login(storage) is None:
            return
        user = state.user_id()
        state.end_login(storage)
        if not state.all_logins():
            state.wish.released, state.wish.logged_in = True, None
        if state.phase == OPEN and not state.pointer:
            self._rotate(state)
        state.note("logout", self._layer.now(), handle=self.session_id, user=user)

    def _wipe(self, state: State) -> None:
        """Drop every storage, the queue, attempts and logins, of whoever was here before."""
        state.wipe()
        dict.clear(self)

    def online(self, storage: str | None = None) -> bool:
        """Whether a storage (the current one) is logged in: unexpired, and not refused by the address verdict."""
        state = self._touch()
        name = self._named(storage)
        if state.refused:
            return False
        key = self._layer.owner_key
        if key is not None and name == DEFAULT_STORAGE:
            return self._items(name).get(key) is not None
        return state.login(name) is not None

    def is_online(self) -> bool:
        """Whether the current storage is logged in."""
        return self.online()

    def is_expired(self, seconds: int = 3600, *, since: Literal["login", "activity"] = "login") -> bool:
        """Whether the login (or the last activity) is *seconds* old or older, or nobody is logged in.

        The opposite of Luminova's ``isExpired``, whose name contradicts what it does.
        """
        return not self.is_valid(seconds, since=since)

    def is_valid(self, seconds: int = 3600, *, since: Literal["login", "activity"] = "login") -> bool:
        """Whether the login (or the last activity) is younger than *seconds*."""
        if since not in ("login", "activity"):
            raise ValueError(f'since must be "login" or "activity", not {since!r}')
        moment = self.login_timestamp if since == "login" else max(self.login_timestamp, self.last_activity)
        return self.online() and self._layer.now() - moment < seconds

    def fresh(self, max_age: int | timedelta) -> bool:
        """Whether the credentials were checked less than *max_age* (seconds) ago."""
        seconds = int(max_age.total_seconds()) if isinstance(max_age, timedelta) else max_age
        return self.is_valid(seconds)

    def attempt(self, reset: bool = False) -> int:
        """Count a login attempt in the current storage, or set the count to 0; the new count.

        No protection against guessing: who drops the cookie starts at 0. ``on_event`` is told of each one counted.
        """
        self._writable()
        state = self._touch()
        was_reset, added = state.wish.attempts.get(state.storage, (False, 0))
        if not reset or self.attempts:
            counted = _RESET if reset else (was_reset, added + 1)
            wish = state.wishing()
            wish.attempts = {**wish.attempts, state.storage: counted}
        if not reset and state.tells:
            state.note("attempt", self._layer.now(), handle=state.handle, user=state.user_id())
        return self.attempts

    @property
    def attempts(self) -> int:
        """Attempts counted in the current storage."""
        state = self._touch()
        return state.attempt_count(state.storage)

    # -- metadata ----------------------------------------------------------------------------------------------

    def get_metadata(self, storage: str | None = None) -> dict[str, Any]:
        """The login state of a storage as a fresh dict; empty where nobody is logged in and nothing was counted."""
        state = self._touch()
        name = self._named(storage)
        application, attempts = self._layer.application, state.attempt_count(name)
        return logins.metadata(state.login(name), application, attempts, self.last_activity)

    def get_meta(self, key: str, storage: str | None = None, default: Any = None) -> Any:
        """One entry of ``get_metadata``."""
        return self.get_metadata(storage).get(key, default)

    def _login(self) -> Login | None:
        state = self._touch()
        return state.login(state.storage)

    @property
    def login_ip(self) -> str | None:
        """The address the current storage's login is bound to."""
        login = self._login()
        return login.ip if login else None

    @property
    def login_user_agent(self) -> str | None:
        """The user agent at login."""
        login = self._login()
        return login.agent if login else None

    @property
    def login_token(self) -> str | None:
        """72 hexadecimal characters minted at login; not the cookie's token."""
        login = self._login()
        return login.token if login else None

    def verify_login_token(self, value: object) -> bool:
        """Whether *value* (what a form sent, ``None`` for nothing) is the login token, in constant time."""
        login = self._login()
        if not isinstance(value, str):
            return False
        return login is not None and hmac.compare_digest(login.token.encode(), value.encode("utf-8", "surrogatepass"))

    @property
    def fingerprint(self) -> str | None:
        """HMAC of application, and user agent and address at login, keyed with the login token."""
        login = self._login()
        return logins.fingerprint(login, self._layer.application) if login else None

    @property
    def login_timestamp(self) -> int:
        """When the current storage logged in, Unix seconds; 0 when offline."""
        login = self._login()
        return login.at if login else 0

    @property
    def login_datetime(self) -> str | None:
        """The same as ISO 8601 with offset; ``None`` when offline."""
        login = self._login()
        return logins.iso(login.at) if login else None

    @property
    def expiration(self) -> int:
        """The stored deadline, Unix seconds; 0 for a session not kept yet."""
        base = self._touch().base
        return base.expires_at if base else 0

    @property
    def created_at(self) -> int:
        """When the session was created, Unix seconds; for one not kept yet, now."""
        state = self._touch()
        return state.base.created_at if state.base else state.now

    @property
    def last_activity(self) -> int:
        """The last activity written before this request, Unix seconds; for a session not kept yet, now."""
        state = self._touch()
        return state.base.last_activity if state.base else state.now

    # -- addresses ---------------------------------------------------------------------------------------------

    @property
    def ip_changes(self) -> list[IpChange]:
        """Addresses the current storage's login moved to, oldest first."""
        login = self._login()
        return list(login.ip_changes) if login else []

    @property
    def is_strict_ip(self) -> bool:
        """Whether logins are held to their address."""
        return self._layer.strict_ip

    def ip_changed(self, storage: str | None = None) -> bool:
        """Whether a storage is logged in from another address than this request's; a pure query."""
        state = self._touch()
        login = state.login(self._named(storage))
        return login is not None and login.ip is not None and not self._layer.same_address(self._source, login.ip)

    def is_session_ip(self) -> bool:
        """Whether logins are held to their address, and this request comes from it; no login of the service's is."""
        login = self._login()
        return self.is_strict_ip and not self.ip_changed() and (login is None or login.ip is not None)

    def on_ip_changed(self, callback: IpCallback) -> Self:
        """Decide about a login whose address changed: ``True`` ends it, ``False`` keeps and rebinds it.

        *callback* gets the session as it is kept (to look at, not to write), the bound address and the history. A
        coroutine function needs ASGI and ``await load()``; where nobody can await it: ``ConfigurationError``.
        Raises ``SessionStateError`` once the session is loaded: the verdict has been taken; chainable.
        """
        if self._state is not None:
            raise SessionStateError("on_ip_changed() comes too late: the session is loaded and the verdict taken")
        self._layer.check_callback(callback)
        self._prepare().ip_callback = callback
        return self
