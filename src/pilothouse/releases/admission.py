"""Who may go live: what stands in the way of a promotion, as sentences that the refusal then shows."""

from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.release import Pointer
from pilothouse.store.state import canaries, runs

GATED_ENVIRONMENTS = ("prod",)
ENOUGH = ("step", "promote")  # words of the canary's watch after enough requests without harm
FIRST = "first release in this environment: no gate verdict is asked for, there is no baseline"


def objections(
    conn: Connection, route: RouteConfig, env: str, release: int, *, pointer: Pointer | None, canary: bool
) -> list[str]:
    """Why `release` may not become stable (or, with `canary`, canary) in `env`; empty where it may.

    In prod a route with a gate needs the verdict `pass`; only the first release of an environment, which has
    no baseline, may go without one. A route of tier `high` becomes stable through a canary only.
    """
    found: list[str] = []
    if pointer is not None and pointer.canary not in (None, release):
        found.append(f"a canary of release {pointer.canary} is running: roll it back or promote it first")
    if env not in GATED_ENVIRONMENTS:
        return found
    found += _gate(conn, route, release, first=pointer is None)
    if not canary and pointer is not None and route.tier == "high":
        found += _canary(conn, route.name, env, release, pointer)
    return found


def notes(conn: Connection, route: RouteConfig, env: str, release: int, pointer: Pointer | None) -> str:
    """What a promotion that is allowed should still say; empty where nothing."""
    said = []
    if env in GATED_ENVIRONMENTS and route.gate is not None and pointer is None:
        said += [FIRST] if runs.verdict(conn, route.name, release) is None else []
    if pointer is not None and pointer.pinned_model:
        said.append(f"the model stays pinned to {pointer.pinned_model}, whatever the release says")
    if pointer is not None and pointer.disabled:
        said.append("the route is disabled: nothing is served until it is enabled")
    return "; ".join(said)


def _gate(conn: Connection, route: RouteConfig, release: int, *, first: bool) -> list[str]:
    if route.gate is None:
        return []
    judged = runs.verdict(conn, route.name, release)
    if judged is None:
        return [] if first else [f"release {release} has no gate verdict: run its gate first"]
    if judged.verdict.verdict == "pass":
        return []
    return [f"the gate says {judged.verdict.verdict} on release {release}: {sentence(judged.verdict)}"]


def sentence(verdict: Verdict) -> str:
    """A verdict's reason with its numbers."""
    rates = f"{verdict.candidate_rate:.3f}"
    if verdict.baseline_rate is not None and verdict.delta is not None:
        rates = f"{verdict.baseline_rate:.3f} → {rates}, {verdict.delta:+.3f}"
        if verdict.low is not None and verdict.high is not None:
            rates += f" [{verdict.low:+.3f}, {verdict.high:+.3f}]"
    rates = f"pass rate {rates}, n={verdict.n}"
    return f"{verdict.reason} ({rates})" if verdict.reason else rates


def _canary(conn: Connection, route: str, env: str, release: int, pointer: Pointer) -> list[str]:
    if pointer.canary != release:
        return [f"{route} is of tier high: release {release} must run as a canary in {env} first"]
    running = canaries.running(conn, route, env)
    if running and running[-1].decision in ENOUGH:
        return []
    seen = running[-1].evidence.get("sentence", "") if running else ""
    return [f"the canary of release {release} has not seen enough yet" + (f": {seen}" if seen else "")]
