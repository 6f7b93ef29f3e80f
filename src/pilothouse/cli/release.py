"""`pilothouse release` and `pilothouse rollback`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import apply, evals, options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command("apply")(apply.apply)

Number = Annotated[int | None, typer.Argument(metavar="[RELEASE]", help="Number; the newest where not given.")]


@app.command()
@show.verb
def create(
    route: options.Route,
    notes: Annotated[str, typer.Option("--notes", "-m", help="What changed and why.")] = "",
    gate: Annotated[bool, typer.Option("--gate", help="Run the route's gate on it; sets the exit code.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make the next release from the app's files."""
    with connect(data, folder) as control:
        made = control.post(f"/api/v1/routes/{route}/releases", notes=notes)
        if not as_json:
            _made(made)
        judged = evals.gate(control, route, made["release"], quiet=as_json) if gate else None
    if as_json:
        extra = {"gate": judged["verdict"], "run": judged["run"], "baseline": judged["baseline"]} if judged else {}
        show.json({**made, **extra})
    elif judged:
        evals.tell(judged)
    if judged:
        raise typer.Exit(evals.CODES[judged["verdict"]["verdict"]])


def _made(made: dict[str, Any]) -> None:
    route, number = made["route"], made["release"]
    if made["reused"]:
        show.line(f"{route}  release {number} already holds exactly these files; nothing was made")
        return
    show.line(f"{route}  release {number}  {made['hash'][:12]}")
    if made["floating_alias"]:
        show.line(f"  {made['floating_alias']} names no version: the provider may change it under this release")
    for warning in made.get("warnings", ()):
        show.line(f"  {warning['part']}{warning['pointer']}: {warning['what']}; {warning['advice']}")


@app.command()
@show.verb
def diff(
    route: options.Route,
    a: Annotated[int | None, typer.Argument(metavar="[A]", help="Before; what prod serves where not given.")] = None,
    b: Annotated[int | None, typer.Argument(metavar="[B]", help="After; the newest where not given.")] = None,
    before: Annotated[int | None, typer.Option("--from", help="The same as A.")] = None,
    after: Annotated[int | None, typer.Option("--to", help="The same as B.")] = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show what differs between two releases, part by part."""
    with connect(data, folder) as control:
        a, b = a if a is not None else before, b if b is not None else after
        found = control.get(f"/api/v1/routes/{route}/diff", a=a, b=b)
    if as_json:
        show.json(found)
        return
    show.line(f"{route}  release {found['a']} → {found['b']}")
    for part in found["parts"]:
        _part(part)


def _part(part: dict[str, Any]) -> None:
    if not part["changed"]:
        show.line(f"  {part['part']:<8} unchanged")
        return
    show.line(f"  {part['part']:<8} {part['before_hash'][:4]}… → {part['after_hash'][:4]}…   {part['summary']}")
    for text in part["unified"].splitlines()[2:]:
        show.line(f"      {text}")


@app.command()
@show.verb
def promote(
    route: options.Route,
    number: Number = None,
    env: options.Env = "prod",
    share: Annotated[str, typer.Option("--canary", help="As canary for this share of sessions: 5%, 0.05.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Go over the gate; needs --reason.")] = False,
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make a release live: at once, or as a canary."""
    with connect(data, folder) as control:
        if number is None:
            number = evals.newest(control, route)
        moved = control.post(
            f"/api/v1/routes/{route}/promote",
            release=number,
            env=env,
            share=_share(share) if share else None,
            force=force,
            reason=reason,
        )
    if as_json:
        show.json(moved)
        return
    canary = f" as canary for {moved['share']:.0%} of sessions" if moved["share"] is not None else ""
    before = f"release {moved['from']} → {moved['to']}" if moved["from"] else f"release {moved['to']}"
    show.line(f"  {before} in {env}{canary}, {_reach(moved)}")
    for text in filter(None, [moved["note"], *(f"overridden: {one}" for one in moved["overridden"])]):
        show.line(f"  {text}")


def _share(text: str) -> float:
    from pilothouse.config.quantities import share
    from pilothouse.domain.errors import BadRequest

    try:
        return share(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise BadRequest(str(error), where="--canary") from error


def _reach(moved: dict[str, Any]) -> str:
    """How far a move has got, and how fast."""
    from pilothouse.server.reach import reach

    return reach(moved)


@app.command()
@show.verb
def plan(
    route: options.Route,
    number: Number = None,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show the steps to a release, and how each stands now."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/routes/{route}/plan", release=number, env=env)
        changed = control.get(f"/api/v1/routes/{route}/diff", a=found["from"], b=found["to"]) if found["from"] else None
    if as_json:
        show.json(found)
        return
    show.line(f"{route}  {env}  release {found['from'] or 'none'} → {found['to']}")
    for part in changed["parts"] if changed else ():
        if part["changed"]:
            show.line(f"  {part['part']:<8} {part['before_hash'][:4]}… → {part['after_hash'][:4]}…   {part['summary']}")
    show.line()
    for step, one in enumerate(found["steps"], start=1):
        show.line(f"  {step}  {one['state']:<8} {one['text']}")
        show.line(f"              {one['message']}")
    show.line(f"  back out at any step: {found['back_out']}")


@app.command()
@show.verb
def notes(
    route: options.Route,
    number: Number = None,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Print a release's notes: what changed, what the gate said, how to take it back."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/routes/{route}/notes", release=number, env=env)
    if as_json:
        show.json(found)
    else:
        show.line(found["markdown"])


@app.command("rollback")
@show.verb
def rollback(
    route: options.Route,
    to: Annotated[int | None, typer.Option("--to", help="Release; the one before where not given.")] = None,
    part: Annotated[str, typer.Option("--part", help="This part alone: index, prompt, model … Tried first.")] = "",
    env: options.Env = "prod",
    force: Annotated[
        bool, typer.Option("--force", help="With --part: also where no input is recorded to try it on; needs --reason.")
    ] = False,
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Go back to the release before, or off the canary; or take one part back alone."""
    with connect(data, folder) as control:
        asked: dict[str, Any] = {"env": env, "to": to, "reason": reason, "part": part, "force": force}
        moved = control.post(f"/api/v1/routes/{route}/rollback", **asked)
    if as_json:
        show.json(moved)
    else:
        show.line(f"  release {moved['from']} → {moved['to']} {_reach(moved)}")
        if part:
            made = "made" if moved["made"] else "which there was already"
            show.line(f"  release {moved['to']}, {made}: {moved['note']}")
            show.line(f"  {moved['verified']['sentence']}")
    if moved["late"]:
        raise typer.Exit(show.USAGE)


@app.command()
@show.verb
def history(
    route: options.Route,
    env: Annotated[str, typer.Option("--env", help="Only this environment's moves.")] = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show every release of a route and every move of its pointers."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/routes/{route}/releases", env=env)
    if as_json:
        show.json(found)
        return
    rows = [
        (
            str(one["release"]),
            show.when(one["created_us"]),
            one["author"],
            one["hash"][:12],
            one["verdict"]["verdict"]["verdict"] if one["verdict"] else "not gated",
            one["notes"],
        )
        for one in found["releases"]
    ]
    show.table(("release", "made", "by", "manifest", "gate", "notes"), rows)
    show.line()
    moves = [
        (
            show.when(m["ts_us"]),
            m["env"],
            m["action"],
            _towards(m),
            f"{m['actor']['type']}:{m['actor']['id']}",
            m["reason"],
        )
        for m in found["moves"]
    ]
    show.table(("when", "env", "action", "release", "by", "reason"), moves)


def _towards(move: dict[str, Any]) -> str:
    after, before = move["after"], move["before"]
    if after["canary"] is not None:
        return f"{after['canary']} at {after['share']:.0%}"
    if before is not None and before["stable"] != after["stable"]:
        return f"{before['stable']} → {after['stable']}"
    return str(after["stable"])
