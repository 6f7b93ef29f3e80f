"""T8: a FAIL here blocks readiness, whatever the scores."""

from pilothouse.domain.finding import Item, Limit
from pilothouse.domain.security_facts import PlaintextFact, SecretFact
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import Check, Outcome, level, limit_of, no_data, worst

DEFAULT_ROTATION_S = 90 * 86_400.0  # the checklist's limit in prod, where the secret has none of its own


def secrets_kept(evidence: Evidence, item: Item) -> Outcome:
    """T8.1: every secret has backend, owner and rotation, is younger than its limit, and is nowhere in plain text."""
    security = evidence.security
    if security is None or security.secrets is None or security.plaintext is None:
        return no_data("not scanned")
    if security.plaintext:
        return Outcome("FAIL", f"{len(security.plaintext)} in plain text", None, security.files_scanned,
                       _places(security.plaintext))  # fmt: skip
    secrets = security.secrets
    scanned = f"none in plain text in {words.plural(security.files_scanned, 'file')}"
    incomplete = [f"{s.name}: no {', '.join(_lacking(s))}" for s in secrets if _lacking(s)]
    ages = [(_age(secret, evidence.now_us), secret) for secret in secrets if secret.rotated_us is not None]
    oldest, of = max(ages, key=lambda pair: pair[0], default=(0.0, None))
    status = worst(level(oldest, limit_of(item)), "FAIL" if incomplete else "PASS")
    age = f"{of.name} at {words.share(oldest)} of its limit" if of is not None else ""
    detail = "; ".join(note for note in (*incomplete[:3], age, scanned) if note)
    if not secrets:
        return Outcome("PASS", "no secret needed", 0.0, 0, scanned, "C")
    whole = len(secrets) - len(incomplete)
    return Outcome(status, f"{whole} of {len(secrets)} complete", oldest, len(secrets), detail)


def _lacking(secret: SecretFact) -> list[str]:
    missing = {
        "backend": not secret.backend,
        "owner": not secret.owner,
        "rotation": secret.rotate_s is None,
        "date of rotation": secret.rotated_us is None,
    }
    return [name for name, lacks in missing.items() if lacks]


def _age(secret: SecretFact, now_us: int) -> float:
    """Age as a share of how old the secret may become."""
    if secret.rotated_us is None:
        return 0.0
    return (now_us - secret.rotated_us) / 1e6 / (secret.rotate_s or DEFAULT_ROTATION_S)


def _places(hits: list[PlaintextFact]) -> str:
    return ", ".join(f"{hit.kind} in {hit.where}" for hit in hits[:3])


def environments_apart(evidence: Evidence, item: Item) -> Outcome:
    """T8.3: no secret in two environments, no key used outside its own."""
    security = evidence.security
    if security is None or security.secrets is None or security.keys is None:
        return no_data("not checked")
    envs: dict[str, set[str]] = {}
    for secret in security.secrets:
        if secret.fingerprint:
            envs.setdefault(secret.fingerprint, set()).update(secret.envs)
    shared = sorted(s.name for s in security.secrets if len(envs.get(s.fingerprint, ())) > 1)
    strayed = sorted(k.name or k.id for k in security.keys if any(env != k.env for env in k.request_envs))
    found = len(shared) + len(strayed)
    unread = sum(not secret.fingerprint for secret in security.secrets)
    notes = [
        f"in several environments: {', '.join(shared[:3])}" if shared else "",
        f"used elsewhere: {', '.join(strayed[:3])}" if strayed else "",
        f"{words.plural(unread, 'secret')} could not be read" if unread else "",
    ]
    n = len(security.secrets) + len(security.keys)
    detail = "; ".join(note for note in notes if note)
    if unread and not found:
        return no_data("secrets not readable", n, detail)
    if n == 0:
        return no_data("no key and no secret yet", 0)
    return Outcome(level(float(found), limit_of(item)), f"{found} shared", float(found), n, detail)


def audited(evidence: Evidence, item: Item) -> Outcome:
    """T8.4: the chain verifies, every credential change is in it, and its last hash was kept outside lately."""
    audit = evidence.security.audit if evidence.security else None
    if audit is None:
        return no_data("not verified")
    if not audit.ok:
        return Outcome("FAIL", "does not verify", None, audit.rows, audit.reason)
    if audit.credential_changes is not None and audit.credential_changes != audit.credential_rows:
        detail = f"{audit.credential_changes} credential changes, {audit.credential_rows} in the log"
        return Outcome("FAIL", "a change is missing", None, audit.rows, detail)
    if audit.rows == 0:
        return no_data("no change logged yet", 0)
    if audit.anchored_us is None:
        return Outcome("WARN", "verifies, never anchored", None, audit.rows, "its last hash was never kept outside")
    age_ms = (evidence.now_us - audit.anchored_us) / 1_000
    value = f"verifies, anchored {words.duration(age_ms)} ago"
    return Outcome(level(age_ms, limit_of(item)), value, age_ms, audit.rows)


def prompts_clean(evidence: Evidence, item: Item) -> Outcome:
    """T8.6: no secret in a template, none written unredacted, and how many senders let one through."""
    security = evidence.security
    if security is None or security.plaintext is None:
        return no_data("not scanned")
    templates = [hit for hit in security.plaintext if hit.place == "template"]
    redaction = evidence.facts.redaction if evidence.facts else None
    bare = redaction.secrets_unredacted if redaction else 0
    caught = redaction.requests_with_secrets if redaction else 0
    found = float(len(templates) + bare)
    status = worst(level(found, limit_of(item)), level(float(caught - bare), Limit(warn=0.0)))
    notes = [
        _places(templates),
        f"{words.plural(bare, 'request')} with a secret that was not redacted" if bare else "",
        f"{words.plural(caught, 'request')} sent a secret" if caught else "",
        "no traffic to look at" if redaction is None else "",
    ]
    value = f"{found:.0f} found" if found else f"{caught} redacted" if caught else "none"
    return Outcome(status, value, found, evidence.requests, "; ".join(note for note in notes if note))


CHECKS: dict[str, Check] = {
    "T8.1": secrets_kept,
    "T8.3": environments_apart,
    "T8.4": audited,
    "T8.6": prompts_clean,
}
