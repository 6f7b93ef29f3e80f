"""The routes of the pages."""

from starlette.routing import Route

from pilothouse.server.pages.context import PageContext


def routes(ctx: PageContext) -> list[Route]:
    """Every page, its form targets and its static files, reading through `ctx`."""
    raise NotImplementedError(ctx)
