"""What the tests of database stores share: the drivers, and one way to ask a store of either kind."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from session_mw.stores.faces import is_awaited
from session_mw.stores.sql import DatabaseStore

CALLED = ["postgresql+psycopg", "mysql+pymysql"]
AWAITED = ["postgresql+asyncpg", "mysql+asyncmy"]
DRIVERS = CALLED + AWAITED


def new_table():
    return f"t_{secrets.token_hex(8)}"


class Asked:
    """A store whose calls are made at once, whatever its kind: ``asked.load(id)``."""

    def __init__(self, store):
        self.store = store
        self.flows = store._flows
        self.runner = asyncio.Runner() if is_awaited(store) else None
        self.ended = False

    def __getattr__(self, name):
        method = getattr(self.store, name)
        if self.runner is None or name == "schema":
            return method

        def call(*arguments, **options):
            async def made():
                return await method(*arguments, **options)

            return self.runner.run(made())

        return call

    def end(self):
        if not self.ended:
            self.ended = True
            self.teardown()
            if self.runner is not None:
                self.runner.close()


class Databases:
    """Makes stores on the server of a driver, each on a new table, and ends them."""

    def __init__(self, request):
        self._request = request
        self._made = []

    def server(self, driver):
        return self._request.getfixturevalue("postgres" if driver.startswith("postgresql") else "mariadb")

    def url(self, driver, **parts):
        return self.server(driver).url(driver, **parts)

    def store(self, driver, *, port=None, **settings):
        url = self.url(driver)
        if port is not None:
            url = url.replace(f":{self.server(driver).port}/", f":{port}/")
        return self.asked(DatabaseStore(url, **{"table": new_table(), "create": True, **settings}))

    def asked(self, store):
        self._made.append(Asked(store))
        return self._made[-1]

    def end(self):
        for made in self._made:
            made.end()


@pytest.fixture
def databases(request):
    made = Databases(request)
    yield made
    made.end()
