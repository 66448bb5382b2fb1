"""The commands of ``session-mw``: all of them by name, and those that need no store of the app's.

A command is a thin face: it reads its options, calls what does the work, and prints.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

import click
from rich.console import Console
from rich.markup import escape

from ..core.keys import MINIMUM
from .output import shown_url
from .program import EXIT_CODES, STORE_EXIT_CODES, Program, show_help
from .sessions import sessions
from .upkeep import cleanup, schema, stats

__all__ = ["main"]


@click.group(cls=Program, invoke_without_command=True, epilog=STORE_EXIT_CODES)
@click.version_option(package_name="session_mw", prog_name="session-mw")
@click.pass_context
def main(context: click.Context) -> None:
    """Sessions for ASGI and WSGI apps."""
    show_help(context)


for command in (sessions, cleanup, stats, schema):
    main.add_command(command)


@main.command(epilog=EXIT_CODES)
@click.option(
    "--bytes",
    "size",
    type=click.IntRange(MINIMUM, 1024),
    default=48,
    show_default=True,
    help="Random bytes in the secret.",
)
@click.option("--env", is_flag=True, help="Print SESSION_MW_SECRET_KEY=…, ready for an environment file.")
def keygen(size: int, env: bool) -> None:
    """Print a fresh secret for secret_key=, one line of base64url."""
    click.echo(f"{'SESSION_MW_SECRET_KEY=' if env else ''}{secrets.token_urlsafe(size)}")


@main.command(epilog=f"{EXIT_CODES} Stopped by Ctrl+C: 0.")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address; any other is refused.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any port that is free."
)
@click.option(
    "--store", metavar="URL", help="Where sessions are kept, such as sqlite:///demo.db. [default: a file in ~/.cache]"
)
def demo(host: str, port: int, store: str | None) -> None:
    """Serve a small app on this machine that shows what sessions do."""
    try:
        from ..demo import server
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        raise click.ClickException("the demo needs a server: pip install 'session_mw[demo]'") from error
    from ..demo.accounts import NAMES, PASSWORD

    kept_in = store or _default_store()
    app = server.prepared(kept_in)
    try:
        socket = server.listen(host, port)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; try --port 0"
        ) from error
    with socket:
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"\n  [bold]session_mw demo[/]  [bold cyan]{server.url_of(socket)}[/]\n")
        console.print(f"  Sign in as   {', '.join(NAMES)}; the password is [bold]{PASSWORD}[/]")
        console.print(f"  Sessions in  {escape(shown_url(kept_in))}")
        console.print("  Stop with    Ctrl+C\n")
        sys.stdout.flush()
        server.serve(app, socket)


def _default_store() -> str:
    """A file that survives restarts, wherever the command is started."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "session-mw"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(
            f"{directory}: {(error.strerror or str(error)).lower()}; choose a place with --store sqlite:///file.db"
        ) from error
    return f"sqlite:///{quote(str(directory / 'demo.db'))}"
