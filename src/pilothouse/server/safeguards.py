"""What a policy needs in order to work, looked at when a release is made rather than when it is first used."""

from pathlib import Path

from pilothouse.domain.policy import Policy
from pilothouse.gateway import semantic
from pilothouse.gateway.guards.engine import Guards
from pilothouse.security.detect import Detector


def check(policy: Policy, app_dir: Path) -> None:
    """Raises ConfigError: a guardrail that cannot be made, an extra that is not installed."""
    if policy.guards:
        Guards.compile(policy.guards, Detector(), app_dir)
    if policy.cache is not None and policy.cache.semantic is not None:
        semantic.require()
