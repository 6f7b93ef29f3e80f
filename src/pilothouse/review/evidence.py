"""What a review rests on: everything is handed in, nothing is read here."""

from collections.abc import Mapping

import msgspec

from pilothouse.config.app import Person
from pilothouse.config.route import CheckOverride, RouteConfig
from pilothouse.domain.alert import Rule
from pilothouse.domain.alert_facts import AlertFacts
from pilothouse.domain.eval_facts import EvalFacts
from pilothouse.domain.facts import RouteFacts
from pilothouse.domain.flag_facts import FlagFacts
from pilothouse.domain.release_facts import Drill, ReleaseFacts
from pilothouse.domain.security_facts import ReconstructSample, SecurityFacts
from pilothouse.domain.trigger_facts import TriggerFacts
from pilothouse.store.state.waivers import Waiver

WINDOW_S = {"high": 7 * 86_400, "standard": 7 * 86_400, "lite": 30 * 86_400}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence on one route in one environment. None: nobody could measure it, so the items say NO_DATA."""

    env: str
    now_us: int
    config: RouteConfig
    people: Mapping[str, Person] = {}
    facts: RouteFacts | None = None  # None: no traffic in the window
    losses: dict[str, int] = {}  # of the recorder, over the window
    total_spend: float | None = None  # of all routes in the environment, USD
    spending_routes: int = 0
    windows: Mapping[str, int] = {}  # `provider/model` → tokens that its context window holds, where that is known
    system_tokens: int | None = None  # of the system prompt, about; None: there is none
    registry: frozenset[str] | None = None  # part hashes that resolve
    release: ReleaseFacts | None = None
    evals: EvalFacts | None = None
    alerts: AlertFacts | None = None
    rules: tuple[Rule, ...] = ()
    security: SecurityFacts | None = None
    reconstruct: ReconstructSample | None = None
    drills: tuple[Drill, ...] = ()
    flags: tuple[FlagFacts, ...] = ()  # of this environment: those of the route, and those of no route
    waivers: tuple[Waiver, ...] = ()
    triggers: TriggerFacts | None = None
    renewed: Mapping[int, RouteFacts | None] = {}  # µs → `facts` of the time since then alone, of what fired then

    @property
    def route(self) -> str:
        """The route's name."""
        return self.config.name

    @property
    def requests(self) -> int:
        """Requests in the window; 0 where there was no traffic."""
        return 0 if self.facts is None else self.facts.requests

    @property
    def structured(self) -> bool:
        """The route's output must meet a schema."""
        return self.config.manifest.schema is not None or (self.facts is not None and self.facts.schema.structured > 0)

    @property
    def retrieves(self) -> bool:
        """The route retrieves documents: it declares an index, or its traces hold retrievals."""
        return self.config.manifest.index is not None or (self.facts is not None and self.facts.retrieval is not None)

    @property
    def live(self) -> int | None:
        """The number of the stable release."""
        return self.release.current.number if self.release and self.release.current else None

    def override(self, item: str) -> CheckOverride | None:
        """What the route's `checks` say about an item."""
        return self.config.checks.get(item)

    def person(self, ident: str) -> str:
        """A person's name as people read it."""
        return self.people[ident].name if ident in self.people else ident

    def drill(self, kind: str, env: str | None = None) -> Drill | None:
        """The newest drill of a kind, in this environment unless another is named."""
        of_kind = [drill for drill in self.drills if drill.kind == kind and drill.env == (env or self.env)]
        return max(of_kind, key=lambda drill: drill.ts_us, default=None)
