"""How long to wait before a call is made again, and how many such calls a route may make."""

from pilothouse.domain.policy import Retry

BACKOFF_MAX_S = 20.0
IN_HAND = 10.0  # retries that a quiet route may make
_ROUTES_MAX = 4096


def backoff_s(retry: Retry, tried: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds before the next try of a model tried `tried` times: exponential, ± half by `jitter` (0 … 1).

    Never less than the provider's Retry-After.
    """
    wait = min(retry.backoff * 2.0 ** (tried - 1), BACKOFF_MAX_S) * (0.5 + jitter)
    return max(wait, retry_after_s or 0.0)


class Budget:
    """A token bucket: each request puts `share` of a token in, each extra call takes one. Never more than `hand` in it.

    So in any stretch of n requests there are at most `hand + share × n` extra calls.
    """

    __slots__ = ("hand", "left")

    def __init__(self, hand: float = IN_HAND) -> None:
        self.hand = self.left = hand

    def request(self, share: float) -> None:
        """A request has come."""
        left = self.left + share
        self.left = left if left < self.hand else self.hand  # noqa: FURB136 - `min` is slower

    def take(self) -> bool:
        """Take a token, where there is one."""
        if self.left < 1.0 - 1e-9:
            return False
        self.left -= 1.0
        return True


class Budgets:
    """A budget for each route of a worker. Raw models are named by clients, so old names are forgotten."""

    def __init__(self, hand: float = IN_HAND) -> None:
        self._hand = hand
        self._of: dict[str, Budget] = {}
        self.refused = 0  # extra calls that were not made

    def of(self, route: str) -> Budget:
        """The route's budget."""
        budget = self._of.get(route)
        if budget is None:
            if len(self._of) >= _ROUTES_MAX:
                self._of.clear()
            budget = self._of[route] = Budget(self._hand)
        return budget

    def take(self, route: str) -> bool:
        """Take one extra call from the route's budget."""
        taken = self.of(route).take()
        self.refused += not taken
        return taken
