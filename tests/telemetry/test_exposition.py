"""Prometheus text: read by Prometheus' own parser, and equal to what the store says."""

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Record, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.exposition import exposition
from pilothouse.telemetry.metrics import make_metrics

NOW_US = 1_750_000_000_000_000
Load = Callable[..., None]
Make = Callable[..., Record]


def families(store: TelemetryStore, since_us: int = NOW_US - 60_000_000) -> dict[str, dict[str, float]]:
    """Sample's name and labels → value, by family."""
    clock = FrozenClock(NOW_US + 1)
    text = "\n".join(exposition(store, make_metrics(store, clock), clock, since_us)) + "\n"
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            rest = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k in ("le", "pilothouse_route"))
            found.setdefault(family.name, {})[f"{sample.name} {rest}"] = sample.value
    return found


def test_counters_and_histograms_are_what_was_recorded(store: TelemetryStore, load: Load, record: Make) -> None:
    load(
        record(duration_ms=15.0, ttft_ms=9.0, tokens=Tokens(10, 5, 0, 7, 3), cost_usd=0.25),
        record(duration_ms=400.0, tokens=Tokens(1, 0, 0, 1, 0), cost_usd=0.5),
        record(duration_ms=1e9, tokens=None, cost_usd=None, route='odd "\\\n route'),
        record(ts_us=NOW_US - 7_200_000_000),
    )
    found = families(store)
    route = "pilothouse_route=docs-answer"
    assert (
        found["gen_ai_client_inference_usage_input_tokens"][f"gen_ai_client_inference_usage_input_tokens_total {route}"]
        == 16
    )
    assert found["pilothouse_cost_usd"][f"pilothouse_cost_usd_total {route}"] == 0.75
    duration = found["gen_ai_client_operation_duration_seconds"]
    name = "gen_ai_client_operation_duration_seconds"
    buckets = [duration[key] for key in duration if key.startswith(f"{name}_bucket") and key.endswith(route)]
    assert buckets == sorted(buckets)
    assert duration[f"{name}_bucket le=0.01,{route}"] == 0
    assert duration[f"{name}_bucket le=0.01995,{route}"] == 1
    assert duration[f"{name}_bucket le=+Inf,{route}"] == duration[f"{name}_count {route}"] == 2
    assert duration[f"{name}_sum {route}"] == 0.415
    odd = 'pilothouse_route=odd "\\\n route'
    assert duration[f"{name}_bucket le=+Inf,{odd}"] == 1
    assert (
        found["gen_ai_client_operation_time_to_first_chunk_seconds"][
            f"gen_ai_client_operation_time_to_first_chunk_seconds_count {route}"
        ]
        == 1
    )


def test_catalogue_values_are_gauges_and_no_data_has_no_line(store: TelemetryStore, load: Load, record: Make) -> None:
    assert not families(store)
    load(record(), record(outcome="failed", status=502, error_type="server_error"))
    found = families(store)
    assert found["pilothouse_error_rate"] == {"pilothouse_error_rate pilothouse_route=docs-answer": 0.5}
    assert found["pilothouse_requests_count"] == {"pilothouse_requests_count pilothouse_route=docs-answer": 2}


def test_what_was_sent_again_is_counted(store: TelemetryStore) -> None:
    with store.transaction() as write:
        write.execute("INSERT INTO repeats VALUES (make_timestamp(?), 'span', 3)", [NOW_US])
        write.execute("INSERT INTO repeats VALUES (make_timestamp(?), 'span', 4)", [NOW_US - 7_200_000_000])
    assert families(store)["pilothouse_repeated_lines"] == {"pilothouse_repeated_lines_total ": 3.0}
