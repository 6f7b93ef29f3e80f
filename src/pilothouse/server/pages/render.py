"""Templates to responses: one Jinja environment, the security headers of every page, the theme from its cookie."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import Unauthorized
from pilothouse.domain.hashing import bytes_hash
from pilothouse.server.pages import quantities
from pilothouse.server.pages.context import PageContext, Session

HERE = Path(__file__).parent
STATIC = HERE / "static"

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
THEMES = {"light", "dark"}


def _version() -> str:
    """One hash over the static files, so that a new release never meets an old stylesheet."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return bytes_hash(b"".join(path.read_bytes() for path in files))[:10]


def link(base: dict[str, Any], path: str, /, **changes: Any) -> str:
    """`path` with the query of `base` after `changes`; empty and None values are left out."""
    query = {k: v for k, v in {**base, **changes}.items() if v not in {"", None}}
    return f"{path}?{urlencode(query)}" if query else path


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.globals.update(q=quantities, link=link, static_version=_version())
    return env


_JINJA = _environment()


def fragment(template: str, **values: Any) -> Markup:
    """A template as HTML, for a part of a page."""
    return Markup(_JINJA.get_template(template).render(**values))  # noqa: S704  # rendered with autoescape


class Page:
    """What every template gets besides its own values: who looks, at what, with which theme."""

    def __init__(self, ctx: PageContext, request: Request, session: Session | None) -> None:
        self.ctx = ctx
        self.request = request
        self.session = session
        self.now_us = ctx.clock.now_us()
        theme = request.cookies.get("ph_theme", "")
        self.theme = theme if theme in THEMES else ""
        self.partial = request.headers.get("hx-request") == "true" and "hx-boosted" not in request.headers

    @property
    def back(self) -> str:
        """Where a person came from, as long as it was a page of ours; else the overview."""
        parts = urlsplit(self.request.headers.get("referer", ""))
        ours = parts.netloc == self.request.url.netloc and parts.path.startswith("/")
        return parts.path + (f"?{parts.query}" if parts.query else "") if ours else "/"

    @property
    def actor(self) -> Actor:
        """Who looks; Unauthorized where nobody is signed in."""
        if self.session is None:
            raise Unauthorized("not signed in", hint="open the link that `pilothouse up` printed")
        return self.session.actor

    def respond(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """The rendered page with its security headers."""
        html = _JINJA.get_template(template).render(
            page=self, ctx=self.ctx, now_us=self.now_us, session=self.session, **values
        )
        return HTMLResponse(html, status_code=status, headers={**HEADERS, "Vary": "Cookie, HX-Request"})
