import pytest

from pilothouse.domain.alert import Action, ActionResult
from pilothouse.domain.errors import Refused
from pilothouse.domain.wires import Act
from pilothouse.monitoring.actions import Effect, Verbs, make_act

MOVED = Effect(from_release=12, to_release=11, workers=2, of=2, ms=140.2)


def acting(calls: list[tuple[object, ...]], effect: Effect = MOVED) -> Act:
    def rollback(route: str, env: str, to: int | None, reason: str) -> Effect:
        calls.append((route, env, to, reason))
        if to == 99:
            raise Refused("release 99 does not exist", where="r", hint="pilothouse release history r")
        return effect

    def pin(route: str, env: str, model: str, reason: str) -> Effect:
        calls.append((route, env, model, reason))
        return effect

    def disable(route: str, env: str, reason: str) -> Effect:
        calls.append((route, env, reason))
        return effect

    def notify(url: str, text: str) -> ActionResult:
        calls.append((url, text))
        return ActionResult(action=Action("notify"), ok=True, message="told by slack://")

    return make_act(Verbs(rollback, pin, disable, notify))


@pytest.mark.parametrize(
    ("action", "call", "said"),
    [
        (
            Action("rollback"),
            ("r", "prod", None, "why"),
            "rolled back r in prod from release 12 to 11 on 2 of 2 workers in 0.14 s",
        ),
        (
            Action("rollback", "11"),
            ("r", "prod", 11, "why"),
            "rolled back r in prod from release 12 to 11 on 2 of 2 workers in 0.14 s",
        ),
        (
            Action("pin_model", "local/small"),
            ("r", "prod", "local/small", "why"),
            "pinned r in prod to local/small on 2 of 2 workers in 0.14 s",
        ),
        (Action("disable_route"), ("r", "prod", "why"), "disabled r in prod on 2 of 2 workers in 0.14 s"),
        (Action("notify", "slack://a/b/c"), ("slack://a/b/c", "why"), "told by slack://"),
    ],
)
def test_every_action_says_what_it_did_in_numbers(action: Action, call: tuple[object, ...], said: str) -> None:
    calls: list[tuple[object, ...]] = []
    result = acting(calls)(action, "r", "prod", "why")
    assert calls == [call]
    assert (result.ok, result.message, result.action) == (True, said, action)


def test_what_is_not_known_is_not_said() -> None:
    result = acting([], Effect(to_release=11, note="the canary was ended"))(Action("rollback"), "r", "prod", "why")
    assert result.message == "rolled back r in prod from release ? to 11; the canary was ended"
    assert result.detail == {"to_release": 11, "note": "the canary was ended"}


def test_a_refused_verb_is_a_result_that_says_so() -> None:
    result = acting([])(Action("rollback", "99"), "r", "prod", "why")
    assert not result.ok
    assert result.message == (
        "rollback of r in prod failed: release 99 does not exist — r — pilothouse release history r"
    )
