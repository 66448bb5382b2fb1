"""What the docs list, compared with the code: names, signatures, events, reasons, modules, the explorer's size."""

from __future__ import annotations

import ast
import inspect
import re
from typing import get_args, get_type_hints

import django_engine.project  # noqa: F401 - session_mw.django wants settings
import flask
import pytest
from conftest import ROOT
from flask_site import site
from test_docs import blocks

from session_mw import SealError, Session, SessionService, current_session
from session_mw.django import SessionStore
from session_mw.flask import Session as FlaskSession
from session_mw.managers.claims import Objection
from session_mw.settings import KINDS as KINDS_OF_SETTINGS
from session_mw.starlette import StarletteSession
from tests.explorer.__main__ import SETTINGS
from tests.explorer.calls import CALLS
from tests.explorer.kinds import KINDS

PAGE = (ROOT / "docs" / "session.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SEEDS = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
LUMINOVA, _, SERVICE = SEEDS.partition("\n## SessionService\n")

NAMES = sorted(name for name in dir(Session) if not name.startswith("_"))


def first_cells(text: str) -> str:
    """The first cell of every table row, one a line."""
    return "\n".join(line.split(" | ")[0] for line in text.split("\n") if line.startswith("| "))


def signature(name: str) -> str:
    """What can be called or asked, as the page writes it: without annotations, enums by name."""
    member = inspect.getattr_static(Session, name)
    if not callable(member):
        return name
    if name in {"items", "keys", "values"}:  # before 3.13 C methods without arguments do not tell
        return f"{name}()"
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(member).parameters.values()
        if parameter.name != "self"
    ]
    text = str(inspect.Signature(parameters)).replace("/, ", "").replace(", /", "").replace("/", "").replace("'", '"')
    return name + re.sub(r"<(\w+\.\w+): [^>]+>", r"\1", text)


def test_the_page_lists_every_name_and_no_other() -> None:
    (listed,) = (block.text.split() for block in blocks(PAGE) if block.mark.startswith("names:"))
    assert listed == NAMES


def test_the_page_lists_which_names_are_no_methods() -> None:
    (listed,) = (block.text.split() for block in blocks(PAGE) if block.mark.startswith("properties:"))
    assert listed == [name for name in sorted(NAMES) if not callable(getattr(Session, name))]


def test_the_page_lists_what_frameworks_add() -> None:
    (djangos,) = (block.text.split() for block in blocks(PAGE) if block.mark.startswith("names in Django:"))
    sentence = PAGE.partition("A framework's own session")[2].partition("Django")[0]
    starlettes, flasks = (re.findall(r"`(\w+)`", part) for part in sentence.split("in Flask"))
    for cls, listed in ((StarletteSession, starlettes), (FlaskSession, flasks), (SessionStore, djangos)):
        names = sorted(name for name in dir(cls) if not name.startswith("_") and name not in NAMES)
        assert listed == names, cls


def test_jinja_finds_names_before_keys_and_every_other_name_is_a_key() -> None:
    app = site()

    @app.get("/template")
    def template() -> str:
        session = current_session()
        session.update({"items": "a key", "name": "Ada", "user": "ada"})
        return flask.render_template_string("{{ session.items is callable }} {{ session['items'] }} {{ session.name }}")

    assert app.test_client().get("/template").text == "True a key Ada"
    assert not {"name", "user", "cart", "id", "email", "role", "theme", "data"} & set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fromkeys"])
def test_each_name_is_told_of_with_its_signature(name: str) -> None:
    assert f"`{signature(name)}`" in first_cells(PAGE)


def rows(text: str) -> list[list[str]]:
    """The rows of the tables of *text* that begin with a name, as the names in each of their cells."""
    lines = [line.strip("|").split(" | ") for line in text.split("\n") if line.startswith("| `")]
    return [[re.findall(r"`(?:\w+\.)?(\w+)`", cell) for cell in cells] for cells in lines]  # type: ignore[misc]


# What the two seeds document, method by method.
LUMINOVAS = """
__construct add attempt attempts clear commit dequeue destroy get getDatetime getExpiration getFingerprint getFrom
getId getInstance getIp getIpChanges getManager getMeta getMetadata getName getResult getStorage getTimestamp getToken
getUserAgent has ipChanged is isExpired isOnline isSessionIp isStrictIp login logout onIpChanged online put regenerate
remove save set setHandler setManager setStorage setTo start synchronize terminate toArray toObject
"""
SERVICES = """
cleanupExpiredSessions createSession destroySession extendSession getName getSchema getSession initialize isReady
listSessions logoutAllSessions regenerateSession teardown updateActivity updateSession validateSession
"""


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        (LUMINOVA.partition("### ")[0], LUMINOVAS, {*NAMES, "current_session"}),
        (SERVICE, SERVICES, {name for name in dir(SessionService) if not name.startswith("_")}),
    ],
    ids=["Luminova", "SessionService"],
)
def test_each_of_the_seeds_methods_leads_to_one_of_ours(text: str, theirs: str, ours: set[str]) -> None:
    table = [row for row in rows(text) if len(row) > 2]
    told = [name for row in table for name in row[0]]
    assert set(theirs.split()) <= set(told), set(theirs.split()) - set(told)
    assert len(told) == len(set(told)), "one row a name"
    for there, here, *_ in table:
        assert here or there == ["__construct"], there
        assert set(here) <= ours, set(here) - ours


def test_the_seeds_settings_are_settings() -> None:
    settings = {name for row in rows(LUMINOVA.partition("### ")[2]) if len(row) > 2 for name in row[1]}
    assert {"cookie_name", "on_validate"} <= settings <= set(KINDS_OF_SETTINGS)


def noted() -> set[str]:
    """The name of every event, as the source notes it."""
    found: set[str] = set()
    for path in (ROOT / "session_mw").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "note"
                and isinstance(node.args[0], ast.Constant)
                and len(node.args) > 1
                and "pages" not in ast.unparse(node.func)
            ):
                found.add(str(node.args[0].value))
    return found


def reasons() -> set[str]:
    """Why a claim is refused, as the source says it."""
    found: set[str] = set()
    for path in (ROOT / "session_mw").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Opened":
                for keyword in node.keywords:
                    if keyword.arg == "reason":
                        constants = [part for part in ast.walk(keyword.value) if isinstance(part, ast.Constant)]
                        found |= {part.value for part in constants if isinstance(part.value, str)}
    return found | set(get_args(Objection)) | set(get_args(get_type_hints(SealError.__init__)["reason"]))


def test_every_event_and_every_reason_is_on_the_security_page() -> None:
    events, _, why = SECURITY.partition("## Events")[2].partition("Reasons of `refused`")
    told = set(re.findall(r"`([a-z_]+)`", first_cells(events)))
    assert told == noted() | {"save", "rotate", "create", "token"}  # these four by a name made elsewhere
    assert set(re.findall(r"`([a-z_]+)`", first_cells(why))) == reasons()


def test_every_module_has_its_line_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z_]+)`", first_cells(page)))
    modules = {path.stem for folder in ("", "core") for path in (ROOT / "session_mw" / folder).glob("[a-z]*.py")}
    packages = {path.parent.name for path in (ROOT / "session_mw").glob("*/__init__.py")}
    assert modules | packages == told


def test_the_explorers_totals_are_of_its_present_size() -> None:
    page = (ROOT / "docs" / "concurrency.md").read_text(encoding="utf-8")
    assert f"{len(KINDS)} kinds of request and {len(CALLS)} of service calls" in page.replace("\n", " ")
    kinds = len(KINDS + CALLS)
    assert f"\n{kinds * (kinds + 1) // 2} pairs, {len(SETTINGS)} settings, " in page
