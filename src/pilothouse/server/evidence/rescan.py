"""The second scan of stored rows [T2.5]: what is left that redaction should have taken out, counted row by row.

It looks with redaction's own patterns of now, and, where the extra `ner` is installed and asked for, with Presidio in
a process of its own. What each scan found is kept with its sample size, so that a share is never told without it.
"""

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import msgspec

import pilothouse
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import PilothouseError, StateError
from pilothouse.domain.facts import StoredText
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.security_facts import LeakSample
from pilothouse.security.detectors import DETECTORS
from pilothouse.security.redact import credentials
from pilothouse.server.composition import Control
from pilothouse.store.state import changes, drills
from pilothouse.telemetry import samples

KIND = "rescan"
ROWS = 1_000  # clean rows that show a leak rate under the 0.5 % of T2.5 take 765
ROWS_NER = 200  # a language model takes 50 ms for what the patterns take 0.05 ms for
WINDOW_US = 7 * 86_400_000_000
EVERY_US = 86_400_000_000
ENTITIES_S = 600.0
UNREADABLE = "unreadable"  # a text that could not be scanned counts as one that holds something
PATTERNS = f"pilothouse {pilothouse.__version__}, {len(DETECTORS)} patterns"
SELF = Actor(type="policy", id="daily re-scan")
_BODIES = ("request", "response", "upstream")
_CLASS = "class "


def installed() -> bool:
    """Whether the extra `ner` is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", "spacy"))


def refresh(control: Control, routes: Sequence[str], env: str) -> None:
    """Scan, with patterns alone, those routes whose newest scan is a day old, or saw less than half of what there is
    now and could have seen more.
    """
    for route in routes:
        if _due(control, route, env, newest(control, route, env)):
            scan(control, route, env, SELF)


def daily(control: Control, env: str = "prod") -> None:
    """The scan of each route that had none for a day; with Presidio where it is installed."""
    ner = installed()
    for route in control.config.routes:
        last = newest(control, route, env)
        if _due(control, route, env, last) or (ner and last is not None and last.scanner == PATTERNS):
            scan(control, route, env, SELF, ner=ner)


def _due(control: Control, route: str, env: str, last: LeakSample | None) -> bool:
    now_us = control.clock.now_us()
    if last is None or now_us - last.sampled_us >= EVERY_US:
        return True
    few = last.rows < (ROWS if last.scanner == PATTERNS else ROWS_NER)
    return few and samples.stored(control.telemetry, route, env, now_us - WINDOW_US) >= 2 * last.rows


def newest(control: Control, route: str, env: str) -> LeakSample | None:
    """The newest scan of a route; None where there is none."""
    with control.state.read() as conn:
        found = drills.list_drills(conn, route, env, KIND)
    return of_drill(found[0]) if found else None


def of_drill(drill: Drill) -> LeakSample:
    """A scan as it is kept."""
    detail = drill.detail
    return LeakSample(
        rows=int(detail.get("rows") or 0),
        leaks=int(detail.get("leaks") or 0),
        secrets=int(detail.get("secrets") or 0),
        classes={key.removeprefix(_CLASS): int(n or 0) for key, n in detail.items() if key.startswith(_CLASS)},
        sampled_us=drill.ts_us,
        scanner=str(detail.get("scanner") or ""),
    )


def scan(control: Control, route: str, env: str, actor: Actor, *, ner: bool = False) -> LeakSample:
    """Scan now and keep what was found, unless there is no row. StateError where Presidio is asked for and fails."""
    now_us = control.clock.now_us()
    most = ROWS_NER if ner else ROWS
    texts = samples.stored_texts(control.telemetry, route, env, n=most, since_us=now_us - WINDOW_US)
    found = _patterns(control, texts)
    scanner = PATTERNS
    if ner and texts:
        version, named = entities([one.text for one in texts if not _as_it_came(one)])
        scanner = f"{PATTERNS}; {version}"
        shown = (one for one in texts if not _as_it_came(one))
        for one, classes in zip(shown, named, strict=True):
            found[one.owner].update(classes)
    sample = LeakSample(
        rows=len(found),
        leaks=sum(any(n for kind, n in row.items() if kind != _SECRETS) for row in found.values()),
        secrets=sum(row[_SECRETS] > 0 for row in found.values()),
        classes={kind: n for kind, n in sorted(sum(found.values(), Counter()).items()) if kind != _SECRETS and n},
        sampled_us=now_us,
        scanner=scanner,
    )
    if sample.rows:
        _keep(control, route, env, actor, sample)
    return sample


_SECRETS = ""  # beside a row's classes: how many of its findings are credentials


def _as_it_came(one: StoredText) -> bool:
    return one.log_mode == "full" and one.field in _BODIES


def _patterns(control: Control, texts: Sequence[StoredText]) -> dict[str, Counter[str]]:
    """Owner → classes found in any of its texts. Of bodies that are kept in full, credentials alone."""
    bare = credentials(control.secret.salt)
    found: dict[str, Counter[str]] = {}
    for one in texts:
        row = found.setdefault(one.owner, Counter())
        looks = bare if _as_it_came(one) else control.redact
        try:
            seen = looks.redact_json(one.text) if one.text[0] in "{[" else looks(one.text)
        except PilothouseError:
            row[UNREADABLE] += 1
        else:
            row.update(seen.classes)
            row[_SECRETS] += seen.secrets
    return found


def entities(texts: Sequence[str], python: str = sys.executable) -> tuple[str, list[dict[str, int]]]:
    """What Presidio goes by, and its findings in each text. Raises StateError."""
    command = [python, "-m", "pilothouse.security.entities"]
    lines = b"".join(msgspec.json.encode(text) + b"\n" for text in texts)
    try:
        done = subprocess.run(command, input=lines, capture_output=True, timeout=ENTITIES_S, check=False)
        first, *rest = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError, ValueError) as error:
        raise StateError(f"the scan for names did not end well: {type(error).__name__}", where=command[-1]) from error
    if done.returncode or "version" not in first or len(rest) != len(texts):
        why = first.get("missing") or f"exit code {done.returncode}"
        raise StateError(f"the scan for names failed: {why}", where=command[-1], hint="pip install 'pilothouse[ner]'")
    return str(first["version"]), rest


def _keep(control: Control, route: str, env: str, actor: Actor, sample: LeakSample) -> None:
    detail: dict[str, str | int | float | bool | None] = {
        "rows": sample.rows, "leaks": sample.leaks, "secrets": sample.secrets, "scanner": sample.scanner,
    }  # fmt: skip
    detail |= {_CLASS + kind: n for kind, n in sample.classes.items()}
    drill = Drill(id=0, kind=KIND, route=route, env=env, ts_us=sample.sampled_us, ok=not sample.leaks, detail=detail)
    with control.state.write() as conn:
        drills.record(conn, drill, control.clock)
        change = Change(
            actor=actor, action="drill.rescan", object_type="route", object_id=route, route=route, env=env,
            detail=dict(detail),
        )  # fmt: skip
        changes.append(conn, change, control.clock)
