"""A small Django site on session_mw, in one file: a cart, logins, a second login for the bank, a page of devices.

    gunicorn examples.django_app:application
    python examples/django_app.py runserver

Users ``ada`` and ``eve`` (password ``secret``) are made at the start. EXAMPLE_STORE names the store of sessions, else
``sqlite:///example-sessions.db``; EXAMPLE_USERS the file of users, else ``example-users.db``. Everything answers in
JSON; POST wants Django's CSRF token, which ``GET /`` sets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings

settings.configure(
    # What this page is about:
    SESSION_ENGINE="session_mw.django",
    SESSION_MW={"store": os.environ.get("EXAMPLE_STORE") or "sqlite:///example-sessions.db"},
    MIDDLEWARE=[
        "session_mw.django.StoreErrorMiddleware",  # right above Django's own
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",  # for manage.py clearsessions
        "session_mw.django",  # for manage.py check
    ],
    SESSION_COOKIE_SECURE=False,  # True behind https, and then SESSION_COOKIE_NAME = "__Host-sessionid"
    # What every Django site has:
    SECRET_KEY=os.environ.get("EXAMPLE_SECRET") or os.urandom(32).hex(),
    PASSWORD_HASHERS=["django.contrib.auth.hashers.ScryptPasswordHasher"],
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("EXAMPLE_USERS") or "example-users.db",
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)

from django.contrib.auth import authenticate, login, logout  # noqa: E402
from django.core.management import call_command, execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.middleware.csrf import get_token  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

from session_mw import SessionService, current_session  # noqa: E402
from session_mw.access import login_required  # noqa: E402

application = get_wsgi_application()

from session_mw.django import session_config  # noqa: E402

Request = Any  # an HttpRequest whose ``session`` is ours


def home(request: Request) -> HttpResponse:
    """Who is here, and what is in the cart."""
    get_token(request)
    return JsonResponse({"user": request.user.get_username(), "cart": request.session.get("cart", {})})


@require_POST
def log_in(request: Request) -> HttpResponse:
    """Django's own login: the session gets a new key, and its owner."""
    user = authenticate(request, username=request.POST.get("name"), password=request.POST.get("password"))
    if user is None:
        return JsonResponse({"error": "no such user, or another password"}, status=403)
    login(request, user)
    return JsonResponse({"user": user.get_username()})


@require_POST
def log_out(request: Request) -> HttpResponse:
    """Django's own logout: the session ends at once."""
    logout(request)
    if "fail" in request.POST:
        raise RuntimeError("something failed after the logout, which stays one")
    return JsonResponse({"user": ""})


@require_POST
def add(request: Request) -> HttpResponse:
    """A change deep inside; nobody has to say ``session.modified = True``."""
    cart = request.session.setdefault("cart", {"items": []})
    cart["items"].append(request.POST.get("item", ""))
    return JsonResponse(cart)


@require_POST
def regenerate(request: Request) -> HttpResponse:
    """A new key for the same session."""
    request.session.cycle_key()
    return JsonResponse({"session": request.session.session_id})


@require_POST
def expire(request: Request) -> HttpResponse:
    """A lifetime of its own for this session, in seconds."""
    request.session.set_expiry(int(request.POST["seconds"]))
    return JsonResponse({"seconds": request.session.get_expiry_age()})


@login_required(redirect_to="/")
def devices(request: Request) -> HttpResponse:
    """Where this user is logged in; POST ends one of these sessions, or all others."""
    service = SessionService(session_config())
    mine = {record.session_id: record for record in service.list_records(request.user.pk)}
    if request.method == "POST":
        wanted = request.POST.get("session")
        if wanted in mine:  # only ever one's own
            service.destroy_session(wanted)
        elif wanted == "others":
            request.session.destroy_others()
    here = request.session.session_id
    shown = [
        {"session": handle, "here": handle == here, "ip": each.login_ip, "agent": each.login_user_agent}
        for handle, each in mine.items()
    ]
    return JsonResponse({"devices": shown})


@require_POST
@login_required
def open_bank(request: Request) -> HttpResponse:
    """A second login beside the first, in a storage of its own."""
    name, key = request.user.get_username(), request.user.pk  # Django's login is in the default storage: ask before
    with request.session.using_storage("bank"):
        request.session.login(user_id=key)
        request.session["account"] = f"account of {name}"
    return JsonResponse({"bank": "open"})


@login_required(storage="bank")
def bank(request: HttpRequest) -> HttpResponse:
    """Only for who is logged in there; ``current_session()`` is ``request.session``."""
    return JsonResponse({"account": current_session().get_from("bank", "account")})


@require_POST
@login_required
def close_bank(request: Request) -> HttpResponse:
    """The second login ends, the first stays."""
    with request.session.using_storage("bank"):
        request.session.logout(clear_data=True)
    return JsonResponse({"bank": "closed"})


def stream(request: Request) -> StreamingHttpResponse:
    """A change after the response has started has to be saved by hand: Django saved before."""
    session = request.session

    def lines() -> Iterator[bytes]:
        yield b"begun\n"
        session.setdefault("cart", {"items": []})["items"].append("late")
        session.save()
        yield b"done\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("", home),
    path("login", log_in),
    path("logout", log_out),
    path("add", add),
    path("regenerate", regenerate),
    path("expire", expire),
    path("devices", devices),
    path("bank", bank),
    path("bank/open", open_bank),
    path("bank/close", close_bank),
    path("stream", stream),
]


def prepare() -> None:
    """Tables and users, once."""
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    for name in ("ada", "eve"):
        if not User.objects.filter(username=name).exists():
            User.objects.create_user(name, password="secret")  # noqa: S106 - an example


prepare()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
