"""What redaction costs: CPU time for a body of 12 KB, of several kinds of text."""

import json
import statistics
import time
from collections.abc import Callable

from pilothouse.security.redact import Redactor

BYTES = 12 * 1024
ROUNDS = 300
WORDS = (
    "The answer depends on the release, 42 of 1,800 requests took 1.25 s on 2026-11-24; see section 3.2 of the guide. "
)
CJK = "リリースの回答は設定によって異なります。詳細は資料の三ページをご覧ください。"
FOUND = "Write to anna.schmidt@example.org or +49 30 1234 5678, card 4111 1111 1111 1111, key ghp_q7Z1"
PLANTED = FOUND + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6. "


def body(text: str, *, escaped: bool = False, planted: int = 0) -> str:
    """A chat request of 12 KB."""
    content = PLANTED * planted + text * (BYTES // len(text.encode() if not escaped else json.dumps(text)) + 1)
    while len(made := _request(content, escaped)) > BYTES:
        content = content[: -max(1, (len(made) - BYTES) // 6)]
    return made


def _request(content: str, escaped: bool) -> str:
    return json.dumps({"model": "docs", "messages": [{"role": "user", "content": content}]}, ensure_ascii=escaped)


KINDS: dict[str, Callable[[], str]] = {
    "prose, nothing to find": lambda: body(WORDS),
    "prose with line breaks": lambda: body(WORDS + "\n\n"),
    "prose, 4 findings": lambda: body(WORDS, planted=1),
    "prose, 40 findings": lambda: body(WORDS, planted=10),
    "Japanese as JSON escapes": lambda: body(CJK, escaped=True),
    "numbers": lambda: body("0.4821, 1750000000, 12.5, 4821, -0.25, "),
    "code": lambda: body("def total(rows: list[Row]) -> int:\n    return sum(row.tokens for row in rows if row.ok)\n"),
}


def cost_ms(work: Callable[[str], object], text: str) -> tuple[float, float]:
    """CPU time of this thread: the median, and the 95th percentile."""
    work(text)
    costs = []
    for _ in range(ROUNDS):
        start = time.thread_time_ns()
        work(text)
        costs.append((time.thread_time_ns() - start) / 1e6)
    return statistics.median(costs), sorted(costs)[int(ROUNDS * 0.95)]


def table() -> str:
    """CPU per body, as Markdown."""
    redact = Redactor(b"bench")
    lines = ["| Body of 12 KB | p50 CPU ms | p95 CPU ms | findings |", "|---|---:|---:|---:|"]
    for name, make in KINDS.items():
        text = make()
        half, most = cost_ms(redact.redact_json, text)
        found = sum(redact.redact_json(text).classes.values())
        lines.append(f"| {name} | {half:.3f} | {most:.3f} | {found} |")
    return "\n".join(lines)
