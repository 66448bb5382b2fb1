"""How ``session-mw`` ends: one line on stderr and an exit code, never a traceback for what was foreseen.

Decided here: what each exit code means.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ..errors import SessionError

__all__ = ["EXIT_CODES", "STORE_EXIT_CODES", "Failure", "Program", "show_help"]

BAD_INPUT, NOT_FOUND, STORE_FAILED, STOPPED = 2, 3, 4, 130

EXIT_CODES = "Exit codes: 0 done; 1 an unexpected failure; 2 bad input, told in one line on stderr."
STORE_EXIT_CODES = f"{EXIT_CODES} Where a store is asked: 3 no such session; 4 the store failed; 130 stopped."


class Failure(click.ClickException):
    """The end, with an exit code of its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Program(click.Group):
    """A group of commands that tells what was wrong in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with one of ``EXIT_CODES``; with *standalone_mode* off, click's own exceptions come through."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            sys.exit(STOPPED)
        except Failure as error:
            _end(error.message, error.code)
        except click.ClickException as error:
            _end(error.format_message(), BAD_INPUT)
        except SessionError as error:
            _end(str(error), BAD_INPUT)
        sys.exit(status if isinstance(status, int) else 0)


def _end(reason: str, code: int) -> NoReturn:
    click.echo(f"session-mw: {' '.join(reason.split())}", err=True)
    sys.exit(code)


def show_help(context: click.Context) -> None:
    """What a group does when no command is named."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
