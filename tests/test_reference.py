"""docs/reference.md is written from the docstrings: every public name, with what it takes and what it says of itself.

``python tests/test_reference.py`` writes the page anew. Public is what a user imports: the package's own names, those
of each framework's module, of the guard, of the tests' helpers and of the stores.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import django_engine.project  # noqa: F401 - session_mw.django wants settings
import pytest
from conftest import ROOT
from test_docs import PAGES, blocks
from werkzeug.local import LocalProxy

import session_mw
from session_mw.stores import Store

PAGE = ROOT / "docs" / "reference.md"
MODULES = [
    f"session_mw{'.' if name else ''}{name}"
    for name in (
        "", "asgi", "wsgi", "starlette", "fastapi", "flask", "django", "access", "guard", "legacy", "testing",
        "stores", "stores.memory", "stores.filesystem", "stores.sqlite", "stores.sql", "stores.redis",
        "stores.migrating", "stores.url",
    )
]  # fmt: skip
INSIDE = {"session_mw.core.operations", "session_mw.core.runners", "session_mw.testing.contract"}  # shown to explain

HEAD = """# Reference

<!-- written from the docstrings: python tests/test_reference.py -->

Every public name, with its docstring. Times are whole Unix seconds and sizes are bytes unless it says otherwise. The
pages on [the session](session.md), [the configuration](configuration.md), [the service](service.md) and the
[guard](guard.md) tell the same in order; this one is for looking things up.
"""


def public(module: str) -> dict[str, Any]:
    """Every name that *module* offers. ``from_url`` is ``store_from_url``'s; a proxy is no thing to ask."""
    loaded = importlib.import_module(module)
    things = {name: getattr(loaded, name) for name in loaded.__all__ if name != "from_url"}
    return {name: None if type(thing) is LocalProxy else thing for name, thing in things.items()}


def rendered(text: str) -> str:
    """A docstring as Markdown."""
    text = text.replace("``", "`")
    lines: list[str] = []
    for line in inspect.cleandoc(text).split("\n"):
        begins_list = (
            re.match(r"(\*|-|\d\.) ", line) and lines and lines[-1] and not lines[-1].startswith((" ", "*", "-"))
        )
        begins_code = line.startswith("    ") and lines and lines[-1] and not lines[-1].startswith("  ")
        if begins_list or begins_code:
            lines.append("")
        quoted = line.startswith("    ")
        lines.append(line if quoted else re.sub(r"<(?=[^`]*(?:`[^`]*`[^`]*)*$)", "&lt;", line))
    return "\n".join(lines)


def own_docstring(thing: Any) -> str:
    """What is written at *thing* itself; nothing that Python or a library says in its stead."""
    text = getattr(thing, "__doc__", None)
    return text if isinstance(text, str) else ""


def default_text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    simple = str | int | float | bytes | tuple | frozenset | types.NoneType
    return repr(value) if isinstance(value, simple) and not isinstance(value, type) and "<" not in repr(value) else "…"


def signature(thing: Callable[..., Any]) -> str:
    """Parameters without annotations, the same on every Python; nothing where Python cannot tell."""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return "()"
    shown, keywords = [], False
    for parameter in parameters:
        if parameter.name in ("self", "cls") and not shown:
            continue
        name = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            name, keywords = f"*{name}", True
        elif parameter.kind is parameter.VAR_KEYWORD:
            name = f"**{name}"
        elif parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            shown.append("*")
            keywords = True
        given = parameter.default is not parameter.empty
        shown.append(f"{name}={default_text(parameter.default)}" if given else name)
    return f"({', '.join(shown)})"


@cache
def classes() -> frozenset[type]:
    """Every class of ours that the page tells of."""
    things = [thing for module in MODULES for thing in public(module).values()]
    return frozenset(thing for thing in things if inspect.isclass(thing) and thing.__module__.startswith("session_mw"))


def extended(cls: type) -> list[type]:
    """The classes of the page that *cls* extends, without those that these extend themselves."""
    above = [base for base in cls.__mro__[1:] if base in classes()]
    return [base for base in above if not any(base in other.__mro__[1:] for other in above)]


def members(cls: type) -> Iterator[tuple[str, Any, str]]:
    """Every public method and property of *cls* itself that is ours: name, static value, docstring."""
    elsewhere = {base for other in extended(cls) for base in other.__mro__}
    ours = [base for base in cls.__mro__ if base.__module__.startswith("session_mw")]
    own = [base for base in ours if base not in elsewhere]
    names = {name for base in own for name in vars(base) if not name.startswith(("_", "test_"))}
    for name in sorted(names):
        member = inspect.getattr_static(cls, name)
        function = getattr(member, "__func__", member)
        if not (inspect.isfunction(function) or isinstance(member, property)):
            continue
        docs = [own_docstring(vars(base)[name]) for base in ours if name in vars(base)]
        if isinstance(member, classmethod | staticmethod):
            docs.append(own_docstring(function))
        text = next((text for text in docs if text), "")
        if not text and cls is not Store and hasattr(Store, name):
            continue  # the contract's, told of there
        yield name, member, text


@cache
def texts() -> dict[str, str]:
    """The text below an assignment, by the name assigned."""
    found = {}
    for path in sorted((ROOT / "session_mw").rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in pairwise(body):
            target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(target, ast.Name) and said:
                found[target.id] = str(after.value.value)  # type: ignore[attr-defined]
    return found


def constant(module: str, name: str) -> str:
    """The text below an assignment; else the value."""
    return texts().get(name) or f"`{public(module)[name]!r}`"


def described(module: str, name: str, thing: Any) -> Iterator[str]:
    """The lines about one name."""
    if inspect.isclass(thing):
        ours = thing.__module__.startswith("session_mw")
        own_init = "__init__" in vars(thing) or not issubclass(thing, Exception | enum.Enum)
        protocol = getattr(thing, "_is_protocol", False)
        yield f"### `{name}{signature(thing) if ours and own_init and not protocol else ''}`"
        yield rendered(own_docstring(thing))
        if issubclass(thing, enum.Enum):
            yield "Members: " + ", ".join(f"`{member.name}`" for member in thing) + "."
        if extended(thing):
            yield "Also everything of " + ", ".join(f"`{base.__name__}`" for base in extended(thing)) + "."
        elif issubclass(thing, dict):
            yield "Also everything of `dict`."
        if hasattr(thing, "delete_user") and thing is not Store:
            yield "Keeps the contract of `Store`; what says nothing of itself here is told of there."
        for each, member, text in members(thing):
            call = "" if isinstance(member, property) else signature(getattr(member, "__func__", member))
            yield f"#### `{name}.{each}{call}`"
            if text:
                yield rendered(text)
    elif inspect.isroutine(thing):
        yield f"### `{name}{signature(thing)}`"
        yield rendered(own_docstring(thing))
    else:
        yield f"### `{name}`"
        yield rendered(constant(module, name))


def page() -> str:
    parts, seen = [HEAD.rstrip()], set()
    for module in MODULES:
        parts += [f"## `{module}`", rendered(own_docstring(importlib.import_module(module)))]
        for name, thing in public(module).items():
            shown = (name, getattr(thing, "__module__", None), getattr(thing, "__qualname__", None))
            if shown in seen and shown[2] is not None:
                parts.append(f"### `{name}` again\n\nSee above.")
                continue
            seen.add(shown)
            parts += described(module, name, thing)
    return "\n\n".join(part for part in parts if part) + "\n"


TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def test_the_page_is_in_step() -> None:
    assert page() == TEXT, "run: python tests/test_reference.py"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_there_and_says_something(module: str) -> None:
    section = TEXT.partition(f"\n## `{module}`\n")[2].partition("\n## ")[0]
    for name in public(module):
        heading = re.search(rf"^### `{name}\b[^\n]*\n\n(?!#)\S", section, re.MULTILINE)
        assert heading, f"{module}.{name} says nothing of itself"


def test_every_method_is_there() -> None:
    for cls in (
        session_mw.Session,
        session_mw.SessionService,
        session_mw.AsyncSessionService,
        session_mw.SessionConfig,
    ):
        for name, _, _ in members(cls):
            assert f"\n#### `{cls.__name__}.{name}" in TEXT


def imported() -> Iterator[tuple[str, str, str]]:
    """Page, module and name of whatever the docs' Python imports from us."""
    for path in PAGES:
        code = "".join(block.text for block in blocks(path.read_text(encoding="utf-8")) if block.language == "python")
        for module, names in re.findall(r"^from (session_mw[\w.]*) import ([^\n(#]+)", code, re.MULTILINE):
            for name in names.split(","):
                yield path.name, module, name.split(" as ")[0].strip()


def test_what_the_docs_import_is_public() -> None:
    for where, module, name in imported():
        if module not in INSIDE:
            assert module in MODULES, f"{where}: {module}"
            assert name in public(module) or f"{module}.{name}" in MODULES, f"{where}: {module}.{name}"


if __name__ == "__main__":
    sys.stdout.write(f"{Path(PAGE).relative_to(ROOT)}\n")
    PAGE.write_text(page(), encoding="utf-8")
