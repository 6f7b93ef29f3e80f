# ruff: noqa: E501  # snapshots are what is printed
import re

import msgspec
import pytest
from inline_snapshot import snapshot
from rich.cells import cell_len

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.evaluation import Verdict
from pilothouse.review import render
from pilothouse.review.judge import review
from pilothouse.review.page import MAX_LINES
from pilothouse.review.render_json import FIELDS


@pytest.fixture
def mixed(made):
    """A route with something of everything: FAIL, WARN, NO DATA, WAIVED."""
    tasks = [
        made.TaskFacts(task="single", cases=215, passed=213, n=215),
        made.TaskFacts(task="multi-hop", cases=31, passed=12, n=31),
    ]
    waiver = made.Waiver(
        item="T10.1", route="docs-answer", until_us=made.NOW_US + 6 * made.DAY_US, reason="new host", by="ben"
    )
    evidence = made.evidence(
        evals=made.evals(tasks=tasks, passed=225),
        facts=made.inside(made.facts(), "cost", mean=0.00131),
        reconstruct=None,
        release=made.release(rollback=made.DryRun(ok=False, reason="release 10 lost its prompt")),
        waivers=(waiver,),
    )
    return review([evidence], FrozenClock(made.NOW_US))


@pytest.fixture
def bare(made):
    evidence = made.evidence(
        config=made.config(name="bare"), facts=None, release=None, evals=None, alerts=None, rules=(), security=None,
        reconstruct=None, registry=None, drills=(),
    )  # fmt: skip
    return review([evidence], FrozenClock(made.NOW_US))


@pytest.fixture
def ready(made):
    return review([made.evidence(config=made.config(tier="lite"))], FrozenClock(made.NOW_US))


def test_text(mixed):
    assert render.text(mixed, width=120) == snapshot("""\
docs-answer   prod   release 11   high   Ana, Ben   2026-11-23 14:32, last 7 days, 10,000 requests
NOT READY    observe 0.74    evaluate 0.59    roll back 0.79    security: no FAIL    ready from 0.80

  FAIL     T3.2  pass rate, lower bound        0.24              n=31   fail < 0.85              Ana → block release
                 'multi-hop' fails 19 of 31; overall 0.87
                 fix: mend the failing cases and run them again: pilothouse eval run docs-answer
  FAIL     CR.6  way back dry-run              dry run fails            fail no way back         Ana → block release
                 release 10 lost its prompt
                 fix: see the way back: pilothouse release plan docs-answer
  FAIL     G6    observe, evaluate, roll back  least 0.59               fail below floor, or T8  Ana → block release
                 from 0.80; security: no FAIL
                 fix: mend the FAIL and NO DATA lines: pilothouse review docs-answer
  WARN     T7.1  cost per request              +31 %             n=10k  warn +25 %               Ana → pin_model
                 mean 0.0013 USD, p95 0.002 USD; a trace 0.0011 USD, p95 0.0022 USD
                 fix: compare the two releases part by part: pilothouse release diff docs-answer
  NO DATA  T1.0  outputs reconstructed         none sampled yet                                  Ana → freeze releases
                 fix: send it requests, with model: docs-answer
  NO DATA  6 items, not read: V1 V2 V3 V4 V5 V6
  NO DATA  41 items, not measured yet: T8.2 T8.5 T8.7 T8.8 T3.4 T3.5 T5.2 T5.3 T5.5 T9.3 T9.6 T9.5 T10.6 and 28 more
  53 pass   3 fail   1 warn   48 no data   1 waived (next expires 2026-11-29)   1 not applicable

  observe ✗   evaluate ✗   roll back ✗

if you cannot observe it, evaluate it, and roll it back, it is not ready for production
""")


def test_text_of_a_ready_route(ready):
    assert render.text(ready, width=120) == snapshot("""\
docs-answer   prod   release 11   lite   Ana, Ben   2026-11-23 14:32, last 7 days, 10,000 requests
READY        observe 0.73    evaluate 0.78    roll back 0.90    security: no FAIL    ready from 0.50

  FAIL  G4  lighter profile allowed  lite, though not allowed    fail lite, but with tools  Ana → notify
            100 requests with personal data or secrets
            fix: set tier: standard for the route, then restart pilothouse up
  NO DATA  6 items, not read: V1 V2 V3 V4 V5 V6
  NO DATA  23 items, not measured yet: T8.2 T8.5 T3.5 T5.2 T9.3 T9.6 T10.6 CR.4 CR.5 CW.1 CW.2 CW.3 CM.1 CM.2 and 9 more
  44 pass   1 fail   29 no data

  observe ✓   evaluate ✓   roll back ✓   last drill 3 h ago, 140 ms

it can be observed, evaluated and rolled back: it is ready for production
""")


def test_text_of_a_route_without_any_evidence(bare):
    assert render.text(bare, width=100) == snapshot("""\
bare   prod   nothing live   high   Ana, Ben   2026-11-23 14:32, last 7 days, 0 requests
NOT READY    observe 0.00    evaluate 0.00    roll back 0.00    security: no FAIL    ready from 0.80

  FAIL     G6     observe, evaluate, roll back  least 0.00                fail below floor, or T8
                  from 0.80; security: no FAIL
                  fix: mend the FAIL and NO DATA lines: pilothouse review bare
  NO DATA  T8.1   secrets owned and rotated     not scanned
                  fix: give each provider key: env://NAME, key_owner:, rotate: 90d and rotated: DAT…
  NO DATA  T8.3   environments kept apart       not checked
                  fix: pilothouse keys create --name NAME --env prod
  NO DATA  T8.4   audit chain anchored          not verified
                  fix: check the chain and keep its last hash elsewhere: pilothouse audit verify
  NO DATA  T8.6   secrets in prompts            not scanned
                  fix: pilothouse release create bare
  NO DATA  T3.1   tasks with 30 cases or more   no dataset
                  fix: name a dataset in the route's gate, then pilothouse eval run bare
  NO DATA  T3.2   pass rate, lower bound        never evaluated
                  fix: evaluate the live release: pilothouse eval run bare
  NO DATA  T3.3   regression, paired            no verdict
                  fix: evaluate the live release: pilothouse eval run bare
  NO DATA  T5.1   right document retrieved      no case is labelled
                  fix: pilothouse eval run bare
  NO DATA  T5.4   retrievals without result     0 retrievals         n=0
                  n < 30
                  fix: send it at least 30 requests, with model: bare
  NO DATA  T1.0   outputs reconstructed         none sampled yet
                  fix: send it requests, with model: bare
  NO DATA  T1.6   known index version           no retrieval seen
                  fix: pilothouse release create bare
  NO DATA  T2.7   traces survive an export      no export drill yet  n=0
                  fix: send it at least 30 requests, with model: bare
  NO DATA  T9.7   alert rules in order          rules not read
                  fix: give the rule owner:, actions: and runbook: in pilothouse.yaml, then restart…
  NO DATA  T10.5  runbooks                      no rule              n=0
                  fix: give every paging rule runbook: in pilothouse.yaml
  NO DATA  G3     executable fallbacks          rules not read
                  fix: give each rule actions: [rollback] in pilothouse.yaml, then restart pilothou…
  NO DATA  30 items, no traffic: T4.1 T4.2 T4.3 T4.4 T7.1 T7.2 T7.3 T7.4 T7.5 T7.6 T7.7 and 19 more
  NO DATA  4 items, never exercised: T4.5 T6.6 T10.3 CR.3
  NO DATA  6 items, releases not read: T10.1 T10.2 T10.4 CR.1 CR.2 CR.6
  NO DATA  6 items, not read: V1 V2 V3 V4 V5 V6
  NO DATA  41 items, not measured yet: T8.2 T8.5 T8.7 T8.8 T3.4 T3.5 T5.2 T5.3 T5.5 T9.3 and 31 more
  3 pass   1 fail   102 no data   1 not applicable

  observe ✗   evaluate ✗   roll back ✗

if you cannot observe it, evaluate it, and roll it back, it is not ready for production
""")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_a_narrow_terminal_loses_columns_and_never_wraps(mixed, bare, width):
    for result in (mixed, bare):
        lines = render.text(result, width=width).splitlines()
        assert max(cell_len(line) for line in lines) <= width
        assert len(lines) <= MAX_LINES + 2  # the sentence may take three lines on a telephone


def test_one_page_however_much_is_wrong(made, bare):
    for result in (bare, review([everything_wrong(made)], FrozenClock(made.NOW_US))):
        assert len(render.text(result).splitlines()) <= MAX_LINES


def everything_wrong(made):
    policy = msgspec.structs.replace(made.MANIFEST.policy, fallback=(), invalid=())
    facts = made.facts(
        manifests=[], outcomes={}, failures_typed=0,
        traces=msgspec.structs.replace(made.facts().traces, accounted=0, identified=0),
        runtime=msgspec.structs.replace(made.facts().runtime, timeouts=5_000, fallbacks=9_000, retried=5_000,
                                        retried_recovered=0),
        schema=msgspec.structs.replace(made.facts().schema, valid_first=0, valid=0, missing={"/a": 9_000},
                                       mismatched={"/b": 9_000}),
        cost=msgspec.structs.replace(made.facts().cost, mean=1.0, p99=1.0, per_success=1.0, unowned=9.0),
        retrieval=msgspec.structs.replace(made.facts().retrieval, no_result=9_000, versions=[]),
    )  # fmt: skip
    return made.evidence(
        config=made.config(owner="", backup="", manifest=msgspec.structs.replace(made.MANIFEST, policy=policy)),
        facts=facts, evals=made.evals(passed=10, tasks=[made.TaskFacts(task="t", cases=1)]),
        reconstruct=made.ReconstructSample(n=100, ok=1),
        release=made.release(rollback=made.DryRun(ok=False), hashes_resolvable=3, alternate_models=(),
                             verdict=made.verdict(verdict="block", must_pass_failed=["a"]),
                             changes_90d=made.StagedChanges(total=10, direct=10)),
        security=made.security(plaintext=[made.PlaintextFact(where="x:1", kind="k", place="template")],
                               audit=made.AuditFact(ok=False, rows=1),
                               keys=[made.KeyFact(id="k", name="k", env="dev", request_envs=("prod",))]),
        alerts=made.alerts(unowned=["r"]), drills=(), rules=(),
    )  # fmt: skip


def test_colour_only_where_asked_for_and_only_colour(mixed):
    plain, coloured = render.text(mixed), render.text(mixed, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_markdown(mixed):
    assert render.markdown(mixed).partition("<details>")[0] == snapshot("""\
## docs-answer: NOT READY

observe 0.74 ✗ · evaluate 0.59 ✗ · roll back 0.79 ✗ · security: no FAIL · ready from 0.80

prod · release 11 · high · Ana, Ben · 10,000 requests · last 7 days · 2026-11-23T14:32:00Z

| status | item | value | n | threshold | owner → fallback | fix |
|---|---|---|--:|---|---|---|
| FAIL | [T3.2](/evals.json?route=docs-answer) pass rate, lower bound | 0.24<br>'multi-hop' fails 19 of 31; overall 0.87 | 31 | fail \\< 0.85 | Ana → block release | mend the failing cases and run them again: `pilothouse eval run docs-answer` |
| FAIL | [CR.6](/releases?route=docs-answer&env=prod) way back dry-run | dry run fails<br>release 10 lost its prompt |  | fail no way back | Ana → block release | see the way back: `pilothouse release plan docs-answer` |
| FAIL | [G6](/review?route=docs-answer&env=prod) observe, evaluate, roll back | least 0.59<br>from 0.80; security: no FAIL |  | fail below floor, or T8 | Ana → block release | mend the FAIL and NO DATA lines: `pilothouse review docs-answer` |
| WARN | [T7.1](/traces?route=docs-answer&env=prod) cost per request | +31 %<br>mean 0.0013 USD, p95 0.002 USD; a trace 0.0011 USD, p95 0.0022 USD | 10k | warn +25 % | Ana → pin\\_model | compare the two releases part by part: `pilothouse release diff docs-answer` |
| NO DATA | [T1.0](/traces?route=docs-answer&env=prod) outputs reconstructed | none sampled yet |  |  | Ana → freeze releases | send it requests, with `model: docs-answer` |

NO DATA: 6 items, not read (V1, V2, V3, V4, V5, V6).

NO DATA: 41 items, not measured yet (T8.2, T8.5, T8.7, T8.8, T3.4, T3.5, T5.2, T5.3, T5.5, T9.3, T9.6, T9.5, T10.6, CR.4, CR.5, CW.1, CW.2, CW.3, CW.4, CW.5, CM.1, CM.2, CM.3, CM.4, CM.5, CQ.1, CQ.2, CQ.3, CQ.4, CQ.5, I1, I2, I3, I4, I5, I6, I7, V0, V7, G7, G8).

53 pass · 3 fail · 1 warn · 48 no data · 1 waived (next expires 2026-11-29) · 1 not applicable

""")


def test_html(mixed):
    assert render.html(mixed).partition('<div class="review-layers">')[0] == snapshot("""\
<div class="review"><article class="review-route not-ready" id="review-docs-answer-prod">
  <header class="review-head">
    <h2>docs-answer</h2>
    <p class="review-about">prod · release 11 · high · Ana, Ben · <time datetime="2026-11-23T14:32:00Z">2026-11-23T14:32:00Z</time>, last 7 days, 10,000 requests</p>
    <p class="review-verdict"><strong class="status-fail">NOT READY</strong>      <span class="review-score score-low">observe <b>0.74</b> ✗</span>      <span class="review-score score-low">evaluate <b>0.59</b> ✗</span>      <span class="review-score score-low">roll back <b>0.79</b> ✗</span>      <span class="review-security">security: no FAIL</span>
      <span class="review-floor">ready from 0.80</span></p>
  </header>  <table class="findings">
    <thead><tr><th scope="col">status</th><th scope="col">item</th><th scope="col">value</th><th scope="col">n</th><th scope="col">threshold</th><th scope="col">owner → fallback</th></tr></thead>
    <tbody>    <tr class="finding finding-fail" data-item="T3.2">
      <td class="finding-status">FAIL</td>
      <td class="finding-item"><a href="/evals.json?route=docs-answer">T3.2</a> pass rate, lower bound</td>
      <td class="finding-value">0.24<div class="finding-detail">&#39;multi-hop&#39; fails 19 of 31; overall 0.87</div><div class="finding-fix">fix: mend the failing cases and run them again: <code>pilothouse eval run docs-answer</code></div></td>
      <td class="finding-n">31</td>
      <td class="finding-threshold">fail &lt; 0.85</td>
      <td class="finding-owner">Ana → block release</td>
    </tr>    <tr class="finding finding-fail" data-item="CR.6">
      <td class="finding-status">FAIL</td>
      <td class="finding-item"><a href="/releases?route=docs-answer&amp;env=prod">CR.6</a> way back dry-run</td>
      <td class="finding-value">dry run fails<div class="finding-detail">release 10 lost its prompt</div><div class="finding-fix">fix: see the way back: <code>pilothouse release plan docs-answer</code></div></td>
      <td class="finding-n"></td>
      <td class="finding-threshold">fail no way back</td>
      <td class="finding-owner">Ana → block release</td>
    </tr>    <tr class="finding finding-fail" data-item="G6">
      <td class="finding-status">FAIL</td>
      <td class="finding-item"><a href="/review?route=docs-answer&amp;env=prod">G6</a> observe, evaluate, roll back</td>
      <td class="finding-value">least 0.59<div class="finding-detail">from 0.80; security: no FAIL</div><div class="finding-fix">fix: mend the FAIL and NO DATA lines: <code>pilothouse review docs-answer</code></div></td>
      <td class="finding-n"></td>
      <td class="finding-threshold">fail below floor, or T8</td>
      <td class="finding-owner">Ana → block release</td>
    </tr>    <tr class="finding finding-warn" data-item="T7.1">
      <td class="finding-status">WARN</td>
      <td class="finding-item"><a href="/traces?route=docs-answer&amp;env=prod">T7.1</a> cost per request</td>
      <td class="finding-value">+31 %<div class="finding-detail">mean 0.0013 USD, p95 0.002 USD; a trace 0.0011 USD, p95 0.0022 USD</div><div class="finding-fix">fix: compare the two releases part by part: <code>pilothouse release diff docs-answer</code></div></td>
      <td class="finding-n">10k</td>
      <td class="finding-threshold">warn +25 %</td>
      <td class="finding-owner">Ana → pin_model</td>
    </tr>    <tr class="finding finding-no-data" data-item="T1.0">
      <td class="finding-status">NO DATA</td>
      <td class="finding-item"><a href="/traces?route=docs-answer&amp;env=prod">T1.0</a> outputs reconstructed</td>
      <td class="finding-value">none sampled yet<div class="finding-fix">fix: send it requests, with <code>model: docs-answer</code></div></td>
      <td class="finding-n"></td>
      <td class="finding-threshold"></td>
      <td class="finding-owner">Ana → freeze releases</td>
    </tr>    </tbody>
  </table>  <p class="review-missing"><span class="status-no-data">NO DATA</span> 6 items, not read: <span class="review-ids">V1 V2 V3 V4 V5 V6</span></p>  <p class="review-missing"><span class="status-no-data">NO DATA</span> 41 items, not measured yet: <span class="review-ids">T8.2 T8.5 T8.7 T8.8 T3.4 T3.5 T5.2 T5.3 T5.5 T9.3 T9.6 T9.5 T10.6 CR.4 CR.5 CW.1 CW.2 CW.3 CW.4 CW.5 CM.1 CM.2 CM.3 CM.4 CM.5 CQ.1 CQ.2 CQ.3 CQ.4 CQ.5 I1 I2 I3 I4 I5 I6 I7 V0 V7 G7 G8</span></p>  <p class="review-counts">53 pass · 3 fail · 1 warn · 48 no data · 1 waived (next expires 2026-11-29) · 1 not applicable</p>
  \
""")


def test_json(mixed):
    data = render.to_json(mixed)
    route = data["routes"][0]
    assert {name: value for name, value in route.items() if name != "items"} == snapshot(
        {
            "route": "docs-answer",
            "env": "prod",
            "release": 11,
            "tier": "high",
            "owner": "Ana",
            "backup": "Ben",
            "window": "last 7 days",
            "requests": 10000,
            "ready": False,
            "floor": 0.8,
            "observe": 0.7391,
            "evaluate": 0.5867,
            "roll_back": 0.7917,
            "security_fails": 0,
            "counts": {"NO_DATA": 48, "PASS": 53, "FAIL": 3, "WARN": 1, "WAIVED": 1, "N/A": 1},
            "reopened": (),
        }
    )
    assert route["items"][0] == snapshot(
        {
            "id": "T3.2",
            "title": "pass rate, lower bound",
            "status": "FAIL",
            "value": "0.24",
            "n": 31,
            "threshold": "fail < 0.85",
            "owner": "Ana",
            "fallback": "block release",
            "evidence": "/evals.json?route=docs-answer",
            "fix": "mend the failing cases and run them again: `pilothouse eval run docs-answer`",
            "measured_at": "2026-11-21T14:32:00Z",
            "layer": "3 Evaluation",
            "number": 0.2373310142038025,
            "grade": "M",
            "detail": "'multi-hop' fails 19 of 31; overall 0.87",
            "interval": None,
            "route": "docs-answer",
            "env": "prod",
        }
    )


def test_every_item_has_the_public_fields(mixed, bare):
    for result in (mixed, bare):
        for item in render.to_json(result)["routes"][0]["items"]:
            assert tuple(item)[: len(FIELDS)] == FIELDS
            assert item["status"] in {"PASS", "WARN", "FAIL", "NO_DATA", "STALE", "WAIVED", "N/A"}
            assert item["fix"] or item["status"] in ("PASS", "N/A")


def test_json_comes_back_as_the_same_page(mixed):
    data = msgspec.json.decode(msgspec.json.encode(render.to_json(mixed)))
    assert render.text(render.from_json(data)) == render.text(mixed)


def test_all_faces_agree(mixed):
    text, markdown, html = render.text(mixed), render.markdown(mixed), render.html(mixed)
    wrong = [item["id"] for item in render.to_json(mixed)["routes"][0]["items"] if item["status"] in ("FAIL", "WARN")]
    assert wrong
    for item in wrong:
        assert re.search(rf"(FAIL|WARN) +{re.escape(item)} ", text)
        assert f"| [{item}](" in markdown
        assert f'data-item="{item}"' in html


def test_what_others_wrote_is_escaped(made):
    nasty = "<script>alert(1)</script>|`x`"
    verdict = Verdict(verdict="block", reason=nasty, n=50, baseline_rate=1.0, candidate_rate=0.5, delta=-0.5, low=None,
                      high=None, p_harm=0.0, broke=1, mended=0, errors=0, mde=None, margin=0.03,
                      must_pass_failed=[nasty])  # fmt: skip
    evidence = made.evidence(release=made.release(verdict=verdict), config=made.config(name="<i>"))
    result = review([evidence], FrozenClock(made.NOW_US))
    outside_code = re.sub(r"(?<!\\)`[^`]*(?<!\\)`", "", render.markdown(result))
    for page in (render.html(result), outside_code):
        assert "<script>" not in page
        assert "<i>" not in page
    table = [line for line in render.markdown(result).splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {8}


def test_no_route(made):
    nothing = review([], FrozenClock(made.NOW_US))
    assert render.text(nothing) == "no route to review\n"
    assert "No route to review" in render.markdown(nothing)
    assert "No route to review" in render.html(nothing)
    assert render.to_json(nothing)["ready"] is False
