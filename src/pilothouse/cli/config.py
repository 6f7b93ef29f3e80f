"""`pilothouse config`."""

import typer

from pilothouse.cli import options, show

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
@show.verb
def check(folder: options.App = options.APP, as_json: options.Json = False) -> None:
    """Read the app's files strictly, datasets too; the first error with its file and line."""
    from pilothouse.config.app import load
    from pilothouse.evals import dataset

    config = load(folder)
    cases = {name: len(dataset.load(r.gate.dataset).cases) for name, r in config.routes.items() if r.gate is not None}
    if as_json:
        told = {"ok": True, "routes": sorted(config.routes), "providers": sorted(config.providers), "cases": cases}
        show.json(told)
        return
    rows = [
        (
            name,
            route.tier,
            route.owner or "-",
            route.backup or "-",
            str(route.manifest.model),
            str(cases.get(name, "-")),
        )
        for name, route in config.routes.items()
    ]
    show.table(("route", "tier", "owner", "backup", "model", "gate cases"), rows)
