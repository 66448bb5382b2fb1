"""Django: ``SESSION_ENGINE = "session_mw.django"``, settings in ``settings.SESSION_MW``.

``SessionStore`` is what Django makes of every request's cookie. ``StoreErrorMiddleware``, in ``MIDDLEWARE`` above
Django's ``SessionMiddleware``, is what Django has no place for: the answer while the store fails,
``current_session()`` in views, and no cookie that another request may have replaced. ``session_config()`` is the whole
configuration, for a ``SessionService`` over the same sessions.

    Settings     what Django's mean to us                settings.py
    Layer        opening and committing                  layer.py
    Keyed        a session with a key: reading it        keyed.py
    Store        what Django calls: saving, ending       engine.py
    Middleware   the request around it                   middleware.py
    Checks       settings that fight each other          checks.py
"""

from __future__ import annotations

from . import checks as _checks  # registers them
from .engine import SessionStore
from .layer import session_config
from .middleware import StoreErrorMiddleware

__all__ = ["SessionStore", "StoreErrorMiddleware", "session_config"]

del _checks
