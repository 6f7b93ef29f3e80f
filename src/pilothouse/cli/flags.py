"""`pilothouse flag`, and `pilothouse route`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[str, typer.Argument(metavar="FLAG", help="The flag's key, as in pilothouse.yaml.")]
IfRevision = Annotated[
    int | None, typer.Option("--if-revision", help="Only if the flag is at this revision still, as `show` says.")
]


@app.command("list")
@show.verb
def list_flags(
    env: options.Env = "prod",
    stale: Annotated[
        bool, typer.Option("--stale", help="Only those that are stale, unused, expired, unowned or never exercised.")
    ] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show every flag, what it does now, and what is wrong with it."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/flags", env=env, stale="yes" if stale else "")
    if as_json:
        show.json(found)
        return
    if not found["flags"]:
        show.line("no flag needs to be looked at" if stale else "no flags yet: declare them under `flags:`")
        return
    rows = [
        (
            one["key"],
            one["kind"],
            one["said"],
            one["owner"] or "nobody",
            f"{one['evaluations']:,}",
            show.when(one["last_us"]),
            "; ".join(trouble["what"] for trouble in one["troubles"]) or "-",
        )
        for one in found["flags"]
    ]
    show.table(("flag", "kind", "now", "owner", "read (90 d)", "last read", "to look at"), rows)


@app.command("show")
@show.verb
def show_flag(
    key: Key,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show one flag: variants, rules, evaluations."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/flags/{key}", env=env)
    if as_json:
        show.json(found)
        return
    row = found["row"]
    show.line(f"{row['key']}  {row['type']}, {row['kind']}  {row['said']} in {row['env']}, revision {row['revision']}")
    for text in filter(None, (row["description"], f"owner {row['owner'] or 'nobody'}")):
        show.line(f"  {text}")
    for rule in found["rules"]:
        show.line(f"  {rule['name']}: {rule['when']} → {rule['serve']}")
    uses = {use["variant"]: use for use in found["uses"]}
    rows = [(name, _value(value), _uses(uses.get(name))) for name, value in found["variants"].items()]
    show.table(("variant", "value", "given (90 d)"), rows)
    for name, why in found["problems"].items():
        show.line(f"  {name} is not served: {why}")
    for trouble in row["troubles"]:
        show.line(f"  {trouble['what']}: {trouble['detail']}")


def _value(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _uses(use: dict[str, Any] | None) -> str:
    return f"{use['n']:,}" if use else "0"


@app.command("set")
@show.verb
def set_flag(
    key: Key,
    variant: Annotated[str, typer.Argument(help="What everybody gets whom no rule meets.")] = "",
    rules: Annotated[
        Path | None, typer.Option("--rules", help="A file with a list of rules in place of the declared ones.")
    ] = None,
    declared: Annotated[bool, typer.Option("--declared", help="Back to what pilothouse.yaml says.")] = False,
    env: options.Env = "prod",
    reason: options.Reason = "",
    if_revision: IfRevision = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Give another variant, other rules, or what is declared."""
    order: dict[str, Any] = {}
    if variant:
        order["variant"] = variant
    if rules is not None:
        order["rules"] = _text(rules)
    if declared:
        order["reset"] = True
    _change(key, env, reason, if_revision, order, (data, folder, as_json))


def _text(file: Path) -> str:
    from pilothouse.domain.errors import ConfigError

    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the rules: {error}", where=str(file)) from error


@app.command()
@show.verb
def enable(
    key: Key,
    env: options.Env = "prod",
    reason: options.Reason = "",
    if_revision: IfRevision = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Have the flag evaluated again."""
    _change(key, env, reason, if_revision, {"enabled": True}, (data, folder, as_json))


@app.command()
@show.verb
def disable(
    key: Key,
    env: options.Env = "prod",
    reason: options.Reason = "",
    if_revision: IfRevision = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Switch the flag off: it gives its `off` variant, or the default of the app's code."""
    _change(key, env, reason, if_revision, {"enabled": False}, (data, folder, as_json))


@app.command()
@show.verb
def rollout(
    key: Key,
    shares: Annotated[
        list[str], typer.Argument(metavar="SHARE…", help="`25%` of a boolean flag's `on`, or `variant=25%`, several.")
    ],
    env: options.Env = "prod",
    reason: options.Reason = "",
    if_revision: IfRevision = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Give a variant to a share of keys, each of which stays on its side; the rest get the default."""
    _change(key, env, reason, if_revision, {"rollout": dict(map(_share, shares))}, (data, folder, as_json))


def _share(text: str) -> tuple[str, float]:
    from pilothouse.config.quantities import share
    from pilothouse.domain.errors import BadRequest
    from pilothouse.domain.flag import ON

    name, _, part = text.rpartition("=")
    try:
        return name or ON, share(part)
    except ValueError as error:
        raise BadRequest(str(error), where="rollout", hint="25%, or variant=25%") from error


def _change(
    key: str, env: str, reason: str, if_revision: int | None, order: dict[str, Any], at: tuple[Path, Path, bool]
) -> None:
    data, folder, as_json = at
    with connect(data, folder) as control:
        done = control.post(f"/api/v1/flags/{key}", env=env, reason=reason, if_revision=if_revision, **order)
    if as_json:
        show.json(done)
        return
    show.line(f"  {done['flag']} in {done['env']}: {done['said']}, {done['reach']}")


@app.command("eval")
@show.verb
def evaluate(
    key: Key,
    context: Annotated[str, typer.Option("--context", help='JSON, such as \'{"plan": "pro"}\'.')] = "{}",
    targeting_key: Annotated[str, typer.Option("--key", help="The targeting key: whose flag it is.")] = "",
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show what a context gets, and why. It is not counted as an evaluation."""
    import msgspec

    from pilothouse.domain.errors import BadRequest

    try:
        given = msgspec.json.decode(context, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadRequest(f"the context is no JSON object: {error}", where="--context") from error
    if targeting_key:
        given["targetingKey"] = targeting_key
    with connect(data, folder) as control:
        found = control.post(f"/api/v1/flags/{key}/evaluate", env=env, context=given)
    if as_json:
        show.json(found)
    elif found["error"]:
        show.line(f"{found['error']}: {found['detail']}")
    else:
        value = _value(found["value"]) if found["value"] is not None else "the code's default"
        why = f"{found['reason']}, {found['rule']}" if found["rule"] else found["reason"]
        show.line(f"{value}  {found['variant']}  {why}")
    if found["error"]:
        raise typer.Exit(show.BLOCK)


@app.command()
@show.verb
def history(
    key: Key,
    env: Annotated[str, typer.Option("--env", help="Only this environment's.")] = "",
    at: Annotated[str, typer.Option("--at", help="Also what it was then: 1h (ago), or 2026-11-23T14:00:00Z.")] = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show every change of a flag, newest first."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/flags/{key}/history", env=env, at=at)
    if as_json:
        show.json(found)
        return
    if then := found.get("then"):
        show.line(f"{key} in {then['env']} at {show.when(then['ts_us'])}: {then['said']}")
    rows = [
        (show.when(one["ts_us"]), one["env"], one["action"], one["actor"], one["said"] or "-", one["reason"] or "-")
        for one in found["changes"]
    ]
    show.table(("when", "env", "what", "who", "then", "why"), rows)
