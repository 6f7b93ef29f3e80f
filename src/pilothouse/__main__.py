"""`python -m pilothouse`: the command line."""

from pilothouse.cli.main import app

app()
