"""What the package shows: every module says what it is and names what it offers, and the wheel carries it all."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, in_ci

PACKAGE = ROOT / "session_mw"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def public_modules() -> list[str]:
    """Every module without an underscore in its name, packages included, as ``session_mw.core.record``."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"]
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return names


MODULES = public_modules()


def source_of(name: str) -> str:
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    """The module; where an optional package of its own is missing, skip, but not in CI."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if in_ci() or (error.name or "").startswith("session_mw"):
            raise
        pytest.skip(f"{name} needs {error.name}")


def order(name: str) -> tuple[int, list[str | int]]:
    """Constants, classes, the rest; numbers in names by value: the order ``ruff`` keeps (RUF022)."""
    rank = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return rank, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def described(thing: object) -> bool:
    """Whether *thing* has a docstring, a class also when one of our own that it extends has."""
    if not isinstance(thing, type):
        return bool(inspect.getdoc(thing))
    ours = [base for base in thing.__mro__ if base.__module__.startswith("session_mw")]
    return any((vars(base).get("__doc__") or "").strip() for base in ours) or thing not in ours


@pytest.mark.parametrize("name", [name for name in MODULES if source_of(name).strip()])
def test_a_module_begins_with_what_it_is(name: str) -> None:
    text = ast.get_docstring(ast.parse(source_of(name)))
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].rstrip().endswith((".", ":")), "a whole sentence first"


def offers_names(name: str) -> bool:
    """A package's ``__init__`` that holds a docstring alone is a room, not a door."""
    return len(ast.parse(source_of(name)).body) > 1


@pytest.mark.parametrize("name", [name for name in MODULES if offers_names(name)])
def test_all_is_there_sorted_and_described(name: str) -> None:
    module = load(name)
    names = module.__all__
    assert list(names) == sorted(names, key=order)
    assert len(set(names)) == len(names)
    for each in names:
        thing = getattr(module, each)
        if isinstance(thing, type) or inspect.isroutine(thing):
            assert described(thing), f"{name}.{each} has no docstring"


def test_the_package_itself_holds_no_code() -> None:
    """Imports, ``__all__``, ``__version__``; at most a table of lazy names and its two hooks (PEP 562)."""

    def harmless(node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return True
        if isinstance(node, ast.FunctionDef):
            return node.name in {"__getattr__", "__dir__"}
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            return test == "TYPE_CHECKING" and all(map(harmless, node.body)) and not node.orelse
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            ast.literal_eval(node.value)  # raises on anything computed
            return True
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        assert harmless(node), f"session_mw/__init__.py, line {node.lineno}: {ast.unparse(node)}"


def test_one_version_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[?(\d+\.\d+\.\d+)\]?", changelog, re.MULTILINE)
    assert top is not None
    assert top[1] == PROJECT["version"]
    module = importlib.import_module("session_mw")
    assert getattr(module, "__version__", PROJECT["version"]) == PROJECT["version"]


def test_the_wheel_carries_every_module_and_the_typing_mark(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"session_mw-{PROJECT['version']}.dist-info"
    assert "session_mw/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    sources = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert sources <= names
    assert {name.partition("/")[0] for name in names} == {"session_mw", info}


def test_every_script_exists_once_its_module_does() -> None:
    for target in PROJECT["scripts"].values():
        name, _, function = target.partition(":")
        if name in MODULES:
            assert callable(getattr(load(name), function))
