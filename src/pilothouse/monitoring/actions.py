"""The executable fallbacks: verbs that the server hands in, made into one `Act` that says what it did in a sentence."""

from collections.abc import Callable

import msgspec

from pilothouse.domain.alert import Action, ActionResult
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.wires import Act


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb did. None is unknown. `ms`: from the command to the last worker's acknowledgement."""

    from_release: int | None = None
    to_release: int | None = None
    workers: int | None = None  # that hold the new table
    of: int | None = None
    ms: float | None = None
    note: str = ""


class Verbs(msgspec.Struct, frozen=True):
    """Blocking; each raises an error of the product's tree where it is refused.

    rollback(route, env, to or None for the one before, reason); pin_model(route, env, `provider/model`, reason);
    disable_route(route, env, reason); notify(url, text) → what became of it.
    """

    rollback: Callable[[str, str, int | None, str], Effect]
    pin_model: Callable[[str, str, str, str], Effect]
    disable_route: Callable[[str, str, str], Effect]
    notify: Callable[[str, str], ActionResult]


def make_act(verbs: Verbs) -> Act:
    """The `act` wire. A verb that is refused or fails becomes a result that says so: `ok` False."""

    def act(action: Action, route: str, env: str, reason: str) -> ActionResult:
        try:
            return _do(verbs, action, route, env, reason)
        except PilothouseError as error:
            return ActionResult(action=action, ok=False, message=f"{action.kind} of {route} in {env} failed: {error}")

    return act


def _do(verbs: Verbs, action: Action, route: str, env: str, reason: str) -> ActionResult:
    match action.kind:
        case "rollback":
            effect = verbs.rollback(route, env, int(action.argument) if action.argument else None, reason)
            done = f"rolled back {route} in {env} from release {_or(effect.from_release)} to {_or(effect.to_release)}"
        case "pin_model":
            effect = verbs.pin_model(route, env, action.argument, reason)
            done = f"pinned {route} in {env} to {action.argument}"
        case "disable_route":
            effect = verbs.disable_route(route, env, reason)
            done = f"disabled {route} in {env}"
        case "notify":
            told = verbs.notify(action.argument, reason)
            return msgspec.structs.replace(told, action=action)
    return ActionResult(action=action, ok=True, message=done + _reach(effect), detail=_detail(effect))


def _or(number: int | None) -> str:
    return "?" if number is None else str(number)


def _reach(effect: Effect) -> str:
    said = ""
    if effect.workers is not None and effect.of is not None:
        said += f" on {effect.workers} of {effect.of} workers"
    if effect.ms is not None:
        said += f" in {effect.ms / 1_000:.2f} s" if effect.ms >= 10 else f" in {effect.ms:.1f} ms"
    return said + (f"; {effect.note}" if effect.note else "")


def _detail(effect: Effect) -> dict[str, str | int | float]:
    found = {name: value for name, value in msgspec.structs.asdict(effect).items() if value not in (None, "")}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}
