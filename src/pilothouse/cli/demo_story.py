"""The demo's story. Nothing in it is staged: every figure is read back from the product."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pilothouse.cli import show
from pilothouse.cli.control import connect
from pilothouse.cli.demo_app import DemoApp, Running
from pilothouse.cli.demo_traffic import Users
from pilothouse.domain.errors import StoreError
from pilothouse.review import render

ROUTE, ASSISTANT = "order-intake", "docs-answer"
HARMLESS = ("retry: {attempts: 1,", "retry: {attempts: 2,")
HARMFUL = ("max_tokens: 80}", "max_tokens: 16}")
CANARY_SHARE = "50%"
PATIENCE_S = 60.0


@dataclass
class Story:
    """What the steps work on."""

    app: DemoApp
    running: Running
    requests: int


def tell(story: Story) -> dict[str, Any]:
    """Run every step; what happened, as the interface names it. `ok`: the story went as it should."""
    running = story.running
    show.line("Pilothouse, on SmolLM2-135M through llama.cpp: a real model on this machine, no key, no network.")
    show.line(f"pages    {running.control}")
    _step("keys create --name demo --env prod", "an API key, shown once")
    running.key = running.verb("keys", "create", "--name", "demo", "--env", "prod")["key"]
    users = Users(running)
    try:
        _first_releases(running)
        _traffic(story, users)
        verdict = _better(story)
        gate, bad = _worse(story)
        canary = _canary(story, users, bad)
        by_hand = _by_hand(running)
        _forward_again(running, verdict)
    finally:
        users.close()
    return _ending(story, users, {"gate": gate, "canary": canary, "rollback": by_hand})


def _first_releases(running: Running) -> None:
    for route in (ASSISTANT, ROUTE):
        _step(f"release create {route} --gate", "the files as they are become release 1, and its baseline is measured")
        with _waiting():
            verdict = running.verb("release", "create", route, "--gate", ok=(0, 1, 3))["gate"]
        show.line(f"  {_gate_line(verdict)}")
        moved = running.verb("release", "promote", route)
        show.line(f"  release {moved['to']} serves prod on {moved['workers']} of {moved['of']} workers")


def _traffic(story: Story, users: Users) -> None:
    _step("docs_assistant.py, order_intake.py", f"{story.requests} users of each app, through the OpenAI SDK")
    with _bar("requests", 2 * story.requests) as advance:
        users.both(story.requests, advance)
    errors = ", ".join(f"{count} {code}" for code, count in users.tally.errors.items()) or "no errors"
    show.line(f"  {users.tally.requests} answered; {errors}")


def _better(story: Story) -> str:
    story.app.edit(*HARMLESS)
    _step(f"release create {ROUTE} --gate", "a harmless change: one retry more")
    with _waiting():
        made = story.running.verb("release", "create", ROUTE, "--gate", "-m", "one retry more", ok=(0, 1, 3))
    show.line(f"  {_gate_line(made['gate'])}")
    _promote(story.running, made["gate"]["verdict"])
    return str(made["gate"]["verdict"])


def _worse(story: Story) -> tuple[dict[str, Any], int]:
    story.app.edit(*HARMFUL)
    _step(f"release create {ROUTE} --gate", "a bad change: somebody saves tokens, max_tokens 80 → 16")
    with _waiting():
        made = story.running.verb("release", "create", ROUTE, "--gate", "-m", "save tokens", ok=(0, 1, 3))
    show.line(f"  {_gate_line(made['gate'])}")
    return made["gate"], int(made["release"])


def _canary(story: Story, users: Users, bad: int) -> dict[str, Any]:
    running = story.running
    _step(
        f"release promote {ROUTE} {bad} --canary {CANARY_SHARE} --force --reason …",
        "forced in anyway; now the canary's tripwire has to see it",
    )
    running.verb(
        *("release", "promote", ROUTE, str(bad), "--canary", CANARY_SHARE, "--force"),
        *("--reason", "the demo forces a blocked release"),
    )
    with connect(running.app.data, running.app.app) as control:

        def canary_ended() -> bool:
            pointer = _pointer(control.get(f"/api/v1/routes/{ROUTE}/releases"))
            return pointer["canary"] is None

        with _waiting():
            users.orders_until(canary_ended, PATIENCE_S)
        if not canary_ended():
            raise StoreError(f"the canary was not taken back within {PATIENCE_S:.0f} s", where=str(running.app.data))
        found = control.get(f"/api/v1/routes/{ROUTE}/canaries")
    last = found["canaries"][0]
    show.line(f"  {last['decision']}")
    show.line(
        f"  taken back by itself {last['seconds_to_rollback']:.2f} s after its first bad request, "
        f"on every worker {last['propagated_ms']:.0f} ms after the decision"
    )
    return {
        "release": bad,
        "requests": last["requests"],
        "seconds_to_rollback": last["seconds_to_rollback"],
        "decision": last["decision"],
        "propagated_ms": last["propagated_ms"],
    }


def _pointer(found: dict[str, Any]) -> dict[str, Any]:
    pointer: dict[str, Any] = next(one for one in found["pointers"] if one["env"] == "prod")
    return pointer


def _by_hand(running: Running) -> dict[str, Any]:
    _step(f"rollback {ROUTE}", "and by hand: the same in one command")
    moved: dict[str, Any] = running.verb("rollback", ROUTE, "--reason", "the demo shows a rollback")
    show.line(
        f"  release {moved['from']} → {moved['to']} on {moved['workers']} of {moved['of']} workers "
        f"in {moved['propagated_ms'] / 1000:.2f} s"
    )
    return {key: moved[key] for key in ("from", "to", "propagated_ms", "workers")}


def _forward_again(running: Running, verdict: str) -> None:
    _step(f"release promote {ROUTE} 2", "the rollback was a drill: the good release serves again")
    _promote(running, verdict)


def _promote(running: Running, verdict: str) -> None:
    """Release 2 to prod; where its gate was not sure, a person has to say that it may."""
    force = [] if verdict == "pass" else ["--force", "--reason", "harmless by eye: one retry more"]
    moved = running.verb("release", "promote", ROUTE, "2", *force)
    show.line(f"  release {moved['from']} → {moved['to']} in prod" + (f", forced over {verdict}" if force else ""))


def _ending(story: Story, users: Users, result: dict[str, Any]) -> dict[str, Any]:
    running = story.running
    records = _settled_records(running, users.tally.requests)
    _step("review", "is it ready for production? Every line is measured")
    review = running.verb("review", ok=(0, 1, 3))  # measured once, and printed as the verb prints it
    show.line(render.text(render.from_json(review)).rstrip())
    audit = running.verb("audit", "verify", ok=(0, 1))
    show.line()
    show.line(f"{users.tally.requests} requests, {records} records; change log of {audit['rows']} entries verified")
    show.line(f"Go on: {running.text('status', '--link').strip()}")
    show.line(f"       cd {story.app.app} && pilothouse release diff {ROUTE} --data ../data")
    went_well = records == users.tally.requests and result["gate"]["verdict"] == "block" and bool(audit["ok"])
    return {
        "ok": went_well,
        "requests": users.tally.requests,
        "records": records,
        **result,
        "audit": audit,
        "review": review,
    }


def _settled_records(running: Running, expected: int) -> int:
    """The number of records in the store, read until it has what was sent or stands still for 3 s."""
    with connect(running.app.data, running.app.app) as control:
        count, seen_at = -1, time.monotonic()
        while time.monotonic() - seen_at < 3.0:
            now = int(control.get("/traces.json", limit=1)["total"])
            if now != count:
                count, seen_at = now, time.monotonic()
            if count >= expected:
                break
            time.sleep(0.1)
    return count


def _gate_line(verdict: dict[str, Any]) -> str:
    if verdict["delta"] is None:
        return (
            f"{verdict['verdict'].upper()}  pass rate {show.share(verdict['candidate_rate'])} on {verdict['n']} cases: "
            f"{verdict['reason']}"
        )
    return (
        f"{show.status(verdict['verdict'].upper())}  pass rate {show.share(verdict['baseline_rate'])} → "
        f"{show.share(verdict['candidate_rate'])}  {show.points(verdict['delta'])} "
        f"[{show.points(verdict['low'])}, {show.points(verdict['high'])}]  p = {verdict['p_harm']:.4f}  "
        f"{verdict['broke']} broke, {verdict['mended']} mended"
    )


def _step(command: str, says: str) -> None:
    show.line()
    show.line(f"$ pilothouse {command}" if not command.endswith(".py") else f"$ python {command}")
    show.line(f"  {says}")


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """A moving sign of life on a terminal; nothing elsewhere."""
    if not sys.stdout.isatty():
        yield
        return
    with Console().status("  measuring …"):
        yield


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(f"  {what}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not sys.stdout.isatty(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
