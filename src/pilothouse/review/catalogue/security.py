"""Layer 8: secrets, access, audit, retention. A FAIL here blocks readiness whatever the scores."""

from pilothouse.review.catalogue.entry import AUDIT, HOUR, KEYS, REVIEW, TRACES, Layer, above

_layer = Layer("8 Security", "K,M")

ITEMS = (
    _layer.item(
        "T8.1l", "secrets owned and rotated", "age > 80 % of limit", "overdue, or in plain text",
        "rotate", limit=above(0.80, 1.0), evidence=KEYS,
        fix="give each provider `key: env://NAME`, `key_owner:`, `rotate: 90d` and `rotated: DATE` in pilothouse.yaml, "
        "then restart `pilothouse up`",
    ),
    _layer.item(
        "T8.2l", "grants no wider than used", "unused > 0", "wildcard or shared", "revoke", cadence="R,M",
        evidence=KEYS, fix="revoke the keys that nobody uses: `pilothouse keys revoke ID`",
    ),
    _layer.item(
        "T8.3l", "environments kept apart", "", "any in two environments", "block key",
        limit=above(None, 0.0, "count"), evidence=KEYS, cadence="K,R",
        fix="issue a key for each environment: `pilothouse keys create --name NAME --env {env}`",
    ),
    _layer.item(
        "T8.4l", "audit chain anchored", "anchor > 24 h", "does not verify",
        "freeze admin writes", limit=above(24 * HOUR, None, "ms"), evidence=AUDIT,
        fix="check the chain and keep its last hash elsewhere: `pilothouse audit verify`",
    ),
    _layer.item(
        "T8.5l", "retention kept", "job late", "over age, or no policy", "metadata-only logging",
        evidence=REVIEW, fix="delete what is older than policy allows, and say how long in `policy.log`",
    ),
    _layer.item(
        "T8.6l", "secrets in prompts", "redacted > 0", "any unredacted", "block request",
        limit=above(None, 0.0, "count"), evidence=TRACES, cadence="K,R",
        fix="take the secret out of the prompt, rotate it, then `pilothouse release create {route}`",
    ),
    _layer.item(
        "T8.7", "server keys in browsers", "", "any", "revoke", limit=above(None, 0.0, "count"),
        evidence=KEYS, cadence="K,R", fix="call from a server of yours, and `pilothouse keys revoke ID`",
    ),
    _layer.item(
        "T8.8", "keys that are shared", "anomaly", "a key without owner", "suspend key", cadence="K,Q",
        evidence=KEYS, fix="one key for each service: `pilothouse keys create --name NAME --env {env}`",
    ),
)  # fmt: skip
