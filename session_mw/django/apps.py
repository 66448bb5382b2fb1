"""The app: ``"session_mw.django"`` in ``INSTALLED_APPS`` lets ``manage.py check`` know our checks."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["SessionMWConfig"]


class SessionMWConfig(AppConfig):
    """No models, no templates; importing the package registers the checks."""

    name = "session_mw.django"
    label = "session_mw"
    verbose_name = "session_mw"
