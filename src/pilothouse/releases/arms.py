"""What a canary's two arms have shown: counts for rates, moments for means."""

import msgspec

from pilothouse.stats.contrast import Moments

Strata = tuple[tuple[Moments, Moments], ...]  # (canary, stable) for each share, and for replayed inputs


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did. `requests` are those that the release answers for: without the ones that a client left
    (499); `failures`: outcome `failed` among them; `refusals`: the model declined (`refused`); `structured`: with a
    schema to meet; `invalid_first`: of those, the ones whose first output missed it, repaired or not; `guarded`: those
    in which a guardrail found something; `slow`: answers over the objective; `answered`: what `slow` is a part of."""

    requests: int = 0
    failures: int = 0
    refusals: int = 0
    structured: int = 0
    invalid_first: int = 0
    guarded: int = 0
    answered: int = 0
    slow: int = 0
    sessions: int | None = None  # distinct ones; the sample ratio is judged by them where known
    flagged: int = 0  # beside `requests`: those of users for which a flag had a say in what answers, on this side
    fed: int = 0  # of `requests`: recorded inputs asked again, and requests of the shadow stage
    scores: dict[str, tuple[int, int]] = {}  # scores of 0 and 1 by name: (bad, all)
    lost: int = 0  # blind comparisons that the other arm won
    decided: int = 0  # comparisons that one of them won

    def rates(self) -> dict[str, tuple[int, int]]:
        """(bad, of how many) by the guardrail's name."""
        return {
            **self.scores,
            "failed": (self.failures, self.requests),
            "refused": (self.refusals, self.requests),
            "invalid": (self.invalid_first, self.structured),
            "guarded": (self.guarded, self.requests),
            "slow": (self.slow, self.answered),
        }

    def __add__(self, other: "Counts") -> "Counts":
        """Both together. Sessions that are in both count twice, so they are only kept where one side has none."""
        scores = {
            name: (_of(self, name)[0] + _of(other, name)[0], _of(self, name)[1] + _of(other, name)[1])
            for name in self.scores.keys() | other.scores.keys()
        }
        numbers = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__struct_fields__
            if name not in ("sessions", "scores")
        }
        sessions = self.sessions if not other.requests else other.sessions if not self.requests else None
        return Counts(**numbers, sessions=sessions, scores=scores)


def _of(counts: Counts, name: str) -> tuple[int, int]:
    return counts.scores.get(name, (0, 0))


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What one host's workers gave to each side since the present share began. A session that meets two hosts is
    drawn once, so its side is compared with the share at each of them."""

    host: str
    canary: Counts
    stable: Counts


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to decide on. `limits`: those of the last look, which may only rise; `unasked`: the scores that
    came without a margin of their own, in the order in which they did. Over several hosts: each one's `splits`, and
    in `missing` which of them are not in it, as a sentence; empty where all are."""

    share: float
    canary: Counts  # since the canary's start
    stable: Counts  # over the window before it, and since
    canary_step: Counts  # since the present share began
    stable_step: Counts
    step_s: float
    beside: Counts | None = None  # the stable release since the canary's start; None: `stable` is all there is
    strata: dict[str, Strata] = {}  # by the mean's name; the logarithm of ms for latency
    elapsed_s: float = 0.0
    limits: dict[str, float] = {}
    unasked: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    missing: str = ""
    fed_out: str = ""  # why no more recorded inputs are fed to it
    review: str = ""  # why nothing goes above the cap: a review is open; empty where none is
