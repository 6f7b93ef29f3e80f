"""Evidence on a route that is ready in everything that is measured; tests change one thing of it."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pilothouse.config.app import Person
from pilothouse.config.route import CheckOverride, GateConfig, RouteConfig
from pilothouse.domain.alert import Action, Rule
from pilothouse.domain.alert_facts import AlertFacts
from pilothouse.domain.alternate import Alternate
from pilothouse.domain.eval_facts import EvalFacts, RetrievalFacts, TaskFacts
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.facts import (
    BurnWindow,
    CacheFacts,
    ContextUse,
    CostFacts,
    Day,
    IndexUse,
    LatencyFacts,
    ManifestUse,
    ModelUse,
    ProviderFacts,
    QueueFacts,
    RedactionFacts,
    RetrievalUse,
    RouteFacts,
    RuntimeFacts,
    SchemaFacts,
    SegmentUse,
    Spender,
    TraceFacts,
    WayUse,
)
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.domain.manifest import IndexRef, Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Caps, Fallback, Policy, Queue, Retry, Timeouts
from pilothouse.domain.release import Release, Rollback
from pilothouse.domain.release_facts import Drill, DryRun, ReleaseFacts, StagedChanges
from pilothouse.domain.security_facts import (
    AuditFact,
    KeyFact,
    LeakSample,
    PlaintextFact,
    ReconstructSample,
    SecretFact,
    SecurityFacts,
)
from pilothouse.review.evidence import Evidence
from pilothouse.store.state.waivers import Waiver
from pilothouse.store.telemetry.schema import HISTOGRAM_MS

# For the tests, through `made`.
__all__ = ["Caps", "CheckOverride", "Fallback", "PlaintextFact", "Queue", "Rate", "Spend", "Waiver"]

NOW_US = 1_795_444_320_000_000  # 2026-11-23T14:32:00Z
DAY_US = 86_400_000_000
SINCE_US = NOW_US - 7 * DAY_US
N = 10_000

MANIFEST = Manifest(
    model=ModelRef("openai", "gpt-5-mini-2026-08-07"),
    prompt=Template("Answer: {{ question }}", ("question",)),
    system=Template("Be brief."),
    params={"temperature": 0},
    schema={"type": "object"},
    index=IndexRef("docs", "7"),
    policy=Policy(
        timeout=Timeouts(connect=2, first_token=5, idle=10, total=30),
        retry=Retry(attempts=2),
        limits=(Limit(name="slots", concurrency=20),),
        fallback=(Fallback(model=ModelRef("local", "smollm2")), Fallback(static="Later.", outcome="escalated")),
    ),
)


def config(**change: Any) -> RouteConfig:
    base = RouteConfig(
        name="docs-answer", app="docs", owner="ana", backup="ben", tier="high", manifest=MANIFEST,
        gate=GateConfig(dataset=Path("d.jsonl"), scorers=("contains",)),
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def policy(**change: Any) -> RouteConfig:
    changed = msgspec.structs.replace(MANIFEST.policy, **change)
    return config(manifest=msgspec.structs.replace(MANIFEST, policy=changed))


def _histogram() -> list[int]:
    counts = [0] * (len(HISTOGRAM_MS) + 1)
    counts[next(i for i, bound in enumerate(HISTOGRAM_MS) if bound > 800)] = 1_000
    return counts


def day(age: int, *, growth: float = 0.0, **change: Any) -> Day:
    """A day `age` days ago; its requests take `growth` of 100 tokens more each week."""
    tokens = int(1_000 * (100 + growth * 100 * (27 - age) / 7))
    base = Day(start_us=NOW_US - NOW_US % DAY_US - age * DAY_US, requests=1_000, success=990, failed=1, fallbacks=1,
               structured=0, valid_first=0, with_tokens=1_000, input_tokens=tokens, output_tokens=50_000,
               priced=1_000, cost=1.0)  # fmt: skip
    return msgspec.structs.replace(base, **change)


def facts(**change: Any) -> RouteFacts:
    base = RouteFacts(
        route="docs-answer", env="prod", since_us=SINCE_US, until_us=NOW_US, requests=N,
        first_us=SINCE_US, last_us=NOW_US - 1_000_000,
        outcomes={"success": N - 20, "failed": 10, "fallback": 10}, failures=10, failures_typed=10,
        errors={"server_error": 10}, with_usage=N, with_tokens=N,
        manifests=[ManifestUse(manifest="m11", release=11, inline=False, canary=False, requests=N,
                               parts=MANIFEST.hashes())],
        models=[ModelUse(provider="openai", model="gpt-5-mini-2026-08-07", served_model="gpt-5-mini-2026-08-07",
                         fingerprint="fp1", fallback=False, attempts=N - 10, first_us=SINCE_US - DAY_US,
                         last_us=NOW_US)],
        traces=TraceFacts(identified=N, duplicate_ids=0, traces=9_000, traces_with_spans=9_000, accounted=8_900,
                          unaccounted_ms_p50=40.0,
                          spans=30_000, orphan_spans=0, workflows=9_000, workflow_cost_mean=0.0011,
                          workflow_cost_p95=0.0022, workflows_priced=9_000, workflow_cost_mean_before=0.0011,
                          workflow_cost_p95_before=0.0022, workflows_priced_before=9_000, steps_mean=1.1,
                          steps_p95=2.0, documents=40_000, documents_repeated=400),
        redaction=RedactionFacts(by_status={"clean": N - 100, "redacted": 100}, skipped_without_reason=0,
                                 requests_with_secrets=0, secrets_unredacted=0, secrets_found=0),
        schema=SchemaFacts(structured=N, valid_first=9_950, valid=9_990, repaired=40, retried=0, mended=40, coerced=5,
                           delivered_invalid=0, missing={"/answer": 10}, mismatched={}, errors={},
                            unlisted={}, unlisted_before=frozenset(), cost=10.0,
                           invalid_attempt_cost=None),
        retrieval=RetrievalUse(retrievals=N, no_result=100, scored=N, tau=0.4, low_confidence=300,
                               baseline_retrievals=30_000, baseline_no_result=300,
                               versions=[IndexUse(name="docs", version="7", retrievals=N, first_us=0, last_us=0)]),
        runtime=RuntimeFacts(attempts=10_050, attempts_declared=10_050, timeouts=20, retried=50,
                             retried_recovered=48, reached_provider=N, fallbacks=10, degraded=0,
                             fallback_cost_mean=None, primary_cost_mean=0.001, fallback_score_mean=None,
                             primary_score_mean=None, fallback_scores=0, primary_scores=0, undelivered_cost=None,
                             providers=[ProviderFacts(provider="openai", attempts=10_050, rate_limited=10,
                                                      timeouts=20, errors={}, worst_hour_attempts=100,
                                                      worst_hour_rate_limited=2, headroom_min=0.6,
                                                      usage_reported=N, usage_expected=N)],
                             kinds={"primary": N, "retry": 40, "fallback": 10}, cancelled=0,
                             ways={"model": WayUse(8, NOW_US), "static": WayUse(2, NOW_US)}),
        queue=QueueFacts(waited=0, waited_in_vain=0, wait_ms_p95=None, depth_mean=0.0, depth_peak=0, refused=0,
                         hits={}, delayed=0, delayed_failed=0, busy_peak=4.0, arrivals_peak=500),
        cost=CostFacts(priced=N, unpriced=0, spend=10.0, mean=0.001, p50=0.001, p95=0.002, p99=0.004,
                       baseline_mean=0.001, baseline_requests=20_000, per_success=0.001,
                       baseline_per_success=0.001, unowned=0.0, top_keys=[Spender(id="k", requests=N, cost=10.0)],
                       p95_before=0.002, priced_before=9_000, segmented=10.0,
                       segments=[SegmentUse(segment="eu", requests=N, cost=10.0, success=N - 20)], judged=0,
                       judged_good=0, judged_before=0, judged_good_before=0),
        cache=CacheFacts(asked=N, hits=3_000, semantic=0, saved=1.0, asked_before=30_000, hits_before=9_000,
                         input_tokens=1_000_000, cached_tokens=400_000, input_tokens_before=4_000_000,
                         cached_tokens_before=1_600_000, semantic_judged=0, semantic_false=0),
        contexts=[ContextUse(provider="openai", model="gpt-5-mini-2026-08-07", n=N, mean=8_000.0, p95=40_000.0)],
        latency=[LatencyFacts(model="gpt-5-mini-2026-08-07", requests=N, p50=700.0, p95=1_400.0, p99=2_000.0,
                              ttft_n=N, ttft_p50=200.0, ttft_p95=400.0, ttft_p99=600.0)],
        burn=[BurnWindow(seconds=s, total=1_000, failed=1, duration_hist=_histogram())
              for s in (300, 1_800, 3_600, 21_600, 259_200)],
        days=[day(age) for age in range(27, -1, -1)],
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def verdict(**change: Any) -> Verdict:
    base = Verdict(
        verdict="pass", reason="no drop beyond 3 pp", n=246, baseline_rate=0.97, candidate_rate=0.98, delta=0.01,
        low=-0.01, high=0.03, p_harm=0.9, broke=2, mended=4, errors=0, mde=0.046, margin=0.03,
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def release(**change: Any) -> ReleaseFacts:
    base = ReleaseFacts(
        route="docs-answer", env="prod", measured_us=NOW_US,
        current=Release(route="docs-answer", number=11, manifest_hash="m11", parts=MANIFEST.hashes(),
                        created_us=NOW_US - 2 * DAY_US),
        hashes_resolvable=8, vcs_commit="abc", alternate_models=("local/smollm2",), static_fallback=True,
        rollback=DryRun(ok=True, from_release=11, target=10),
        last_rollback=Rollback(id=1, route="docs-answer", env="prod", from_release=12, to_release=11,
                               ts_us=NOW_US - 3 * 3_600_000_000, propagated_ms=140.0, workers=2),
        changes_90d=StagedChanges(total=20, staged=20), gated=True, verdict=verdict(), verdict_baseline=10,
        verdict_us=NOW_US - 2 * DAY_US,
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def evals(**change: Any) -> EvalFacts:
    tasks = [
        TaskFacts(task="single", cases=146, passed=145, n=146),
        TaskFacts(task="multi", cases=100, passed=98, n=100),
    ]
    base = EvalFacts(
        route="docs-answer", release=11, dataset="d.jsonl", dataset_hash="h", run_dataset_hash="h", run_id=88,
        run_at_us=NOW_US - 2 * DAY_US, complete=True, cases=246, tasks=tasks, passed=243, n=246,
        retrieval=RetrievalFacts(n=200, k=5, hits=196, hit_at_k=0.98, low=0.95, high=0.99, mrr=0.9),
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def security(**change: Any) -> SecurityFacts:
    base = SecurityFacts(
        secrets=[SecretFact(name="openai", reference="env://KEY", backend="env", owner="ana", rotate_s=90 * 86_400.0,
                            rotated_us=NOW_US - 30 * DAY_US, envs=("prod",), fingerprint="f1")],
        plaintext=[], files_scanned=12, keys=[KeyFact(id="k", name="web", env="prod", request_envs=("prod",))],
        audit=AuditFact(ok=True, rows=120, anchored_us=NOW_US - 3_600_000_000, credential_changes=3,
                        credential_rows=3),
        leaks=LeakSample(rows=1_000, leaks=0, secrets=0, sampled_us=NOW_US),
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


RULE = Rule(
    name="errors", item="T9.2", metric="error.rate", route="docs-answer", threshold=0.05, owner="ana",
    actions=(Action("rollback"), Action("notify")), runbook="docs/runbook.md",
)  # fmt: skip


def alerts(**change: Any) -> AlertFacts:
    return msgspec.structs.replace(AlertFacts(rules=1, heartbeat_age_s=5.0), **change)


def drill(kind: str, days: float = 10, ok: bool = True, env: str = "prod", **detail: Any) -> Drill:
    ts_us = int(NOW_US - days * DAY_US)
    return Drill(id=1, kind=kind, route="docs-answer", env=env, ts_us=ts_us, ok=ok, detail=detail)


def fit(**change: Any) -> Alternate:
    base = Alternate(
        model="local/smollm2", evaluated_us=NOW_US - DAY_US, passed=True, pass_rate=0.9, n=246, probed_us=NOW_US - 1,
        answered=True, own=True,
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def evidence(**change: Any) -> Evidence:
    base = Evidence(
        env="prod", now_us=NOW_US, config=config(),
        people={"ana": Person("ana", "Ana", ("log://",)), "ben": Person("ben", "Ben", ("log://",))},
        facts=facts(), registry=frozenset(MANIFEST.hashes().values()), release=release(), evals=evals(),
        alerts=alerts(), rules=(RULE,), security=security(),
        reconstruct=ReconstructSample(n=140, ok=140, sampled_us=NOW_US),
        drills=(*(drill(kind) for kind in ("fallback", "alternate_model", "disable_route", "invalid_output", "export")),
                drill("faults", days=1, env="staging")),
        windows={"openai/gpt-5-mini-2026-08-07": 400_000}, system_tokens=200,
    )  # fmt: skip
    return msgspec.structs.replace(base, **change)


def inside(struct: Any, field: str, **change: Any) -> Any:
    """`struct` with fields of its field `field` changed."""
    return msgspec.structs.replace(struct, **{field: msgspec.structs.replace(getattr(struct, field), **change)})


@pytest.fixture
def made() -> ModuleType:
    """This module: its builders."""
    return sys.modules[__name__]
