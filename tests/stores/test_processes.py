"""Eight processes on one session, on every store that several processes can share.

A store joins with a fixture that gives its URL, and its name in ``url``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

PROGRAM = Path(__file__).with_name("processes_program.py")


@pytest.fixture
def file_url(tmp_path):
    return f"file:///{tmp_path}/sessions?durable=0"


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/sessions.db"


@pytest.fixture
def postgresql_url(postgres):
    return postgres.url("postgresql", query=f"?table=t_{uuid4().hex}&create=1")


@pytest.fixture
def mariadb_url(mariadb):
    return mariadb.url("mariadb", query=f"?table=t_{uuid4().hex}&create=1")


@pytest.fixture
def redis_url(redis_server):
    return f"{redis_server.url}?table_index=t{uuid4().hex[:24]}"


@pytest.fixture(params=["file_url", "sqlite_url", "postgresql_url", "mariadb_url", "redis_url"])
def url(request):
    return request.getfixturevalue(request.param)


def run(story, url):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # or it takes ages
    command = [sys.executable, "-W", "error", PROGRAM, story, url]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


def test_eight_processes_count_exactly_and_keep_each_others_keys(url):
    run("count", url)


def test_a_destroy_in_the_middle_is_final(url):
    run("destroy", url)
