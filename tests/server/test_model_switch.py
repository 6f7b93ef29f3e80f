"""On real processes: alternates are qualified and switched to, a kill switch is thrown, a provider's change is noticed,
an edit of a pointer reaches nobody."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
rules:
  - match: {contains: "prime"}
    reply: "yes"
  - match: {contains: "changed"}
    served_model: small-2026-02-02
    fingerprint: fp_new
    reply: "blue, in truth"
  - match: {model: bad-2026-01-01}
    status: 500
  - reply: "blue"
"""
ROUTE = """    alternates: [fake/bad-2026-01-01, fake/spare-2026-01-01]
    policy: {retry: {attempts: 1}}
    gate: {dataset: cases.jsonl, scorers: [contains], margin: 50pp}
"""


def actions(one: Any) -> list[dict[str, Any]]:
    return [row["change"] for row in one.get("/api/v1/changes?limit=100")["changes"]]


def test_alternates_kill_switch_drift_and_edits(running: Any, scripted_app: Callable[..., Path]) -> None:
    folder = scripted_app(script=SCRIPT, route=ROUTE, more="drift: {probes: 5}\n")
    cases = [json.dumps({"id": f"c{i}", "input": f"which colour {i}?", "target": "blue"}) for i in range(8)]
    (folder / "cases.jsonl").write_text("\n".join(cases) + "\n")
    one = running(folder, workers=2)
    one.release()
    key = one.key()
    assert one.chat(key, "answer", "hello")[0] == 200

    # the alternates: one is fit, one is not
    found = one.verb("model", "qualify", "answer", ok=(1,))
    fit = {each["model"]: each for each in found["alternates"]}
    assert fit["fake/spare-2026-01-01"]["objections"] == []
    assert (fit["fake/spare-2026-01-01"]["pass_rate"], fit["fake/spare-2026-01-01"]["n"]) == (1.0, 8)
    assert "its eval did not pass" in fit["fake/bad-2026-01-01"]["objections"]
    assert "its last probe failed" in fit["fake/bad-2026-01-01"]["objections"]
    moved = one.post("/api/v1/routes/answer/models/switch", reason="outage at the provider")
    assert (moved["model"], moved["workers"], moved["late"]) == ("fake/spare-2026-01-01", 2, [])
    assert one.chat(key, "answer", "hello again")[2]["model"] == "spare-2026-01-01"
    one.post("/api/v1/routes/answer/models/switch", back=True)
    assert one.chat(key, "answer", "hello at last")[2]["model"] == "small-2026-01-01"

    # the kill switch
    one.post("/api/v1/routes/answer/disable", reason="wrong answers")
    assert one.chat(key, "answer", "hello?")[0] == 503
    one.post("/api/v1/routes/answer/enable")
    assert one.chat(key, "answer", "hello!")[0] == 200

    # the provider changes what it serves
    assert one.chat(key, "answer", "changed")[0] == 200

    def noticed() -> bool:
        return any(change["action"] == "provider.drift" for change in actions(one))

    one.eventually(noticed, within_s=60)
    drift = next(change for change in actions(one) if change["action"] == "provider.drift")
    assert drift["reason"] == (
        "fake/small-2026-01-01: served model small-2026-01-01 → small-2026-02-02, fingerprint fp_scripted → fp_new"
    )
    assert drift["detail"]["routes"] == ["answer"]
    state = sqlite3.connect(one.data / "state.db")

    def asked() -> bool:
        rows = state.execute("SELECT answers FROM probe_days WHERE model = 'small-2026-01-01'").fetchall()
        return [len(json.loads(answers)) for (answers,) in rows] == [5]

    one.eventually(asked, within_s=60)  # the day's pinned questions were put

    # an edit of the pointer in the database is put back and told, and no worker has served by it
    state.execute("UPDATE pointers SET disabled = 1")
    state.commit()
    state.close()
    one.eventually(lambda: any(change["action"] == "pointer.refused" for change in actions(one)))
    assert one.chat(key, "answer", "still there?")[0] == 200

    items = {item["id"]: item for item in one.get("/review.json?route=answer")["routes"][0]["items"]}
    # the alternates were qualified beside a primary that has changed since: V1 re-opens them
    assert (items["T10.2"]["status"], items["T10.2"]["value"]) == ("STALE", "1 of 2 fit")
    assert items["V1"]["status"] == "WARN" and drift["reason"] in items["V1"]["detail"]
    assert items["T10.3"]["status"] == "PASS"
    assert (items["T10.4"]["status"], items["T10.4"]["value"]) == ("WARN", "1 direct edit put back")
