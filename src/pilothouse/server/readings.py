"""The rules' metrics over several hosts: each tells what its own telemetry says, the leader puts them together."""

from collections.abc import Iterable

import msgspec

from pilothouse.domain.alert import Rule
from pilothouse.domain.wires import MetricPoint, MetricQuery, Metrics
from pilothouse.monitoring import watch
from pilothouse.monitoring.pooled import Reading, pooled
from pilothouse.server.composition import Control
from pilothouse.server.hosts import Hosts
from pilothouse.store.state import hosts as rows
from pilothouse.store.state import rule_readings
from pilothouse.telemetry.catalogue import CATALOGUE

FRESH_S = 60.0  # a host that has said nothing for so long is not heard; rules are read every 5 s, and less under load


def tell(control: Control, hosts: Hosts, rules: Iterable[Rule]) -> None:
    """Tell what this host reads for each rule. Blocking."""
    now_us = control.clock.now_us()
    said: dict[str, Reading] = {}
    for rule in rules:
        asked = watch.question(rule, now_us)
        if (key := _key(asked)) not in said:
            said[key] = _reading(control.metrics(asked))
    with control.state.beat() as conn:
        rule_readings.tell(conn, ident=hosts.ident, host=hosts.name, readings=said)


def over_hosts(control: Control, rules: Iterable[Rule]) -> Metrics:
    """This host's own metrics, or, where there are others, the same over all of them. Blocking."""
    hosts = control.hosts
    if hosts is None or not hosts.others:
        return control.metrics
    with control.state.read() as conn:
        listed = [one for one in rows.every(conn) if one.host != hosts.name]
        told = rule_readings.every(conn)
    now_us = control.clock.now_us()
    enough = {_key(watch.question(rule, now_us)): rule.min_n for rule in rules}

    def ask(query: MetricQuery) -> list[MetricPoint]:
        key = _key(query)
        found, missing = {hosts.name: _reading(control.metrics(query))}, []
        for one in listed:
            word = told.get(one.ident)
            if word is None or word.age_s > FRESH_S or key not in word.readings:
                missing.append(one.host)
            else:
                found[one.host] = word.readings[key]
        return [pooled(CATALOGUE[query.metric].kind, found, tuple(missing), enough.get(key, 1))]

    return ask


def _reading(points: list[MetricPoint]) -> Reading:
    return (points[0].value, points[0].n) if points else (None, 0)


def _key(query: MetricQuery) -> str:
    """The question but for its time, which goes by each host's own clock."""
    of = (query.metric, query.route, query.env, query.model, query.release, query.canary)
    return msgspec.json.encode((*of, query.until_us - query.since_us)).decode()
