"""docs/redaction.md, written from what redaction finds in the corpus.

python -m tests.security.page          measure and write the page
"""

from pathlib import Path

from tests.security.corpus.cases import EACH, FRAMES, HARD, LOOKALIKES, hard
from tests.security.corpus.values import NATIONAL, PHONES, VENDORS
from tests.security.measure import measured

from pilothouse.security.redact import Redactor

PAGE = Path(__file__).parents[2] / "docs" / "redaction.md"
WHAT = {
    "email": "e-mail addresses, `%40` and marked letters included",
    "phone": "phone numbers of {phones} countries",
    "credit_card": "card numbers with a valid Luhn digit",
    "iban": "IBANs with a valid checksum",
    "national_id": "numbers of persons: {national}",
    "ip": "public and private IPv4 and IPv6 addresses",
    "api_key": "keys of {vendors} kinds, by their form",
    "jwt": "JSON web tokens",
    "private_key": "private keys in PEM",
    "connection_string": "the password in an address",
    "password": "a password behind its name",
    "secret": "a random token behind a name such as `api_key`, `access_token`, `CLIENT_SECRET`",
    "bearer_token": "what stands behind `Bearer` or `Basic`",
}
TEXT = """\
<!-- Written by tests/security/page.py from what redaction found. Run it: python -m tests.security.page -->

# Redaction

What goes to disk is redacted before it is written: bodies, attributes, errors, tool arguments, events and logs, of the
gateway's own requests and of spans that apps send. A finding becomes `[EMAIL:3fa91c]`: its class and six hex characters
of an HMAC of its value. The same value has the same placeholder everywhere in one installation, in requests and in
spans, so that records can still be joined; two installations share none. Where redaction fails, only metadata is kept.

The mode of a route says how much text there is to redact: see `log` in the [configuration](reference/config.md).

## What it finds

The corpus has {each} texts of every class, set into {frames} frames: prose in nine languages, JSON, JSON within JSON,
YAML, code and logs. **It is a corpus of our own making**: made from a seed by the people who wrote the patterns, who
know what these look for. It shows that nothing broke and where the limits are. It does not show how redaction does on
your texts: the [daily re-scan](#what-is-left) does, within the same limits.

- **Recall**: values of which nothing of the whole is left, of all that were planted.
- **Precision**: right findings of all findings of the class, over the texts of the class and all look-alikes.

| Class | What | Texts | Recall | Precision |
|---|---|---|---|---|
{rows}

No look-alike may be found. {each} of each: {lookalikes}. {false}

## What it does not find

Patterns and checksums know forms, not meanings. The same measure on what has no form:

| What | Found |
|---|---|
{hard}

Where such texts come in, use the mode `metadata` or `off` on that route.

## Streams and escapes

A text that is cut at any character is redacted like the whole: the record is made from the answer put together, and
guardrails hold back whatever may still become a finding. The tests cut every text of a class at every index, over
two events, and write it with JSON's escapes (`\\u0040`), in the names of an object, and as JSON within a string.

## What is left

The review (T2.5) scans {scanned} stored rows again, drawn by a hash over requests and spans, and states how many
still hold something, with the upper end of Wilson's interval. It uses the same detectors, so it shows what was written
past redaction (an older version, a mode, a mistake of ours), not what the detectors cannot see.
"""


def percent(share: float) -> str:
    """A share for a table."""
    return f"{share * 100:.1f} %"


def page() -> str:
    """Measure and lay out."""
    redact = Redactor(b"the corpus")
    rows, lookalikes, _ = measured(redact, redact.redact_json)
    table = []
    for row in rows:
        what = WHAT[row.label].format(phones=len(PHONES), vendors=len(VENDORS), national=", ".join(NATIONAL))
        cells = (f"`{row.label}`", what, str(row.n), percent(row.recall), percent(row.precision))
        table.append("| " + " | ".join(cells) + " |")
    found = dict.fromkeys(HARD, 0)
    for case in hard():
        found[case.label] += case.value not in redact(case.text).text
    total = {label: sum(case.label == label for case in hard()) for label in HARD}
    false = {label: n for label, n in lookalikes.items() if n}
    wrong = ", ".join(f"{n} of {label}" for label, n in false.items())
    return TEXT.format(
        each=EACH,
        frames=len(FRAMES),
        rows="\n".join(table),
        lookalikes=", ".join(LOOKALIKES),
        false=f"Found all the same: {wrong}." if false else "None was.",
        hard="\n".join(f"| {label} | {found[label]} of {total[label]} |" for label in HARD),
        scanned="1,000",
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
