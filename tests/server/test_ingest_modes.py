"""A route's log mode holds for the spans and events of apps too, as far as the bytes on the disk go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.server.ingest_process import JSON, SPAN, Process, running, table

from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import LogMode, Policy
from pilothouse.domain.table import Entry, Environment, Live

pytestmark = pytest.mark.process
MAIL = "anna.schmidt@example.org"
KEY = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
WORDS = "the quarterly figures"
SECRETIVE = ("metadata", "off")


def live(mode: LogMode) -> Live:
    manifest = Manifest(model=ModelRef("fake", "m"), policy=Policy(log=mode))
    return Live(release=1, manifest=manifest, parts={}, hash=mode)


def entry(route: str, mode: LogMode, env: Environment = "dev", canary: LogMode | None = None) -> Entry:
    two = live(canary) if canary else None
    return Entry(route=route, env=env, app="", tier="standard", stable=live(mode), canary=two)


def routes() -> dict[str, Entry]:
    made = [entry(mode, mode) for mode in ("full", "redacted", "metadata", "off")]
    made += [entry("watched", "full", canary="metadata"), entry("staged", "full"), entry("staged", "off", "prod")]
    return {f"{one.route}@{one.env}": one for one in made}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    held = msgspec.structs.replace(table(anonymous=True), entries=routes())
    with running(tmp_path_factory.mktemp("modes"), held) as one:
        yield one


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": k, "value": {"stringValue": v}} for k, v in values.items()]


def span(trace: int, number: int, mark: str, **values: Any) -> dict[str, Any]:
    """A model call full of words, all of which hold `mark`."""
    said = f"{mark} {WORDS} of {MAIL} with {KEY}"
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.input.messages": json.dumps([{"role": "user", "content": said}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": said}]),
        "app.note": said,
        "gen_ai.agent.name": f"{mark} agent",
    }
    event = {"timeUnixNano": SPAN["startTimeUnixNano"], "name": said, "attributes": attributes({"a": said})}
    usage = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}
    return {
        **SPAN, "traceId": f"{trace:032x}", "spanId": f"{number:016x}", "name": said, "events": [event],
        "attributes": [*attributes(told | {k.replace("__", "."): v for k, v in values.items()}), usage],
        "status": {"code": 2, "message": said},
    }  # fmt: skip


def on_disk(process: Process, mark: str) -> int:
    """How often `mark` stands in anything below the data directory."""
    files = (path for path in process.data.rglob("*") if path.is_file())
    return sum(path.read_bytes().count(mark.encode()) for path in files)


def found(process: Process, trace: int) -> dict[str, Any]:
    return {one.span_id[-1]: one for one in process.records() if one.trace_id == f"{trace:032x}"}


@pytest.mark.parametrize("named", [{"pilothouse__route": "metadata"}, {"gen_ai__request__model": "metadata"}])
def test_of_a_route_that_keeps_metadata_no_text_is_kept(process: Process, named: dict[str, str]) -> None:
    mark, trace = f"mk{'r' if 'pilothouse__route' in named else 'm'}x", 0x100 + len(str(named))
    status, answer = process.send(span(trace, 1, mark, **named))
    assert (status, answer) == (200, {})
    one = found(process, trace)["1"]
    assert (one.log_mode, one.name, one.operation, one.stage) == ("metadata", "chat", "chat", "model")
    assert one.tokens is not None and one.tokens.input_uncached == 7
    assert (one.status, one.duration_ms, one.error_type) == ("error", 250.0, "_OTHER")
    assert set(one.attributes) == {"pilothouse.clock_skew_s"}  # our own
    assert one.events == [] and one.payload is None and not one.preview_in
    assert (one.redaction.status, one.redaction.reason) == ("skipped", "log mode metadata")
    assert on_disk(process, mark) == 0


def test_of_a_route_that_keeps_nothing_nothing_is_kept_and_nothing_is_lost(process: Process) -> None:
    sent = [span(0x200, n, "offx", pilothouse__route="off") for n in (1, 2)]
    assert process.send(*sent) == (200, {})
    assert found(process, 0x200) == {} and on_disk(process, "offx") == 0
    told = [(line.count, line.reason) for line in process.lines("loss") if line.what == "withheld"]
    assert told == [(2, "spans of off: log mode off")]
    assert not [line for line in process.lines("loss") if line.what != "withheld"]


def test_in_full_the_payload_is_as_it_came_but_for_credentials_and_nothing_else_is(process: Process) -> None:
    process.send(span(0x300, 1, "fullx", pilothouse__route="full"))
    one = found(process, 0x300)["1"]
    assert one.log_mode == "full" and one.payload is not None
    for body in (one.payload.request, one.payload.response):
        assert MAIL in body and KEY not in body and "[API_KEY:" in body
    one.payload = None
    beside = msgspec.json.encode(one).decode()
    assert MAIL not in beside and KEY not in beside and WORDS in beside


def test_the_stricter_of_a_canary_and_of_environments_holds(process: Process) -> None:
    process.send(
        span(0x400, 1, "canx", pilothouse__route="watched"), span(0x401, 1, "stgx", pilothouse__route="staged")
    )
    assert found(process, 0x400)["1"].log_mode == "metadata"
    assert found(process, 0x401) == {}
    assert on_disk(process, "canx") == on_disk(process, "stgx") == 0


@pytest.mark.parametrize("mode", SECRETIVE)
def test_what_names_no_route_has_no_more_text_than_its_trace_may_have(process: Process, mode: str) -> None:
    trace = 0x500 + len(mode)
    mark = f"tr{mode}x"
    # The agent's span comes first in its batch, and another in a later one.
    process.send(span(trace, 1, mark), span(trace, 2, mark, gen_ai__request__model=mode))
    process.send(span(trace, 3, mark))
    process.send(span(trace + 0x50, 1, f"other{mode}"))
    kept = found(process, trace)
    assert set(kept) == ({"1", "2", "3"} if mode == "metadata" else {"1", "3"})
    assert {one.log_mode for one in kept.values()} == {"metadata"}
    assert on_disk(process, mark) == 0
    assert found(process, trace + 0x50)["1"].log_mode == "redacted"


@pytest.mark.parametrize("mode", SECRETIVE)
def test_log_records_follow_too(process: Process, mode: str) -> None:
    mark = f"log{mode}x"

    def record(name: str, **more: Any) -> dict[str, Any]:
        values = attributes({"pilothouse.route": mode, "note": mark, **more})
        return {
            "timeUnixNano": SPAN["startTimeUnixNano"], "traceId": f"{0x600 + len(mode):032x}", "spanId": "1" * 16,
            "eventName": name, "body": {"stringValue": f"{mark} {WORDS}"}, "attributes": values,
        }  # fmt: skip

    judged = {"gen_ai.evaluation.name": "kind", "gen_ai.evaluation.score.label": "pass"}
    why = {"gen_ai.evaluation.explanation": f"{mark} because"}
    records = [record("gen_ai.user.message"), record("gen_ai.evaluation.result", **judged, **why)]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    status, _, answer = process.post(body, {"content-type": JSON}, "/v1/logs")
    assert (status, json.loads(answer)) == (200, {})
    assert on_disk(process, mark) == 0
    trace = f"{0x600 + len(mode):032x}"
    events = [one for one in process.lines("event") if one.trace_id == trace]
    scores = [one for one in process.lines("score") if one.trace_id == trace]
    if mode == "off":
        assert events == scores == []
    else:
        assert [(one.name, one.body, one.attributes) for one in events] == [("gen_ai.user.message", "", {})]
        assert [(one.name, one.value, one.comment) for one in scores] == [("kind", 1.0, "")]


@pytest.mark.parametrize("rest", ["full", "metadata", "off"])
def test_what_belongs_to_no_route_has_a_mode_of_its_own(tmp_path: Path, rest: LogMode) -> None:
    held = msgspec.structs.replace(table(anonymous=True), spans_log=rest)
    with running(tmp_path / "data", held) as process:
        process.send(span(0x700, 1, "restx", pilothouse__route="nobody knows it"))
        kept = found(process, 0x700)
        assert [one.log_mode for one in kept.values()] == ([] if rest == "off" else [rest])
        assert (on_disk(process, "restx") > 0) == (rest == "full")
        assert [line.what for line in process.lines("loss")] == (["withheld"] if rest == "off" else [])
