"""The corpus by class: what must be found, in prose of several languages, JSON, code and logs; what looks like it."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.security.corpus import CLEAN, URL64, _chars, _check_digit, values
from tests.security.corpus.values import d, hexes

EACH = 120  # positives of a class
SEED = 20_261_124


class Case(NamedTuple):
    """`value` must be gone from `text`, as one of `kinds`; where `kinds` is empty nothing may be found."""

    label: str  # the class it counts under
    text: str
    value: str = ""
    kinds: tuple[str, ...] = ()


Maker = Callable[[random.Random], str]
PROSE = (
    "Please note % before Friday.", "It was %, as I said.", "(%)", "“%”", "%", "Bitte notieren Sie: %. Danke!",
    "Merci de noter % dans le dossier.", "Mi dato es %, gracias.", "O meu é %, obrigado.", "Zapisz proszę: %.",
    "こちらです：%。", "我的是 %，谢谢。", "Запишите, пожалуйста: %.", "سجل % من فضلك",
)  # fmt: skip
DATA = (
    '{"messages": [{"role": "user", "content": "note % please"}]}', '{"v": "%"}', '["a", "%", 3]', "value,note\n%,x\n",
    "note: %\nother: 2\n", "<item>%</item>", 'x = "%"  # from the form', "const v = '%';",
    '2026-11-24T10:00:01Z INFO worker-3 user said "%" status=200', "[error] cannot handle %: retry 3 of 5",
    '{"arguments": "{\\"note\\": \\"%\\"}"}', "| a | % |", "curl -d 'v=%' https://api.example.net/v2",
)  # fmt: skip
FRAMES = PROSE + DATA
PLAIN = tuple(f for f in FRAMES if '"' not in f and "'" not in f)  # for values of several lines

_NAMES = (
    "password=%", '{"password": "%"}', "my password is %", "DB_PASSWORD=%\nDEBUG=1\n", "passwd: %", "pwd='%'",
    'client = connect(user="app", password="%")', "The password is: %", "export ADMIN_PASSWORD=%",
)  # fmt: skip
_SECRETS = (
    "api_key: '%'", 'access_token = "%"', "CLIENT_SECRET=%\n", '{"api_key": "%"}', "x-api-key: %",
    '{"headers": {"x-auth-token": "%"}}', "private_key=%", "?access_token=%", "secret_token: %",
    "ENCRYPTION_KEY=%",
)  # fmt: skip
_BEARER = ("Authorization: Bearer %", '{"authorization": "Bearer %"}', "curl -H 'Authorization: Bearer %' https://x.io")
_URLS = (
    "postgres://app:%@db.internal:5432/x", "redis://:%@cache:6379/0", "mongodb+srv://root:%@c0.abc.net/?w=1",
    "https://deploy:%@git.acme.io/x.git", '{"url": "amqp://svc:%@mq:5672/"}', "DATABASE_URL=mysql://u:%@h/db\n",
)  # fmt: skip


def _one_of(table: dict[str, Maker]) -> Maker:
    return lambda r: table[r.choice(sorted(table))](r)


POSITIVES: dict[str, tuple[Maker, tuple[str, ...], tuple[str, ...]]] = {
    "email": (values.EMAIL, FRAMES, ("email",)),
    "phone": (_one_of(values.PHONES), FRAMES, ("phone",)),
    "credit_card": (values.CARD, FRAMES, ("credit_card",)),
    "iban": (values.iban, FRAMES, ("iban",)),
    "national_id": (_one_of(values.NATIONAL), FRAMES, ("national_id", "ssn")),
    "ip": (values.ip, FRAMES, ("ip",)),
    "api_key": (_one_of(values.VENDORS), FRAMES, ("api_key", "credential")),
    "jwt": (values.jwt, FRAMES, ("jwt",)),
    "private_key": (values.pem, PLAIN, ("private_key",)),
    "connection_string": (lambda r: _chars(r, URL64, 16), _URLS, ("connection_string",)),
    "password": (values.password, _NAMES, ("credential",)),
    "secret": (values.secret, _SECRETS, ("credential",)),
    "bearer_token": (lambda r: _chars(r, URL64, 36), _BEARER, ("bearer_token",)),
}


def _uuid(r: random.Random) -> str:
    return "-".join("".join(r.choices(values.HEX, k=n)) for n in (8, 4, 4, 4, 12))


def _stamp(r: random.Random) -> str:
    return r.choice(
        [
            f"2026-{r.randrange(10, 13)}-{r.randrange(10, 29)}T{r.randrange(10, 24)}:10:11.{d(r, 6)}Z",
            f"17{d(r, 8)}",
            f"17{d(r, 11)}",
            f"{r.randrange(1, 29):02d}.11.2026 14:{r.randrange(60):02d}",
            f"2026-11-{r.randrange(10, 29)} 08:{r.randrange(10, 59)}:00,{d(r, 3)}",
        ]
    )


def _broken(number: str) -> str:
    """The same with another check digit."""
    return number[:-1] + str((int(number[-1]) + 1) % 10)


LOOKALIKES: dict[str, Maker] = {
    "order number": lambda r: r.choice(
        [f"order #{d(r, 8)}", f"Bestellung {d(r, 10)}", f"PO-{d(r, 6)}-{d(r, 3)}", f"INV{d(r, 9)}"]
    ),
    "version": lambda r: (
        f"version {r.randrange(30)}.{r.randrange(30)}.{r.randrange(30)}"
        + r.choice(["", "-rc.1", f".{r.randrange(99)}"])
    ),
    "UUID": _uuid,
    "git hash": lambda r: "commit " + r.choice([hexes(r, 40), hexes(r, 7)]),
    "digest": lambda r: "sha256:" + hexes(r, 64),
    "timestamp": _stamp,
    "base64 image": lambda r: "data:image/png;base64,iVBORw0KGgo" + base64.b64encode(r.randbytes(300)).decode(),
    "measure": lambda r: r.choice(
        [
            f"{r.random():.12f}",
            f"{d(r, 3)}.{d(r, 2)} ms",
            f"{d(r, 2)},{d(r, 3)},{d(r, 3)} rows",
            f"-{r.random():.9f}e-05",
        ]
    ),
    "figures like a phone": lambda r: r.choice(
        [
            f"rows {d(r, 3)}-{d(r, 3)}",
            f"{d(r, 4)} {d(r, 4)}",
            f"ISBN 978-{d(r, 1)}-{d(r, 3)}-{d(r, 5)}-{d(r, 1)}",
            f"pages {d(r, 2)}-{d(r, 2)}, {d(r, 3)}",
            f"range 100-{d(r, 3)}-{d(r, 3)}",
            f"x +{d(r, 2)} y +{d(r, 2)}",
        ]
    ),
    "card with a wrong check digit": lambda r: _broken(_check_digit("4" + "".join(r.choices("0123456789", k=14)))),
    "IBAN with a wrong checksum": lambda r: _broken(values._iban(r, "DE", 22)),
    "part number": lambda r: f"{r.choice(['AX', 'QT', 'ZZ'])}-{d(r, 4)}-{r.choice('ABC')}",
    "placeholder": lambda r: r.choice(
        [
            "api_key: ${API_KEY}",
            "password: <your-password>",
            "token=env://TOKEN",
            "sk-...",
            "Bearer $TOKEN",
            "password: changeme",
            "secret: {{ secret }}",
            "postgres://user:${PW}@host/db",
        ]
    ),
    "code": lambda r: r.choice(
        [
            f"x[{d(r, 2)}:{d(r, 2)}]",
            "std::map<a::b, c>",
            "@app.get('/users')",
            "a @ b.T",
            f"np.zeros(({d(r, 3)}, {d(r, 3)}))",
            "token_count = max_tokens - 1",
            "key=lambda row: row.name",
            "password = request.form['password']",
        ]
    ),
    "id": lambda r: r.choice(
        [
            f"chatcmpl-{_chars(r, 'abcdefghij0123456789', 24)}",
            f"run_{_uuid(r)}",
            f"span {hexes(r, 16)}",
            f"req_{hexes(r, 24)}",
        ]
    ),
    "MAC address": lambda r: ":".join(hexes(r, 2) for _ in range(6)),
    "coordinates": lambda r: f"{r.uniform(-90, 90):.6f}, {r.uniform(-180, 180):.6f}",
    "time span": lambda r: (
        f"{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}-{r.randrange(24):02d}:00:00"
    ),
    "local address": lambda r: r.choice(["127.0.0.1:8080", "0.0.0.0", "::1", "localhost:5432", "user@localhost"]),
    "clean text": lambda r: r.choice(CLEAN),
}


def _framed(frame: str, value: str) -> tuple[str, str]:
    """The frame with the value in it, and how the value stands there."""
    if not frame.startswith(("{", "[")) or frame.startswith("[e"):
        return frame.replace("%", value, 1), value
    inner = json.dumps(value, ensure_ascii=False)[1:-1]
    if frame.startswith('{"arguments"'):
        inner = json.dumps(inner, ensure_ascii=False)[1:-1]
    return frame.replace("%", inner, 1), inner


def positives(each: int = EACH, seed: int = SEED) -> Iterator[Case]:
    """`each` of every class; the same for the same seed."""
    for label, (make, frames, kinds) in POSITIVES.items():
        r = random.Random(f"{seed} {label}")
        for n in range(each):
            text, value = _framed(frames[n % len(frames)], make(r))
            yield Case(label, text, value, kinds)


def negatives(each: int = EACH, seed: int = SEED) -> Iterator[Case]:
    """`each` of every kind of look-alike."""
    for label, make in LOOKALIKES.items():
        r = random.Random(f"{seed} {label}")
        for n in range(each):
            yield Case(label, _framed(FRAMES[n % len(FRAMES)], make(r))[0])


HARD: dict[str, Maker] = {
    "a person's name": lambda r: r.choice(["Johanna Petersen", "Miguel Ángel Ruiz", "Wei Zhang", "Олена Шевченко"]),
    "a postal address": lambda r: r.choice(
        ["12 Harbour Row, Apt 4B", "Lindenstraße 7, 10969 Berlin", "東京都港区芝公園4-2-8"]
    ),
    "an e-mail address in words": lambda r: f"bob{d(r, 2)} at example dot org",
    "a phone number without country or name": lambda r: f"0{d(r, 2)} {d(r, 7)}",
    "a card number with dots": lambda r: ".".join(_card_groups(r)),
    "a password in a sentence": lambda r: f"sign in with Winter{d(r, 4)}! today",
    "a token without a name": lambda r: _chars(r, URL64, 40),
    "a secret in base64": lambda r: base64.b64encode(f"sk-proj-{_chars(r, URL64, 40)}".encode()).decode(),
    "a key with a space in it": lambda r: "ghp_" + _chars(r, URL64, 10) + " " + _chars(r, URL64, 26),
}


def _card_groups(r: random.Random) -> list[str]:
    number = _check_digit("4" + "".join(r.choices("0123456789", k=14)))
    return [number[i : i + 4] for i in range(0, 16, 4)]


def hard(each: int = 20, seed: int = SEED) -> Iterator[Case]:
    """What patterns and checksums are not made for: measured, so that nobody believes otherwise."""
    for label, make in HARD.items():
        r = random.Random(f"{seed} {label}")
        for _ in range(each):
            value = make(r)
            yield Case(label, f"Note: {value}.", value)
