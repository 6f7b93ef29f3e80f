"""Google's dialect: generateContent and streamGenerateContent. The model, and whether to stream, stand in the path."""

import re
from typing import Any

from pilothouse.providers.script import Rule
from pilothouse.providers.shapes.shape import Failure, Said, Sse, encode, sse

_PATH = re.compile(r"/models/([^/:]+):(\w+)$")
_REFUSED: dict[str, tuple[int, str, str]] = {  # status, name, message
    "context_window": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    "credentials": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
}
_NAMES = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_FAILURE = "type.googleapis.com/google.rpc."


class Gemini(Sse):
    """`models/{model}:generateContent`."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:
        """Contents as messages."""
        found = _PATH.search(path)
        turns = [turn for turn in body.get("contents") or [] if isinstance(turn, dict)]
        messages = [
            {"role": "assistant" if turn.get("role") == "model" else "user", "content": turn.get("parts")}
            for turn in turns
        ]
        system = body.get("systemInstruction")
        if isinstance(system, dict):
            messages.insert(0, {"role": "system", "content": system.get("parts")})
        config = body.get("generationConfig") or {}
        wants = "responseSchema" in config or "responseJsonSchema" in config
        out = body | {
            "model": found[1] if found else "",
            "messages": messages,
            "stream": bool(found and found[2].startswith("stream")),
        }
        return out | ({"response_format": {"type": "json_schema"}} if wants else {})

    def whole(self, said: Said) -> Any:
        """All parts in one candidate."""
        if said.rule.refuse == "content_filter":
            return self._blocked(said)
        return self._body(said, self._parts(said), last=True)

    def events(self, said: Said) -> list[bytes]:
        """A response for each piece; function calls are whole; the last one has the finish reason and the usage."""
        if said.rule.refuse == "content_filter":
            return [sse(self._blocked(said))]
        steps: list[list[dict[str, Any]]] = []
        for part in self._parts(said):
            if "text" in part:
                steps += [[part | {"text": piece}] for piece in said.pieces(part["text"])]
            else:
                steps.append([part])
        out = [sse(self._body(said, step, last=False)) for step in steps]
        if said.rule.fault != "no_done":
            out.append(sse(self._body(said, [{"text": ""}], last=True)))
        return out

    def failure(self, rule: Rule) -> Failure:
        """An error of the API."""
        details: list[dict[str, Any]] = []
        if rule.refuse == "content_filter":
            return Failure(200, {"promptFeedback": {"blockReason": "SAFETY"}})
        if rule.refuse is None:
            status = rule.status if rule.status != 200 else 500
            name, message = _NAMES.get(status, "INTERNAL"), rule.error
        else:
            status, name, message = _REFUSED[rule.refuse]
        if rule.refuse == "quota":
            quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"}
            details.append({"@type": f"{_FAILURE}QuotaFailure", "violations": [quota]})
        if rule.refuse == "rate_limit" and rule.retry_after is not None:
            details.append({"@type": f"{_FAILURE}RetryInfo", "retryDelay": f"{rule.retry_after}s"})
        if rule.refuse == "credentials":
            details.append({"@type": f"{_FAILURE}ErrorInfo", "reason": "API_KEY_INVALID"})
        error = {"code": status, "message": message, "status": name}
        return Failure(status, {"error": error | ({"details": details} if details else {})})

    def error_event(self, rule: Rule) -> bytes:
        """The error as an event."""
        if rule.refuse is None:
            return sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
        return sse(self.failure(rule).body)

    def _blocked(self, said: Said) -> dict[str, Any]:
        return {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": said.model, "usageMetadata": _usage(said)}

    def _parts(self, said: Said) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        if said.rule.thinking:
            out.append({"text": said.rule.thinking, "thought": True})
        if said.text:
            out.append({"text": said.text})
        calls = said.rule.tool_calls
        return out + [{"functionCall": {"name": call.name, "args": call.arguments}} for call in calls]

    def _body(self, said: Said, parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if last and said.finish:
            candidate["finishReason"] = _FINISH.get(said.finish, said.finish)
        body = {"candidates": [candidate], "modelVersion": said.model, "responseId": f"gem-{said.serial}"}
        return body | ({"usageMetadata": _usage(said)} if said.counts is not None else {})


def _usage(said: Said) -> dict[str, Any]:
    """The prompt's count holds the cached tokens; thoughts are beside the candidates."""
    counts = said.counts
    if counts is None:
        return {}
    out = {
        "promptTokenCount": counts.prompt,
        "candidatesTokenCount": counts.text,
        "totalTokenCount": counts.prompt + counts.completion,
    }
    if counts.cached:
        out["cachedContentTokenCount"] = counts.cached
    if counts.reasoning:
        out["thoughtsTokenCount"] = counts.reasoning
    return out


class GeminiCount(Gemini):
    """`models/{model}:countTokens`."""

    def whole(self, said: Said) -> Any:
        """A quarter of the characters."""
        return {"totalTokens": len(encode(said.body.get("contents") or [])) // 4}
