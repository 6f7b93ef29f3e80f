"""Options that many verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path, typer.Option("--data", envvar="PILOTHOUSE_DATA", help="Data directory.", show_default="./.pilothouse")
]
App = Annotated[Path, typer.Option("--dir", help="The app's directory, with its pilothouse.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Env = Annotated[str, typer.Option("--env", help="dev, staging or prod.")]
Route = Annotated[str, typer.Argument(help="Name of the route, as in pilothouse.yaml.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the change log.")]

DATA = Path(".pilothouse")
APP = Path()
