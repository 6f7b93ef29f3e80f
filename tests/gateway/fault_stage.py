"""Where the rows of the fault matrix are played: houses (edge, journal and scripted provider on real sockets), clients
that behave in their ways, and what can be seen afterwards: by the client, and in the journal."""

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
from tests.gateway import fault_said
from tests.gateway.conftest import KEY, Stack, entry, live, redact

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.limit import Limit
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy, Retry, Timeouts
from pilothouse.domain.record import Record
from pilothouse.domain.table import CounterSettings, Live, Price, ProviderEntry, Table
from pilothouse.domain.wires import JournalLine
from pilothouse.gateway.admit import Admission
from pilothouse.gateway.estimate import estimate
from pilothouse.gateway.meters import Meters
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replay import rebuild_record
from pilothouse.gateway.settle import warm
from pilothouse.providers.script import Script
from pilothouse.providers.scripted import Received
from pilothouse.security.redact import credentials
from pilothouse.server import equipment
from pilothouse.server.edge import Edge
from pilothouse.server.http_limits import Limits
from pilothouse.store.counters.local import LocalCounters
from pilothouse.store.counters.valkey import ValkeyCounters
from pilothouse.telemetry.journal import Journal

AT_ONCE = 12  # rows that are played at a time
DEAD_VALKEY = "valkey://127.0.0.1:9"
STRICT = Limits(body=64 << 10, body_s=0.4, write_s=0.5, sweep_s=0.1, linger_s=0.1)
NORMAL = Policy(timeout=Timeouts(connect=1.0, first_token=4.0, idle=4.0, total=10.0), retry=Retry(1, backoff=0.01))
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",  # a path that the gateway passes through
}
PRICE = Price(input=1000.0, output=1000.0, cache_read=100.0)  # 0.001 USD a token, a tenth of it from the cache
CHEAP = Price(input=100.0, output=100.0)


class Seen(msgspec.Struct, frozen=True):
    """What can be seen of a request, in words.

    `answer`: what the client gets. `attempts`: the upstream calls, in order. `money`: the record's cost in USD, at
    0.001 USD a token unless the row says otherwise. `record`: what else the journal says.
    """

    answer: str
    attempts: str
    money: str
    record: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One fault under one policy, and what comes of it.

    `rules`: of the scripted provider, for this row's requests alone; `model` in them is the model's name in the row.
    `given`: fields of the policy; `parts`: other parts of the manifest; `entry`: of the table's entry.
    `before`: what happens first: `ask N`, `burst N` at once, `pause S`; and requests that are still on their way:
    `hold` (one that the row's rules never answer), `start` (the row's own), `wait` (the same, in the queue).
    `client`: how it behaves, a name in fault_clients. `says`: the text that it gets.
    """

    id: str
    fault: str
    policy: str
    seen: Seen
    group: str = ""
    api: str = "chat"
    at: str = "fake"  # the provider of the row's model
    model: str = ""  # another name than the row's own route
    stream: bool = False
    rules: list[dict[str, Any]] = []
    given: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    entry: dict[str, Any] = {}
    limits: tuple[Limit, ...] = ()  # of the app
    text: str = "Say something."
    more: dict[str, Any] = {}
    raw: bytes = b""  # a body as it stands
    headers: dict[str, str] = {}
    key: str = KEY
    before: tuple[str, ...] = ()
    client: str = "asks"
    house: str = "plain"
    priced: bool = True
    says: str | None = None
    complaint: str = ""  # a number of fault_page.COMPLAINTS

    @property
    def tag(self) -> str:
        """What stands in the row's texts, so that its rules are its own."""
        return f"<{self.id}>"

    @property
    def trace(self) -> str:
        """The trace of all its requests."""
        return bytes_hash(self.id.encode())[:32]


class House(Stack):
    """An edge that differs from the plain one as its name says."""

    def __init__(self, tmp: Path, name: str, rows: list[Row]) -> None:
        super().__init__(tmp)
        self.name = name
        self.rows = rows
        self._table: Table | None = None
        self._silent: list[socket.socket] = []

    def table(self) -> Table:
        if self._table is None:
            self._table = self._made()
        return self._table

    def _made(self) -> Table:
        port = self.provider.port
        url = f"http://127.0.0.1:{port}"
        fake = ProviderEntry("fake", "scripted", url)
        found = [
            fake,
            ProviderEntry("plain", "local", f"{url}/v1"),
            ProviderEntry("openai", "openai", f"{url}/v1", "env://KEY"),
            ProviderEntry("claude", "anthropic", f"{url}/v1", "env://KEY"),
            ProviderEntry("gemini", "gemini", f"{url}/v1beta", "env://KEY"),
            ProviderEntry("bedrock", "bedrock", url, "env://KEY", {"region": "eu-central-1"}),
            ProviderEntry("gone", "openai", "http://127.0.0.1:9/v1"),
            ProviderEntry("tls", "openai", f"https://127.0.0.1:{port}/v1"),
            ProviderEntry("full", "openai", f"http://127.0.0.1:{self._full()}/v1"),
            ProviderEntry("chain", "openai", f"{self.url}/v1", "env://OUR_OWN_KEY"),
        ]
        prices = {f"{ref.provider}/{ref.name}": price for row in self.rows for ref, price in _prices(row)}
        limits = tuple(limit for row in self.rows for limit in row.limits)
        return Table(1, 1, self.entries, {}, {p.name: p for p in found}, prices=prices, limits=limits)

    def _full(self) -> int:
        """The port of a listener whose queue is full: a handshake with it never ends."""
        self._silent = [socket.socket() for _ in range(5)]
        full, *fillers = self._silent
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        return int(full.getsockname()[1])

    def sink(self, line: JournalLine) -> None:
        if self.name == "no journal":
            raise OSError("disk full")
        super().sink(line)
        self.journal.write(line)

    async def start(self) -> None:
        await self.provider.start()
        clock, counters = SystemClock(), CounterSettings()
        if self.name.startswith("no Valkey"):
            way = "open" if self.name.endswith("open") else "closed"
            counters = CounterSettings(kind="valkey", url=DEAD_VALKEY, on_error=way)  # type: ignore[arg-type]
            admission = Admission(ValkeyCounters(DEAD_VALKEY, clock, way))  # type: ignore[arg-type]
        else:
            admission = Admission(LocalCounters(clock))
        self.gateway = Gateway(
            table=self.table,
            sink=self.sink,
            redact=redact,
            credentials=credentials(b"a salt of these tests"),
            authenticate=self.authenticate,
            secret=lambda ref: KEY if ref == "env://OUR_OWN_KEY" else f"value of {ref}",
            clock=clock,
            pseudonym=lambda text: bytes_hash(text.encode())[:12],
            worker="edge-t",
            admission=admission,
            guards=equipment.guards(Path(__file__).parent),
            answers=equipment.answers(counters, clock, str),
            shared=self._tmp,
        )
        self.meters = Meters()
        free: Callable[[Path], int] = (lambda _: 0) if self.name == "full disk" else (lambda _: 1 << 40)
        reserve = 1 << 16 if self.name == "full disk" else 0
        self.journal = Journal(
            self._tmp, "edge-t", clock, fsync="never", reserve_bytes=reserve, free_bytes=free, segment_bytes=1 << 26
        )
        limits = STRICT if self.name == "strict" else None
        self.edge = Edge(self.gateway, self.meters, self.tasks, lambda: True, self.journal, limits)
        await self.edge.http.start("127.0.0.1", 0)
        self.port = self.edge.http.port
        self.url = f"http://127.0.0.1:{self.port}"
        for row in self.rows:
            self._install(row)
        rules = [_rule(row, rule, self.url) for row in self.rows for rule in row.rules]
        self.provider.play(msgspec.convert({"rules": rules}, Script))

    def _install(self, row: Row) -> None:
        self.entries[f"{row.id}@dev"] = entry(row.id, _live(row, row.at, f"http://127.0.0.1:{self.provider.port}"))
        if row.entry:
            self.entries[f"{row.id}@dev"] = msgspec.structs.replace(self.entries[f"{row.id}@dev"], **row.entry)
        if row.at == "chain":  # the gateway that is called is this one, too
            inner = live(model=ModelRef("fake", f"{row.id}.inner"), policy=NORMAL)
            self.entries[f"{row.id}.a@dev"] = entry(f"{row.id}.a", inner)

    async def close(self) -> None:
        await super().close()
        for one in self._silent:
            one.close()

    def written(self) -> list[Record]:
        """Every record that is in the journal's files."""
        kinds = (
            msgspec.json.decode(line, type=dict[str, Any])
            for file in sorted(self.journal.dir.glob("*.ndjson*"))
            for line in file.read_bytes().splitlines()
        )
        return [msgspec.convert(line, Record) for line in kinds if line.get("kind") == "request"]


def _live(row: Row, provider: str, url: str) -> Live:
    """The row's release. Models of its policy get names of their own, so that rows do not disturb one another."""
    policy = msgspec.structs.replace(NORMAL, **row.given)
    plain = _own_models(msgspec.to_builtins(policy), row)
    text = msgspec.json.encode(plain).decode().replace("http://provider", url)
    policy = msgspec.json.decode(text, type=Policy)
    return live(1, **({"model": ModelRef(provider, f"{row.id}.a"), "policy": policy} | row.parts))


def _own_models(value: Any, row: Row) -> Any:
    if isinstance(value, list | tuple):
        return [_own_models(v, row) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"provider", "name"}:
        return value | {"name": f"{row.id}.{value['name']}"}
    return {k: _own_models(v, row) for k, v in value.items()}


def _prices(row: Row) -> list[tuple[ModelRef, Price]]:
    providers = ("fake", "openai", "claude", "plain", "gemini", "bedrock", "chain")
    names = {"a": PRICE, "b": PRICE, "c": PRICE, "cheap": CHEAP, "inner": PRICE} if row.priced else {}
    return [(ModelRef(p, f"{row.id}.{name}"), price) for p in providers for name, price in names.items()]


def _rule(row: Row, rule: dict[str, Any], url: str) -> dict[str, Any]:
    """The rule, for this row's requests alone. Every answer says 20 + 5 tokens unless the row says otherwise."""
    rule = {"usage": {"prompt": 20, "completion": 5}} | rule
    match = {"anywhere": rule.pop("anywhere", row.tag)}
    match |= {name: rule.pop(name) for name in ("contains", "stream", "schema", "attempt") if name in rule}
    if "model" in rule:
        match["model"] = f"{row.id}.{rule.pop('model')}"
    if "retry_at_s" in rule:
        at = datetime.now(UTC) + timedelta(seconds=rule.pop("retry_at_s"))
        rule["retry_after"] = format_datetime(at, usegmt=True)
    return rule | {"match": match}


def body_of(row: Row, text: str = "") -> bytes:
    """The row's request."""
    if row.raw:
        return row.raw
    said = f"{text or row.text} {row.tag}"
    body: dict[str, Any] = {"model": row.model or row.id}
    if row.api in ("responses", "embeddings", "rerank"):
        body["input"] = said
    elif "messages" not in row.more:
        body["messages"] = [{"role": "user", "content": said}]
    if row.api == "messages":
        body["max_tokens"] = 50
    if row.stream:
        body["stream"] = True
    return msgspec.json.encode(body | row.more)


def headers_of(row: Row, number: int) -> dict[str, str]:
    """Its headers; `number` 0 is the request that is looked at."""
    told = {"authorization": f"Bearer {row.key}", "content-type": "application/json"}
    return told | {"traceparent": f"00-{row.trace}-{number + 1:016x}-01"} | row.headers


# --- what is seen


def seen(row: Row, answer: str, records: list[Record], house: House) -> Seen:
    """The outcome in words; asserts what holds of every record."""
    own = [r for r in records if r.trace_id == row.trace and r.parent_span_id == f"{1:016x}"]
    assert len(own) <= 1, f"{row.id}: {len(own)} records of one request"
    if not own:
        lost = f"none; {house.gateway.unwritten} counted as unwritten" if house.gateway.unwritten else "none"
        return Seen(answer, "", "", lost)
    record = own[0]
    sound(record, house)
    return Seen(answer, attempts_of(record), money_of(record), record_of(record))


def sound(record: Record, house: House) -> None:
    """What holds of every record: every attempt is charged, and the request can be sent again as it was."""
    costs = [a.cost_usd for a in record.attempts if a.tokens is not None]
    if record.cost_usd is not None and costs:
        assert math.isclose(record.cost_usd, math.fsum(c or 0.0 for c in costs), rel_tol=1e-9), record
    if record.cost_usd is not None:
        assert None not in costs, "a cost that is not known was taken for nothing"
    assert [a.n for a in record.attempts] == list(range(1, len(record.attempts) + 1))
    assert record.stream or record.stream_end == ""
    if record.payload is None or not record.attempts or not record.upstream_hash:
        return
    stable = None if record.inline else house.entries[f"{record.route}@{record.env}"].stable
    again = bytes_hash(rebuild_record(record, stable))
    assert again == (record.upstream_redacted_hash or record.upstream_hash), f"{record.route} cannot be replayed"


def attempts_of(record: Record) -> str:
    """`primary server_error, retry ok`; the model where it is not the primary one."""
    out = []
    for attempt in record.attempts:
        end = attempt.error_type or "ok"
        name = attempt.model.rpartition(".")[2]
        where = "" if name in ("a", record.requested_model) else f"({name})"
        trimmed = f" without {attempt.trimmed} messages" if attempt.trimmed else ""
        out.append(f"{attempt.kind}{where}{trimmed} {end}")
    return ", ".join(out)


def money_of(record: Record) -> str:
    """USD, rounded to thousandths of a cent; `unknown` is not 0."""
    if record.saved_usd is not None:
        return f"{record.cost_usd or 0:.4g}, {record.saved_usd:.4g} saved"
    if record.cost_usd is None:
        made = any(
            a.status < 400 and a.error_type not in ("connect_failed", "unsupported_api") for a in record.attempts
        )
        return "unknown" if made else "none"
    guessed = record.tokens is not None and record.tokens.estimated
    return f"{'about ' if guessed else ''}{record.cost_usd:.3f}"


def record_of(record: Record) -> str:
    """What the journal says beside attempts and money."""
    out = [record.outcome + (f": {record.error_type}" if record.error_type else "")]
    if record.status == 499:
        out.append("499")
    if record.stream_end not in ("", "complete", "error"):
        out.append(record.stream_end)
    out += [f"limit {hit.name} ({hit.what}{', shadow' if hit.shadow else ''})" for hit in record.limits]
    out += [f"guardrail {hit.use} {hit.action} {hit.found}@{hit.at}" for hit in record.guards]
    if record.cache:
        out.append(f"cache {record.cache}")
    if record.queued_ms:
        out.append("queued")
    checked = record.validation
    if checked is not None:
        mended = f" after {', '.join(checked.repairs)}" if checked.repairs else ""
        out.append(f"output {'valid' if checked.ok else 'invalid'}{mended}{', asked again' if checked.retried else ''}")
    if record.redaction is not None and record.redaction.status != "clean":
        out.append(f"redaction {record.redaction.status}")
    if record.payload is None and record.log_mode == "redacted":
        out.append("no payload")
    return "; ".join(out)


# --- playing


def received(house: House, row: Row) -> list[Received]:
    """What the provider got of the row's requests."""
    return [r for r in house.provider.received if row.trace in r.headers.get("traceparent", "")]


async def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait for what sockets bring about: they set no event of ours."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def raw(house: House, head: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request was written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1 << 25)
    writer.write(head.encode() + body)
    return reader, writer


def head_of(row: Row, number: int, length: int) -> str:
    """The request's head."""
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers_of(row, number).items())
    return f"POST {PATHS[row.api]} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {length}\r\n\r\n"


async def asks(house: House, row: Row, number: int = 0, text: str = "") -> str:
    """An ordinary client: asks, and reads all of the answer."""
    builder = house.client.post(house.url + PATHS[row.api]).body_bytes(body_of(row, text))
    for name, value in headers_of(row, number).items():
        builder = builder.header(name, value)
    reply = await builder.build().send()
    data = bytes(await reply.bytes())
    headers = {name: reply.get_header(name) or "" for name in ("content-type", "retry-after", "x-pilothouse-cache")}
    return fault_said.answer(reply.status, headers, data, row.api, row.says if number == 0 else None)


Client = Callable[[House, Row], Coroutine[Any, Any, str]]


@contextlib.asynccontextmanager
async def prepared(house: House, row: Row) -> AsyncIterator[None]:
    """What happens before the request that is looked at."""
    held: list[asyncio.Task[str]] = []
    number = 0
    for step in row.before:
        what, _, much = step.partition(" ")
        if what == "pause":
            await asyncio.sleep(float(much))
        elif what in ("hold", "start"):
            number += 1
            held.append(asyncio.ensure_future(asks(house, row, number, "HOLD" if what == "hold" else "")))
            await until(lambda: received(house, row))
        elif what == "wait":
            number += 1
            held.append(asyncio.ensure_future(asks(house, row, number)))
            await until(lambda: house.gateway.door._lanes.waiting.get(row.id, 0))
        else:
            numbers = range(number + 1, number + int(much) + 1)
            number += int(much)
            if what == "burst":
                await asyncio.gather(*(asks(house, row, n) for n in numbers))
            else:
                for n in numbers:
                    await asks(house, row, n)
    try:
        yield
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def play(tmp: Path, rows: list[Row], clients: dict[str, Client]) -> dict[str, Seen]:
    """All rows, each in its house; row id → what was seen."""
    warm()  # prices and the tokens' table: what is read at first use would hold up the first rows
    estimate(b"{}", "warm")
    names = dict.fromkeys(row.house for row in rows)
    houses = [House(tmp / name.replace(" ", "-"), name, [r for r in rows if r.house == name]) for name in names]
    found: dict[str, Seen] = {}
    for house in houses:
        house._tmp.mkdir()
        await house.start()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(house: House, row: Row) -> tuple[Row, str]:
        async with gate, asyncio.timeout(30), prepared(house, row):
            return row, await clients[row.client](house, row)

    for house in houses:
        answers = await asyncio.gather(*(one(house, row) for row in house.rows), return_exceptions=True)
        await house.close()
        records = house.written()
        for row, answer in zip(house.rows, answers, strict=True):
            said = f"{type(answer).__name__}: {answer}" if isinstance(answer, BaseException) else answer[1]
            try:
                found[row.id] = seen(row, said, records, house)
            except Exception as error:  # noqa: BLE001  # what does not hold is this row's failure, not all rows'
                found[row.id] = Seen(said, "", "", f"UNSOUND: {type(error).__name__}: {error}")
    return found
