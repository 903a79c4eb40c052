"""What all pages have in common: a frame, a style, and a policy that loads nothing from elsewhere.

A page is a template that extends `page.html`, with style and script of its own inside it. Captions
and file names are untrusted: templates escape them, scripts insert them as text only, and the
page's Content-Security-Policy lets the browser run only the page's own script.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from captioner import __version__


def render(
    template: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    folder: bool = False,
    **values: object,
) -> str:
    """Render a page as HTML.

    Args:
        template: File name of the template in this package.
        styles: File names of its style sheets, in order.
        scripts: File names of its scripts, in order.
        folder: Whether the page may load pictures and scripts that lie beside it. Default: it holds
            everything it shows.
        values: Values of the template.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    # The page's own style and script, in the only places where the template does not escape.
    style, script = ("\n".join(map(own_text, names)) for names in (styles, scripts))
    environment = Environment(
        loader=FunctionLoader(own_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared: dict[str, Any] = {
        "policy": content_policy(style, script, folder=folder),
        "script": Markup(script),
        "style": Markup(style),
        "version": __version__,
    }
    return environment.get_template(template).render(shared | values)


def content_policy(style: str, script: str, *, folder: bool = False) -> str:
    """Return the Content-Security-Policy of a page with this style and script inside it."""
    beside = " 'self'" if folder else ""
    return "; ".join(
        (
            "default-src 'none'",
            f"img-src data:{beside}",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'{beside}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def own_text(name: str) -> str:
    """Return the text of a template, style sheet or script of this package."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return how a page's policy names a text that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
