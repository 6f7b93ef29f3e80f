"""What the pages may read and do: typed readers and verbs that control fills in once at start.

Readers are plain blocking functions: the pages call them in a worker thread, never on the event loop. Verbs are
coroutines, raise `PilothouseError` with a message fit for people, and return one sentence with its numbers.
Times are microseconds since 1970, durations ms, money USD, shares 0 … 1; None means unknown and is shown as such.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from pilothouse.domain.alert import Alert
from pilothouse.domain.change import Actor, ChainedChange
from pilothouse.domain.clock import Clock
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.finding import Review
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.record import Payload, Record, SpanRecord
from pilothouse.domain.tasks import Tasks
from pilothouse.server.pages.flag_shown import FlagPages
from pilothouse.server.pages.plan_shown import PlanPages
from pilothouse.server.pages.release_shown import CanaryShown, DrillShown
from pilothouse.telemetry.filter import Query
from pilothouse.telemetry.listing import Asked, Found, Row
from pilothouse.telemetry.sessions import By, People
from pilothouse.telemetry.steps import SpanDetail
from pilothouse.telemetry.waterfall import Waterfall

Window = Literal["1h", "24h", "7d"]
WINDOW_S: dict[str, int] = {"1h": 3_600, "24h": 86_400, "7d": 604_800}
BUCKET_S: dict[str, int] = {"1h": 60, "24h": 1_800, "7d": 10_800}  # 48 to 60 points in every window


# --- overview ---------------------------------------------------------------------------------------------------


class TrafficPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of one route in one environment. `errors` counts outcome `failed`."""

    ts_us: int  # start of the bucket
    requests: int
    errors: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    cost_usd: float | None = None  # sum over priced requests; None where none has a price
    quality: float | None = None  # share of outputs that passed: schema validity, or online score
    quality_n: int = 0
    release: int | None = None  # the release that served most of the bucket


class RouteOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the overview: a route in the environment shown, over the window shown."""

    route: str
    app: str = ""
    tier: str = "standard"
    owner: str = ""
    backup: str = ""
    stable: int | None = None  # None: nothing was promoted to this environment yet
    canary: int | None = None
    share: float = 0.0
    disabled_reason: str = ""  # not empty: the kill switch is on
    pinned_model: str = ""
    observe: float | None = None
    evaluate: float | None = None
    roll_back: float | None = None
    ready: bool | None = None  # None: no review was computed yet
    floor: float = 0.8
    requests: int = 0
    errors: int = 0
    p95_ms: float | None = None
    cost_usd: float | None = None
    priced: int = 0  # requests behind `cost_usd`
    quality: float | None = None
    quality_n: int = 0
    quality_name: str = "schema valid"
    points: tuple[TrafficPoint, ...] = ()


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A change drawn on every time axis. `kind`: promote, canary, rollback, abort, other."""

    ts_us: int
    route: str
    kind: Literal["promote", "canary", "rollback", "abort", "other"]
    text: str  # "release 12", "12 → 11"
    actor: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The overview over [`since_us`, `until_us`) in buckets of `bucket_s`; also its JSON twin."""

    window: Window
    env: str
    since_us: int
    until_us: int
    bucket_s: int
    routes: tuple[RouteOverview, ...]
    alerts: tuple[Alert, ...] = ()  # pending, firing, acknowledged and no_data only
    marks: tuple[Mark, ...] = ()


# --- traces -----------------------------------------------------------------------------------------------------


class TraceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A trace, and the request of it that was asked for or came first; None where all of it came over OTLP.

    `record.payload` may be None: bodies are fetched when opened.
    """

    waterfall: Waterfall
    record: Record | None = None
    spans: tuple[SpanRecord, ...] = ()  # of the same trace, from OTLP; only where `whole` was asked for
    siblings: tuple[Row, ...] = ()  # other requests of the same trace
    replay: str = ""  # the command that sends it again


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of the traces list under a name. `owner` empty: everybody's."""

    name: str
    owner: str = ""
    filter: str = ""
    age: str = ""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A request made again from its record; `text` and `error` only where it was sent."""

    same: bool
    hash: str
    recorded_hash: str
    redacted: bool = False
    sent: bool = False
    text: str = ""
    error: str = ""
    request_id: str = ""
    duration_ms: float | None = None
    cost_usd: float | None = None


# --- releases ---------------------------------------------------------------------------------------------------


class CanaryState(msgspec.Struct, frozen=True, kw_only=True):
    """A canary that runs now."""

    release: int
    share: float
    since_us: int
    n: int = 0


class PointerState(msgspec.Struct, frozen=True, kw_only=True):
    """Where an environment points for a route."""

    env: str
    stable: int | None
    since_us: int = 0
    previous: int | None = None  # what a rollback would return to
    canary: CanaryState | None = None
    disabled_reason: str = ""
    pinned_model: str = ""


class ReleaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A release as the history shows it."""

    number: int
    created_us: int
    author: str = ""
    notes: str = ""
    vcs: str = ""
    hash: str = ""
    changed: tuple[str, ...] = ()  # parts that differ from the release before
    verdict: Verdict | None = None


class LaneSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which an environment's pointer named a release."""

    env: str
    release: int
    kind: Literal["stable", "canary"]
    from_us: int
    to_us: int | None = None  # None: still does
    ended: Literal["", "promoted", "rolled_back", "aborted", "replaced"] = ""


class ReleaseNow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route's pointers are, and its canaries: what the releases page asks for again and again."""

    route: str
    owner: str = ""
    pointers: tuple[PointerState, ...] = ()
    canaries: tuple[CanaryShown, ...] = ()  # that run now; else the newest that has ended


class ReleaseBoard(ReleaseNow, frozen=True, kw_only=True):
    """All that the releases page shows for a route; lanes and points cover [`since_us`, `until_us`)."""

    since_us: int = 0
    until_us: int = 0
    releases: tuple[ReleaseRow, ...] = ()  # newest first
    lanes: tuple[LaneSpan, ...] = ()
    points: tuple[TrafficPoint, ...] = ()  # of prod, beneath its lane
    bucket_s: int = 10_800  # of the points
    history: tuple[ChainedChange, ...] = ()  # newest first
    drills: tuple[DrillShown, ...] = ()  # every kind, with its newest evidence


# --- session and the whole --------------------------------------------------------------------------------------


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at the page. `csrf` goes into every form and is checked by `check_csrf`."""

    actor: Actor
    csrf: str


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """The cookie that a successful sign-in sets: HttpOnly, SameSite=Lax, path `/`."""

    cookie: str
    value: str
    max_age_s: int


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """The pages' only way to the rest of the product."""

    clock: Clock
    tasks: Tasks
    version: str
    gateway_url: str  # shown in empty states, e.g. http://127.0.0.1:4000/v1

    # who: cookies of the request → session, or None where nobody is signed in
    session: Callable[[dict[str, str]], Session | None]
    check_csrf: Callable[[Session, str], bool]
    sign_in: Callable[[str], SignedIn | None]  # one-time token or admin password
    sign_out: Callable[[dict[str, str]], str]  # ends the session; the cookie's name to delete
    password_set: bool  # an admin password exists: the sign-in page offers a field for it

    # readers: blocking calls
    overview: Callable[[Window, str], Overview]  # window, environment
    list_traces: Callable[[Asked], Found]
    values: Callable[[Asked, str, str], list[tuple[str, int]]]  # of a field that begin with what is typed
    fresh: Callable[[Sequence[Query], int], list[list[Row]]]  # per filter: what came since then, oldest first
    trace: Callable[[str], TraceDetail | None]  # request id, or a trace id
    tree: Callable[[str], Waterfall | None]  # trace id; may be some seconds old
    span: Callable[[str, str], SpanDetail | None]  # trace id, span id
    people: Callable[[By, int, str], People]  # sessions or users since then whose id begins so
    turns: Callable[[str], tuple[list[Row], bool]]  # a session's requests in time; are there more?
    views: Callable[[str], tuple[SavedView, ...]]  # a person's, and everybody's
    payloads: Callable[[Sequence[str], Actor], dict[str, Payload]]  # by request id, or `trace_id/span_id`
    routes: Callable[[], tuple[str, ...]]  # names, as configured
    releases: Callable[[str], ReleaseBoard | None]  # route; None: no such route
    releases_now: Callable[[str], ReleaseNow | None]  # likewise, from the state store alone
    manifest: Callable[[str, int], Manifest | None]  # route, release
    runbook: Callable[[str, str], str]  # route, environment: Markdown; raises NotFound
    review: Callable[[str], Review]  # route, or "" for all
    review_html: Callable[[Review], str]  # the fragment of review.render: trusted, already escaped
    alerts: Callable[[], tuple[Alert, ...]]  # newest first, resolved ones too
    flags: FlagPages
    plans: PlanPages

    # verbs
    promote: Callable[["Promotion", Actor], Awaitable[str]]
    rollback: Callable[["Return", Actor], Awaitable[str]]
    acknowledge: Callable[[str, Actor], Awaitable[str]]  # alert id
    set_actionable: Callable[[str, bool, Actor], Awaitable[str]]  # alert id, was it worth it?
    replay: Callable[[str, bool, Actor], Awaitable[Replayed]]  # request id, send it?
    save_view: Callable[[SavedView, Actor], Awaitable[str]]
    drop_view: Callable[[SavedView, Actor], Awaitable[str]]


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """Promote `release` of `route` in `env`; `share` < 1 starts or widens a canary. `force`: against the gate."""

    route: str
    release: int
    env: str
    share: float = 1.0
    force: bool = False
    reason: str = ""


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """Roll `route` back in `env` to release `to`; None: the one before, or off the canary. `part`: that part alone,
    tried on recorded inputs first; `force`: also where none is recorded, with a reason."""

    route: str
    env: str
    to: int | None = None
    reason: str = ""
    part: str = ""
    force: bool = False
