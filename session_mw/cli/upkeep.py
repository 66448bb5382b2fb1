"""``session-mw cleanup``, ``stats`` and ``schema``: the care of a store as a whole.

Decided here: cleaning up asks nobody, since all it deletes is over already. A dry run counts, where the store
can count; where it cannot, it is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import StoreError
from ..stores import Inspectable, StoreStats
from ..stores.faces import store_of
from . import output
from .program import EXIT_CODES, STORE_EXIT_CODES, STORE_FAILED, Failure
from .reach import Reached, configured, json_option, reached, store_option

__all__ = ["cleanup", "schema", "stats"]


@click.command(epilog=STORE_EXIT_CODES)
@click.option("--dry-run", is_flag=True, help="Delete nothing; say how many records would be.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Delete at most so many.")
@store_option
@json_option
def cleanup(dry_run: bool, limit: int | None, store: str | None, json: bool) -> None:
    """Delete what has expired, in small batches that keep nobody waiting."""
    with reached(store) as at:
        count = _capped(at.inspect("count_expired"), limit) if dry_run else _clean_up(at, limit)
    if json:
        output.as_json({"store": at.url, "dry_run": dry_run, "count": count})
    else:
        records = f"{count:,} record{'' if count == 1 else 's'}"
        click.echo(f"Would delete {records}." if dry_run else f"Deleted {records}.")


@click.command(epilog=STORE_EXIT_CODES)
@store_option
@json_option
def stats(store: str | None, json: bool) -> None:
    """Count what the store holds: live, expired and closed records, users, bytes."""
    with reached(store) as at:
        told: StoreStats = at.inspect("stats")
    values: dict[str, Any] = {"store": at.url, "at": at.now, **msgspec.structs.asdict(told)}
    times = ("at", "oldest", "newest")
    if json:
        output.as_json(values | {name: output.iso(values[name]) for name in times})
    else:
        output.pairs(values | {name: output.moment(values[name], at.now) for name in times})


@click.command(epilog=EXIT_CODES)
@store_option
@json_option
def schema(store: str | None, json: bool) -> None:
    """Print what must be made before the store can be used: SQL for a database, nothing for others."""
    config = configured(store)
    made: Any = store_of(config.replace(migrate_from=None))  # the old one has what it needs
    sql: str | None = made.schema() if hasattr(made, "schema") else None
    if json:
        output.as_json({"store": output.shown_url(config.store), "sql": sql})
    else:
        click.echo("nothing: this store makes what it needs" if sql is None else sql.rstrip("\n"))


def _capped(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _clean_up(at: Reached, limit: int | None) -> int:
    done = 0
    with _progress(at, limit) as show:

        def note(count: int) -> None:
            nonlocal done
            done = count
            show(count)

        try:
            count: int = at.ask(at.service.cleanup_expired_sessions, limit=limit, progress=note)
        except StoreError as error:
            if not done:
                raise
            raise Failure(f"{error}; {done:,} records were deleted before", STORE_FAILED) from error
    return count


@contextmanager
def _progress(at: Reached, limit: int | None) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, if that is a terminal; of unknown length where the store cannot count."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        return
    total = _capped(at.inspect("count_expired"), limit) if isinstance(at.store, Inspectable) else None
    columns = (TextColumn("Deleting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.update(task, completed=count)
