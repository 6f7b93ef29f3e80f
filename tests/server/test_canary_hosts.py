"""Canaries over two hosts on one PostgreSQL: what both have served decides, and who is missing holds it by name."""

import concurrent.futures
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Start
from tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.process
SECRET = "PH_TEST_DATABASE"
SCRIPT = """
rules:
  - {match: {anywhere: "be broken"}, status: 500}
  - {reply: "an answer", latency: 0.005, usage: {prompt: 20, completion: 5}}
"""
ROUTES = ("bad", "good")
ROUTE = """
  {name}:
    owner: ana
    system: prompts/{name}.system.md
    model: fake/small-2026-01-01
    policy: {{retry: {{attempts: 1}}}}
    canary: {{steps: [50 %, 100 %], min_requests: 10, min_time: 0s, auto: true, margins: {margins}}}
"""
WIDE = "{failed: 30pp, refused: 30pp, invalid: 30pp, guarded: 30pp, score: 30pp, latency: 900 %, cost: 100 %}"
Hosts = tuple[Any, Any, str]


@pytest.fixture(scope="module")
def hosts(
    shared_running: Start, shared_app: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    """Hosts `a` and `b` side by side with one worker each, and a key; release 1 of every route is live."""
    folder, server = tmp_path_factory.mktemp("hosts"), Postgres()
    try:
        server.start()
        more = "".join(ROUTE.format(name=name, margins=WIDE) for name in ROUTES)
        state = f"store: {{state: '{server.fresh().url}', state_password: 'env://{SECRET}'}}\n"
        app = shared_app(
            script=SCRIPT, more=more + "prices: {fake/small-2026-01-01: {input: 1 USD, output: 10 USD}}\n" + state
        )
        for name in ROUTES:
            system(app, name, "You are kind.")
        env = {SECRET: PASSWORD}
        a = shared_running(app, data=folder / "a", env=env, host_name="a")
        shutil.copytree(folder / "a" / "secret", folder / "b" / "secret")
        b = shared_running(app, data=folder / "b", env=env, host_name="b")
        for name in ROUTES:
            a.release(name)
        yield a, b, a.key()
        a.stop()
        b.stop()
    finally:
        server.remove()


def system(app: Path, route: str, text: str) -> None:
    (app / f"prompts/{route}.system.md").write_text(text + "\n")


def begin(a: Any, route: str, text: str) -> None:
    """A canary of a release with this system text, at a half of the sessions."""
    system(a.app, route, text)
    number = a.post(f"/api/v1/routes/{route}/releases")["release"]
    a.verb("release", "promote", route, str(number), "--canary", "50%", "--reason", "try it", ok=(0, 2))


def run_of(one: Any, route: str) -> dict[str, Any]:
    return dict(one.get(f"/api/v1/routes/{route}/canaries")["canaries"][0])


numbers = itertools.count()


def ask(at: Hosts, route: str, n: int = 12, where: str = "ab") -> None:
    """`n` users at once, each of whom asks at every host of `where`: a session over several hosts."""
    a, b, key = at
    hosts = [{"a": a, "b": b}[name] for name in where]

    def one(number: int) -> None:
        for host in hosts:
            host.chat(key, route, "hello", user=f"user-{number}")

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(one, itertools.islice(numbers, n)))


def ended(at: Hosts, route: str) -> bool:
    ask(at, route)
    return bool(run_of(at[0], route)["state"] != "running")


def leader(*all_of: Any) -> str:
    return next((h["host"] for one in all_of for h in one.get("/api/v1/status")["hosts"] if h["leads"]), "")


def test_a_bad_canary_is_aborted_by_what_the_other_host_has_served(hosts: Hosts) -> None:
    a, b, _ = hosts
    a.eventually(lambda: leader(a, b), 30)
    other = {"a": "b", "b": "a"}[leader(a, b)]
    begin(a, "bad", "be broken")

    def over() -> bool:
        ask(hosts, "bad", where=other)  # the leader's own telemetry shows nothing
        return bool(run_of(a, "bad")["state"] != "running")

    a.eventually(over, 60)
    run = run_of(b, "bad")
    assert run["state"] == "aborted"
    assert "requests failed against" in run["decision"]
    assert run["looks"][-1]["requests"] > 0
    a.eventually(lambda: run_of(a, "bad").get("t_last_bad_us"), 30)  # also known of the other host


def test_a_good_canary_is_promoted_and_a_host_that_is_away_holds_it(hosts: Hosts) -> None:
    a, b, _ = hosts
    controls = [child["pid"] for child in b.children().values() if child["name"].startswith("control")]
    for pid in controls:  # frozen: as a host that is cut off from the database, with its workers serving on
        os.kill(pid, signal.SIGSTOP)
    try:
        begin(a, "good", "You are kinder.")

        def held() -> bool:
            ask(hosts, "good")
            said = run_of(a, "good")["decision"]
            return "held: b has not said" in said and "nothing goes forward on a part of the traffic" in said

        a.eventually(held, 90)
        for _ in range(10):
            ask(hosts, "good")
        run = run_of(a, "good")
        assert run["state"] == "running"
        assert [one["share"] for one in run["steps"]] == [0.5]
    finally:
        for pid in controls:
            os.kill(pid, signal.SIGCONT)
    a.eventually(lambda: ended(hosts, "good"), 120)
    run = run_of(a, "good")
    assert run["state"] == "promoted"
    assert [one["share"] for one in run["steps"]] == [0.5, 1.0]
    assert run["decision"].startswith("may be promoted: 0 of ")
    assert run["looks"][-1]["requests"] > run["requests"]  # which are this host's own
