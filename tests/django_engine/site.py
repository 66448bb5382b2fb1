"""The site of these tests: one view, which does what the test of the moment says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

does: list[Callable[[HttpRequest], Any]] = []


def view(request: HttpRequest) -> Any:
    """Sync."""
    answer = does[-1](request)
    return (
        answer
        if isinstance(answer, HttpResponse) or hasattr(answer, "streaming_content")
        else HttpResponse(repr(answer))
    )


async def aview(request: HttpRequest) -> Any:
    """Async."""
    answer = await does[-1](request)
    return answer if isinstance(answer, HttpResponse) else HttpResponse(repr(answer))


urlpatterns = [path("view", view), path("aview", aview), path("admin/", admin.site.urls)]
