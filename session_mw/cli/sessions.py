"""``session-mw sessions``: look at the sessions of one user, show one, destroy one or all of them.

Decided here: what needs a yes. Destroying one session named by its id does not; destroying all of a user's does, on a
terminal by asking, elsewhere by ``--yes``.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from ..core.lifetime import expired
from ..core.login import owner_id
from ..core.record import Record, SessionRecord, followed
from ..core.tokens import is_id, split
from ..errors import StoreError
from . import output
from .program import NOT_FOUND, STORE_EXIT_CODES, STORE_FAILED, Failure, show_help
from .reach import Reached, json_option, reached, store_option

__all__ = ["sessions"]

TIMES = ("created_at", "last_activity", "expires_at", "absolute_expires_at")
SHOWN = ("session_id", "created_at", "last_activity", "expires_at", "login_ip", "login_user_agent")
COLUMNS = ("Session", "Last activity", "Expires", "From")

# An id may begin with "-"; what looks like an option and is none is an argument.
IDS = {"ignore_unknown_options": True}


def _checked_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """*value* if it is shaped like an id; never shown, for it may be a token."""
    if value is None or is_id(value):
        return value
    if split(value) is not None:
        raise click.BadParameter("that is a whole token, which is a credential; pass only what is before the dot")
    raise click.BadParameter("that is no session id, nor an option")


def _checked_user(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return owner_id(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(invoke_without_command=True, epilog=STORE_EXIT_CODES)
@click.pass_context
def sessions(context: click.Context) -> None:
    """Look at sessions, and end them."""
    show_help(context)


@sessions.command("list", epilog=STORE_EXIT_CODES)
@click.option("--user", "user_id", metavar="USER", required=True, callback=_checked_user, help="Whose sessions.")
@store_option
@json_option
def list_(user_id: str, store: str | None, json: bool) -> None:
    """List the live sessions of a user, newest first, without their data."""
    with reached(store) as at:
        records: list[SessionRecord] = at.ask(at.service.list_records, user_id)
    if json:
        output.as_json([_as_json(record) for record in records])
    elif output.on_terminal():
        output.table(COLUMNS, [_cells(record, at.now) for record in records])
    else:
        texts = [_as_text(record, at.now) for record in records]
        output.lines([[text[name] for name in SHOWN] for text in texts])


@sessions.command(context_settings=IDS, epilog=STORE_EXIT_CODES)
@click.argument("id", callback=_checked_id)
@click.option("--data", is_flag=True, help="Print also what the session holds, in storage global.")
@store_option
@json_option
def show(id: str, data: bool, store: str | None, json: bool) -> None:
    """Show a live session: owner, times, where its login came from. Never its token."""
    with reached(store) as at:
        record = SessionRecord.of(_live(at, id))
        held = _data_of(at, id) if data else None
    document = _as_json(record)
    if data:
        document["data"] = held
    if json:
        output.as_json(document)
        return
    values = _as_text(record, at.now)
    if data:
        values["data"] = output.compact_json(held)
    output.pairs(values)


@sessions.command(context_settings=IDS, epilog=STORE_EXIT_CODES)
@click.argument("id", callback=_checked_id)
@store_option
@json_option
def destroy(id: str, store: str | None, json: bool) -> None:
    """End a session now, whatever is being done with it."""
    with reached(store) as at:
        if not at.ask(at.service.destroy_session, id):
            raise _not_found()
    if json:
        output.as_json({"session_id": id, "destroyed": 1})
    else:
        click.echo(f"Destroyed {id}.")


@sessions.command("destroy-user", epilog=STORE_EXIT_CODES)
@click.argument("user_id", metavar="USER", callback=_checked_user)
@click.option("--except", "except_id", metavar="ID", callback=_checked_id, help="A session to keep.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@store_option
@json_option
def destroy_user(user_id: str, except_id: str | None, yes: bool, store: str | None, json: bool) -> None:
    """End all sessions of a user now."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked; add --yes")
    with reached(store) as at:
        if except_id is not None or not yes:
            ids: list[str] = at.ask(at.service.list_sessions, user_id)
            if except_id is not None and except_id not in ids:
                raise Failure("the session to keep is no live session of this user; nothing was destroyed", NOT_FOUND)
            if not yes:
                count = len(ids) - (except_id is not None)
                _confirm(f"Destroy {_sessions(count)} of {output.plain(user_id)} in {output.plain(at.url)}?")
        count = at.ask(at.service.destroy_user_sessions, user_id, except_id=except_id)
    if json:
        output.as_json({"user_id": user_id, "destroyed": count})
    else:
        click.echo(f"Destroyed {_sessions(count)}.")


def _live(at: Reached, id: str) -> Record:
    """The live record of *id*; how it ended, as a ``Failure``, where there is none. Nothing is deleted."""
    record: Record | None = at.ask(at.store.load, id)
    if record is None:
        raise _not_found()
    if record.closed:
        successor = followed(record, at.now)
        reason = f"was regenerated a moment ago, and is now {successor}" if successor else "ended a moment ago"
        raise Failure(f"the session {reason}", NOT_FOUND)
    if expired(record, at.now):
        raise Failure(f"the session expired at {output.moment(record.expires_at, at.now)}", NOT_FOUND)
    return record


def _data_of(at: Reached, id: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] | None = at.ask(at.service.get_session, id)
    except StoreError as error:
        if error.__cause__ is not None:
            raise
        raise Failure(
            "the data of this session cannot be read: damaged, or sealed with other settings than these"
            " (SESSION_MW_ENCRYPTION, SESSION_MW_SECRET_KEY, SESSION_MW_TABLE_INDEX)",
            STORE_FAILED,
        ) from error
    if data is None:
        raise _not_found()
    return data


def _not_found() -> Failure:
    return Failure("there is no such session", NOT_FOUND)


def _as_json(record: SessionRecord) -> dict[str, Any]:
    values = msgspec.structs.asdict(record)
    del values["data"]
    return values | {name: output.iso(values[name]) for name in TIMES}


def _as_text(record: SessionRecord, now: int) -> dict[str, Any]:
    values = msgspec.structs.asdict(record)
    del values["data"]
    return values | {name: output.moment(values[name], now) for name in TIMES}


def _cells(record: SessionRecord, now: int) -> list[tuple[object, ...]]:
    times = [(output.iso(each), output.age(each, now)) for each in (record.last_activity, record.expires_at)]
    return [(record.session_id,), *times, (record.login_ip, record.login_user_agent)]


def _sessions(count: int) -> str:
    return f"{count:,} session{'' if count == 1 else 's'}"


def _confirm(question: str) -> None:
    if not click.confirm(question, err=True):
        click.echo("session-mw: nothing was destroyed", err=True)
        raise click.Abort
