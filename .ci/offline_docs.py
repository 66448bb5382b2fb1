"""mkdocs hook: a page that would fetch anything from elsewhere is a build error; the docs are read offline too."""

import re
from typing import Any

from mkdocs.exceptions import PluginError

_FETCHES = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"' >]+)""")


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """The page, unchanged. Raises ``PluginError`` naming what it would fetch."""
    if found := _FETCHES.findall(output):
        raise PluginError(f"{page.file.src_uri} would fetch {', '.join(found)}")
    return output
