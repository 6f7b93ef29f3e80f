"""Sessions and users, by their pseudonyms: who was here, what it cost, and a conversation in time."""

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pilothouse.domain.errors import NotFound
from pilothouse.server.pages import quantities
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.render import Page, link
from pilothouse.server.pages.traces import AGE, AGES, ALL, age_of, since_us
from pilothouse.telemetry.filter import Query, Term
from pilothouse.telemetry.listing import Row
from pilothouse.telemetry.sessions import By, Person

PAUSE_US = 60_000_000  # from here on the time between two turns is written between them


class Turn(msgspec.Struct, frozen=True):
    """A request of a conversation, and the pause before it as words."""

    it: Row
    pause: str


def traces_of(field: str, ident: str) -> str:
    """The address of all traces of a session or user."""
    return link({"q": str(Query((Term(field, (ident,)),))), "age": ALL}, "/traces")


async def sessions(ctx: PageContext, page: Page) -> Response:
    """`GET /sessions`."""
    return await _people(ctx, page, "session")


async def users(ctx: PageContext, page: Page) -> Response:
    """`GET /users`."""
    return await _people(ctx, page, "user")


async def _people(ctx: PageContext, page: Page, by: By) -> Response:
    address = page.request.query_params
    age, typed = age_of(address), address.get("q", "").strip()[:200]
    found = await run_in_threadpool(ctx.people, by, since_us(age, page.now_us), typed)
    path = f"/{by}s"
    return page.respond(
        "people_part.html" if page.partial else "people.html",
        title=f"{by.capitalize()}s",
        at="traces",
        by=by,
        path=path,
        rows=[(one, _open(by, one)) for one in found.rows],
        total=found.total,
        typed=typed,
        age=age,
        ages=[*AGES, ALL],
        base={"q": typed, "age": "" if age == AGE else age},
    )


def _open(by: By, one: Person) -> str:
    return link({"id": one.id}, "/sessions/one") if by == "session" else traces_of("user", one.id)


async def one(ctx: PageContext, page: Page) -> Response:
    """`GET /sessions/one?id=`: its requests as a conversation in time."""
    ident = page.request.query_params.get("id", "")
    found, more = await run_in_threadpool(ctx.turns, ident)
    if not found:
        raise NotFound(f"No session {ident}", where="sessions", hint="it may have expired, or not be loaded yet")
    return page.respond(
        "session.html",
        title=f"Session {ident[:12]}",
        at="traces",
        ident=ident,
        turns=_turns(found),
        more=more,
        all_of_it=traces_of("session", ident),
        totals=_totals(found),
    )


def _turns(rows: list[Row]) -> list[Turn]:
    before, made = 0, []
    for row in rows:
        gap = row.ts_us - before if before else 0
        made.append(Turn(row, f"{quantities.span(gap)} later" if gap >= PAUSE_US else ""))
        before = row.ts_us + int(row.duration_ms * 1_000)
    return made


def _totals(rows: list[Row]) -> dict[str, Any]:
    costs = [row.cost_usd for row in rows if row.cost_usd is not None]
    tokens = [(row.input_tokens or 0) + (row.output_tokens or 0) for row in rows if row.input_tokens is not None]
    return {
        "n": len(rows),
        "failed": sum(row.outcome == "failed" for row in rows),
        "cost_usd": sum(costs) if costs else None,
        "tokens": sum(tokens) if tokens else None,
        "from_us": rows[0].ts_us,
        "to_us": rows[-1].ts_us,
        "user": next((row.user for row in rows if row.user), ""),
    }
