"""`pilothouse keys`."""

from typing import Annotated

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
@show.verb
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    env: options.Env = "dev",
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it; you, where not given.")] = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make a key and show it, this once."""
    with connect(data, folder) as control:
        made = control.post("/api/v1/keys", name=name, env=env, owner=owner)
    if as_json:
        show.json(made)
        return
    show.line(made["key"])
    typer.echo(
        f"  {made['name']}, for {made['env']}; shown this once. Revoke: pilothouse keys revoke {made['id']}", err=True
    )


@app.command("list")
@show.verb
def list_keys(
    data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False
) -> None:
    """Show every key without its secret."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/keys")["keys"]
    if as_json:
        show.json({"keys": found})
        return
    if not found:
        show.line("no keys yet: pilothouse keys create --name NAME --env dev")
        return
    rows = [
        (key["id"], key["name"], key["env"], key["owner"], _state(key), show.when(key["last_used_us"])) for key in found
    ]
    show.table(("id", "name", "env", "owner", "state", "last used"), rows)


def _state(key: dict[str, object]) -> str:
    return "revoked" if key["revoked_us"] else "active"


@app.command()
@show.verb
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's public id, as `keys list` shows it.")],
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """End a key on every worker."""
    with connect(data, folder) as control:
        ended = control.delete(f"/api/v1/keys/{key_id}")
    if as_json:
        show.json(ended)
        return
    show.line(f"{ended['id']} ({ended['name']}) is revoked, on {ended['workers']} workers")
