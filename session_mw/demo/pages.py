"""What the pages say. No session in here: a handler reads it and passes on what is to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ..core.record import SessionRecord
from .accounts import NAMES, PASSWORD
from .browsers import browser_name
from .markup import Html, Page, each, framed, html

__all__ = [
    "PRODUCTS",
    "Frame",
    "ago",
    "cart",
    "confirm",
    "devices",
    "message",
    "note",
    "plain",
    "sign_in",
    "start",
    "vault",
]

PRODUCTS: Mapping[str, tuple[str, int]] = {
    "tea": ("Green tea, 100 g", 890),
    "cup": ("Porcelain cup", 1450),
    "pot": ("Cast-iron pot", 4900),
}
"""Key -> name, price in cents."""


class Frame:
    """What is around the content: who is signed in, and what has just been done."""

    def __init__(self, user: str | None, notice: str = "", *, unknown: bool = False) -> None:
        self.notice = notice
        if unknown:
            self.who = html("<span>not looked up</span>")
        elif user is None:
            self.who = html('<a class="button quiet" href="/sign-in">Sign in</a>')
        else:
            self.who = html(
                '<span><span class="wide">Signed in as </span><strong>{user}</strong></span>'
                '<form method="post" action="/sign-out"><button class="quiet">Sign out</button></form>',
                user=user,
            )

    def page(self, title: str, content: Html, here: str = "", status: int = 200) -> Page:
        """The content as a page."""
        return Page(framed(title, content, here=here, who=self.who, notice=self.notice), status)


def ago(then: int, now: int) -> str:
    """``5 minutes ago``, coarser the longer it is."""
    seconds = max(0, now - then)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := seconds // length) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _time(then: int, now: int) -> Html:
    moment = datetime.fromtimestamp(then, UTC)
    return html(
        '<time datetime="{iso}" title="{long}">{ago}</time>',
        iso=moment.isoformat(),
        long=f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        ago=ago(then, now),
    )


def start(frame: Frame) -> Page:
    """The first page: what there is to try."""
    cards = (
        ("/note", "Write a note", "It lives in your session and survives a restart of the server."),
        ("/cart", "Fill a cart", "Two tabs at once? Both clicks count; no update is lost."),
        ("/devices", "See your devices", "Sign in from a second browser, then sign it out from here."),
        ("/vault", "Open the vault", "Some pages want the password again after a minute."),
        ("/plain", "Ignore the session", "A page that does not look at it costs nothing. See below."),
    )
    tiles = each(
        html(
            '<li><a href="{path}"><strong>{title}</strong><span>{text}</span></a></li>', path=path, title=title, text=t
        )
        for path, title, t in cards
    )
    return frame.page(
        "Sessions, seen at work",
        html(
            '<p class="lead">Click around. The panel at the foot of every page tells what the session layer did for '
            "that very request: what it read, what it wrote, which cookie left, and how long it took.</p>"
            '<ul class="tiles">{tiles}</ul>',
            tiles=tiles,
        ),
        "/",
    )


def sign_in(frame: Frame, *, name: str, to: str, attempts: int, failed: bool, asked: bool) -> Page:
    """The form to sign in. *failed*: the last try did not match; *asked*: another page sent the visitor here."""
    problem = Html("")
    if failed:
        times = "once" if attempts == 1 else f"{attempts} times"
        problem = html(
            '<p class="problem" id="problem" role="alert">Name and password do not match; tried {times} so far.</p>',
            times=times,
        )
    elif asked:
        problem = Html('<p class="notice" role="status">Please sign in to see that page.</p>')
    options = each(
        html(
            "<option{selected}>{name}</option>", name=each_name, selected=Html(" selected" if each_name == name else "")
        )
        for each_name in NAMES
    )
    form = html(
        '{problem}<form class="card" method="post" action="/sign-in"><input type="hidden" name="next" value="{to}">'
        '<label for="name">Name</label><select id="name" name="name" autocomplete="username">{options}</select>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required'
        ' aria-describedby="hint{described}"{invalid}>'
        '<p class="hint" id="hint">This is a demo: everybody’s password is <code>{password}</code>.</p>'
        '<label class="check"><input type="checkbox" name="remember" value="yes"> Keep me signed in for 7 days</label>'
        "<button>Sign in</button></form>",
        problem=problem,
        to=to,
        options=options,
        password=PASSWORD,
        described=" problem" if failed else "",
        invalid=Html(' aria-invalid="true"' if failed else ""),
    )
    return frame.page("Sign in", form, status=422 if failed else 200)


def note(frame: Frame, text: str, limit: int) -> Page:
    """The note and its form."""
    return frame.page(
        "Your note",
        html(
            '<p class="lead">Kept in the session, so it outlives a restart of the server; signing out ends it. Save it '
            "unchanged, and see that nothing is written.</p>"
            '<form class="card" method="post" action="/note"><label for="note">Note</label>'
            '<textarea id="note" name="note" rows="5" maxlength="{limit}" aria-describedby="hint">\n{text}</textarea>'
            '<p class="hint" id="hint">At most {limit} characters. Empty it to delete it.</p><button>Save</button>'
            "</form>",
            text=text,
            limit=limit,
        ),
        "/note",
    )


def cart(frame: Frame, items: Mapping[str, int]) -> Page:
    """What can be bought, how much of it is in the cart."""

    def money(cents: int) -> str:
        return f"€ {cents / 100:.2f}"

    rows = each(
        html(
            '<li><span class="what"><strong>{name}</strong><span>{price}</span></span><form method="post" '
            'action="/cart"><input type="hidden" name="item" value="{key}"><button name="do" value="remove" '
            'class="round quiet" aria-label="One {name} less"{off}>−</button><output aria-label="In the cart">{count}'
            '</output><button name="do" value="add" class="round" aria-label="One {name} more">+</button></form></li>',
            key=key,
            name=name,
            price=money(price),
            count=items.get(key, 0),
            off=Html("" if items.get(key) else " disabled"),
        )
        for key, (name, price) in PRODUCTS.items()
    )
    total = sum(PRODUCTS[key][1] * count for key, count in items.items() if key in PRODUCTS)
    return frame.page(
        "Your cart",
        html(
            '<p class="lead">Every click is an <code>update_with</code>: requests that overlap are re-applied one on '
            'top of the other.</p><ul class="card rows">{rows}</ul><p class="total">Total <strong>{total}</strong></p>',
            rows=rows,
            total=money(total),
        ),
        "/cart",
    )


def devices(frame: Frame, records: Sequence[SessionRecord], this: str | None, now: int) -> Page:
    """The sessions of one user."""
    others = sum(record.session_id != this for record in records)
    rows = each(
        html(
            '<li{mine}><span class="what"><strong>{browser}</strong>{tag}<span>from {address} · begun {created} · '
            "active {active}</span><code>{handle}…</code></span>{end}</li>",
            mine=Html(' class="mine"' if record.session_id == this else ""),
            browser=browser_name(record.login_user_agent),
            tag=Html(' <span class="tag">this one</span>' if record.session_id == this else ""),
            address=record.login_ip or "an unknown address",
            created=_time(record.created_at, now),
            active=_time(record.last_activity, now),
            handle=record.session_id[:8],
            end=Html("")
            if record.session_id == this
            else html(
                '<form method="post" action="/devices/sign-out"><input type="hidden" name="id" value="{id}">'
                '<button class="quiet" aria-label="Sign out {browser}, {handle}">Sign out</button></form>',
                id=record.session_id,
                browser=browser_name(record.login_user_agent),
                handle=record.session_id[:8],
            ),
        )
        for record in records
    )
    end_others = html(
        '<form method="post" action="/devices/sign-out-others"><button{off}>Sign out all others</button></form>',
        off=Html("" if others else " disabled"),
    )
    return frame.page(
        "Your devices",
        html(
            '<p class="lead">Every session of yours in the store, newest first. Open this address in another browser, '
            "or in a private window, sign in with the same name, and come back.</p>"
            '<ul class="card rows">{rows}</ul>{end_others}',
            rows=rows,
            end_others=end_others,
        ),
        "/devices",
    )


def vault(frame: Frame, *, seconds: int, limit: int) -> Page:
    """What only a recent login may see."""
    return frame.page(
        "The vault",
        html(
            '<div class="card open"><p><strong>Open.</strong> Your password was checked {seconds} seconds ago; after '
            "{limit} this page asks again.</p><p>The secret: <em>a session is a dict that outlives a request.</em></p>"
            "</div>",
            seconds=seconds,
            limit=limit,
        ),
        "/vault",
    )


def confirm(frame: Frame, *, user: str, limit: int, failed: bool) -> Page:
    """The form that asks for the password again."""
    problem = Html('<p class="problem" id="problem" role="alert">That is not the password.</p>' if failed else "")
    return frame.page(
        "The vault",
        html(
            '<p class="lead">You are signed in, but that was more than {limit} seconds ago. Is it still you?</p>'
            '{problem}<form class="card" method="post" action="/vault"><label for="password">Password of {user}</label>'
            '<input id="password" name="password" type="password" autocomplete="current-password" required '
            'aria-describedby="hint{described}"{invalid}>'
            '<p class="hint" id="hint">Still <code>{password}</code>.</p><button>Open the vault</button></form>',
            limit=limit,
            problem=problem,
            user=user,
            password=PASSWORD,
            described=" problem" if failed else "",
            invalid=Html(' aria-invalid="true"' if failed else ""),
        ),
        "/vault",
        status=422 if failed else 200,
    )


def plain(frame: Frame) -> Page:
    """The page that ignores the session."""
    return frame.page(
        "A page without a session",
        Html(
            '<p class="lead">Its handler never looks at the session, so it cannot say who you are. Your browser sent '
            "its cookie all the same; nobody read it: no store call, no <code>Set-Cookie</code>, no "
            "<code>Vary</code>.</p>"
        ),
        "/plain",
    )


def message(frame: Frame, title: str, text: str, status: int) -> Page:
    """A refusal in a sentence."""
    return frame.page(title, html('<p class="lead">{text}</p>', text=text), status=status)
