"""Who may see and do what: a session for every page, a CSRF token for every form."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.domain.errors import BadRequest, NotFound, PilothouseError
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.render import HEADERS, Page

Endpoint = Callable[[Request], Awaitable[Response]]
View = Callable[[PageContext, Page], Awaitable[Response]]
Verb = Callable[[PageContext, Page, FormData], Awaitable[Response]]
DIGITS = 18  # of a whole number: it fits the stores' 64 bits


def safe_path(target: str) -> str:
    """`target` where it is a path of this site, else `/`: a sign-in never sends a person elsewhere."""
    parts = urlsplit(target)
    local = not parts.scheme and not parts.netloc and target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if local else "/"


def redirect(page: Page, to: str) -> Response:
    """See `to` next; htmx is told by header, as it would follow a 303 within the fragment."""
    if page.partial:
        return Response(status_code=204, headers={**HEADERS, "HX-Redirect": to})
    return RedirectResponse(to, status_code=303, headers=HEADERS)


def _sign_in_first(page: Page) -> Response:
    url = page.request.url
    here = url.path + (f"?{url.query}" if url.query else "")
    return redirect(page, f"/login?next={quote(here, safe='')}")


def failure(page: Page, error: PilothouseError) -> Response:
    """An error page that says what happened, where, and what to do."""
    template = "error_part.html" if page.partial else "error.html"
    return page.respond(template, status=error.status, title="This did not work", error=error, at="")


def seen(ctx: PageContext, view: View) -> Endpoint:
    """A page for signed-in people."""

    async def endpoint(request: Request) -> Response:
        session = ctx.session(request.cookies)
        page = Page(ctx, request, session)
        if session is None:
            return _sign_in_first(page)
        try:
            return await view(ctx, page)
        except NotFound as error:
            return page.respond("error.html", status=404, title="Not here", error=error, at="")
        except PilothouseError as error:
            return failure(page, error)

    return endpoint


def done(ctx: PageContext, verb: Verb) -> Endpoint:
    """A form's target: signed in, token checked, then the verb."""

    async def endpoint(request: Request) -> Response:
        session = ctx.session(request.cookies)
        page = Page(ctx, request, session)
        if session is None:
            return _sign_in_first(page)
        async with request.form(max_files=0, max_fields=30) as form:
            token = form.get("csrf")
            if not isinstance(token, str) or not ctx.check_csrf(session, token):
                return page.respond("expired.html", status=403, title="This form has expired", at="")
            try:
                return await verb(ctx, page, form)
            except PilothouseError as error:
                return failure(page, error)

    return endpoint


def field(form: FormData, name: str) -> str:
    """A text field, trimmed; empty where absent."""
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def whole(text: str, name: str, where: str) -> int:
    """A whole number, 0 or more, that came with an address or a form; BadRequest where it is none or is too long."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        said = f"{text[:DIGITS]!r}{' …' if len(text) > DIGITS else ''}" if text else "nothing"
        raise BadRequest(f"{name} must be a whole number, not {said}", where=where, hint="open the page anew")
    return int(text)
