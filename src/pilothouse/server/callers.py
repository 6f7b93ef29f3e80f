"""Who calls a route: read from telemetry, kept for a minute, so that a plan may be looked at every second."""

from pilothouse.domain.callers import Callers
from pilothouse.releases import compatibility
from pilothouse.server.composition import Control
from pilothouse.store.state import pointers, releases
from pilothouse.telemetry import callers as recorded

WINDOW_US = 7 * 86_400 * 1_000_000
KEEP_US = 60 * 1_000_000


def of(control: Control, route: str, env: str) -> Callers:
    """The callers of the last 7 days, at most a minute old. Blocking."""
    now = control.clock.now_us()
    kept = control.callers.get((route, env))
    if kept is not None and 0 <= now - kept[0] < KEEP_US:
        return kept[1]
    found = recorded.callers(control.telemetry, route, env, now - WINDOW_US)
    control.callers[route, env] = (now, found)
    return found


def broken(control: Control, route: str, env: str, release: int) -> tuple[str, ...]:
    """What of `release` the callers of what is live would not survive, as sentences. Blocking."""
    with control.state.read() as conn:
        live = pointers.get(conn, route, env)
        if live is None or release in (live.stable, live.canary):
            return ()
        before, after = releases.get(conn, route, live.stable), releases.get(conn, route, release)
        if releases.missing(conn, before) or releases.missing(conn, after):
            return ()  # the verb itself says so
        a, b = releases.manifest(conn, before), releases.manifest(conn, after)
    if not compatibility.compare(a, b, Callers()):
        return ()  # nothing is taken away from anybody: who they are need not be read
    found = compatibility.compare(a, b, of(control, route, env))
    return tuple(f"callers would not survive it: {one}" for one in found if one.breaks)
