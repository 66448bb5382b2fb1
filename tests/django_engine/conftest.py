"""Django, set up once a test process: a database of users in a temporary file, sessions in a store of each test's own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

DIRECTORY = tempfile.mkdtemp(prefix="session_mw-django-")
OURS = "session_mw.django.StoreErrorMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
REST = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

if not settings.configured:
    settings.configure(
        SECRET_KEY="a secret of the tests, which is long enough",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        ROOT_URLCONF="django_engine.site",
        SESSION_ENGINE="session_mw.django",
        SESSION_MW={"store": "memory:"},
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "session_mw.django",
        ],
        MIDDLEWARE=[OURS, DJANGOS, *REST],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{DIRECTORY}/users.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    )
    django.setup()


@pytest.fixture(scope="session")
def users() -> Iterator[dict[str, Any]]:
    """``ada`` (who may use the admin) and ``eve``; the password is ``pw``."""
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    yield {
        "ada": User.objects.create_superuser("ada", password="pw"),
        "eve": User.objects.create_user("eve", password="pw"),
    }
    connections.close_all()
    shutil.rmtree(DIRECTORY)


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())  # Django's own dates come from the real one


@pytest.fixture(autouse=True)
def store(clock: Clock) -> Iterator[MemoryStore]:
    """The store of this test, under a clock to turn."""
    kept = MemoryStore()
    with override_settings(SESSION_MW={"store": kept, "clock": clock}):
        yield kept
