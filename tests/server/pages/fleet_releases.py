"""The invented fleet's canaries and drills: evidence that grows look by look, deterministic."""

# ruff: noqa: E501  # an invented record reads better in few lines

import math

from fleet import NOW, PEOPLE, ROUTES

from pilothouse.domain.release import CanaryLook
from pilothouse.releases.guardrail import Guardrail
from pilothouse.server.pages.release_shown import CanaryShown, DrillShown

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000

_RAILS = {
    "code-review": (
        Guardrail(name="failed", n=412, bad=9, limit=0.031, evidence=1.9, threshold=1_400.0, margin=0.01, difference=0.0068, low=-0.0241, high=0.0352),
        Guardrail(name="invalid", n=398, bad=21, limit=0.041, evidence=24.0, threshold=1_400.0, margin=0.02, difference=0.0218, low=0.0022, high=0.0417),
        Guardrail(name="latency", form="ratio", n=412, evidence=0.004, threshold=700.0, margin=0.1, difference=-0.021, low=-0.093, high=0.056, cleared=True),
        Guardrail(name="cost", form="ratio", n=405, evidence=0.3, threshold=700.0, margin=0.1, difference=0.043, low=-0.018, high=0.108),
        Guardrail(name="judged-good", n=61, bad=4, limit=0.17, evidence=0.41, threshold=1_400.0, margin=0.05),
        Guardrail(name="helpfulness", form="difference", n=0, evidence=0.0, threshold=700.0, margin=0.2),
    ),
    "docs-answer": (
        Guardrail(name="failed", n=430, bad=41, limit=0.027, evidence=13_100.0, threshold=1_400.0, margin=0.01, difference=0.083, low=0.031, high=0.136),
        Guardrail(name="invalid", n=389, bad=5, limit=0.034, evidence=0.05, threshold=1_400.0, margin=0.02, difference=-0.001, low=-0.024, high=0.021),
        Guardrail(name="latency", form="ratio", n=430, evidence=88.0, threshold=700.0, margin=0.1, difference=0.24, low=0.02, high=0.49),
    ),
}  # fmt: skip


def _numbers(rail: Guardrail, done: float) -> list[float | None]:
    """A guardrail after a part `done` of its observations: the evidence grows with them, the bounds close."""
    n, phase = round(rail.n * done), float(len(rail.name))
    evidence = (
        math.exp(math.log(max(rail.evidence, 1e-4)) * done + (1 - done) * 0.8 * math.sin(done * 11 + phase))
        if rail.n
        else 0.0
    )
    known = rail.difference is not None and done > 0.08
    if rail.difference is None or rail.low is None or rail.high is None or not known:
        return [evidence, rail.threshold, None, None, None, rail.margin, float(n)]
    wide = 1 / math.sqrt(done)
    middle = rail.difference + math.sin(done * 9 + phase) * (rail.high - rail.low) * 0.25 * (1 - done)
    low, high = middle - (rail.difference - rail.low) * wide, middle + (rail.high - rail.difference) * wide
    return [evidence, rail.threshold, middle, low, high, rail.margin, float(n)]


def _looks(
    route: str, since: int, until: int, steps: tuple[tuple[int, float], ...], last: str
) -> tuple[CanaryLook, ...]:
    made, count = [], 90
    rails = _RAILS[route]
    for i in range(count):
        ts = since + (until - since) * (i + 1) // count
        done, share = ((i + 1) / count) ** 1.4, [share for begun, share in steps if begun <= ts][-1]
        stepping = any(0 < begun - ts < (until - since) // count for begun, _ in steps[1:])
        made.append(
            CanaryLook(
                ts_us=ts, share=share, decision=last if i == count - 1 else "step" if stepping else "hold", requests=round(rails[0].n * done),
                rails={rail.name: _numbers(rail, done) for rail in rails},
            )
        )  # fmt: skip
    return tuple(made)


def canaries(route: str) -> tuple[CanaryShown, ...]:
    if route == "code-review":
        since = NOW - 4 * HOUR
        steps = ((since, 0.0), (since + 20 * MINUTE, 0.01), (since + 95 * MINUTE, 0.05))
        return (
            CanaryShown(
                id=7, env="prod", release=4, baseline=3, state="running", started_us=since, decision="hold",
                sentence="held: 21 of 398 requests invalid against 4.1 % allowed; evidence 24 < 1,400",
                steps=steps, looks=_looks(route, since, NOW, steps, "hold"), rails=_RAILS[route],
            ),
        )  # fmt: skip
    if route == "docs-answer":
        since, until = NOW - 150 * MINUTE, NOW - 55 * MINUTE
        steps = ((since, 0.1),)
        return (
            CanaryShown(
                id=6, env="prod", release=12, baseline=11, state="aborted", started_us=since, ended_us=until, decision="abort",
                sentence="aborted: 41 of 430 requests failed against 2.7 % allowed; evidence 1.3e+04 ≥ 1,400",
                steps=steps, looks=_looks(route, since, until, steps, "abort"), rails=_RAILS[route],
                t_detect_us=until - 180_000, t_decide_us=until - 172_000, t_flip_us=until - 140_000, t_last_bad_us=until - 96_000,
            ),
        )  # fmt: skip
    return ()


def drills(route: str) -> tuple[DrillShown, ...]:
    if route == "release-notes":
        return tuple(
            DrillShown(kind=kind, command=f"pilothouse drill {kind} {route}") for kind in ("rollback", "restore")
        )
    done = (
        ("export", "prod", 9 * HOUR, True, {"traces": 200}),
        ("rollback", "prod", 9 * HOUR, True, {"propagated_ms": 41.3, "last_old_ms": 36.9, "workers": 2}),
        (
            "provider-outage",
            "prod",
            9 * HOUR,
            False,
            {"handled": 5, "of": 6, "wrong": "stall: failed by timeout, expected fallback"},
        ),
        ("fallback", "prod", 9 * HOUR, True, {"ms": 212.0}),
        ("model-switch", "staging", 61 * DAY, True, {"answered": 3, "asked": 3, "propagated_ms": 58.0}),
        ("kill-switch", "prod", 20 * DAY, True, {}),
    )
    made = [
        DrillShown(kind=kind, command=f"pilothouse drill {kind} {route}{f' --env {env}' if env != 'prod' else ''}", env=env, ts_us=NOW - age, ok=ok, detail=detail)
        for kind, env, age, ok, detail in done
    ]  # fmt: skip
    return (*made, DrillShown(kind="restore", command=f"pilothouse drill restore {route}"))


def runbook(route: str, env: str) -> str:
    spec = ROUTES[route]
    return f"""# Runbook of {route} in {env}

Owner: {PEOPLE[spec["owner"]]}, told by slack. Backup: {PEOPLE[spec["backup"]]}. Tier: {spec["tier"]}.

## Something is wrong since the last release

Live: release {spec["stable"]}, manifest `0a1b2c3d4e5f`, commit unknown.

```
pilothouse rollback {route}    # release {spec["stable"] - 1} was good
```

## The model or its provider is the trouble

Served by {spec["model"]}.

- local/smollm2: fit to be switched to

```
pilothouse model switch {route} local/smollm2 --reason "…"
```

## What happens by itself

1. on timeout, server_error: local/smollm2, outcome fallback

## When this was last practised

| drill | when | how |
|---|---|---|
| fallback | 0.4 d ago | as promised |
| faults | 0.4 d ago | **failed** |
"""
