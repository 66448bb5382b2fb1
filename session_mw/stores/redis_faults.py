"""What redis-py raises, said in words: every fault is a StoreError with redis-py's exception as its cause.

Causes are logged, and the words of a server or of redis-py may go on to repeat what was sent: ids, users, payloads. So
the cause keeps its words up to there.
"""

from __future__ import annotations

import re

import redis.exceptions as errors

from ..errors import StoreError

__all__ = ["BROKEN", "FAULTS", "fault"]

BROKEN = (errors.ConnectionError, ConnectionError)
"""The connection is gone: what only read may be asked again on another."""

FAULTS = (
    errors.RedisError,
    errors.RedisClusterException,
    errors.ChildDeadlockedError,
    OSError,  # TimeoutError is one of them
    UnicodeEncodeError,  # a user that is no text
)
"""What a command may raise."""

_ADVICE: tuple[tuple[type[Exception], str], ...] = (  # the first that fits
    (errors.AuthenticationError, "refused the login; look at the user name and password"),
    (errors.AuthorizationError, "refused the login; look at the user name and password"),
    (errors.NoPermissionError, "does not let this user do that; its ACL lacks a command or our keys"),
    (errors.BusyLoadingError, "is still loading its data"),
    (errors.MaxConnectionsError, "has no connection left in its pool; raise max_connections above the threads"),
    (errors.OutOfMemoryError, "is full; raise maxmemory"),
    (errors.ReadOnlyError, "is a replica now; a fail-over is under way, or the URL names the wrong server"),
    (errors.ClusterDownError, "is down in part; some slots are not served"),
    (errors.NoScriptError, "forgot a script it was just given"),
    (errors.TimeoutError, "did not answer in time"),
    (TimeoutError, "did not answer in time"),
    (errors.ConnectionError, "cannot be reached, or hung up"),
    (OSError, "cannot be reached, or hung up"),
    (errors.RedisClusterException, "cannot be reached, or serves only some slots"),
    (UnicodeEncodeError, "cannot be asked for a name that is no text"),
    (errors.ResponseError, "answered with an error"),
)


_REPEATED = re.compile(r"\s*[,({].*", re.DOTALL)
"""As in "unknown command 'X', with args …" and "Command # 1 (GET shop:{…}) of …"; our keys have a brace."""


def fault(where: str, error: Exception) -> StoreError:
    """The StoreError that says *error* in words; the caller raises it from *error*, whose own words are cut short."""
    if isinstance(error, errors.RedisError | errors.RedisClusterException):
        error.args = (_REPEATED.sub("", str(error)),)
    words = next((words for kind, words in _ADVICE if isinstance(error, kind)), "failed")
    return StoreError(f"{where} {words} ({type(error).__name__})")
