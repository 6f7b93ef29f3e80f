"""What a worker counts of its own records, as Prometheus text. Lost at a restart: the telemetry store is the truth."""

from bisect import bisect_left
from collections.abc import Mapping

from pilothouse.domain.record import Record

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SERIES_MAX = 2_000  # (env, route, outcome) triples; raw model names are the client's to invent


class Meters:
    """Counts since the worker's start."""

    def __init__(self) -> None:
        # No Counters: an item is set in one by way of a look-up in its class, which takes twice as long.
        self._requests: dict[tuple[str, str, str], int] = {}
        self._attempts: dict[tuple[str, str], int] = {}  # kind, error type
        self._redaction: dict[str, int] = {}
        self._latency = [0] * (len(BUCKETS_S) + 1)
        self._latency_sum = 0.0
        self.in_flight = 0

    def observe(self, record: Record) -> None:
        """Count a finished request."""
        requests, attempts, redaction = self._requests, self._attempts, self._redaction
        key = (record.env, record.route if record.parts else "unknown", record.outcome)
        if len(requests) >= SERIES_MAX and key not in requests:
            key = (record.env, "other", record.outcome)
        requests[key] = requests.get(key, 0) + 1
        for attempt in record.attempts:
            call = (attempt.kind, attempt.error_type)
            attempts[call] = attempts.get(call, 0) + 1
        if record.redaction is not None:
            status = record.redaction.status
            redaction[status] = redaction.get(status, 0) + 1
        seconds = record.duration_ms / 1e3
        self._latency[bisect_left(BUCKETS_S, seconds)] += 1
        self._latency_sum += seconds

    def text(self, gauges: Mapping[str, tuple[str, float]], lost: Mapping[str, int]) -> str:
        """The exposition; `gauges`: name → (help, value)."""
        out: list[str] = []
        _family(out, "pilothouse_requests_total", "counter", "Requests by environment, route and outcome")
        for (env, route, outcome), n in sorted(self._requests.items()):
            labels = f'env="{_quoted(env)}",route="{_quoted(route)}",outcome="{outcome}"'
            out.append(f"pilothouse_requests_total{{{labels}}} {n}")
        _family(out, "pilothouse_attempts_total", "counter", "Upstream calls by kind and error, empty for none")
        for (kind, error), n in sorted(self._attempts.items()):
            out.append(f'pilothouse_attempts_total{{kind="{kind}",error="{_quoted(error)}"}} {n}')
        _family(out, "pilothouse_redactions_total", "counter", "Records by what redaction did")
        out += [f'pilothouse_redactions_total{{status="{s}"}} {n}' for s, n in sorted(self._redaction.items())]
        _family(out, "pilothouse_request_duration_seconds", "histogram", "From the body's arrival to the record")
        count = 0
        for bound, n in zip((*BUCKETS_S, "+Inf"), self._latency, strict=True):
            count += n
            out.append(f'pilothouse_request_duration_seconds_bucket{{le="{bound}"}} {count}')
        out.append(f"pilothouse_request_duration_seconds_sum {self._latency_sum:.6f}")
        out.append(f"pilothouse_request_duration_seconds_count {count}")
        _family(out, "pilothouse_journal_lost_total", "counter", "What the journal could not keep")
        out += [f'pilothouse_journal_lost_total{{what="{w}"}} {n}' for w, n in sorted(lost.items())]
        for name, (what, value) in gauges.items():
            _family(out, name, "gauge", what)
            out.append(f"{name} {value:g}")
        return "\n".join(out) + "\n"


def _family(out: list[str], name: str, kind: str, what: str) -> None:
    out += (f"# HELP {name} {what}", f"# TYPE {name} {kind}")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
