"""Formulas of the documentation site as MathML, which browsers draw without a script.

A hook of mkdocs: `pymdownx.arithmatex` marks the formulas of a page; this module turns them into
MathML.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

MARKED = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
"""What arithmatex makes of $…$ (a span) and $$…$$ (a div)."""


def on_page_content(content: str, **_: Any) -> str:
    """Replace the marked formulas of a page; mkdocs calls this for each page."""
    return MARKED.sub(_formula, content)


def _formula(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    return str(convert(html.unescape(match[2]), display=display))
