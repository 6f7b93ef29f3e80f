"""`drift:` of pilothouse.yaml: questions put to each live model every day, to notice a change at its provider."""

import msgspec

from pilothouse.config.section import Section, whole

MOST = 30


class DriftConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`probes` pinned questions a day to each model that production is served by; 0: none, since each costs money.

    What providers say of themselves (served model, fingerprint) is watched in any case.
    """

    probes: int = 0


def read_drift(top: Section) -> DriftConfig:
    """The section; raises ConfigError with file and line."""
    section = top.section("drift")
    if section is None:
        return DriftConfig()
    probes = section.take("probes", whole, 0)
    if not 0 <= probes <= MOST:
        raise section.error(f"probes: between 0 and {MOST}", section.node("probes"))
    section.close()
    return DriftConfig(probes=probes)
