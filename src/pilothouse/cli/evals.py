"""`pilothouse eval`, and the gate of `release create --gate`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import Control, connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

CODES = {"pass": show.OK, "block": show.BLOCK, "inconclusive": show.INCONCLUSIVE}


@app.command("run")
@show.verb
def run(
    route: options.Route,
    release: Annotated[int | None, typer.Option("--release", help="The newest where not given.")] = None,
    baseline: Annotated[int | None, typer.Option("--baseline", help="What prod serves where not given.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what is known from the last 24 hours.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Run the route's dataset on a release and on its baseline, and give the gate's verdict."""
    with connect(data, folder) as control:
        number = release if release is not None else newest(control, route)
        result = gate(control, route, number, baseline=baseline, fresh=fresh, quiet=as_json)
    if as_json:
        show.json(result)
    else:
        tell(result)
    raise typer.Exit(CODES[result["verdict"]["verdict"]])


@app.command("show")
@show.verb
def show_run(
    run_id: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show a run: its verdict, and every case that did not pass."""
    with connect(data, folder) as control:
        result = control.get(f"/api/v1/evals/{run_id}")
    if as_json:
        show.json(result)
        return
    if "verdict" in result:
        tell(result)
    else:
        show.line(
            f"{result['route']}  release {result['release']}  {result['state']}: {len(result['cases'])} cases so far"
        )
    show.line()
    failed = [case for case in result["cases"] if not case["passed"]]
    rows = [(case["case_id"], case["task"], _why(case), _short(case["output"])) for case in failed]
    show.table(("case", "task", "why", "output"), rows)


def newest(control: Control, route: str) -> int:
    """The number of the route's newest release; an error where it has none."""
    from pilothouse.domain.errors import BadRequest

    found = control.get(f"/api/v1/routes/{route}/releases")["releases"]
    if not found:
        raise BadRequest(f"{route} has no release", hint=f"pilothouse release create {route}")
    number: int = found[0]["release"]
    return number


def gate(
    control: Control, route: str, release: int, *, baseline: int | None = None, fresh: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Run the gate with a progress bar; its result."""
    result: dict[str, Any] = {}
    lines = control.stream(f"/api/v1/routes/{route}/evals", release=release, baseline=baseline, fresh=fresh)
    with show.progress("gate", quiet=quiet) as advance:
        for told in lines:
            if told["type"] == "progress":
                advance(told["done"], told["total"])
            elif told["type"] == "result":
                result = told
    if not result:
        from pilothouse.domain.errors import StateError

        raise StateError("the run ended without a result", hint="see logs/control.log; run it again: it goes on")
    return result


def tell(result: dict[str, Any]) -> None:
    """The verdict as people read it."""
    import msgspec

    from pilothouse.domain.evaluation import CaseResult, Verdict
    from pilothouse.evals import report

    verdict = msgspec.convert(result["verdict"], Verdict)
    candidate = msgspec.convert(result["cases"], list[CaseResult])
    baseline = msgspec.convert(result["baseline_cases"], list[CaseResult]) or None
    see = f"pilothouse eval show {verdict.run_id}"
    text = report.text(verdict, baseline=baseline, candidate=candidate, url=see)
    word, _, rest = text.partition(" ")
    show.line(f"  {show.status(word)} {rest}")


def _why(case: dict[str, Any]) -> str:
    if case["error"]:
        return str(case["error"])
    return next((f"{one['scorer']}: {one['why']}" for one in case["scores"] if not one["passed"]), "")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"
