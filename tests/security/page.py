"""docs/redaction.md, written from what redaction finds in the corpus.

python -m tests.security.page          measure and write the page
"""

from pathlib import Path

from tests.security.corpus.cases import EACH, FRAMES, HARD, LOOKALIKES, hard
from tests.security.corpus.values import NATIONAL, PHONES, VENDORS
from tests.security.measure import measured

from pilothouse.security.redact import Redactor
from pilothouse.server.evidence.rescan import ROWS, ROWS_NER

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

## How much is kept

`policy.log.mode` of a route says how much text there is to redact:

| mode | of the gateway's requests | of apps' spans and events |
|---|---|---|
| `full` | the record redacted; the bodies with all but credentials | the same of spans; events as in `redacted` |
| `redacted` | everything, redacted (the default) | the same |
| `metadata` | the record without bodies: tokens, cost, names, error, labels, redacted | ids, times, tokens, cost, and names, which hold no space; neither text, attributes, events nor explanations |
| `off` | the same without labels | nothing; how many is counted as `withheld`, which is no loss: T2.1 tells it beside them |

A span is of the route that it names by `pilothouse.route`, or whose name it asks for as its model, which is how a client of the gateway
is instrumented. Its environment is its key's; where it has none the strictest of the route's environments holds, and while a canary
runs the stricter of both releases. What names no route has the mode of its own in `spans.log.mode` (default `redacted`), and no more
text than the strictest route which its trace was seen to name has: of an agent's trace that calls a `metadata` or an `off` route, the
other steps are kept without text. This looks at the span's own batch and at the batches before it. A step that is exported earlier
than any span that names the route follows the default; where that is too much, set `spans.log.mode: metadata`, or
`pilothouse.route` as an attribute of the app's resource.

Credentials are kept in no mode. What mode `full` keeps unredacted stands in payloads alone, so that lists, previews, attributes, labels,
searches and errors never show any; whoever opens such a payload, or exports, replays or compares it, stands in the change log as
`text.read` before the text leaves, and does not get it where that cannot be written. It is not sent on by `forward`.

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

The extra `ner` looks for names of persons with Presidio, off the path of requests, so that one knows how many there are: see below. On the
same texts it finds 20 of 20 names, in 17 ms of CPU for a text of 61 characters, with 164 MB in a process that ends with its scan. It also takes
16 of the 120 clean look-alikes for names, most of them German and Polish words that the English model does not know: its count is an upper
end.

```text
pip install 'pilothouse[ner]'
python -m spacy download en_core_web_sm
```

## Streams and escapes

A text that is cut at any character is redacted like the whole: the record is made from the answer put together, and
guardrails hold back whatever may still become a finding. The tests cut every text of a class at every index, over
two events, and write it with JSON's escapes (`\\u0040`), in the names of an object, and as JSON within a string.

## What is left

Once a day, and sooner while there are few, up to {scanned} stored rows of each route are scanned again, drawn by a hash over its
requests and spans of seven days. The review (T2.5) states how many still hold something, as in `1 of 242 rows: 0.41 % [0.07 %, 2.3 %]`, with
Wilson's 95 % interval, what looked, and its version; the upper end decides, and a scan that is two days old is STALE.

```text
pilothouse drill rescan answer
```

scans now. It uses the same patterns, so it shows what was written past redaction (an older version, a mode, a mistake of ours), not what
patterns cannot see. Where `ner` is installed, control's daily scan and the verb look for names too, in up to {named} rows: then T2.5 tells
names that redaction does not take out, as the class `person`. Of what is kept in full, payloads are scanned for credentials alone.
"""  # noqa: E501  # a table's rows


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
        scanned=f"{ROWS:,}",
        named=ROWS_NER,
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
