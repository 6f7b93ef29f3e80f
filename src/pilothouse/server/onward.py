"""How a plan is carried on, one answer of `apply` after another: by the terminal and by control alike."""

from typing import Any, Literal

Onward = Literal["end", "gate", "again", "wait"]


def onward(found: dict[str, Any]) -> Onward:
    """What comes after this answer. `end`: done, or blocked; `gate`: the gate has to run; `again`: ask for the next
    step at once; `wait`: something takes its time."""
    following = next((step for step in found["steps"] if step["state"] != "done"), None)
    if following is None or following["state"] == "blocked":
        return "end"
    if following["kind"] == "gate" and following["state"] == "ready":
        return "gate"
    return "wait" if found["moved"] is None or following["state"] == "waiting" else "again"
