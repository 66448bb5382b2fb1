"""The demo, page by page and rule by rule, in this process; ``test_demo_browser`` drives it with a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from session_mw.core.record import Record
from session_mw.demo import watch
from session_mw.demo.accounts import NAMES, PASSWORD
from session_mw.demo.app import CART_LIMIT, NOTE_LIMIT, demo_app
from session_mw.demo.browsers import browser_name
from session_mw.demo.forms import MAX_BYTES, is_loopback
from session_mw.demo.markup import Html, html
from session_mw.demo.pages import ago
from session_mw.errors import StoreBusyError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8000"
OURS = {"sec-fetch-site": "same-origin"}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
VOID = {"meta", "link", "input", "img", "br"}


Browser = Callable[..., httpx.AsyncClient]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
async def browser(store: MemoryStore, clock: Clock) -> AsyncIterator[Browser]:
    """``browser()``: a client of its own cookies, all of one running demo."""
    app = demo_app(store, clock=clock)
    clients: list[httpx.AsyncClient] = []

    def new(agent: str = FIREFOX) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 40_000))
        clients.append(
            httpx.AsyncClient(
                transport=transport, base_url=URL, headers={**OURS, "user-agent": agent}, follow_redirects=True
            )
        )
        return clients[-1]

    yield new
    for client in clients:
        await client.aclose()


async def sign_in(client: httpx.AsyncClient, name: str = "alice", **more: str) -> httpx.Response:
    answer = await client.post("/sign-in", data={"name": name, "password": PASSWORD, **more})
    assert answer.status_code == 200
    assert f"<strong>{name}</strong>" in answer.text
    return answer


def handle(client: httpx.AsyncClient) -> str:
    """The public half of the session cookie."""
    return client.cookies["session-demo"].partition(".")[0]


def panel(answer: httpx.Response) -> list[str]:
    """What the panel says of each request, this page's first: plain text."""
    text = answer.text.partition('<aside class="panel"')[2]
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split()) for part in text.split("<li")[1:]]


def main_text(answer: httpx.Response) -> str:
    return answer.text.partition("<main")[2].partition("</main>")[0]


class Outline(HTMLParser):
    """A page's tags: are they closed, do labels and references name something that is there?"""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


# -- every page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/sign-in", "/note", "/cart", "/devices", "/vault", "/plain", "/nowhere"])
@pytest.mark.parametrize("user", [None, "alice"])
async def test_every_page_is_sound(browser: Browser, path: str, user: str | None) -> None:
    client = browser()
    if user:
        await sign_in(client)
        await sign_in(browser())
    page = await client.get(path)
    assert page.status_code == (404 if path == "/nowhere" else 200)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy

    outline = Outline(page.text)
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    names = [tag for tag, _ in outline.tags]
    for single in ("main", "h1", "header", "aside", "title", "style", "nav"):
        assert names.count(single) == 1, single
    assert "script" not in names
    assert not outline.values("style")  # the policy would not let it in
    assert set(outline.values("for")) <= set(ids)
    for each in (*outline.values("aria-describedby"), *outline.values("aria-labelledby")):
        assert set(each.split()) <= set(ids)
    for tag, attributes in outline.tags:
        if tag in ("input", "select", "textarea") and attributes.get("type") not in ("hidden", "checkbox"):
            assert attributes["id"] in outline.values("for"), attributes
        if tag == "form":
            assert attributes["method"] == "post"
    addresses = [*outline.values("href"), *outline.values("src"), *outline.values("action")]
    assert all(re.match(r"[/#](?!/)", address) for address in addresses)
    assert (outline.values("href")[1], ids[0]) == ("#main", "main")  # the skip link, and where it leads
    assert "url(" not in page.text
    assert "@import" not in page.text


@pytest.mark.parametrize("path", ["/note", "/cart", "/devices", "/vault"])
async def test_the_navigation_marks_the_page(browser: Browser, path: str) -> None:
    client = browser()
    await sign_in(client)
    assert re.findall(r'href="([^"]+)" aria-current', (await client.get(path)).text) == [path]


async def test_its_icon_is_its_own(browser: Browser) -> None:
    answer = await browser().get("/icon.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "vary" not in answer.headers


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 §1.4.3, of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_its_colours_can_be_told_apart(browser: Browser, scheme: str) -> None:
    text = (await browser().get("/")).text
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    )
    colours = light if scheme == "light" else {**light, **dark}
    pairs = [
             ("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("accent", "paper"),
             ("accent", "card"), ("accent", "accent-soft"), ("ink", "accent-soft"), ("on-accent", "accent"),
             ("warn", "warn-soft"), ("panel-ink", "panel"), ("panel-soft", "panel"), ("panel-did", "panel"),
    ]  # fmt: skip
    for front, back in pairs:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    for back in ("paper", "card"):
        assert contrast(colours["field"], colours[back]) >= 3, back  # §1.4.11


def test_what_is_filled_in_is_escaped() -> None:
    assert html("<p {a}>{b}</p>", a=Html('id="x"'), b='<&">') == '<p id="x">&lt;&amp;&quot;&gt;</p>'


# -- signing in and out ------------------------------------------------------------------------------------------------


async def test_signing_in_begins_a_session_and_out_ends_it(browser: Browser, store: MemoryStore) -> None:
    client = browser()
    start = await client.get("/")
    assert "set-cookie" not in start.headers
    assert "Sign in" in start.text
    await sign_in(client)
    old = handle(client)
    record = store.load(old)
    assert record is not None
    assert record.user_id == "alice"

    out = await client.post("/sign-out")
    assert "The session and everything in it has ended." in out.text
    assert "session-demo" not in client.cookies
    ended = store.load(old)
    assert ended is not None
    assert ended.closed


async def test_a_session_that_was_begun_before_changes_its_id_and_keeps_its_data(browser: Browser) -> None:
    client = browser()
    await client.post("/note", data={"note": "before"})
    before = handle(client)
    await sign_in(client)
    assert handle(client) != before
    assert "before</textarea>" in (await client.get("/note")).text


@pytest.mark.parametrize("name", NAMES)
async def test_a_wrong_password_is_counted_and_a_right_one_forgets(browser: Browser, name: str) -> None:
    client = browser()
    first = await client.post("/sign-in", data={"name": name, "password": "guess"})
    assert first.status_code == 422
    assert "tried once so far" in first.text
    second = await client.post("/sign-in", data={"name": name, "password": "<guess>"})
    assert "tried 2 times so far" in second.text
    assert f"<option selected>{name}</option>" in second.text
    assert "guess" not in second.text
    assert 'aria-invalid="true"' in second.text
    await sign_in(client, name)
    assert "tried once so far" in (await client.post("/sign-in", data={"name": name, "password": ""})).text


async def test_nobody_else_signs_in(browser: Browser) -> None:
    answer = await browser().post("/sign-in", data={"name": "mallory", "password": PASSWORD})
    assert answer.status_code == 422


async def test_another_user_finds_nothing_of_the_former(browser: Browser) -> None:
    client = browser()
    await sign_in(client, "alice")
    await client.post("/note", data={"note": "alice's"})
    await sign_in(client, "bob")
    assert "alice" not in main_text(await client.get("/note"))


async def test_remembered_for_seven_days_or_until_the_browser_closes(browser: Browser, clock: Clock) -> None:
    client, other = browser(), browser()
    remembered = (await sign_in(client, remember="yes")).history[0]
    assert "Max-Age=604800" in remembered.headers["set-cookie"]
    plain = (await sign_in(other)).history[0]
    assert "Max-Age" not in plain.headers["set-cookie"]
    clock.advance(3 * 86_400)
    assert "<strong>alice</strong>" in (await client.get("/")).text
    assert "<strong>alice</strong>" not in (await other.get("/")).text


@pytest.mark.parametrize("path", ["/devices", "/vault"])
async def test_a_page_for_users_asks_to_sign_in_and_leads_back(browser: Browser, path: str) -> None:
    client = browser()
    asked = await client.get(path)
    assert asked.url.path == "/sign-in"
    assert "Please sign in to see that page." in asked.text
    assert f'name="next" value="{path}"' in asked.text
    assert (await sign_in(client, next=path)).url.path == path


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "/sign-out", "javascript:alert(1)", ""])
async def test_signing_in_never_leads_elsewhere(browser: Browser, next: str) -> None:
    client = browser()
    form = await client.get("/sign-in", params={"next": next})
    assert 'name="next" value="/"' in form.text
    answer = await sign_in(client, next=next)
    assert (answer.url.host, answer.url.path) == ("127.0.0.1", "/")


# -- what lives in the session -----------------------------------------------------------------------------------------


async def test_a_note_is_kept_escaped_cut_and_deleted(browser: Browser) -> None:
    client = browser()
    saved = await client.post("/note", data={"note": "</textarea><script>alert(1)</script>\r\n& more"})
    assert "Saved." in saved.text
    assert "&lt;/textarea&gt;&lt;script&gt;alert(1)&lt;/script&gt;\n&amp; more</textarea>" in saved.text
    long = await client.post("/note", data={"note": "x" * (NOTE_LIMIT + 5)})
    assert "x" * NOTE_LIMIT + "</textarea>" in long.text
    gone = await client.post("/note", data={"note": "  "})
    assert "The note is gone." in gone.text
    assert "session-demo" not in client.cookies  # nothing else was in the session


async def test_a_cart_counts_each_click(browser: Browser) -> None:
    client = browser()

    async def click(do: str, item: str = "tea") -> str:
        return main_text(await client.post("/cart", data={"item": item, "do": do}))

    await click("add")
    page = await click("add", "pot")
    assert "€ 57.90" in page
    await click("add")
    assert "€ 66.80" in await click("remove", "cup")
    await click("remove")
    assert "€ 49.00" in await click("remove")
    for _ in range(CART_LIMIT + 1):
        page = await click("add")
    assert f">{CART_LIMIT}</output>" in page


@pytest.mark.parametrize("data", [{"item": "moon", "do": "add"}, {"item": "tea", "do": "steal"}, {}])
async def test_a_cart_takes_only_what_there_is(browser: Browser, data: dict[str, str]) -> None:
    client = browser()
    answer = await client.post("/cart", data={"x": "", **data})
    assert answer.status_code == 400
    assert "There is no such thing to buy." in answer.text
    assert "session-demo" not in client.cookies


async def test_a_session_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'demo.db'}"

    @asynccontextmanager
    async def running() -> AsyncIterator[httpx.AsyncClient]:
        app = demo_app(url)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=URL, headers=OURS, follow_redirects=True) as client:
            yield client
        await app.sessions.layer.aclose_store()

    async with running() as client:
        await sign_in(client)
        await client.post("/note", data={"note": "still here"})
        cookies = client.cookies
    async with running() as client:
        client.cookies = cookies
        page = await client.get("/note")
        assert "still here</textarea>" in page.text
        assert "<strong>alice</strong>" in page.text


# -- devices -----------------------------------------------------------------------------------------------------------

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


async def test_devices_lists_this_users_sessions_and_says_which_is_this_one(browser: Browser, clock: Clock) -> None:
    one, two, bobs = browser(FIREFOX), browser(CHROME), browser()
    await sign_in(one)
    clock.advance(7200 - 60)
    await sign_in(two)
    await sign_in(bobs, "bob")
    page = main_text(await one.get("/devices"))
    rows = [row.partition("</li>")[0] for row in page.split("<li")[1:]]
    assert len(rows) == 2
    assert "Chrome 140 on Windows" in rows[0]  # the newest first
    assert "this one" not in rows[0]
    assert f'value="{handle(two)}"' in rows[0]
    assert "Firefox 131 on Linux" in rows[1]
    assert "this one" in rows[1]
    assert "from 127.0.0.1" in rows[1]
    assert "begun <time" in rows[1]
    assert "1 hour ago" in rows[1]
    assert "<button" not in rows[1]
    assert handle(bobs)[:8] not in page
    for client in (one, two, bobs):
        assert client.cookies["session-demo"].partition(".")[2] not in page  # the secret half


async def test_a_session_whose_time_is_over_is_not_listed(browser: Browser, clock: Clock) -> None:
    one, two = browser(), browser()
    await sign_in(one)
    await sign_in(two, remember="yes")
    clock.advance(7200)
    assert len(main_text(await two.get("/devices")).split("<li")) == 2


async def test_one_browser_signs_the_other_out(browser: Browser, store: MemoryStore) -> None:
    one, two = browser(), browser()
    await sign_in(one)
    await sign_in(two)
    page = await one.post("/devices/sign-out", data={"id": handle(two)})
    assert "Signed out there." in page.text
    assert store.load(handle(two)) is None
    assert "disabled>Sign out all others" in page.text
    asked = await two.get("/devices")
    assert asked.url.path == "/sign-in"
    assert "set-cookie" not in asked.headers
    assert "Cookie not accepted" in panel(asked)[0]
    await sign_in(two)
    again = await one.post("/devices/sign-out", data={"id": "nobody"})
    assert "had ended already" in again.text


async def test_nobody_signs_out_somebody_else(browser: Browser, store: MemoryStore) -> None:
    alices, bobs = browser(), browser()
    await sign_in(alices)
    await sign_in(bobs, "bob")
    answer = await bobs.post("/devices/sign-out", data={"id": handle(alices)})
    assert "had ended already" in answer.text
    assert store.load(handle(alices)) is not None
    stranger = await browser().post("/devices/sign-out", data={"id": handle(alices)})
    assert stranger.url.path == "/sign-in"
    assert "<strong>alice</strong>" in (await alices.get("/")).text


async def test_a_session_that_ends_while_it_is_being_signed_out(
    browser: Browser, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = browser(), browser()
    await sign_in(one)
    await sign_in(two)
    listed = store.list_user("alice")
    store.delete(handle(two))
    monkeypatch.setattr(store, "list_user", lambda user_id: listed)
    assert "had ended already" in (await one.post("/devices/sign-out", data={"id": handle(two)})).text


async def test_signing_out_this_one_is_signing_out(browser: Browser) -> None:
    client = browser()
    await sign_in(client)
    answer = await client.post("/devices/sign-out", data={"id": handle(client)})
    assert answer.url.path == "/"
    assert "session-demo" not in client.cookies


async def test_all_others_are_signed_out_and_this_one_stays(browser: Browser) -> None:
    one, two, three, bobs = browser(), browser(), browser(), browser()
    for client in (one, two, three):
        await sign_in(client)
    await sign_in(bobs, "bob")
    page = await one.post("/devices/sign-out-others")
    assert "All other sessions of yours have ended." in page.text
    assert "Other sessions deleted" in panel(page)[1]
    for client, name, stays in (
        (one, "alice", True),
        (two, "alice", False),
        (three, "alice", False),
        (bobs, "bob", True),
    ):
        assert (f"<strong>{name}</strong>" in (await client.get("/")).text) is stays


# -- a recent login ----------------------------------------------------------------------------------------------------


async def test_the_vault_trusts_a_login_for_a_minute(browser: Browser, clock: Clock) -> None:
    client = browser()
    await sign_in(client)
    clock.advance(59)
    assert "checked 59 seconds ago" in (await client.get("/vault")).text
    clock.advance(1)
    closed = await client.get("/vault")
    assert "Password of alice" in closed.text
    assert "outlives" not in closed.text

    before = handle(client)
    wrong = await client.post("/vault", data={"password": "guess"})
    assert wrong.status_code == 422
    assert "That is not the password." in wrong.text
    assert "outlives" not in wrong.text
    assert handle(client) == before
    right = await client.post("/vault", data={"password": PASSWORD})
    assert "checked 0 seconds ago" in right.text
    assert handle(client) != before


# -- posts of other sites ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of this machine
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": URL},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "https://127.0.0.1:8000"},
        {},
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/note", "/devices/sign-out-others"])
async def test_a_post_of_another_page_is_refused(browser: Browser, headers: dict[str, str], path: str) -> None:
    client = browser()
    await sign_in(client)
    cookie = client.cookies["session-demo"]
    del client.headers["sec-fetch-site"]
    answer = await client.post(path, data={"name": "bob", "password": PASSWORD, "note": "x"}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert client.cookies["session-demo"] == cookie
    assert "<strong>alice</strong>" in (await client.get("/")).text


async def test_an_older_browsers_origin_is_believed(browser: Browser) -> None:
    client = browser()
    del client.headers["sec-fetch-site"]
    client.headers["origin"] = URL
    await sign_in(client)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[", ""])
async def test_a_foreign_name_for_this_machine_is_refused(browser: Browser, host: str) -> None:
    assert (await browser().get("/", headers={"host": host})).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "127.9.9.9:80", "[::1]:8000", "demo.localhost"])
async def test_a_loopback_name_is_answered(browser: Browser, host: str) -> None:
    assert (await browser().get("/", headers={"host": host})).status_code == 200


async def test_a_page_has_no_other_methods(browser: Browser) -> None:
    assert (await browser().delete("/note")).status_code == 405
    assert (await browser().get("/sign-out")).status_code == 405
    assert (await browser().head("/note")).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"note=x", "", 415),
        (b"note=" + b"x" * MAX_BYTES, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"a=b"] * 21), "application/x-www-form-urlencoded", 400),
        ("note=ü".encode(), "application/x-www-form-urlencoded", 400),
    ],
)
async def test_what_is_no_form_of_ours_is_refused(browser: Browser, body: bytes, kind: str, status: int) -> None:
    client = browser()
    answer = await client.post("/note", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert "That did not work" in answer.text
    assert "session-demo" not in client.cookies


# -- the panel ---------------------------------------------------------------------------------------------------------


async def test_the_panel_tells_of_the_request_and_of_the_one_that_led_to_it(browser: Browser) -> None:
    client = browser()
    (nothing,) = panel(await client.get("/note"))
    assert "GET /note → 200" in nothing
    assert "no cookie came" in nothing
    assert "Written Nothing" in nothing
    assert "Cookie None sent" in nothing

    page = await client.post("/note", data={"note": "x"})
    now, before = panel(page)
    assert "GET /note → 200" in now
    assert re.search(r"Loaded Record read \d+ bytes, version 1, \d+ µs Written Nothing Cookie None sent", now)
    assert "POST /note → 303" in before
    assert re.search(r"Written Record created \d+ bytes, version 1, \d+ µs", before)
    line = page.history[0].headers["set-cookie"]
    assert f"Cookie Set {len(line)} bytes of header" in before
    assert client.cookies["session-demo"] not in page.text
    assert client.cookies["session-demo"].partition(".")[2] not in page.text

    same = panel(await client.post("/note", data={"note": "x"}))[1]
    assert "Written Nothing Cookie None sent" in same  # an equal value is never written
    assert len(panel(await client.get("/note"))) == 1


async def test_the_panel_tells_of_rotation_ending_and_a_due_touch(browser: Browser, clock: Clock) -> None:
    client = browser()
    await client.post("/note", data={"note": "x"})
    signed_in = panel(await sign_in(client))[1]
    assert "New record in, old one closed, in one step" in signed_in
    clock.advance(61)
    assert "Written Deadline moved" in panel(await client.get("/note"))[0]
    out = panel(await client.post("/sign-out"))
    assert "Written Record closed" in out[1]
    assert "Cookie Cleared" in out[1]
    assert "no cookie came" in out[0]


async def test_a_page_that_ignores_the_session_costs_nothing(browser: Browser) -> None:
    client = browser()
    await sign_in(client)
    page = await client.get("/plain")
    assert "Loaded Nothing the page did not look at the session" in panel(page)[0]
    assert "Time None" in panel(page)[0]
    assert "vary" not in page.headers
    assert "alice" not in page.text


async def test_a_story_is_told_to_who_has_its_key_and_not_for_ever(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_KEPT", 3)
    client = browser()
    first = await client.post("/note", data={"note": "x"})
    again = await client.get(str(first.url))
    assert "POST /note" in panel(again)[1]
    assert len(panel(await client.get("/note?after=wrong"))) == 1
    chained = await browser().get("/devices", params={"after": first.url.params["after"]})
    assert len(panel(chained)) == 3  # and never more
    for _ in range(3):
        await client.post("/cart", data={"item": "tea", "do": "add"}, follow_redirects=False)
    assert len(panel(await client.get(str(first.url)))) == 1


class Busy(MemoryStore):
    """Its inline face has no time to write, as when another holds the lock."""

    def inline(self) -> Any:
        class Inline:
            can_rotate = True

            def __getattr__(face, name: str) -> Any:  # noqa: N805
                return getattr(self, name)

            def create(face, record: Record) -> bool:  # noqa: N805
                raise StoreBusyError("locked")

        return Inline()


class Waiting:
    """A store that must be awaited, and no other face."""

    def __init__(self, store: MemoryStore) -> None:
        self.can_rotate = True
        for name in ("create", "save", "touch", "delete", "close", "rotate", "list_user", "delete_user", "purge"):
            setattr(self, name, getattr(store.aio(), name))
        self._face = store.aio()

    async def load(self, id: str) -> Record | None:
        return await self._face.load(id)

    async def initialize(self) -> None:
        pass

    async def teardown(self) -> None:
        pass


@pytest.mark.parametrize("make", [Busy, lambda clock: Waiting(MemoryStore(clock=clock))], ids=["busy", "awaited"])
async def test_it_works_on_any_store(make: Callable[..., Any], clock: Clock) -> None:
    app = demo_app(make(clock=clock) if make is Busy else make(clock), clock=clock)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=OURS, follow_redirects=True) as client:
        now, before = panel(await sign_in(client))
        assert "Written Record created" in before
        assert "Loaded Record read" in now
        assert "this one" in (await client.get("/devices")).text


async def test_starting_sweeps_out_what_is_over(store: MemoryStore, browser: Browser, clock: Clock) -> None:
    client = browser()
    await sign_in(client)
    old = handle(client)
    clock.advance(7200)
    app = demo_app(store, clock=clock)
    sent: list[Any] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert store.load(old) is None


# -- words -------------------------------------------------------------------------------------------------------------

SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox 131 on Linux"),
        (CHROME, "Chrome 140 on Windows"),
        (f"{CHROME} Edg/140.0.0.0", "Edge 140 on Windows"),
        (CHROME.replace("Chrome", "HeadlessChrome"), "Chrome 140 on Windows"),
        (f"{SAFARI} Mobile/15E148 Safari/604.1", "Safari 17 on iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.5 Safari/605.1.15", "Safari 17 on macOS"),
        ("curl/8.5.0", "curl 8"),
        ("Mozilla/5.0 (Linux; Android 14)", "Unknown browser on Android"),
        ("<script>", "Unknown browser"),
        (None, "Unknown browser"),
    ],
)
def test_a_browser_in_three_words(agent: str | None, name: str) -> None:
    assert browser_name(agent) == name


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (200_000, "2 days ago")],
)
def test_how_long_ago(seconds: int, words: str) -> None:
    assert ago(1_000_000, 1_000_000 + seconds) == words


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "::1", "a.localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "")))  # noqa: S104
