"""`python -m bench.hosts`: rollbacks under load over two hosts, with nothing wrong and with everything wrong.

--rollbacks N   of each plain round (default 50); a fifth of it with each fault
--rate R        requests a second over both hosts (default 500)
--only FAULT    none, kill, restart or cut
--write         put the table into docs/hosts.md

Two hosts in network namespaces, two workers each, PostgreSQL between them. In each round the bad release 2 is live
and a rollback is ordered from host a over its API; a round counts the requests that failed or were mixed, and the
time from the order to the last record that a worker started on release 2, by the records' own times. The faults come
right after the commit, which the bench hears as the controls do: `kill` ends the ordering control, `restart` ends
PostgreSQL at once and starts it again, `cut` takes host b's link to the database away before the order and gives it
back afterwards. Needs root and iproute2; at most about ten minutes; everything it makes is removed.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from tests.postgres import PASSWORD, Postgres

from bench.network import Network, network, possible
from bench.traffic import SCRIPT, SYSTEM, Traffic, ask
from pilothouse.store.state.postgres import Server

PAGE = Path(__file__).resolve().parent.parent / "docs" / "hosts.md"
SECRET = "PH_BENCH_DATABASE"
WORKERS = 2
BAD, GOOD = 2, 1
STANDBY_S = 15
SETTLE_S = 0.5  # after the last worker has said that it holds the table


@dataclass
class Host:
    """A running `pilothouse up` of one namespace."""

    name: str
    data: Path
    process: "subprocess.Popen[str]"
    ready: dict[str, str]  # what `up` said

    @property
    def gateway(self) -> str:
        """Where its workers answer, up to /v1."""
        return self.ready["gateway"]

    def address(self) -> dict[str, object]:
        """Where its control answers now."""
        return dict(json.loads((self.data / "run" / "control.json").read_text()))

    def call(self, method: str, path: str, body: object = None) -> object:
        """JSON from its control; RuntimeError with what it said."""
        at = self.address()
        status, told = ask(method, f"{at['url']}{path}", str(at["token"]), body)
        if status != 200:
            raise RuntimeError(f"{self.name} {path}: {status} {told}")
        return told

    def hosts(self) -> dict[str, dict[str, object]]:
        """The hosts as this one sees them."""
        return {host["host"]: host for host in self.call("GET", "/api/v1/hosts")["hosts"]}  # type: ignore[index]

    def stands_by(self) -> bool:
        """Whether both its controls have been up for long enough to have everything imported, on a busy machine too."""
        told = json.loads((self.data / "run" / "supervisor.json").read_text())["children"]
        since = [child["started_us"] for child in told if child["name"].startswith("control") and child["pid"]]
        return len(since) == 2 and max(since) < time.time_ns() // 1_000 - STANDBY_S * 1_000_000

    def last_bad_us(self, since_us: int) -> int:
        """When the newest request on the bad release began, µs since 1970; 0 where there is none since `since_us`."""
        found = self.call("GET", f"/traces.json?q=release%3A{BAD}&limit=1&since={since_us}")["traces"]  # type: ignore[index]
        return int(found[0]["ts_us"]) if found else 0


@dataclass
class Cluster:
    """Two hosts, their database, and a key that opens both."""

    net: Network
    server: Postgres
    place: Server
    app: Path
    a: Host
    b: Host
    key: str
    workers: int

    @property
    def both(self) -> tuple[Host, Host]:
        """a, then b."""
        return self.a, self.b


def app_files(folder: Path, url: str, script: str = SCRIPT, routes: str = "", prompts: Sequence[str] = ()) -> None:
    """An app whose releases differ in the system prompt, and whose model says which one it was given."""
    (folder / "prompts").mkdir(parents=True)
    for name in ("system.md", *prompts):
        (folder / "prompts" / name).write_text(SYSTEM["1"])
    (folder / "script.yaml").write_text(script)
    (folder / "pilothouse.yaml").write_text(
        "providers:\n  fake: {kind: scripted, script: script.yaml}\npeople:\n  ana: {name: Ana}\n"
        "routes:\n  answer:\n    app: bench\n    owner: ana\n    backup: ana\n    tier: lite\n"
        f"    system: prompts/system.md\n    model: fake/small-2026-01-01\n{routes}"
        f"store: {{state: '{url}', state_password: 'env://{SECRET}'}}\n"
    )


@contextlib.contextmanager
def cluster(
    workers: int = WORKERS, script: str = SCRIPT, routes: str = "", prompts: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Everything, from namespaces to two live releases; release 1 is what both hosts serve. `routes`: more of them,
    with their `prompts`."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ph-hosts-")))
        server = Postgres((net.database,))
        stack.callback(server.remove)
        server.start()
        place = server.fresh()
        app = folder / "app"
        app_files(app, place.url, script, routes, prompts)
        # A host that listens to others needs a key and a password first: both are made before anything runs.
        key = _verb(app, folder / "a", "keys", "create", "--name", "bench", "--env", "prod")["key"]
        (folder / "password").write_text("the password of a bench\n")
        (folder / "b").mkdir()
        shutil.copytree(folder / "a" / "secret", folder / "b" / "secret")
        shutil.copy(folder / "a" / "table.json", folder / "b" / "table.json")
        hosts = [stack.enter_context(_up(net, name, app, folder, workers)) for name in ("a", "b")]
        a, b = hosts
        for number in ("1", "2"):
            (app / "prompts" / "system.md").write_text(SYSTEM[number])
            a.call("POST", "/api/v1/routes/answer/releases", {})
        a.call("POST", "/api/v1/routes/answer/promote", {"release": GOOD})
        yield Cluster(net, server, place, app, a, b, str(key), workers)


def _verb(app: Path, data: Path, *words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", *words, "--dir", str(app), "--data", str(data), "--json"],
        capture_output=True, text=True, check=True, env={**os.environ, SECRET: PASSWORD},
    )  # fmt: skip
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def _up(net: Network, name: str, app: Path, folder: Path, workers: int) -> Iterator[Host]:
    options = {
        "dir": app, "data": folder / name, "host": net.hosts[name][1], "workers": workers, "host-name": name,
        "admin-password-file": folder / "password",
    }  # fmt: skip
    words = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    process = subprocess.Popen(
        [*net.inside(name), sys.executable, "-m", "pilothouse", "up", "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, SECRET: PASSWORD},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"host {name} did not start: {process.communicate()[1]}")
        yield Host(name, folder / name, process, json.loads(line))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(holds: Callable[[], object], within_s: float, what: str) -> None:
    """Wait until `holds`; RuntimeError when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError):
            if holds():
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come about within {within_s:.0f} s")
        time.sleep(0.02)


def order_and(at: Cluster, act: Callable[[], object]) -> "Ordered":
    """Order the rollback in a thread; as soon as the database tells of the commit, do `act` in this one."""
    found: list[Ordered] = []
    with psycopg.connect(at.server.address(at.place.url.rpartition("/")[2]), autocommit=True) as conn:
        conn.execute("LISTEN pilothouse_table")
        thread = threading.Thread(target=lambda: found.append(order(at.a)), daemon=True)
        thread.start()
        for _ in conn.notifies(timeout=30):
            break
    act()
    thread.join(60)
    if not found:
        raise RuntimeError("the rollback was not answered")
    return found[0]


@dataclass
class Round:
    """One rollback: times in seconds from the order to the last request that began on the bad release, per host."""

    fault: str
    last_bad_s: dict[str, float]
    answered_s: float | None  # until the order was answered; None where its control died
    said: dict[str, object] = field(default_factory=dict)
    back_s: float | None = None  # from the link's return to the last bad request of the host that was cut off


def roll_back(at: Cluster, fault: str) -> Round:
    """Order a rollback at host a, with a fault, and see when the last bad request began; the bad release is live."""
    until(lambda: in_step(at), 60, "release 2 on both hosts")
    time.sleep(0.3)  # of traffic on it
    server, pid = at.server, int(str(at.a.address()["pid"]))
    if fault == "cut":
        at.net.cut("b")
        until(lambda: at.a.hosts()["b"]["cut_off"], 30, "host b cut off")
    acts: dict[str, Callable[[], object]] = {
        "kill": lambda: os.kill(pid, signal.SIGKILL),
        "restart": lambda: (server.stop(signal.SIGINT), server.start()),
    }
    ordered = order_and(at, acts[fault]) if fault in acts else order(at.a)
    if ordered.refused:
        raise RuntimeError(f"the rollback was refused: {ordered.said}")
    began_us = ordered.began_us
    back_us = 0
    if fault == "cut":
        time.sleep(1.0)  # of bad requests at the host that cannot know
        back_us = time.time_ns() // 1_000
        at.net.join("b")
    until(lambda: in_step(at), 60, "release 1 on both hosts")
    time.sleep(SETTLE_S)
    last = {host.name: host.last_bad_us(began_us - 2_000_000) for host in at.both}
    return Round(
        fault=fault,
        last_bad_s={name: max(0.0, (us - began_us) / 1e6) for name, us in last.items()},
        answered_s=ordered.answered_s,
        said=ordered.said,
        back_s=max(0.0, (last["b"] - back_us) / 1e6) if back_us else None,
    )


def in_step(at: Cluster) -> bool:
    """Whether both hosts, and all their workers, hold the newest table, as each of them sees it."""
    for host in at.both:
        told = host.call("GET", "/api/v1/hosts")
        found = told["hosts"]  # type: ignore[index]
        wanted = told["revision"]  # type: ignore[index]
        if len(found) != 2 or any(one["cut_off"] or one["revision"] < wanted for one in found):
            return False
        if any(len(one["workers"]) != at.workers + 1 or min(one["workers"].values()) < wanted for one in found):
            return False
    return True


@dataclass(frozen=True)
class Ordered:
    """A rollback that was ordered: when (µs since 1970), what was answered, and after how long; None: no answer."""

    began_us: int
    said: dict[str, object] = field(default_factory=dict)
    answered_s: float | None = None
    refused: bool = False


def order(host: Host) -> Ordered:
    """Order the rollback. A control that dies gives no answer; what it committed stands."""
    at = host.address()
    began, began_us = time.monotonic(), time.time_ns() // 1_000
    try:
        status, told = ask("POST", f"{at['url']}/api/v1/routes/answer/rollback", str(at["token"]), {"env": "prod"})
    except (OSError, ValueError, http.client.HTTPException):
        return Ordered(began_us)
    return Ordered(began_us, dict(told), time.monotonic() - began, refused=status != 200)  # type: ignore[call-overload]


def measure(rollbacks: int, rate: float, only: str = "") -> tuple[list[Round], Traffic]:
    """All rounds under load."""
    few = max(1, rollbacks // 5)
    plan = [("none", rollbacks), ("kill", few), ("restart", few), ("cut", few)]
    rounds = []
    with cluster() as at, Traffic([host.gateway for host in at.both], at.key, rate / 2) as traffic:
        time.sleep(1.0)
        for fault, count in [one for one in plan if only in ("", one[0])]:
            if fault == "kill":  # once: afterwards each kill comes as soon as the round before is over
                until(at.a.stands_by, 120, "a second control that waits for its turn")
            for number in range(count):
                at.a.call("POST", "/api/v1/routes/answer/promote", {"release": BAD})
                rounds.append(roll_back(at, fault))
                last = max(rounds[-1].last_bad_s.values())
                print(f"{fault} {number + 1}/{count}: last bad request after {last:.3f} s", file=sys.stderr, flush=True)
    return rounds, traffic


def p95(values: list[float]) -> float:
    """The smallest value that 95 % do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


TITLES = {
    "none": "nothing wrong",
    "kill": "control killed right after the commit",
    "restart": "PostgreSQL restarted right after the commit",
    "cut": "host b cut off: host a",
}


def table(rounds: list[Round], traffic: Traffic, seconds: float) -> str:
    """The figures as Markdown."""
    lines = ["| rollback under load | n | last bad request: p50 | p95 | max |", "|---|---:|---:|---:|---:|"]
    for fault, title in TITLES.items():
        those = [one for one in rounds if one.fault == fault]
        if not those:
            continue
        seen = [one.last_bad_s["a"] if fault == "cut" else max(one.last_bad_s.values()) for one in those]
        lines.append(_line(title, seen))
    back = [one.back_s for one in rounds if one.back_s is not None]
    if back:
        lines.append(_line("host b, from the return of its link", back))
    said = [one for one in rounds if one.fault == "cut" and one.said.get("away") == ["b"]]
    total = len(traffic.answered)
    lines.append("")
    lines.append(
        f"{total:,} requests in {seconds:,.0f} s ({total / seconds:,.0f}/s over {2 * WORKERS} workers on 2 hosts): "
        f"{len(traffic.failed)} failed, {len(traffic.mixed)} mixed. The cut-off host was named in {len(said)} of "
        f"{sum(one.fault == 'cut' for one in rounds)} answers."
    )
    return "\n".join(lines)


def _line(title: str, seen: list[float]) -> str:
    return f"| {title} | {len(seen)} | {statistics.median(seen):.3f} s | {p95(seen):.3f} s | {max(seen):.3f} s |"


def main() -> None:
    """Measure, print, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollbacks", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=list(TITLES), default="")
    options = parser.parse_args()
    if not possible():
        raise SystemExit("this needs root and iproute2: it makes network namespaces")
    load, began = os.getloadavg()[0], time.monotonic()
    rounds, traffic = measure(min(options.rollbacks, 100), min(options.rate, 2_000.0), options.only)
    found = table(rounds, traffic, time.monotonic() - began) + f" Load of the machine at the start: {load:.1f}."
    print(found)
    for what in traffic.failed[:5]:
        print(f"failed: {what}", file=sys.stderr)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition("<!-- hosts -->")
        PAGE.write_text(f"{before}<!-- hosts -->\n{found}\n<!-- /hosts -->{rest.partition('<!-- /hosts -->')[2]}")


if __name__ == "__main__":
    main()
