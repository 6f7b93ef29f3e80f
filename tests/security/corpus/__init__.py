"""A corpus with known answers: texts in which one thing must be found, and texts in which nothing may be.

Made from a seed, so that no real-looking secret stands in the repository.
"""

import random
import string
from collections.abc import Callable
from typing import NamedTuple

from pilothouse.security.checks import luhn

ALNUM = string.ascii_letters + string.digits
B64 = ALNUM + "+/"
URL64 = ALNUM + "-_"


class Sample(NamedTuple):
    text: str
    kind: str  # empty: nothing may be found
    value: str  # what must be gone


def _check_digit(body: str) -> str:
    return body + next(d for d in string.digits if luhn((body + d).encode()))


def _iban(r: random.Random, country: str, length: int) -> str:
    body = "".join(r.choices(string.digits, k=length - 4))
    number = int("".join(str(int(c, 36)) for c in body + country + "00"))
    return f"{country}{98 - number % 97:02d}{body}"


def _chars(r: random.Random, alphabet: str, k: int) -> str:
    """Random characters that hold a digit and both cases, as real tokens practically always do."""
    return "a7Z" + "".join(r.choices(alphabet, k=k - 3))


def _grouped(number: str, size: int, mark: str) -> str:
    return mark.join(number[i : i + size] for i in range(0, len(number), size))


def _email(r: random.Random) -> str:
    local = r.choice(["bob", "anna.schmidt", "j.r_doe+news", "x", "o'brien", "info-desk", "björn", "user%tag"])
    host = r.choice(["example.org", "mail.acme.example.com", "a-b.io", "firma.gmbh", "münchen.de"])
    return f"{local}{r.randrange(100)}@{host}"


def _phone(r: random.Random) -> str:
    d = lambda n: "".join(r.choices("23456789", k=n))  # noqa: E731
    return r.choice(
        [
            f"+1 {d(3)} {d(3)} {d(4)}", f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}-{d(3)}-{d(4)}", f"+49 30 {d(4)} {d(4)}",
            f"+44 (20) {d(4)} {d(4)}", f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}", f"+{d(2)}{d(9)}",
            f"0041 44 {d(3)} {d(2)} {d(2)}",
        ]
    )  # fmt: skip


def _card(r: random.Random) -> str:
    prefix, length = r.choice([("4", 16), ("51", 16), ("2345", 16), ("6011", 16), ("3528", 16), ("37", 15), ("36", 14)])
    number = _check_digit(prefix + "".join(r.choices(string.digits, k=length - len(prefix) - 1)))
    if length == 15:
        return r.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
    return number if length == 14 else r.choice([number, _grouped(number, 4, " "), _grouped(number, 4, "-")])


def _iban_text(r: random.Random) -> str:
    country, length = r.choice([("DE", 22), ("GB", 22), ("FR", 27), ("NL", 18), ("CH", 21), ("NO", 15), ("PL", 28)])
    iban = _iban(r, country, length)
    return r.choice([iban, _grouped(iban, 4, " ")])


def _ip(r: random.Random) -> str:
    v4 = f"{r.randrange(1, 126)}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}"
    v6 = f"2001:db8:{r.randrange(65536):x}::{r.randrange(16):x}:{r.randrange(1, 65536):x}"
    full = ":".join(f"{r.randrange(65536):x}" for _ in range(8))
    return r.choice([v4, v6, full])


def _api_key(r: random.Random) -> str:
    upper = "".join(r.choices(string.ascii_uppercase + "234567", k=16))
    return r.choice(
        [
            "sk-" + _chars(r, ALNUM, 48), "sk-proj-" + _chars(r, URL64, 60), "sk-ant-api03-" + _chars(r, URL64, 80),
            "AKIA" + upper, "ghp_" + _chars(r, ALNUM, 36), "github_pat_" + _chars(r, ALNUM + "_", 60),
            "xoxb-" + _chars(r, ALNUM + "-", 40), "AIza" + _chars(r, URL64, 35), "sk_live_" + _chars(r, ALNUM, 24),
            "glpat-" + _chars(r, URL64, 20), "npm_" + _chars(r, ALNUM, 36), "pypi-" + _chars(r, URL64, 120),
            "hf_" + _chars(r, ALNUM, 34), "gsk_" + _chars(r, ALNUM, 52),
            "SG." + _chars(r, URL64, 22) + "." + _chars(r, URL64, 43),
        ]
    )  # fmt: skip


def _in(*frames: str) -> Callable[[random.Random, str], str]:
    return lambda r, value: r.choice(frames).replace("%", value, 1)


_PROSE = _in(
    "please write to % today.",
    "%",
    "(%)",
    "it was %, as I said",
    "“%”",
    "a: %\nb: 2",
    "see <%>;",
    "value=%,",
    "日本%。",
)
_MAKERS: dict[str, tuple[Callable[[random.Random], str], Callable[[random.Random, str], str]]] = {
    "email": (_email, _PROSE),
    "phone": (_phone, _in("call % now", "%", "my number: %.", "tel:%", "(home) %", "a\t%\n")),
    "credit_card": (_card, _in("card % exp 12/27", "%", "charge %.", "no: %, cvv 123", "{%}")),
    "iban": (_iban_text, _in("pay to %.", "%", "IBAN: % (SEPA)", "von %, danke")),
    "ssn": (
        lambda r: f"{r.randrange(1, 665):03d}-{r.randrange(1, 99):02d}-{r.randrange(1, 9999):04d}",
        _in("SSN % on file", "%", "his is %.", "ssn=%,"),
    ),
    "ip": (_ip, _in("from % at noon", "%", "host=%,", "[%]", "addr % .")),
    "api_key": (_api_key, _in("use % please", "%", "key '%'", "OPENAI_API_KEY=%", "(%)", "curl -H x-api-key:%\n")),
    "jwt": (
        lambda r: f"eyJ{_chars(r, URL64, 30)}.eyJ{_chars(r, URL64, 80)}.{_chars(r, URL64, 43)}",
        _in("token % sent", "%", "cookie: session=%;"),
    ),
    "bearer_token": (lambda r: _chars(r, URL64, 32), _in("Authorization: Bearer %", "sent bearer % to it")),
    "private_key": (
        lambda r: f"-----BEGIN {r.choice(['RSA ', 'EC ', ''])}PRIVATE KEY-----\n"
        + _grouped(_chars(r, B64, 256), 64, "\n")
        + "\n-----END PRIVATE KEY-----",
        _in("%", "my key:\n%\nthanks"),
    ),
    "connection_string": (
        lambda r: _chars(r, ALNUM, 14),
        _in("postgres://app:%@db.internal:5432/x", "redis://:%@cache:6379/0", "mongodb+srv://root:%@c0.abc.net/?w=1"),
    ),
    "credential": (
        lambda r: _chars(r, ALNUM, r.randrange(12, 30)),
        _in(
            "password=%", '"password": "%"', "my password is %", "api_key: '%'", "CLIENT_SECRET=%\n",
            "access_token = \"%\"",
        ),
    ),
}  # fmt: skip

CLEAN = (
    "Release 12 was promoted at 2025-11-03T14:32:11.123456Z, 1.8 s after release 11.",
    "p95 was 1,830.25 ms over 48,211 requests; cost 0.000412 USD each (1.23e-4).",
    "uuid 45345678-1234-1234-1234-123456789012 and 018f4d2e-7c1a-7b3e-9c4d-2f1a0b9c8d7e",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 on branch task-sk-learn-upgrade-and-more-words-here",
    "password: must be at least 8 characters. Your password is required. Passwords are hashed.",
    "api_key: env://OPENAI_API_KEY, token: ${TOKEN}, secret: <your-secret-here>, password=changeme",
    "max_tokens: 4096, total_tokens: 1234567890123, token_count: 12, access_token: null",
    "git@github.com:org/repo.git, @decorator, a @ b, icon@2x.png, foo@bar, user@localhost",
    "std::vector<int>::iterator, a::b::c, Face::Bead, 12:34:56, key:value:other",
    "version 1.2.3.4, v10.0.0.1, 1.3.6.1.4.1.311, 127.0.0.1, 0.0.0.0, 1.2.3, 300.1.2.3",
    "order 4111111111111112, id 1750000000000000, 1234567890123456, isbn 978-3-16-148410-0",
    "0.4111111111111111, -0.5234567890123456, [0.123456789012, 0.98765432109876]",
    "000-12-3456, 666-12-3456, 912-34-5678, 123-00-4567, 2025-11-03, 10-20-30",
    "DE00 1234 5678 9012 3456 78, AB12 CDEF GHIJ KLMN, ISO 9001 2015, US1234567890",
    "https://example.org/a/b?x=1#y, http://host:8080/path, s3://bucket/key, user:pass",
    "The bearer of good news said: bearer instruments are risky; basic understanding.",
    "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUa\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----",
    "eyJhbGciOiJIUzI1NiJ9 alone is only a header; sk-learn, sk-12, AKIA, ghp_, xoxb-",
    "call 911 or 112; room 415; extension 2671; +5 points; +1; 100-200-300; 1-800",
    "Die Antwort ist 42 (siehe § 3.2, Absatz 4). 日本語のテキスト。 Ελληνικά. 😀",
    '{"model": "docs-answer", "seed": 123456789, "created": 1750000000, "n": 1}',
    "[EMAIL:3fa91c] wrote to [PHONE:123456] with [CREDENTIAL:abcdef] and [API_KEY:000000]",
)


def positives(each: int = 60, seed: int = 7) -> list[Sample]:
    r = random.Random(seed)
    out = []
    for kind, (make, frame) in _MAKERS.items():
        for _ in range(each):
            value = make(r)
            out.append(Sample(frame(r, value), kind, value))
    return out


def negatives() -> list[Sample]:
    return [Sample(text, "", "") for text in CLEAN]
