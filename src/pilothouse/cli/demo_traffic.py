"""The demo's clients: the two example apps, asked as users would ask them."""

import importlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.cli.demo_app import Running

FEEDBACK = "helpful"


@dataclass
class Tally:
    """What the clients saw. `requests` counts every call that was answered, well or not."""

    requests: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, code: str = "") -> None:
        """One answered call; `code` is the error's, empty on success."""
        with self.lock:
            self.requests += 1
            if code:
                self.errors[code] = self.errors.get(code, 0) + 1


class Users:
    """Asks both apps. Sessions are different people, so that a canary's share of sessions means something."""

    def __init__(self, running: Running) -> None:
        app, docs = running.app.app, running.app.docs
        sys.path.insert(0, str(app))  # the example's modules import each other as the scripts they are
        self._openai = importlib.import_module("openai")
        assistant: Any = importlib.import_module("docs_assistant")
        self._orders: Any = importlib.import_module("order_intake")
        retrieval: Any = importlib.import_module("retrieval")
        self._client = self._openai.OpenAI(base_url=running.gateway, api_key=running.key, max_retries=0, timeout=60)
        self._tracing = assistant.tracing(running.otlp.removesuffix("/v1/traces"), running.key)
        index = retrieval.Index(retrieval.sections(docs))
        self._assistant = assistant.Assistant(self._client, index, self._tracing.get_tracer("docs-assistant"))
        self._questions = _lines(app / "datasets/questions.jsonl")
        self._messages = _lines(app / "datasets/order-intake.jsonl")
        self._sessions = itertools.count(1)
        self.tally = Tally()

    def ask_docs(self, number: int) -> None:
        """Question `number` of the list, with the user's thumb up or down where the answer can be judged."""
        row = self._questions[number % len(self._questions)]

        def call() -> None:
            answer = self._assistant.ask(row["question"], f"reader-{next(self._sessions)}")
            if answer.request_id and "contains" in row:
                good = row["contains"].lower() in answer.text.lower()
                self._feedback(answer.request_id, good)

        self._count(call)

    def order(self, number: int) -> None:
        """Message `number` of the list."""
        row = self._messages[number % len(self._messages)]
        self._count(lambda: self._orders.read_order(self._client, row["input"], f"shopper-{next(self._sessions)}"))

    def _count(self, call: Callable[[], None]) -> None:
        try:
            call()
        except self._openai.APIStatusError as error:
            self.tally.note(str(error.code or error.status_code))
        else:
            self.tally.note()

    def _feedback(self, request_id: str, good: bool) -> None:
        body = {"request_id": request_id, "name": FEEDBACK, "value": float(good)}
        self._client.post("/feedback", body=body, cast_to=object)

    def both(self, each: int, done: Callable[[int], None]) -> None:
        """`each` requests to either app, two at a time; `done` is told the number so far."""
        with ThreadPoolExecutor(2) as pool:
            work = [pool.submit(one, number) for number in range(each) for one in (self.ask_docs, self.order)]
            for count, future in enumerate(work, 1):
                future.result()
                done(count)

    def orders_until(self, over: Callable[[], bool], at_most_s: float) -> None:
        """Orders, two at a time, until `over` says so or `at_most_s` seconds have passed."""
        deadline = time.monotonic() + at_most_s
        numbers = itertools.count()

        def client() -> None:
            while not over() and time.monotonic() < deadline:
                self.order(next(numbers))

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(client) for _ in range(2)]:
                future.result()

    def close(self) -> None:
        """Send the last spans."""
        self._tracing.shutdown()
        self._client.close()


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
