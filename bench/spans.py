"""GenAI traces as an app makes them, as OTLP/HTTP bodies: agent, retrieval, chat of 3 KB, tool, a step of its own.

Words are drawn from a vocabulary by Zipf's law, so that what compresses is not a constant.
"""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PER_TRACE = 5
MS = 1_000_000  # ns
_WORDS = 8_000
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


class Traces:
    """Traces drawn from `seed`; the same seed gives the same ones."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        draw = self._random
        self._words = ["".join(draw.choices(_LETTERS, k=draw.randint(2, 11))) for _ in range(_WORDS)]
        self._weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(_WORDS)))

    def text(self, length: int) -> str:
        """About `length` characters of words."""
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=max(1, length // 6)))[:length]

    def bodies(self, spans: int, per_batch: int, now_ns: int) -> Iterator[bytes]:
        """Export requests of `per_batch` spans, `spans` in all (both multiples of 5)."""
        for _ in range(spans // per_batch):
            request = ExportTraceServiceRequest()
            group = request.resource_spans.add()
            group.resource.attributes.extend(
                _pairs({"service.name": "bench-app", "service.version": "1.2.3", "telemetry.sdk.language": "python"})
            )
            scoped = group.scope_spans.add()
            scoped.scope.name = "bench"
            for _ in range(per_batch // PER_TRACE):
                scoped.spans.extend(self._trace(now_ns - self._random.randrange(3_600_000) * MS))
            yield request.SerializeToString()

    def _trace(self, start: int) -> list[Span]:
        draw = self._random
        trace_id = draw.randbytes(16)
        session = {"session.id": f"session-{draw.randrange(5_000)}"}
        made: list[Span] = []

        def add(name: str, kind: int, begin: int, ms: int, told: dict[str, Any]) -> None:
            made.append(
                Span(
                    trace_id=trace_id,
                    span_id=draw.randbytes(8),
                    parent_span_id=made[0].span_id if made else b"",
                    name=name,
                    kind=kind,  # type: ignore[arg-type]
                    start_time_unix_nano=begin,
                    end_time_unix_nano=begin + ms * MS,
                    attributes=_pairs({**session, **told}),
                    status=Status(code=Status.STATUS_CODE_OK),
                )
            )

        question, prompt, answer = self.text(160), self.text(2_400), self.text(600)
        took = [int(draw.lognormvariate(mean, 0.5)) + 1 for mean in (3.2, 6.8, 4.0, 1.0)]
        who = {"user.id": f"user-{draw.randrange(800)}", "deployment.environment.name": "prod"}
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
        add("invoke_agent support", 1, start, sum(took) + 4, {**who, **agent})
        add("retrieval docs", 3, start + MS, took[0], self._retrieval(question))
        add("chat gpt-4o-mini", 3, start + (2 + took[0]) * MS, took[1], self._chat(prompt, answer))
        add("execute_tool lookup_order", 1, start + (3 + took[0] + took[1]) * MS, took[2], self._tool())
        add("format", 1, start + (4 + sum(took[:3])) * MS, took[3], {"pilothouse.stage": "postprocessing"})
        return made

    def _retrieval(self, question: str) -> dict[str, Any]:
        draw = self._random
        found = [
            {"id": f"doc-{draw.randrange(10_000)}", "score": round(draw.random(), 4), "content": self.text(250)}
            for _ in range(3)
        ]
        return {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": "docs",
            "gen_ai.retrieval.query.text": question,
            "gen_ai.retrieval.documents": json.dumps(found),
        }

    def _chat(self, prompt: str, answer: str) -> dict[str, Any]:
        said = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
        replied = [{"role": "assistant", "parts": [{"type": "text", "content": answer}], "finish_reason": "stop"}]
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 512,
            "gen_ai.response.id": f"chatcmpl-{self._random.getrandbits(64):x}",
            "gen_ai.usage.input_tokens": len(prompt) // 4,
            "gen_ai.usage.output_tokens": len(answer) // 4,
            "gen_ai.usage.cache_read.input_tokens": len(prompt) // 8,
            "gen_ai.input.messages": json.dumps(said),
            "gen_ai.output.messages": json.dumps(replied),
            "server.address": "api.example.com",
            "server.port": 443,
        }

    def _tool(self) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup_order",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": f"call_{self._random.getrandbits(48):x}",
            "gen_ai.tool.call.arguments": json.dumps({"order": self._random.randrange(10**6), "note": self.text(60)}),
            "gen_ai.tool.call.result": json.dumps({"status": "ok", "body": self.text(200)}),
        }


def _pairs(told: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in told.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)
