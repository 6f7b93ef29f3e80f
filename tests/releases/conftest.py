from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from pilothouse.config.app import AppConfig, GateConfig, JournalConfig, Price, ProviderConfig, RouteConfig
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.evaluation import Verdict, VerdictKind
from pilothouse.domain.manifest import Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Policy
from pilothouse.domain.table import Tier
from pilothouse.releases import registry
from pilothouse.store.state import runs
from pilothouse.store.state.engine import StateStore

ANA = Actor(type="person", id="ana")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = StateStore(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def ana() -> Actor:
    return ANA


def manifest(text: str = "Answer {{ question }}.") -> Manifest:
    return Manifest(
        model=ModelRef("openai", "gpt-5-mini-2026-08-07"),
        prompt=Template(text=text, variables=("question",), version="v3"),
        params={"temperature": 0.2},
        schema={"type": "object", "required": ["answer"]},
        policy=Policy(fallback=(Fallback(model=ModelRef("local", "smollm2")), Fallback(static="Later."))),
    )


def route(
    name: str = "docs-answer", text: str = "Answer {{ question }}.", tier: str = "standard", gate: bool = False
) -> RouteConfig:
    return RouteConfig(
        name=name,
        app="docs",
        owner="ana",
        backup="ben",
        tier=msgspec.convert(tier, Tier),
        manifest=manifest(text),
        gate=GateConfig(dataset=Path("d.jsonl"), scorers=("exact",)) if gate else None,
    )


def config(*routes: RouteConfig) -> AppConfig:
    providers = {
        "openai": ProviderConfig(name="openai", kind="openai", base_url="https://api.openai.com/v1", key="env://K"),
        "local": ProviderConfig(name="local", kind="local"),
    }
    return AppConfig(
        dir=Path(),
        providers=providers,
        people={},
        routes={one.name: one for one in routes},
        prices={"local/smollm2": Price(input=0.02, output=0.2)},
        journal=JournalConfig(fsync="always"),
    )


def make_releases(store: StateStore, clock: FrozenClock, n: int, name: str = "docs-answer") -> None:
    for i in range(n):
        registry.create(
            store, route(name, text=f"Prompt number {i + 1}."), actor=ANA, clock=clock, notes=f"try {i + 1}"
        )
        clock.advance(1)


def judge(store: StateStore, clock: FrozenClock, release: int, word: str, name: str = "docs-answer") -> None:
    verdict = Verdict(
        verdict=msgspec.convert(word, VerdictKind), reason="26 broke, 7 mended", n=246, baseline_rate=0.894,
        candidate_rate=0.817, delta=-0.077, low=-0.114, high=-0.040, p_harm=0.0004, broke=26, mended=7, errors=0,
        mde=0.046, margin=0.03,
    )  # fmt: skip
    with store.write() as conn:
        runs.put_verdict(conn, name, release, release - 1 or None, verdict, clock)


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Makers that tests share."""
    return SimpleNamespace(manifest=manifest, route=route, config=config, make_releases=make_releases, judge=judge)
