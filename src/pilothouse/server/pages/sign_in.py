"""Signing in with the one-time link or the admin password, and out again."""

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.domain.errors import PilothouseError
from pilothouse.server.pages.context import PageContext, SignedIn
from pilothouse.server.pages.guard import Endpoint, field, safe_path
from pilothouse.server.pages.render import HEADERS, Page


def _enter(signed: SignedIn, to: str) -> Response:
    answer = RedirectResponse(to, status_code=303, headers=HEADERS)
    answer.set_cookie(signed.cookie, signed.value, max_age=signed.max_age_s, httponly=True, samesite="lax", path="/")
    return answer


def sign_in(ctx: PageContext) -> Endpoint:
    """`GET` shows the form; `POST` takes a one-time token or the admin password."""

    async def endpoint(request: Request) -> Response:
        page = Page(ctx, request, ctx.session(request.cookies))
        to = safe_path(request.query_params.get("next", "/"))
        wrong = ""
        if request.method == "POST":
            async with request.form(max_files=0, max_fields=5) as form:
                to = safe_path(field(form, "next") or "/")
                try:
                    signed = await run_in_threadpool(ctx.sign_in, field(form, "secret"))
                    wrong = "That token or password is not known here, was used before, or has expired."
                except PilothouseError as error:
                    signed, wrong = None, str(error)
            if signed is not None:
                return _enter(signed, to)
        elif page.session is not None:
            return RedirectResponse(to, status_code=303, headers=HEADERS)
        return page.respond("login.html", status=401 if wrong else 200, title="Sign in", at="", wrong=wrong, next=to)

    return endpoint


async def sign_out(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /logout`."""
    del form
    name = ctx.sign_out(page.request.cookies)
    answer = RedirectResponse("/login", status_code=303, headers=HEADERS)
    answer.delete_cookie(name, path="/")
    return answer
