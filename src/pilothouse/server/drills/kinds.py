"""The kinds of drill, and the kind of evidence by which it is seen when each was last done."""

from collections.abc import Callable
from typing import Final

Say = Callable[[str], None]  # what a drill is doing now, in a line for people

RECORDED: Final[dict[str, str]] = {
    "export": "export",
    "rollback": "rollback",
    "provider-outage": "faults",
    "fallback": "fallback",
    "model-switch": "alternate_model",
    "kill-switch": "disable_route",
    "restore": "restore",
}
