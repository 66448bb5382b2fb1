"""Every error session_mw raises, as one tree.

    SessionError
    ├── ConfigurationError (also ValueError)      a setting is missing, unknown, weak or contradicts another
    ├── SessionStateError                         the call does not fit the moment
    │   └── SessionClosedError                    too late to write: committed, destroyed or already answered
    ├── SessionNotFoundError (also LookupError)   no such session
    │   └── SessionExpiredError                   there was one; its time is over
    ├── InvalidSessionIdError                     not shaped like anything we issued
    ├── SessionLogicError                         two wishes that contradict each other
    ├── SessionSerializationError                 a value that would not come back as itself (.path)
    ├── SessionTooLargeError                      over a budget (.size, .limit, in bytes)
    ├── SealError                                 a sealed value does not open; one message, .reason for events
    └── StoreError                                the store failed (backend exception as __cause__)
        ├── StoreBusyError                        a lock was not free within the allowed wait
        └── StoreConflictError                    every try met a newer version (.tries)

What a *client* sends never raises one of these to the app. No message holds a token, key or payload:
facts that help are attributes, and safe to show.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "ConfigurationError",
    "InvalidSessionIdError",
    "SealError",
    "SessionClosedError",
    "SessionError",
    "SessionExpiredError",
    "SessionLogicError",
    "SessionNotFoundError",
    "SessionSerializationError",
    "SessionStateError",
    "SessionTooLargeError",
    "StoreBusyError",
    "StoreConflictError",
    "StoreError",
]


class SessionError(Exception):
    """Base of everything session_mw raises."""


class ConfigurationError(SessionError, ValueError):
    """A setting is missing, unknown, weak, or contradicts another; the message says which line mends it."""


class SessionStateError(SessionError):
    """The call does not fit the session's state, such as ``set_store()`` after it was loaded."""


class SessionClosedError(SessionStateError):
    """Too late to write: the session is committed, destroyed, or its response has been sent."""


class SessionNotFoundError(SessionError, LookupError):
    """No session of that id."""

    def __init__(self, message: str = "there is no such session") -> None:
        super().__init__(message)


class SessionExpiredError(SessionNotFoundError):
    """There was such a session; its time is over and it cannot be revived."""

    def __init__(self, message: str = "the session has expired") -> None:
        super().__init__(message)


class InvalidSessionIdError(SessionError):
    """A session id or token that is not shaped like any we issue. The value is not in the message."""


class SessionLogicError(SessionError):
    """Two wishes that contradict each other, such as an address for a login while IP binding is off."""


class SessionSerializationError(SessionError):
    """A value that could not be stored and come back as itself.

    ``path`` names the bad part, such as ``session['cart'][2].price``; its value is never shown.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason
        self.path = path


class SessionTooLargeError(SessionError):
    """The session exceeds a budget. ``size`` and ``limit`` are bytes."""

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


SealReason: TypeAlias = Literal["malformed", "unknown_key", "forged", "expired", "future"]
"""Why a sealed value does not open."""


class SealError(SessionError):
    """A sealed value does not open. One message for every cause, so that a client learns nothing from it.

    ``reason`` is for events alone: an expired session is everyday, a forged one is not.
    """

    def __init__(self, reason: SealReason = "malformed") -> None:
        super().__init__("the sealed value does not open")
        self.reason = reason


class StoreError(SessionError):
    """The session store failed; the backend's own exception is ``__cause__``. Never read as "logged out"."""


class StoreBusyError(StoreError):
    """A lock in the store was not free within the allowed wait; nothing was changed."""


class StoreConflictError(StoreError):
    """Every one of ``tries`` attempts to save met a newer version of the session."""

    def __init__(self, tries: int) -> None:
        super().__init__(f"the session kept changing: {tries} attempts to save it met a newer version")
        self.tries = tries
