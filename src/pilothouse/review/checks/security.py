"""T8: a FAIL here blocks readiness, whatever the scores."""

from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.domain.security_facts import PlaintextFact, SecretFact
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import Check, Outcome, level, limit_of, no_data, worst

GRANTS = "pilothouse store grants"
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
    detail = words.joined(*incomplete[:3], age, scanned)
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
    shared = _in_several(security.secrets)
    strayed = sorted(key.name or key.id for key in security.keys if {*key.request_envs} - {key.env})
    unread = sorted(secret.name for secret in security.secrets if not secret.fingerprint)
    found = len(shared) + len(strayed)
    n = len(security.secrets) + len(security.keys)
    detail = words.joined(
        words.listed("in several environments", shared),
        words.listed("used elsewhere", strayed),
        words.listed("not readable", unread),
    )
    if n == 0:
        return no_data("no key and no secret yet", 0)
    if unread and not found:
        return no_data("secrets not readable", n, detail)
    return Outcome(level(float(found), limit_of(item)), f"{found} shared", float(found), n, detail)


def _in_several(secrets: list[SecretFact]) -> list[str]:
    """Names of secrets whose value is used in more than one environment."""
    envs: dict[str, set[str]] = {}
    for secret in secrets:
        if secret.fingerprint:
            envs.setdefault(secret.fingerprint, set()).update(secret.envs)
    return sorted(secret.name for secret in secrets if len(envs.get(secret.fingerprint, ())) > 1)


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
    reads = f"{words.plural(audit.reads, 'read')} of text kept in full" if audit.reads else ""
    if audit.editable:
        reads = words.joined(f"the database role could edit {', '.join(audit.editable)}: {GRANTS}", reads)
    if audit.anchored_us is None:
        never = "its last hash was never kept outside"
        return Outcome("WARN", "verifies, never anchored", None, audit.rows, words.joined(never, reads))
    age_ms = (evidence.now_us - audit.anchored_us) / 1_000
    value = f"verifies, anchored {words.duration(age_ms)} ago"
    could: Status = "WARN" if audit.editable else "PASS"
    return Outcome(worst(level(age_ms, limit_of(item)), could), value, age_ms, audit.rows, reads)


def prompts_clean(evidence: Evidence, item: Item) -> Outcome:
    """T8.6: no secret in a template, none written unredacted, and how many senders let one through."""
    security = evidence.security
    if security is None or security.plaintext is None:
        return no_data("not scanned")
    templates = [hit for hit in security.plaintext if hit.place == "template"]
    bare, caught = _sent(evidence)
    found = float(len(templates) + bare)
    status = worst(level(found, limit_of(item)), level(float(caught), Limit(warn=0.0)))
    detail = words.joined(
        _places(templates),
        f"{words.plural(bare, 'request')} with a secret that was not redacted" if bare else "",
        f"{words.plural(caught, 'request')} with a secret that was" if caught else "",
        "" if evidence.facts else "no traffic to look at",
    )
    value = f"{found:.0f} found" if found else f"{caught} redacted" if caught else "none"
    return Outcome(status, value, found, evidence.requests, detail)


def _sent(evidence: Evidence) -> tuple[int, int]:
    """Requests that sent a secret: written unredacted, and redacted."""
    if evidence.facts is None:
        return 0, 0
    redaction = evidence.facts.redaction
    return redaction.secrets_unredacted, max(0, redaction.requests_with_secrets - redaction.secrets_unredacted)


CHECKS: dict[str, Check] = {
    "T8.1": secrets_kept,
    "T8.3": environments_apart,
    "T8.4": audited,
    "T8.6": prompts_clean,
}
