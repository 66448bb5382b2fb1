"""Sessions for ASGI and WSGI apps: sealed cookies or a server store; right under concurrency, revocable, safe."""

from .cleanup import CleanupTask, CleanupThread
from .config import SessionConfig
from .core.event import Event
from .core.keys import KeyRing, generate_key
from .core.login import IpChange
from .core.record import SessionRecord
from .core.session import Session, SessionStatus, current_session
from .errors import (
    ConfigurationError,
    InvalidSessionIdError,
    SealError,
    SessionClosedError,
    SessionError,
    SessionExpiredError,
    SessionLogicError,
    SessionNotFoundError,
    SessionSerializationError,
    SessionStateError,
    SessionTooLargeError,
    StoreBusyError,
    StoreConflictError,
    StoreError,
)
from .managers.cookie import CookieManager
from .managers.store import StoreManager
from .profiles import BANKING, DEVELOPMENT, NIST_AAL1, NIST_AAL2, NIST_AAL3, SOCIAL, Profile
from .service import AsyncSessionService, SessionService

__all__ = [
    "BANKING",
    "DEVELOPMENT",
    "NIST_AAL1",
    "NIST_AAL2",
    "NIST_AAL3",
    "SOCIAL",
    "AsyncSessionService",
    "CleanupTask",
    "CleanupThread",
    "ConfigurationError",
    "CookieManager",
    "Event",
    "InvalidSessionIdError",
    "IpChange",
    "KeyRing",
    "Profile",
    "SealError",
    "Session",
    "SessionClosedError",
    "SessionConfig",
    "SessionError",
    "SessionExpiredError",
    "SessionLogicError",
    "SessionNotFoundError",
    "SessionRecord",
    "SessionSerializationError",
    "SessionService",
    "SessionStateError",
    "SessionStatus",
    "SessionTooLargeError",
    "StoreBusyError",
    "StoreConflictError",
    "StoreError",
    "StoreManager",
    "current_session",
    "generate_key",
]

__version__ = "0.1.0"
