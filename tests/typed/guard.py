"""What type checkers must see through the guard; a line with an ignore must be an error (``warn_unused_ignores``)."""

from typing import assert_type

from session_mw import Session
from session_mw.access import login_required, requires


@login_required
async def page(id: int, *, tab: str = "") -> bytes:
    return b""


@login_required(fresh=300, redirect_to=lambda: "/login")
def form(name: str) -> int:
    return 1


def check(session: Session) -> bool:
    return True


@requires(check, storage="admin")
class View:
    def dispatch(self, id: int) -> str:
        return ""

    @login_required
    def method(self, id: int) -> str:
        return ""


async def right() -> None:
    assert_type(await page(1, tab="x"), bytes)
    assert_type(form("x"), int)
    assert_type(View().method(1), str)
    assert_type(View().dispatch(1), str)


async def wrong() -> None:
    await page("1")  # type: ignore[arg-type]
    form(5)  # type: ignore[arg-type]
    View().method("x")  # type: ignore[arg-type]
    requires(5)  # type: ignore[arg-type]
    login_required(colour=1)  # type: ignore[call-overload]
    login_required(fresh="5")  # type: ignore[call-overload]
