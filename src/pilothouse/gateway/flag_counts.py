"""How often each flag gave each variant: counted in memory, written once a second. Nothing of the context is kept."""

from collections.abc import Iterator

from pilothouse.domain.flag_evaluation import Evaluation
from pilothouse.domain.record import MetricRecord

NAME = "pilothouse.flag.evaluations"
EVERY_S = 1.0


class FlagCounts:
    """Counts of one worker since they were last taken."""

    def __init__(self, worker: str = "") -> None:
        self._worker = worker
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self.total = 0  # since the worker's start

    def add(self, env: str, made: Evaluation) -> None:
        """Count one evaluation of a flag that there is."""
        counts = self._counts
        at = (env, made.key, made.variant, made.reason)
        counts[at] = counts.get(at, 0) + 1
        self.total += 1

    def taken(self, now_us: int) -> Iterator[MetricRecord]:
        """What was counted since the last time, as points of a metric."""
        counts, self._counts = self._counts, {}
        for (env, flag, variant, reason), n in counts.items():
            yield MetricRecord(
                ts_us=now_us,
                name=NAME,
                unit="{evaluation}",
                type="sum",
                temporality="delta",
                env=env,
                app="pilothouse",
                value=float(n),
                attributes={"flag": flag, "variant": variant, "reason": reason, "worker": self._worker},
            )
