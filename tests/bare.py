"""Import everything that promises to work without an extra, with nothing else importable.

``tox -e bare`` runs this where only the declared dependencies are installed; the test suite runs it everywhere, and
so a finder refuses what a bare install would not have. Prints the modules it imported.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# The declared dependencies and what they bring along.
BARE = {
    "cryptography", "cffi", "_cffi_backend", "pycparser", "itsdangerous", "msgspec", "starlette", "anyio", "idna",
    "sniffio", "typing_extensions", "werkzeug", "markupsafe", "session_mw",
}  # fmt: skip

NEEDS_EXTRA = {
    "session_mw.__main__", "session_mw.cli", "session_mw.demo", "session_mw.django", "session_mw.fastapi",
    "session_mw.flask",
    "session_mw.stores.redis", "session_mw.stores.sql", "session_mw.testing",
}  # fmt: skip


class OnlyBare:
    """A finder that refuses whatever a bare install does not bring."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if path is None and top not in BARE and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not there without an extra", name=name)
        return None


def needs_extra(name: str) -> bool:
    return any(name == each or name.startswith((f"{each}.", f"{each}_")) for each in NEEDS_EXTRA)


def main() -> None:
    sys.meta_path.insert(0, OnlyBare())
    package = importlib.import_module("session_mw")
    for found in pkgutil.walk_packages(package.__path__, "session_mw.", onerror=lambda name: None):
        if not needs_extra(found.name):
            importlib.import_module(found.name)
    print(*sorted(name for name in sys.modules if name.startswith("session_mw")), sep="\n")


if __name__ == "__main__":
    main()
