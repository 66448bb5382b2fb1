"""Who is logged in, as ``django.contrib.auth.login()`` leaves it in a session: for ``testing.client_cookie``.

Decided here: that the first of ``AUTHENTICATION_BACKENDS`` vouches for the user, as in Django's ``force_login``.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model

__all__ = ["alogin_of", "login_of"]


def login_of(user_id: object) -> dict[str, Any]:
    """The items of a login of the user with that primary key. Raises the model's ``DoesNotExist``."""
    if not apps.is_installed("django.contrib.auth"):
        return {SESSION_KEY: str(user_id)}
    return _items(get_user_model()._default_manager.get(pk=user_id))


async def alogin_of(user_id: object) -> dict[str, Any]:
    """``login_of``, awaited."""
    if not apps.is_installed("django.contrib.auth"):
        return {SESSION_KEY: str(user_id)}
    return _items(await get_user_model()._default_manager.aget(pk=user_id))


def _items(user: Any) -> dict[str, Any]:
    key = {SESSION_KEY: user._meta.pk.value_to_string(user), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0]}
    return {**key, HASH_SESSION_KEY: user.get_session_auth_hash()} if hasattr(user, "get_session_auth_hash") else key
