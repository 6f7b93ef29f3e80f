"""Two hosts on one PostgreSQL: what is moved on one is served by both, one leads, and who is missing is named."""

import concurrent.futures
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench.hosts
import pytest
from bench.network import possible
from bench.traffic import SCRIPT, SYSTEM, Traffic
from tests.conftest import Running, Start
from tests.postgres import PASSWORD, Postgres

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import StateError
from pilothouse.domain.tasks import Tasks
from pilothouse.server.composition import open_control
from pilothouse.server.datadir import DataDir

pytestmark = pytest.mark.process
SECRET = bench.hosts.SECRET
BROKEN = (
    '  - {match: {anywhere: be broken}, status: 500}\n  - {reply: "an answer", usage: {prompt: 20, completion: 5}}\n'
)
# What cannot be told apart by as few requests as a test has is given room.
ROUTE = """
  {name}:
    owner: ana
    system: prompts/{name}.system.md
    model: fake/small-2026-01-01
    policy: {{retry: {{attempts: 1}}}}
    canary:
      {{steps: [50 %, 100 %], min_requests: 10, min_time: 0s, auto: true,
       margins: {{failed: 30pp, refused: 30pp, invalid: 30pp, guarded: 30pp, latency: 900 %}}}}
"""
MORE = "".join(ROUTE.format(name=name) for name in ("bad", "good"))
PROMPTS = ("bad.system.md", "good.system.md")


@dataclass
class Pair:
    """Two hosts `a` and `b`, a key, their database; `net` where they are in namespaces of their own."""

    a: Any
    b: Any
    key: str
    server: Postgres
    app: Path
    net: bench.hosts.Cluster | None = None


@pytest.fixture(scope="module")
def cluster(
    shared_running: Start, shared_app: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two hosts with one worker each: in network namespaces where this user may make some, else side by side."""
    if possible():
        with bench.hosts.cluster(workers=1, script=SCRIPT + BROKEN, routes=MORE, prompts=PROMPTS) as at:
            a, b = (as_running(host, at.app) for host in at.both)
            yield Pair(a, b, at.key, at.server, at.app, at)
        return
    folder, server = tmp_path_factory.mktemp("hosts"), Postgres()
    try:
        server.start()
        place = server.fresh()
        state = f"store: {{state: '{place.url}', state_password: 'env://{SECRET}'}}\n"
        app = shared_app(script=SCRIPT + BROKEN, more=MORE + state)
        for name in PROMPTS:
            (app / "prompts" / name).write_text(SYSTEM["1"])
        env = {SECRET: PASSWORD}
        a = shared_running(app, data=folder / "a", env=env, host_name="a")
        shutil.copytree(folder / "a" / "secret", folder / "b" / "secret")
        b = shared_running(app, data=folder / "b", env=env, host_name="b")
        for number in ("1", "2"):
            (app / "prompts/answer.system.md").write_text(SYSTEM[number])
            a.release()
        yield Pair(a, b, a.key(), server, app)
        a.stop()
        b.stop()
    finally:
        server.remove()


def as_running(host: bench.hosts.Host, app: Path) -> Running:
    ready = host.ready
    return Running(
        app=app, data=host.data, process=host.process, gateway=ready["gateway"], pages=ready["pages"],
        control=ready["control"], otlp=ready["otlp"],
    )  # fmt: skip


@pytest.fixture
def pair(cluster: Pair) -> tuple[Any, Any, str]:
    """The two, well and in step, with release 2 live on both."""
    a, b, key = cluster.a, cluster.b, cluster.key
    a.eventually(lambda: both_are_heard(a, b), 60)
    if served(a, key) != "2":
        a.verb("release", "promote", "answer", "2")
    assert (served(a, key), served(b, key)) == ("2", "2")
    return a, b, key


def both_are_heard(a: Any, b: Any) -> bool:
    try:
        seen = [hosts(one) for one in (a, b)]
    except (OSError, AssertionError):
        return False
    return all(set(one) == {"a", "b"} and not any(h["age_s"] > 3 for h in one.values()) for one in seen)


def hosts(one: Any) -> dict[str, dict[str, Any]]:
    return {host["host"]: host for host in one.get("/api/v1/status")["hosts"]}


def served(one: Any, key: str) -> str:
    status, headers, _ = one.chat(key, "answer", "hello")
    assert status == 200
    return str(headers["x-pilothouse-release"])


def leaders(*all_of: Any) -> list[str]:
    return sorted({name for one in all_of for name, host in hosts(one).items() if host["leads"]})


def test_a_move_on_one_host_is_on_both_when_the_verb_returns(pair: Any) -> None:
    a, b, key = pair
    said = b.cli("rollback", "answer").stdout
    assert "on 2 of 2 workers on 2 hosts" in said
    assert {served(a, key), served(b, key)} == {"1"}
    assert a.verb("audit", "verify")["rows"] == b.verb("audit", "verify")["rows"]
    told = b.verb("hosts", "list")["hosts"]
    assert [host["host"] for host in told] == ["a", "b"]
    assert "another" not in a.cli("hosts", "list").stdout


def test_a_host_that_is_cut_off_is_named_and_follows_when_it_is_back(pair: Any) -> None:
    a, b, key = pair
    for child in b.children().values():  # frozen, not dead: as a host whose network is cut, with every socket open
        if child["name"].startswith("control"):
            os.killpg(child["pid"], signal.SIGSTOP)
    a.eventually(lambda: hosts(a)["b"]["age_s"] > 4)
    moved = a.verb("rollback", "answer", ok=(2,))
    assert (moved["workers"], moved["of"], moved["hosts"], moved["of_hosts"]) == (1, 2, 1, 2)
    assert moved["away"] == ["b"]
    assert "b/edge-0" in moved["late"]
    assert (served(a, key), served(b, key)) == ("1", "2")
    for child in b.children().values():
        if child["name"].startswith("control"):
            os.killpg(child["pid"], signal.SIGCONT)
    a.eventually(lambda: served(b, key) == "1")
    a.eventually(lambda: hosts(a)["b"]["age_s"] < 4 and leaders(a, b) in (["a"], ["b"]))


def test_a_control_that_dies_after_the_commit_is_stood_in_for(pair: Any) -> None:
    a, b, key = pair
    before = a.address()["pid"]
    os.kill(before, signal.SIGKILL)
    moved = b.verb("rollback", "answer", ok=(0, 2))
    assert moved["to"] == 1
    a.eventually(lambda: served(a, key) == "1")
    assert served(b, key) == "1"
    a.eventually(lambda: a.address()["pid"] not in (0, before))
    os.kill(a.address()["pid"], signal.SIGKILL)  # the one that stood by, before another can have started
    moved = b.verb("release", "promote", "answer", "2", ok=(0, 2))
    a.eventually(lambda: served(a, key) == "2")


def test_a_database_that_is_restarted_stops_nothing(pair: Any, cluster: Pair) -> None:
    a, b, key = pair
    server = cluster.server
    server.stop(signal.SIGQUIT)
    assert {served(a, key), served(b, key)} == {"2"}  # traffic needs no store
    server.start()
    moved = a.verb("rollback", "answer")
    assert moved["to"] == 1
    a.eventually(lambda: served(b, key) == "1")
    a.eventually(lambda: leaders(a, b) in (["a"], ["b"]))


@pytest.mark.parametrize("fault", ["none", "kill", "restart", "cut"])
def test_a_rollback_under_load_fails_and_mixes_nothing(pair: Any, cluster: Pair, fault: str) -> None:
    """The bench's rounds, a few of them: `python -m bench.hosts` measures how long they take."""
    at = cluster.net
    if at is None:
        pytest.skip("needs root and iproute2")
    with Traffic([at.a.gateway, at.b.gateway], at.key, rate=40) as traffic:
        found = bench.hosts.roll_back(at, fault)
        goal = len(traffic.answered) + 40
        cluster.a.eventually(lambda: len(traffic.answered) >= goal)
    assert traffic.failed == []
    assert traffic.mixed == []
    assert {one.release for one in traffic.answered} == {"1", "2"}
    assert {one.release for one in traffic.answered[-20:]} == {"1"}
    if fault == "none":
        assert (found.said["workers"], found.said["of"], found.said["of_hosts"]) == (2, 2, 2)
        assert found.answered_s is not None
        assert max(found.last_bad_s.values()) <= found.answered_s  # when the verb has answered, no host begins one more
    if fault == "cut":
        assert found.said["away"] == ["b"]
        assert found.last_bad_s["a"] < found.last_bad_s["b"]


def live(one: Any, route: str, text: str, *words: str) -> None:
    """Make a release of `route` with this system text, and promote it."""
    (one.app / f"prompts/{route}.system.md").write_text(text + "\n")
    number = one.post(f"/api/v1/routes/{route}/releases")["release"]
    one.verb("release", "promote", route, str(number), *words, "--reason", "try it", ok=(0, 2))


def run_of(one: Any, route: str) -> dict[str, Any]:
    return dict(one.get(f"/api/v1/routes/{route}/canaries")["canaries"][0])


users = itertools.count()


def ask(key: str, route: str, *at: Any) -> None:
    """12 users, each of whom asks at every host of `at`: sessions over several hosts."""

    def one(number: int) -> None:
        for host in at:
            host.chat(key, route, "hello", user=f"user-{number}")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, itertools.islice(users, 12)))


def test_a_bad_canary_is_aborted_and_a_rule_fires_by_what_another_host_has_served(pair: Any) -> None:
    a, b, key = pair
    a.eventually(lambda: len(leaders(a, b)) == 1, 30)
    leads, other = (a, b) if leaders(a, b) == ["a"] else (b, a)
    live(a, "bad", "You are kind.")
    rule = {"name": "failing", "metric": "failure.rate", "route": "bad", "op": ">", "threshold": 0.01, "min_n": 1}
    leads.post("/api/v1/rules", **rule, owner="ana", actions=[{"kind": "notify"}])
    live(a, "bad", "be broken", "--canary", "50%")

    def over() -> bool:
        ask(key, "bad", other)  # the leader's own telemetry shows nothing
        return bool(run_of(leads, "bad")["state"] != "running")

    a.eventually(over, 60)
    run = run_of(a, "bad")
    assert run["state"] == "aborted"
    assert "requests failed against" in run["decision"]
    a.eventually(lambda: run_of(a, "bad")["t_last_bad_us"], 30)  # which the other host alone has seen

    def fired() -> bool:
        found = [one for one in leads.get("/alerts.json?route=bad")["alerts"] if one["rule"] == "failing"]
        return bool(found) and found[0]["state"] == "firing" and "over 2 hosts" in found[0]["message"]

    a.eventually(fired, 30)


def test_a_good_canary_is_promoted_and_a_host_that_is_away_holds_it(pair: Any) -> None:
    a, b, key = pair
    live(a, "good", "You are kind.")
    controls = [child["pid"] for child in b.children().values() if child["name"].startswith("control")]
    for pid in controls:  # frozen: as a host that is cut off from the database, with its workers serving on
        os.killpg(pid, signal.SIGSTOP)
    try:
        live(a, "good", "You are kinder.", "--canary", "50%")

        def held() -> bool:
            ask(key, "good", a, b)
            said = str(run_of(a, "good")["decision"])
            return said.startswith("held: b has not said") and said.endswith("on a part of the traffic")

        a.eventually(held, 90)
        for _ in range(5):
            ask(key, "good", a, b)
        assert [one["share"] for one in run_of(a, "good")["steps"]] == [0.5]
    finally:
        for pid in controls:
            os.killpg(pid, signal.SIGCONT)

    def ended() -> bool:
        ask(key, "good", a, b)
        return bool(run_of(a, "good")["state"] != "running")

    a.eventually(ended, 120)
    run = run_of(a, "good")
    assert run["state"] == "promoted"
    assert [one["share"] for one in run["steps"]] == [0.5, 1.0]
    assert run["decision"].startswith("may be promoted: 0 of ")
    assert run["looks"][-1]["requests"] > run["requests"]  # which are this host's own


async def test_a_host_with_other_secrets_is_refused(
    cluster: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, PASSWORD)
    with pytest.raises(StateError, match="other secrets than the installation"):
        await open_control(cluster.app, DataDir(tmp_path / "c"), SystemClock(), Tasks())


def test_when_the_leader_leaves_another_leads(pair: Any) -> None:
    a, b, key = pair
    a.eventually(lambda: len(leaders(a, b)) == 1)
    (leader,) = leaders(a, b)
    gone, left = (a, b) if leader == "a" else (b, a)
    assert gone.stop() == 0
    left.eventually(lambda: leaders(left) == [{"a": "b", "b": "a"}[leader]])
    moved = left.verb("rollback", "answer")
    assert (moved["workers"], moved["of"], moved["of_hosts"], moved["late"]) == (1, 1, 1, [])
    assert served(left, key) == "1"
