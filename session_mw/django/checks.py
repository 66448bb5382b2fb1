"""System checks: settings that cannot be, and settings that fight each other.

Registered when the engine is imported: by ``manage.py check`` with ``"session_mw.django"`` in ``INSTALLED_APPS``.

    E001  the settings make no configuration              W001  StoreErrorMiddleware is missing
    E002  StoreErrorMiddleware stands below sessions      W002  reading does not count as use
    E003  addresses without StoreErrorMiddleware          W003  SESSION_SERIALIZER is not used
    E004  SessionMiddleware is missing                    E005  one of the two stands there twice
    E006  a __Host- cookie without StoreErrorMiddleware
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from ..errors import ConfigurationError
from .layer import DjangoLayer, current_layer

__all__ = ["check_settings"]

ENGINE = "session_mw.django"
OURS = "session_mw.django.StoreErrorMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
PREFIXES = ("__Host-", "__Secure-", "__Http-")  # browsers hold these to rules (see core.cookies)
JSON = "django.contrib.sessions.serializers.JSONSerializer"


@checks.register(checks.Tags.security)
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """All of them, while ``SESSION_ENGINE`` is ours."""
    if settings.SESSION_ENGINE != ENGINE:
        return []
    try:
        layer = current_layer()
    except ConfigurationError as error:
        return [checks.Error(str(error), id="session_mw.E001")]
    found: list[checks.CheckMessage] = []
    ours, djangos = _places(OURS), _places(DJANGOS)
    if not djangos:
        found.append(
            checks.Error(
                "Django's SessionMiddleware is missing: no request has a session.",
                hint=f"In MIDDLEWARE put {DJANGOS!r} right below {OURS!r}.",
                id="session_mw.E004",
            )
        )
    found += [
        checks.Error(
            f"{path.rpartition('.')[2]} stands in MIDDLEWARE twice: they would overwrite each other's cookies.",
            hint=f"Take one {path!r} out.",
            id="session_mw.E005",
        )
        for path, places in ((OURS, ours), (DJANGOS, djangos))
        if len(places) > 1
    ]
    if ours and djangos and min(ours) > min(djangos):
        found.append(
            checks.Error(
                "StoreErrorMiddleware stands below SessionMiddleware: it cannot see what saving the session comes to.",
                hint=f"In MIDDLEWARE put {OURS!r} right above {DJANGOS!r}.",
                id="session_mw.E002",
            )
        )
    if not ours:
        found += _without_ours(layer)
    named = {"idle_timeout", "profile"} & layer.named
    if named and not settings.SESSION_SAVE_EVERY_REQUEST:
        found.append(
            checks.Warning(
                f"SESSION_MW names {' and '.join(sorted(named))}, but under Django reading a session is no use of it: "
                "it ends that long after the last change.",
                hint="SESSION_SAVE_EVERY_REQUEST = True lets every request count.",
                id="session_mw.W002",
            )
        )
    if settings.SESSION_SERIALIZER != JSON:
        found.append(
            checks.Warning(
                "SESSION_SERIALIZER is not used: sessions are kept by session_mw's own codec.",
                hint="Take the setting out; datetime, UUID, Decimal, bytes and others come back as themselves anyway.",
                id="session_mw.W003",
            )
        )
    return found


def _without_ours(layer: DjangoLayer) -> list[checks.CheckMessage]:
    """What is wrong where ``StoreErrorMiddleware`` is missing: at the least, a warning."""
    hint = f"In MIDDLEWARE put {OURS!r} right above {DJANGOS!r}."
    found: list[checks.CheckMessage] = []
    if layer.config.strict_session_ip or layer.config.session_ip:
        found.append(
            checks.Error(
                "strict_session_ip and session_ip need the client's address, which a session alone does not know.",
                hint=hint,
                id="session_mw.E003",
            )
        )
    if layer.cookie_name.startswith(PREFIXES):
        found.append(
            checks.Error(
                f"Without StoreErrorMiddleware the prefix of {layer.cookie_name!r} protects nothing: Django reads the "
                "cookie under names with other white space around them, which any sibling host can set.",
                hint=hint,
                id="session_mw.E006",
            )
        )
    if found:
        return found
    return [
        checks.Warning(
            "StoreErrorMiddleware is missing: a failing store is an error 500, current_session() and "
            "login_required find no session, and an old cookie may overwrite a newer one.",
            hint=hint,
            id="session_mw.W001",
        )
    ]


def _places(path: str) -> list[int]:
    """Where in ``MIDDLEWARE`` the class at *path* stands, or one that extends it."""
    wanted, found = import_string(path), []
    for place, each in enumerate(settings.MIDDLEWARE):
        middleware = import_string(each)
        if isinstance(middleware, type) and issubclass(middleware, wanted):
            found.append(place)
    return found
