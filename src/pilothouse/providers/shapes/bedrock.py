"""Amazon Bedrock's dialect: Converse, and ConverseStream as a binary event stream. The model stands in the path."""

import re
import urllib.parse
from typing import Any

from pilothouse.providers.bedrock.eventstream import encode as frame
from pilothouse.providers.script import Rule
from pilothouse.providers.shapes.shape import Failure, Said, encode

_PATH = re.compile(r"/model/([^/]+)/(converse|converse-stream)$")
_REFUSED: dict[str, tuple[int, str, str]] = {  # status, exception, message
    "context_window": (400, "ValidationException", "Input is too long for requested model."),
    "content_filter": (400, "ValidationException", "The request was blocked by our content filters."),
    "overloaded": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "rate_limit": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (400, "ServiceQuotaExceededException", "You have exceeded your service quota."),
    "credentials": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
}
_NAMES = {400: "ValidationException", 429: "ThrottlingException", 503: "ServiceUnavailableException"}
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}


class Converse:
    """`model/{id}/converse` and `converse-stream`."""

    stream_type = "application/vnd.amazon.eventstream"

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:
        """Model and stream from the path; content blocks are read as parts."""
        found = _PATH.search(path)
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        return body | {
            "model": urllib.parse.unquote(found[1]) if found else "",
            "messages": [*system, *(body.get("messages") or [])],
            "stream": bool(found and found[2] == "converse-stream"),
        }

    def whole(self, said: Said) -> Any:
        """One message."""
        out: dict[str, Any] = {
            "output": {"message": {"role": "assistant", "content": self._blocks(said)}},
            "stopReason": self._stop(said),
            "metrics": {"latencyMs": 1},
        }
        return out | ({"usage": _usage(said)} if said.counts is not None else {})

    def events(self, said: Said) -> list[bytes]:
        """Message start, blocks, message stop, metadata."""
        out = [event("messageStart", {"role": "assistant"})]
        for index, block in enumerate(self._blocks(said)):
            at = {"contentBlockIndex": index}
            if "toolUse" in block:
                tool = block["toolUse"]
                start = {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}
                out.append(event("contentBlockStart", at | {"start": start}))
                pieces = said.pieces(encode(tool["input"]).decode())
                deltas: list[dict[str, Any]] = [{"toolUse": {"input": piece}} for piece in pieces]
            elif "reasoningContent" in block:
                thought = block["reasoningContent"]["reasoningText"]
                deltas = [{"reasoningContent": {"text": piece}} for piece in said.pieces(thought["text"])]
                deltas.append({"reasoningContent": {"signature": thought["signature"]}})
            else:
                deltas = [{"text": piece} for piece in said.pieces(block["text"])]
            out += [event("contentBlockDelta", at | {"delta": delta}) for delta in deltas]
            out.append(event("contentBlockStop", at))
        if said.rule.fault == "no_done":
            return out
        out.append(event("messageStop", {"stopReason": self._stop(said)}))
        counted = {"usage": _usage(said)} if said.counts is not None else {}
        return [*out, event("metadata", counted | {"metrics": {"latencyMs": 1}})]

    def failure(self, rule: Rule) -> Failure:
        """An error of the API: its name stands in a header."""
        if rule.refuse is None:
            status = rule.status if rule.status != 200 else 500
            name, message = _NAMES.get(status, "InternalServerException"), rule.error
        else:
            status, name, message = _REFUSED[rule.refuse]
        return Failure(status, {"message": message}, {"x-amzn-errortype": name})

    def error_event(self, rule: Rule) -> bytes:
        """An exception as a message of the stream."""
        said = self.failure(rule)
        name = said.headers["x-amzn-errortype"] if rule.refuse else "ModelStreamErrorException"
        name = name[0].lower() + name[1:]
        headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
        return frame(headers, encode(said.body))

    def garbage(self) -> bytes:
        """Bytes that are no message."""
        return b"{not an event}" * 2

    def _blocks(self, said: Said) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        if said.rule.thinking:
            out.append({"reasoningContent": {"reasoningText": {"text": said.rule.thinking, "signature": "c2ln"}}})
        if said.text:
            out.append({"text": said.text})
        for i, call in enumerate(said.rule.tool_calls):
            out.append({"toolUse": {"toolUseId": f"tooluse_{i}", "name": call.name, "input": call.arguments}})
        return out

    def _stop(self, said: Said) -> str | None:
        return _STOP.get(said.finish, said.finish) or None


def event(name: str, value: Any) -> bytes:
    """One message of the stream."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, encode(value))


def _usage(said: Said) -> dict[str, Any]:
    """Disjoint counts, and a total of all."""
    counts = said.counts
    if counts is None:
        return {}
    out = {"inputTokens": counts.uncached, "outputTokens": counts.completion}
    if counts.cached or counts.cache_write:
        out |= {"cacheReadInputTokens": counts.cached, "cacheWriteInputTokens": counts.cache_write}
    return out | {"totalTokens": counts.prompt + counts.completion}
