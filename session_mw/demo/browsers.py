"""A user agent in three words, for the list of devices. A guess from what the client claims; nothing hangs on it."""

from __future__ import annotations

import re

__all__ = ["browser_name"]

# In order: many browsers also claim to be those further down.
_BROWSERS = (
    ("Edge", r"Edg(?:A|iOS)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Samsung Internet", r"SamsungBrowser/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:Headless)?(?:Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+)\S* (?:Mobile/\S+ )?Safari/"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("ChromeOS", "CrOS"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
)


def browser_name(user_agent: str | None) -> str:
    """``Firefox 131 on Linux``, or as much of it as *user_agent* tells."""
    agent = user_agent or ""
    for name, pattern in _BROWSERS:
        if (found := re.search(pattern, agent)) is not None:
            browser = f"{name} {found[1]}"
            break
    else:
        product = re.match(r"([A-Za-z][\w.-]{0,30})/(\d+)", agent)
        browser = f"{product[1]} {product[2]}" if product and product[1] != "Mozilla" else "Unknown browser"
    system = next((name for name, mark in _SYSTEMS if mark in agent), None)
    return f"{browser} on {system}" if system else browser
