"""`pilothouse release apply`: a plan carried on to its end; ended at any point, it goes on where it stood."""

import time
from typing import Annotated, Any

import typer

from pilothouse.cli import evals, options, show
from pilothouse.cli.control import Control, connect
from pilothouse.domain.table import env_option

EVERY_S = 1.0  # how often a step that waits is looked at
CODES = {"done": show.OK, "blocked": show.BLOCK, "waiting": show.INCONCLUSIVE, "ready": show.INCONCLUSIVE}


@show.verb
def apply(
    route: options.Route,
    number: Annotated[int | None, typer.Argument(metavar="[RELEASE]", help="Number; the newest if not given.")] = None,
    env: options.Env = "prod",
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Run the gate where it was not run.")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for steps that take time.")] = True,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Carry a release's plan on step by step; run it again to go on. Exit 0 done, 1 blocked, 3 still under way."""
    with connect(data, folder) as control:
        found = _carry_on(control, (route, number, env), gate=gate, wait=wait and control.running, quiet=as_json)
    if as_json:
        show.json(found)
    else:
        _end(found)
    raise typer.Exit(_code(found))


def _carry_on(
    control: Control, asked: tuple[str, int | None, str], *, gate: bool, wait: bool, quiet: bool
) -> dict[str, Any]:
    """Step after step until the plan is done, blocked, or nobody wants to wait."""
    from pilothouse.server.onward import onward

    route, number, env = asked
    told = _Told(quiet)
    while True:
        found: dict[str, Any] = control.post(f"/api/v1/routes/{route}/apply", release=number, env=env)
        number = found["to"]  # a newer release that is made meanwhile is another plan
        told.news(found)
        following = onward(found)
        if following == "end" or (following == "gate" and not gate) or (following == "wait" and not wait):
            return found
        if following == "gate":
            evals.gate(control, route, found["to"], quiet=quiet)
        elif following == "wait":
            time.sleep(EVERY_S)


class _Told:
    """Says each step once when its state changes, and what a waiting one waits for when that changes."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._said: dict[str, str] = {}

    def news(self, found: dict[str, Any]) -> None:
        if self._quiet:
            return
        if not self._said:
            show.line(f"{found['route']}  {found['env']}  release {found['from'] or 'none'} → {found['to']}")
        for number, step in enumerate(found["steps"], start=1):
            word = f"{step['state']} {step['message'] if step['state'] == 'waiting' else ''}"
            if self._said.get(step["text"]) != word:
                self._said[step["text"]] = word
                show.line(f"  {number}  {step['state']:<8} {step['text']}: {step['message']}")
            if step["state"] != "done":
                break
        moved = found["moved"]
        if moved is not None:
            reached = f"{moved['workers']} of {moved['of']} workers in {moved['propagated_ms'] / 1000:.2f} s"
            show.line(f"     {found['step']}: on {reached if moved['of'] else 'no worker yet'}")


def _end(found: dict[str, Any]) -> None:
    if found["state"] == "done":
        show.line(f"  done; to take it back: {found['back_out']}")
    else:
        going = f"pilothouse release apply {found['route']} {found['to']}"
        show.line(f"  to go on: {going}{env_option(found['env'])}    back out: {found['back_out']}")


def _code(found: dict[str, Any]) -> int:
    """A gate that cannot tell is not a gate that blocks."""
    following: dict[str, Any] = next((step for step in found["steps"] if step["state"] != "done"), {})
    if following.get("evidence", {}).get("verdict") == "inconclusive":
        return show.INCONCLUSIVE
    return CODES[found["state"]]
