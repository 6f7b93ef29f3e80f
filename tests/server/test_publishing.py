"""A push over several hosts, added up and said."""

import pytest

from pilothouse.server.link import PushReport
from pilothouse.server.publishing import together
from pilothouse.server.reach import reach
from pilothouse.store.state.hosts import HostState

HERE = PushReport(workers=2, of=2, ms=5.0)


def host(name="b", age_s=0.1, revision=7, **workers):
    held = {name.replace("_", "-"): revision for name, revision in workers.items()}
    return HostState(host=name, ident=name, revision=revision, workers=held, age_s=age_s)


@pytest.mark.parametrize(
    ("here", "others", "own", "said"),
    [
        (HERE, [], True, "on 2 of 2 workers in 0.01 s"),
        (HERE, [host(edge_0=7, edge_1=8, ingest_0=7)], True, "on 4 of 4 workers on 2 hosts in 0.01 s"),
        (HERE, [host(edge_0=7, edge_1=6)], True, "on 3 of 4 workers on 1 of 2 hosts in 0.01 s; late: b/edge-1"),
        (
            PushReport(workers=1, of=2, ms=5.0, late=("edge-1",)),
            [host(edge_0=7)],
            True,
            "on 2 of 3 workers on 1 of 2 hosts in 0.01 s; late: edge-1",
        ),
        (
            HERE,
            [host(edge_0=6, age_s=60, revision=6)],
            True,
            (
                "on 2 of 3 workers on 1 of 2 hosts in 0.01 s; b is cut off: "
                "what it holds stays until it is back, and then it follows"
            ),
        ),
        (HERE, [host(edge_0=7, age_s=60)], True, "on 3 of 3 workers on 2 hosts in 0.01 s"),  # it said so, and then went
        (PushReport(workers=0, of=0, ms=5.0), [host(edge_0=7)], False, "on 1 of 1 workers in 0.01 s"),
        (PushReport(workers=0, of=0, ms=5.0), [], False, "no worker is running: they take it when they start"),
    ],
)
def test_how_far_a_push_came(here, others, own, said):
    report = together(here, others, 7, 8.0, own=own)
    told = {name: getattr(report, name) for name in ("workers", "of", "late", "hosts", "of_hosts", "away")}
    assert reach({**told, "propagated_ms": report.ms}) == said
