"""Users in a database of the whole run, sessions in a store of each test's own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django_engine.face import Face
from django_engine.project import DIRECTORY

from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock


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


@pytest.fixture(params=["called", "awaited"])
def face(request: pytest.FixtureRequest) -> Face:
    """A new session, and how to ask it."""
    return Face(request.param)
