"""Values of every class, made from a seed: no real-looking secret and nobody's number stands in the repository."""

import random
import string
from collections.abc import Callable

from tests.security.corpus import ALNUM, B64, URL64, _card, _chars, _email, _iban

from pilothouse.security.checks import luhn

HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
_LENGTHS = {
    "AT": 20, "BE": 16, "CH": 21, "CZ": 24, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "HU": 28,
    "IE": 22, "IT": 27, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24, "TR": 26,
}  # fmt: skip
_VERHOEFF_D = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]


def d(r: random.Random, n: int) -> str:
    """`n` digits, the first not 0."""
    return r.choice("123456789") + "".join(r.choices(string.digits, k=n - 1))


def hexes(r: random.Random, n: int) -> str:
    return "a7" + "".join(r.choices(HEX, k=n - 2))


PHONES: dict[str, Callable[[random.Random], str]] = {
    "United States": lambda r: r.choice(
        [
            f"(415) {r.randrange(200, 999)}-{d(r, 4)}",
            f"212-{r.randrange(200, 999)}-{d(r, 4)}",
            f"+1 312 {r.randrange(200, 999)} {d(r, 4)}",
            f"646.{r.randrange(200, 999)}.{d(r, 4)}",
        ]
    ),
    "Germany": lambda r: r.choice(
        [
            f"+49 30 {d(r, 4)} {d(r, 4)}",
            f"+49 (0)89 {d(r, 6)}",
            f"0049 171 {d(r, 7)}",
            f"Tel.: 030 {d(r, 7)}",
            f"+49 171/{d(r, 7)}",
        ]
    ),
    "United Kingdom": lambda r: r.choice(
        [
            f"+44 20 7{d(r, 3)} {d(r, 4)}",
            f"+44 (0)20 7{d(r, 3)} {d(r, 4)}",
            f"Tel: 020 7{d(r, 3)} {d(r, 4)}",
            f"+447{d(r, 9)}",
        ]
    ),
    "France": lambda r: r.choice(
        [
            f"+33 6 {d(r, 2)} {d(r, 2)} {d(r, 2)} {d(r, 2)}",
            f"06 {d(r, 2)} {d(r, 2)} {d(r, 2)} {d(r, 2)}",
            f"+33.1.{d(r, 2)}.{d(r, 2)}.{d(r, 2)}.{d(r, 2)}",
        ]
    ),
    "Switzerland": lambda r: r.choice(
        [f"+41 44 {d(r, 3)} {d(r, 2)} {d(r, 2)}", f"0041 79 {d(r, 3)} {d(r, 2)} {d(r, 2)}"]
    ),
    "Spain": lambda r: r.choice([f"+34 6{d(r, 2)} {d(r, 3)} {d(r, 3)}", f"teléfono: 6{d(r, 2)} {d(r, 3)} {d(r, 3)}"]),
    "India": lambda r: r.choice([f"+91 9{d(r, 4)} {d(r, 5)}", f"+91-9{d(r, 9)}"]),
    "Brazil": lambda r: r.choice([f"+55 11 9{d(r, 4)}-{d(r, 4)}", f"telefone (11) 9{d(r, 4)}-{d(r, 4)}"]),
    "Japan": lambda r: r.choice(
        [f"+81 90-{d(r, 4)}-{d(r, 4)}", f"+81-3-{d(r, 4)}-{d(r, 4)}", f"電話: 03-{d(r, 4)}-{d(r, 4)}"]
    ),
    "China": lambda r: r.choice([f"+86 138 {d(r, 4)} {d(r, 4)}", f"手机号：138{d(r, 8)}"]),
    "Poland": lambda r: f"+48 {d(r, 3)} {d(r, 3)} {d(r, 3)}",
    "Australia": lambda r: r.choice([f"+61 4{d(r, 2)} {d(r, 3)} {d(r, 3)}", f"mobile 04{d(r, 2)} {d(r, 3)} {d(r, 3)}"]),
}

VENDORS: dict[str, Callable[[random.Random], str]] = {
    "OpenAI": lambda r: "sk-proj-" + _chars(r, URL64, 60),
    "OpenAI, old": lambda r: "sk-" + _chars(r, ALNUM, 48),
    "Anthropic": lambda r: "sk-ant-api03-" + _chars(r, URL64, 80),
    "OpenRouter": lambda r: "sk-or-v1-" + hexes(r, 64),
    "Langfuse": lambda r: "sk-lf-" + "-".join(hexes(r, n) for n in (8, 4, 4, 4, 12)),
    "LangSmith": lambda r: "lsv2_pt_" + hexes(r, 32) + "_" + hexes(r, 10),
    "Google": lambda r: "AIza" + _chars(r, URL64, 35),
    "Google OAuth": lambda r: "ya29." + _chars(r, URL64, 60),
    "AWS id": lambda r: "AKIA" + "".join(r.choices(string.ascii_uppercase + "234567", k=16)),
    "AWS secret": lambda r: "aws_secret_access_key = " + _chars(r, ALNUM, 40),
    "Azure storage": lambda r: "AccountKey=" + _chars(r, ALNUM, 86) + "==",
    "GitHub": lambda r: "ghp_" + _chars(r, ALNUM, 36),
    "GitHub, fine-grained": lambda r: "github_pat_" + _chars(r, ALNUM + "_", 82),
    "GitLab": lambda r: "glpat-" + _chars(r, URL64, 20),
    "Slack": lambda r: f"xoxb-{d(r, 12)}-{d(r, 12)}-" + _chars(r, ALNUM, 24),
    "Stripe": lambda r: "sk_live_" + _chars(r, ALNUM, 24),
    "Hugging Face": lambda r: "hf_" + _chars(r, ALNUM, 34),
    "Groq": lambda r: "gsk_" + _chars(r, ALNUM, 52),
    "xAI": lambda r: "xai-" + _chars(r, ALNUM, 80),
    "Perplexity": lambda r: "pplx-" + _chars(r, ALNUM, 48),
    "Replicate": lambda r: "r8_" + _chars(r, ALNUM, 37),
    "npm": lambda r: "npm_" + _chars(r, ALNUM, 36),
    "PyPI": lambda r: "pypi-" + _chars(r, URL64, 120),
    "SendGrid": lambda r: "SG." + _chars(r, URL64, 22) + "." + _chars(r, URL64, 43),
    "Twilio": lambda r: "SK" + hexes(r, 32),
    "Mailgun": lambda r: "key-" + hexes(r, 32),
    "DigitalOcean": lambda r: "dop_v1_" + hexes(r, 64),
    "Databricks": lambda r: "dapi" + hexes(r, 32),
    "Shopify": lambda r: "shpat_" + hexes(r, 32),
    "Square": lambda r: "sq0atp-" + _chars(r, URL64, 22),
    "Atlassian": lambda r: "ATATT3xFfGF0" + _chars(r, URL64, 160),
    "Linear": lambda r: "lin_api_" + _chars(r, ALNUM, 40),
    "Notion": lambda r: "ntn_" + _chars(r, ALNUM, 46),
    "Vault": lambda r: "hvs." + _chars(r, URL64, 90),
    "Grafana": lambda r: "glsa_" + _chars(r, ALNUM, 32) + "_" + hexes(r, 8),
    "New Relic": lambda r: "NRAK-" + "".join(r.choices(UPPER, k=27)),
    "Postman": lambda r: "PMAK-" + hexes(r, 24) + "-" + hexes(r, 34),
    "Supabase": lambda r: "sbp_" + hexes(r, 40),
    "Telegram": lambda r: d(r, 10) + ":AA" + _chars(r, URL64, 33),
    "Terraform Cloud": lambda r: _chars(r, ALNUM, 14) + ".atlasv1." + _chars(r, URL64, 64),
    "Doppler": lambda r: "dp.pt." + _chars(r, ALNUM, 43),
    "age": lambda r: "AGE-SECRET-KEY-1" + "".join(r.choices("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", k=58)),
}  # fmt: skip


def _mod11(body: str, weights: range) -> str:
    rest = sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11
    return str(0 if rest < 2 else 11 - rest)


def _cpf(r: random.Random) -> str:
    body = d(r, 9)
    body += _mod11(body, range(10, 1, -1))
    body += _mod11(body, range(11, 1, -1))
    return r.choice([f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}", f"CPF: {body}"])


def _dni(r: random.Random) -> str:
    number = int(d(r, 8))
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _nir(r: random.Random) -> str:
    body = (
        f"{r.choice('12')}{r.randrange(50, 99)}{r.randrange(1, 13):02d}{r.randrange(10, 96)}{r.randrange(1, 1000):03d}"
    )
    body += f"{r.randrange(1, 1000):03d}"
    key = f"{97 - int(body) % 97:02d}"
    return r.choice([body + key, f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:]} {key}"])


def _resident(r: random.Random) -> str:
    body = f"{r.choice(['110101', '310104', '440305'])}{r.randrange(1950, 2005)}{r.randrange(1, 13):02d}"
    body += f"{r.randrange(1, 29):02d}{r.randrange(1000):03d}"
    rest = sum(int(c) * pow(2, 17 - n, 11) for n, c in enumerate(body)) % 11
    return body + "10X98765432"[rest]


def _pesel(r: random.Random) -> str:
    body = f"{r.randrange(50, 99)}{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}{d(r, 4)}"
    total = sum(int(c) * w for c, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True))
    return f"PESEL {body}{-total % 10}"


def _sin(r: random.Random) -> str:
    body = d(r, 8)
    number = body + next(c for c in string.digits if luhn((body + c).encode()))
    return f"SIN: {number[:3]} {number[3:6]} {number[6:]}"


def _codice(r: random.Random) -> str:
    letters = "".join(r.choices("BCDFGLMNPRST", k=6))
    body = f"{letters}{r.randrange(50, 99)}{r.choice('ABCDEHLMPRST')}{r.randrange(1, 29):02d}H501"
    odd = dict(
        zip(
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14,
             16, 10, 22, 25, 24, 23),
            strict=True,
        )
    )  # fmt: skip
    even = {c: n % 10 if n < 10 else n - 10 for n, c in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
    total = sum((even if n % 2 else odd)[c] for n, c in enumerate(body))
    return body + string.ascii_uppercase[total % 26]


NATIONAL: dict[str, Callable[[random.Random], str]] = {
    "United States SSN": lambda r: f"{r.randrange(1, 665):03d}-{r.randrange(1, 99):02d}-{r.randrange(1, 9999):04d}",
    "United Kingdom NINO": lambda r: r.choice(["AB", "JK", "SR"]) + r.choice(["{0}{1}{2}C", " {0} {1} {2} C"]).format(
        *(f"{r.randrange(100):02d}" for _ in range(3))
    ),
    "Spain DNI": _dni,
    "France NIR": _nir,
    "Italy codice fiscale": _codice,
    "Brazil CPF": _cpf,
    "China resident id": _resident,
    "Poland PESEL": _pesel,
    "Canada SIN": _sin,
}  # fmt: skip


def iban(r: random.Random) -> str:
    country, length = r.choice(sorted(_LENGTHS.items()))
    whole = _iban(r, country, length)
    return r.choice([whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))])


def ip(r: random.Random) -> str:
    v4 = f"{r.choice([5, 23, 84, 91, 185, 203])}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}"
    v6 = f"2a02:{r.randrange(4096, 65536):x}:{r.randrange(4096, 65536):x}::{r.randrange(1, 65536):x}"
    return r.choice([v4, v4, v6, ":".join(f"{r.randrange(4096, 65536):x}" for _ in range(8))])


def jwt(r: random.Random) -> str:
    return f"eyJ{_chars(r, URL64, 30)}.eyJ{_chars(r, URL64, 80)}.{_chars(r, URL64, 43)}"


def pem(r: random.Random) -> str:
    kind = r.choice(["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY"])
    body = _chars(r, B64, 256)
    lines = "\n".join(body[i : i + 64] for i in range(0, 256, 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


def password(r: random.Random) -> str:
    return r.choice(
        [
            _chars(r, ALNUM, r.randrange(8, 20)), f"hunter{r.randrange(10, 99)}x", f"Winter{r.randrange(2000, 2030)}!",
            "c0rrect-h0rse-" + _chars(r, ALNUM, 6), f"Tr0ub4dor&{r.randrange(10)}", f"s3cr3t_{_chars(r, ALNUM, 5)}",
        ]
    )  # fmt: skip


def secret(r: random.Random) -> str:
    return r.choice([_chars(r, ALNUM, r.randrange(20, 48)), hexes(r, 32), _chars(r, URL64, 40)])


EMAIL, CARD = _email, _card
