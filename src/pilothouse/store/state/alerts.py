"""Rules and the alerts they raise."""

import msgspec
from sqlalchemy import Connection, delete, select

from pilothouse.domain.alert import Alert, Rule
from pilothouse.domain.errors import NotFound
from pilothouse.store.state.rows import upsert
from pilothouse.store.state.tables import alerts, rules


def put_rule(conn: Connection, rule: Rule) -> None:
    """Store a rule that `monitoring.rules.validate` has passed; one of the same name is replaced."""
    text = msgspec.json.encode(rule).decode()
    upsert(conn, rules, {"name": rule.name, "rule": text}, (rules.c.name,))


def list_rules(conn: Connection) -> list[Rule]:
    """All rules by name."""
    found = conn.execute(select(rules.c.rule).order_by(rules.c.name)).scalars()
    return [msgspec.json.decode(text, type=Rule) for text in found]


def delete_rule(conn: Connection, name: str) -> None:
    """Forget a rule; its alerts stay. NotFound where there is none of that name."""
    if conn.execute(delete(rules).where(rules.c.name == name)).rowcount == 0:
        raise NotFound(f"there is no rule {name!r}")


def put(conn: Connection, alert: Alert) -> None:
    """Store an alert's state; one with the same id is replaced."""
    values = {
        "id": alert.id,
        "rule": alert.rule,
        "route": alert.route,
        "env": alert.env,
        "state": alert.state,
        "alert": msgspec.json.encode(alert).decode(),
        "since_us": alert.since_us,
    }
    upsert(conn, alerts, values, (alerts.c.id,))


def get(conn: Connection, alert_id: str) -> Alert:
    """The alert; NotFound where there is none."""
    text = conn.execute(select(alerts.c.alert).where(alerts.c.id == alert_id)).scalar()
    if text is None:
        raise NotFound(f"there is no alert {alert_id!r}")
    return msgspec.json.decode(text, type=Alert)


def list_alerts(
    conn: Connection, *, states: tuple[str, ...] = (), route: str | None = None, limit: int = 500
) -> list[Alert]:
    """Alerts, newest first; () means in any state."""
    query = select(alerts.c.alert).order_by(alerts.c.since_us.desc(), alerts.c.id).limit(limit)
    if states:
        query = query.where(alerts.c.state.in_(states))
    if route is not None:
        query = query.where(alerts.c.route == route)
    return [msgspec.json.decode(text, type=Alert) for text in conn.execute(query).scalars()]
