"""How a drill is heard while it goes on."""

from collections.abc import Callable

Say = Callable[[str], None]  # what a drill is doing now, in a line for people
