"""The frame of all pages: head, policy, style sheet, heading. What is inside is a page's own.

A page is one HTML document that loads nothing from elsewhere, and its own content security policy
says so. The style sheet of all pages is `style.css` beside this module.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from luthier.errors import OutputError

_MARK = b'<meta name="generator" content="luthier">'  # in every page's head
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Where pictures and sounds may come from: out of the page itself, or from files beside it.
_SOURCES = {"inline": "data:", "beside": "'self' file:"}


@dataclass(frozen=True)
class Document:
    """A page in its frame.

    Attributes:
        title: the heading; plain text, as is `lead`.
        lead: a sentence or two under it.
        body: HTML of everything beneath.
        name: of the page's own style sheet and script here: NAME.css and NAME.js.
        media: whether pictures and sounds are inside the page or files beside it.
        kind: what sort of page it is, behind the name at the top.
        under: HTML between the lead and the body.
        head: HTML for the head.
    """

    title: str
    lead: str
    body: str
    name: str
    media: Literal["inline", "beside"]
    kind: str = ""
    under: str = ""
    head: str = ""

    def to_html(self) -> str:
        """The whole document."""
        values = {
            "title": html.escape(self.title),
            "lead": html.escape(self.lead),
            "kind": f" · {html.escape(self.kind)}" if self.kind else "",
            "sources": _SOURCES[self.media],
            "style": _text("style.css") + _text(f"{self.name}.css"),
            "script": _text(f"{self.name}.js"),
            "head": self.head,
            "under": self.under,
            "body": self.body,
        }
        return fill(_text("document.html"), values)


def check_page(path: Path) -> None:
    """Refuse to write a page over a file that is none of luthier's pages.

    Raises:
        OutputError: such a file is there.
    """
    if not os.path.lexists(path):
        return
    with suppress(OSError), path.open("rb") as stream:
        if _MARK in stream.read(2048):
            return
    raise OutputError(
        f"{path} is there already and is no page of luthier: choose another name, or move it away."
    )


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put `values` at the template's {{names}}; a name without a value is a KeyError.

    One pass, so that a {{name}} inside a value stays as it is.
    """
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _text(name: str) -> str:
    return files("luthier.report").joinpath(name).read_text(encoding="utf-8")
