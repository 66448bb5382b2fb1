"""A small shop in Django, a whole site in one file: a cart for everybody, an account for who is logged in.

    gunicorn examples.django_app:application

Look at http://127.0.0.1:8000; ``python examples/django_app.py`` is its manage.py. EXAMPLE_STORE names the store of
sessions, else ``sqlite:///example-sessions.db``; EXAMPLE_USERS the file of users, else ``example-users.db``. POST wants
Django's CSRF token, which ``GET /`` sets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
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

from django.contrib.auth import login, logout  # noqa: E402
from django.core.management import call_command, execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import ensure_csrf_cookie  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

from session_mw import SessionService, current_session  # noqa: E402
from session_mw.access import login_required, safe_next  # noqa: E402

application = get_wsgi_application()

from django.contrib.auth.models import User  # noqa: E402

from session_mw.django import session_config  # noqa: E402

Request = Any  # an HttpRequest whose ``session`` is ours
PAGE = Path(__file__).with_name("shop.html")


@ensure_csrf_cookie
def page(request: Request) -> FileResponse:
    return FileResponse(PAGE.open("rb"))


def whoami(request: Request) -> HttpResponse:
    return JsonResponse({"user": request.user.get_username() or None, "session": request.session.session_id})


def login_page(request: Request) -> HttpResponse:
    return JsonResponse({"log in with": "POST /login/NAME", "next": safe_next(request.GET.get("next"))})


@require_POST
def log_in(request: Request, name: str) -> HttpResponse:
    """Django's own login: the session gets a new key, and its owner."""
    user, _ = User.objects.get_or_create(username=name)  # yours would authenticate() here, with a password
    login(request, user)
    return whoami(request)


@require_POST
def log_out(request: Request) -> HttpResponse:
    """Django's own logout: the session ends at once, with the logins of all its storages."""
    online = request.user.is_authenticated
    logout(request)
    return JsonResponse({"was online": online})


def cart(request: Request) -> HttpResponse:
    return JsonResponse(request.session.get("cart", {}))


@require_POST
def add(request: Request, thing: str) -> HttpResponse:
    things = request.session.setdefault("cart", {})
    things[thing] = things.get(thing, 0) + 1  # nested, and seen: nobody has to say ``session.modified = True``
    return JsonResponse(things)


@login_required(redirect_to="/login")
def account(request: Request) -> HttpResponse:
    return JsonResponse({"account": request.user.get_username()})


@require_POST
def regenerate(request: Request) -> HttpResponse:
    """A new key for the same session."""
    request.session.cycle_key()
    return JsonResponse({"session": request.session.session_id})


@require_POST
def admin_login(request: Request) -> HttpResponse:
    session = request.session
    with session.using_storage("admin"):  # a login of its own, in the same session
        session["mode"] = "careful"
        session.login()
    return JsonResponse({"online": [session.online(), session.online("admin")]})


@login_required(storage="admin", fresh=300)
def admin(request: HttpRequest) -> HttpResponse:
    """Only for who is logged in there; ``current_session()`` is ``request.session``."""
    return JsonResponse({"mode": current_session().get_from("admin", "mode")})


@login_required
def devices(request: Request) -> HttpResponse:
    records = SessionService(session_config()).list_records(request.user.pk)
    return JsonResponse({"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]})


@require_POST
@login_required
def end_others(request: Request) -> HttpResponse:
    request.session.destroy_others()
    return JsonResponse({"ended": True})


def export(request: Request) -> StreamingHttpResponse:
    """A change after the response has started has to be saved by hand: Django saved before."""
    session = request.session
    session.setdefault("exports", 0)

    def lines() -> Iterator[str]:
        for thing in session.get("cart", {}):
            yield f"{thing}\n"
        session["exports"] += 1
        session.save()

    return StreamingHttpResponse(lines(), content_type="text/plain")


def exports(request: Request) -> HttpResponse:
    return JsonResponse({"exports": request.session.get("exports")})


@require_POST
def leave_badly(request: Request) -> HttpResponse:
    logout(request)
    raise RuntimeError("after the logout; an error never undoes it")


urlpatterns = [
    path("", page),
    path("whoami", whoami),
    path("login", login_page),
    path("login/<name>", log_in),
    path("logout", log_out),
    path("cart", cart),
    path("cart/<thing>", add),
    path("account", account),
    path("regenerate", regenerate),
    path("admin", admin),
    path("admin/login", admin_login),
    path("devices", devices),
    path("devices/end-others", end_others),
    path("export", export),
    path("exports", exports),
    path("leave-badly", leave_badly),
]

call_command("migrate", verbosity=0)  # the tables of users, made where there are none

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
