"""Which way the arrows point: imports, read from the source, held to one table.

A new top-level module that has no line in the table fails here: decide where it stands, then write the line.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

PACKAGE = ROOT / "session_mw"
MAX_LINES = 500

# A module may import what its line names, and what lies in a package it names; the longest name that fits decides.
# "stores.__init__" is the package itself without what lies in it. One module in several files (sqlite, sqlite_pool)
# is one module. Under TYPE_CHECKING everything is free.
PURE = {"core", "settings", "profiles", "config", "errors"}
FLOWS = PURE | {"managers", "stores.url"}
LAYER = {
    "layer",
    "opening",
    "flight",
    "home",
    "exchange",
    "admission",
    "events",
    "headers",
    "shield",
    "upgrade",
}  # what every integration shares
SHARED = FLOWS | LAYER
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "core": {"core", "errors"},
    "settings": {"errors", "core.keys", "core.operations", "legacy"},
    "profiles": {"settings", "errors"},
    "config": {
        "profiles",
        "settings",
        "errors",
        "core.keys",
        "core.cookies",
        "core.client",
        "core.operations",
        "core.tokens",
    },
    "managers": PURE | {"managers"},
    "stores": {"core", "errors", "stores.__init__", "stores.above", "stores.faces", "stores.url"},  # never one another
    "stores.faces": {"core", "errors", "stores.__init__", "stores.migrating", "stores.url"},
    "stores.url": {"core", "errors", "stores"},
    "legacy": PURE,
    "upgrade": FLOWS | {"exchange", "legacy"},
    "refusal": {"errors", "exchange"},
    "access": FLOWS | {"exchange", "refusal"},
    "guard": {"access", "errors", "refusal"},
    "service": FLOWS | {"events", "shield", "stores.faces"},
    "shield": set(),
    "cleanup": {"service", "settings", "errors"},
    "headers": PURE,
    "workers": set(),
    "events": PURE,
    "exchange": FLOWS,
    "admission": FLOWS | {"events", "exchange", "upgrade"},
    "home": FLOWS | {"stores.faces"},
    "opening": FLOWS | {"admission", "events", "exchange", "home", "upgrade", "workers"},
    "flight": FLOWS | {"shield"},
    "layer": FLOWS | {"exchange", "flight", "home", "opening", "shield", "upgrade"},
    "asgi": SHARED | {"websocket"},
    "websocket": SHARED,
    "wsgi": SHARED,
    "takeover": PURE,
    "starlette": SHARED | {"asgi", "takeover"},
    "fastapi": SHARED | {"access", "refusal", "starlette"},
    "flask": SHARED | {"access", "service", "wsgi"},
    "flask_session": SHARED | {"takeover", "wsgi"},
    "flask_settings": PURE | {"takeover"},
    "django": SHARED | {"access", "django", "service", "stores.faces", "takeover", "wsgi"},
    "testing": SHARED | {"django", "service", "stores", "testing"},
    "cli": {""},
    "demo": {""},
    "__init__": {""},  # public names only; see test_exports
    "__main__": {"cli"},
}

# A package that is not the standard library's: who may import it, at any depth of the code.
ANYWHERE = {"msgspec", "typing_extensions"}
ONLY_IN: dict[str, set[str]] = {
    "anyio": {"shield", "websocket"},
    "cryptography": {"core.keys", "core.seal"},
    "itsdangerous": {"core.signed"},
    "markupsafe": {"core.tags", "legacy"},
    "starlette": {"starlette", "fastapi", "testing", "demo"},
    "werkzeug": {"flask", "testing", "demo"},
    "flask": {"flask", "flask_session"},
    "fastapi": {"fastapi"},
    "django": {"django"},
    "asgiref": {"django"},
    "sqlalchemy": {"stores.sql"},
    "hiredis": {"stores.redis"},
    "redis": {"stores.redis"},
    "click": {"cli", "demo"},
    "rich": {"cli", "demo"},
    "uvicorn": {"cli", "demo"},
    "hypothesis": {"testing"},
    "pytest": {"testing"},
}

# Nobody runs bytes or text as code, and nobody sleeps in a request.
NEVER = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "time.sleep"}
NEVER_NAMES = {"eval", "exec", "compile", "__import__"}

# The core decides; whoever runs it brings the time, the randomness and the I/O.
NOT_IN_CORE = {
    "asyncio", "concurrent", "ctypes", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess",
    "tempfile", "time", "urllib.request",
}  # fmt: skip
CLOCKS_AND_DICE = {
    "datetime.now", "datetime.today", "datetime.utcnow", "date.today", "uuid.uuid1", "uuid.uuid4", "uuid4", "uuid1",
    "AESGCM.generate_key", "AESGCMSIV.generate_key", "ChaCha20Poly1305.generate_key",
}  # fmt: skip
MAY_ROLL_DICE = {"core.keys.generate_key"}  # functions that exist to be called by a person, once


class Import(NamedTuple):
    line: int
    name: str  # dotted; relative imports resolved
    typing_only: bool
    function: str  # innermost top-level function or method, or ""


def dotted(node: ast.expr) -> str:
    """``a.b.c`` as text; an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def walk(node: ast.AST, typing_only: bool = False, function: str = "") -> Iterator[tuple[ast.AST, bool, str]]:
    """Every node, with whether only a type checker sees it and the function it stands in."""
    for child in ast.iter_child_nodes(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not function:
            inside = child.name
        yield child, typing_only, inside
        if isinstance(child, ast.If) and dotted(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for part in child.body:
                yield part, True, inside
                yield from walk(part, True, inside)
            for part in child.orelse:
                yield part, typing_only, inside
                yield from walk(part, typing_only, inside)
        else:
            yield from walk(child, typing_only, inside)


def imports(module: str, tree: ast.AST, modules: set[str]) -> Iterator[Import]:
    """What *module* imports; ``from . import x`` counts as ``x`` when that is a module, else as the package."""
    parts = ["session_mw", *module.split(".")]
    for node, typing_only, function in walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, typing_only, function)
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[: len(parts) - node.level]] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                known = name.removeprefix("session_mw.") in modules or not source.startswith("session_mw")
                yield Import(node.lineno, name if known else source, typing_only, function)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            target = node.args[0] if node.args else None
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                text = target.value
                if text.startswith("."):
                    level = len(text) - len(text.lstrip("."))
                    text = ".".join([*parts[: len(parts) - level], text.lstrip(".")])
                yield Import(node.lineno, text, typing_only, function)


def line_for(module: str, table: dict[str, set[str]]) -> str | None:
    """The longest name in *table* that *module* is or lies in."""
    name = module
    while name not in table:
        if "." not in name:
            return None
        name = name.rpartition(".")[0]
    return name


def within(name: str, allowed: set[str]) -> bool:
    return any(part in {"", name} or name.startswith(f"{part}.") for part in allowed)


def family(module: str) -> str:
    """``stores.sqlite`` for ``stores.sqlite_pool``."""
    package, _, name = module.rpartition(".")
    return f"{package}.{name.partition('_')[0]}" if not name.startswith("_") else module


def complaints(module: str, source: str, modules: set[str]) -> list[str]:
    """What is wrong with *module* (``core.session``, ``stores.__init__``), one text a fault."""
    wrong = []
    row = line_for(module, MAY_IMPORT)
    if row is None:
        return [f"{module} has no line in MAY_IMPORT"]
    if (lines := source.count("\n")) > MAX_LINES:
        wrong.append(f"{lines} lines; {MAX_LINES} are the end")
    tree = ast.parse(source)
    in_core = within(module, {"core"})
    for found in imports(module, tree, modules):
        where = f"line {found.line}:"
        if within(found.name, NEVER):
            wrong.append(f"{where} {found.name} is never imported")
        if found.typing_only:
            continue
        dice = f"{module}.{found.function}" in MAY_ROLL_DICE
        if in_core and not dice and within(found.name, NOT_IN_CORE):
            wrong.append(f"{where} the core does without {found.name}; make it an argument")
        top = found.name.partition(".")[0]
        if top == "session_mw":
            target = found.name.removeprefix("session_mw").removeprefix(".")
            exact = f"{target}.__init__" in MAY_IMPORT[row]
            if not (exact or family(target) == family(module) or within(target, MAY_IMPORT[row])):
                wrong.append(f"{where} {row} may not import {target or 'the package itself'}")
        elif top not in sys.stdlib_module_names and top not in ANYWHERE:
            if top not in ONLY_IN:
                wrong.append(f"{where} {top} has no line in ONLY_IN")
            elif not (within(module, ONLY_IN[top]) or within(family(module), ONLY_IN[top])):
                wrong.append(f"{where} {top} belongs to {', '.join(sorted(ONLY_IN[top]))}")
    for node, _, function in walk(tree):
        name = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if name in NEVER or name in NEVER_NAMES:
            wrong.append(f"line {node.lineno}: {name} is never used")  # type: ignore[attr-defined]
        dice = f"{module}.{function}" in MAY_ROLL_DICE
        if in_core and not dice and isinstance(node, ast.Call) and dotted(node.func) in CLOCKS_AND_DICE:
            wrong.append(f"line {node.lineno}: {dotted(node.func)}: time and randomness are arguments")
    return wrong


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__") for name in SOURCES}


@pytest.mark.parametrize("module", SOURCES)
def test_the_arrows_point_down(module: str) -> None:
    assert complaints(module, SOURCES[module].read_text(encoding="utf-8"), MODULES) == []


def test_every_package_we_import_is_one_we_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {re.split(r"[^\w-]", line.lower())[0].replace("-", "_") for line in chain(*lists)}
    for module, path in SOURCES.items():
        for found in imports(module, ast.parse(path.read_text(encoding="utf-8")), MODULES):
            top = found.name.partition(".")[0]
            if not found.typing_only and top not in sys.stdlib_module_names and top != "session_mw":
                assert top.lower() in asked, f"{module} imports {top}, which pyproject.toml does not name"


KNOWN = {"core.session", "core.runners", "core.keys", "stores.memory", "stores.redis", "stores.faces", "stores.sqlite",
         "stores.sqlite_pool", "stores.sqlite_group", "asgi", "wsgi",
         "starlette", "config", "errors", "managers.store", "stores", "core", "managers", "flask"}  # fmt: skip

WRONG = [
    ("core.session", "from ..config import SessionConfig", "core may not import config"),
    ("core.session", "import session_mw.config", "core may not import config"),
    ("core.session", "from .. import config", "core may not import config"),
    ("core.session", "import session_mw", "core may not import the package itself"),
    ("core.session", "def f():\n    from ..managers.store import x", "core may not import managers.store"),
    ("core.session", "import_module('..config', __package__)", "core may not import config"),
    ("core.session", "import time", "the core does without time"),
    ("core.session", "from os import urandom", "the core does without os.urandom"),
    ("core.keys", "def mint():\n    import secrets", "the core does without secrets"),
    ("core.session", "now = datetime.now(UTC)", "datetime.now: time and randomness are arguments"),
    ("core.session", "id = uuid.uuid4()", "uuid.uuid4: time and randomness are arguments"),
    ("core.session", "if TYPE_CHECKING:\n    pass\nelse:\n    import time", "the core does without time"),
    ("core.session", "import cryptography", "cryptography belongs to"),
    ("errors", "from .config import x", "errors may not import config"),
    ("managers.store", "from ..stores.memory import MemoryStore", "managers may not import stores.memory"),
    ("stores.redis", "from .memory import MemoryStore", "stores may not import stores.memory"),
    ("stores.redis", "from . import memory", "stores may not import stores.memory"),
    ("stores.__init__", "from .memory import MemoryStore", "stores may not import stores.memory"),
    ("stores.redis", "from .sqlite_pool import Pool", "stores may not import stores.sqlite_pool"),
    ("asgi", "from .stores.redis import RedisStore", "asgi may not import stores.redis"),
    ("asgi", "from . import wsgi", "asgi may not import wsgi"),
    ("flask", "from .starlette import x", "flask may not import starlette"),
    ("asgi", "import starlette", "starlette belongs to demo, fastapi"),
    ("asgi", "import requests", "requests has no line in ONLY_IN"),
    ("stores.memory", "import redis.asyncio", "redis belongs to stores.redis"),
    ("novelty", "", "novelty has no line in MAY_IMPORT"),
    ("cli", "import pickle", "pickle is never imported"),
    ("cli", "from time import sleep", "time.sleep is never imported"),
    ("cli", "if TYPE_CHECKING:\n    from marshal import loads", "marshal.loads is never imported"),
    ("stores.redis", "time.sleep(1)", "time.sleep is never used"),
    ("cli", "eval('1')", "eval is never used"),
    ("cli", "\n" * 501, "501 lines; 500 are the end"),
]

RIGHT = [
    ("core.session", "if TYPE_CHECKING:\n    from ..config import SessionConfig"),
    ("core.session", "from .runners import run\nfrom ..errors import SessionError"),
    ("core.keys", "from cryptography.hazmat.primitives import hashes"),
    ("core.keys", "def generate_key():\n    import secrets\n    return secrets.token_bytes(32)"),
    ("stores.redis", "import redis\nredis.client.eval('return 1')\nfrom .faces import check\nimport time\ntime.time()"),
    ("starlette", "from .asgi import SessionMiddleware\nimport starlette.types"),
    ("asgi", "from .managers.store import StoreManager\nimport asyncio"),
    ("stores.memory", "from . import closed_record\nfrom ..core.record import Record"),
    ("stores.sqlite", "from .sqlite_pool import Pool"),
    ("stores.sqlite_pool", "from .sqlite_group import x\nfrom .sqlite import y"),
    ("stores.redis_sync", "import redis"),
    ("__main__", "from .cli import main"),
]


@pytest.mark.parametrize(("module", "source", "complaint"), WRONG)
def test_a_wrong_arrow_is_seen(module: str, source: str, complaint: str) -> None:
    found = complaints(module, source, KNOWN)
    assert len(found) == 1, found
    assert complaint in found[0]


@pytest.mark.parametrize(("module", "source"), RIGHT)
def test_a_right_arrow_is_not_complained_about(module: str, source: str) -> None:
    assert complaints(module, source, KNOWN | {"cli"}) == []
