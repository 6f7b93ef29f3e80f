"""What the rooms know of the events that re-open items of a route, and its traffic since each of them."""

import msgspec
from sqlalchemy import Connection

from pilothouse.config.route import RouteConfig
from pilothouse.domain.alert import Alert, Rule
from pilothouse.domain.facts import RouteFacts
from pilothouse.domain.trigger_facts import LongAlert, Signature, TriggerFacts
from pilothouse.monitoring.machine import FIRING
from pilothouse.releases import declared
from pilothouse.releases import triggers as changed
from pilothouse.review import triggers
from pilothouse.review.evidence import Evidence
from pilothouse.server.composition import Control
from pilothouse.store.state import alerts, waivers
from pilothouse.telemetry import evidence as telemetry_facts
from pilothouse.telemetry import novelty

FRESH = 4  # times that the traffic is counted anew from, the newest; an older trigger waits for the next of them


def facts(
    control: Control, conn: Connection, route: RouteConfig, env: str, rules: tuple[Rule, ...], now_us: int
) -> TriggerFacts:
    """Everything of the last 90 days; raises StoreError."""
    since = now_us - triggers.LOOKBACK_US
    mine = {rule.name: rule for rule in rules if (rule.route, rule.env) == (route.name, env)}
    signed = _signed(conn, route.name, env)
    found = [alert for alert in alerts.list_alerts(conn, route=route.name) if alert.env == env and alert.rule in mine]
    return TriggerFacts(
        since_us=since,
        now_us=now_us,
        events=(*changed.events(conn, route.name, env, since), *declared.events(conn, route.name, since)),
        seen=novelty.of_route(control.telemetry, route.name, env, since, signed.ts_us if signed is not None else 0),
        alerts=tuple(_long(alert, mine[alert.rule].item) for alert in found if alert.fired_us),
        watched=tuple(sorted({rule.item for rule in mine.values()} - {""})),
        signed=signed,
    )


def _long(alert: Alert, item: str) -> LongAlert:
    until = None if alert.state in FIRING else alert.since_us
    return LongAlert(item=item, rule=alert.rule, since_us=alert.fired_us, until_us=until)


def _signed(conn: Connection, route: str, env: str) -> Signature | None:
    last = waivers.signed(conn, route, env)
    if last is None:
        return None
    return Signature(ts_us=waivers.measured_us(last), by=str(last.change.actor), reason=last.change.reason)


def with_renewed(control: Control, evidence: Evidence) -> Evidence:
    """The evidence, with the traffic since each trigger that waits, as far as that is not all of the window's."""
    if evidence.facts is None:
        return evidence
    begun = {one.ts_us for one in triggers.open_of(evidence) if one.ts_us > evidence.facts.since_us}

    def since(ts_us: int) -> RouteFacts | None:
        told = telemetry_facts.gather(control.telemetry, control.clock, ts_us, evidence.now_us, evidence.route)
        return told.route(evidence.route, evidence.env)

    counted = {ts_us: since(ts_us) for ts_us in sorted(begun)[-FRESH:] if ts_us < evidence.now_us}
    return msgspec.structs.replace(evidence, renewed=counted)
