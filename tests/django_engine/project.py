"""The Django project of these tests, set up once a test process when this is imported."""

from __future__ import annotations

import tempfile

import django
from django.conf import settings

__all__ = ["DIRECTORY", "DJANGOS", "OURS", "REST"]

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
