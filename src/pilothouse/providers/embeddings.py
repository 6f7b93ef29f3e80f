"""The forms of embeddings and moderations: whole answers only, with little in them to look at."""

from collections.abc import Callable

import msgspec

from pilothouse.domain.errors import PilothouseError, ServerError
from pilothouse.providers.form import Assembling
from pilothouse.providers.openai import Completion, Usage, whole_events
from pilothouse.providers.passing import ANY, Began


class _Answer(msgspec.Struct):
    """`data` or `results`, whose items are not looked into: an embedding has a thousand numbers and more."""

    id: str = ""
    model: str = ""
    data: list[msgspec.Raw] | None = None
    results: list[msgspec.Raw] | None = None
    usage: Usage | None = None


_answer: Callable[[bytes], _Answer] = msgspec.json.Decoder(_Answer).decode


class ListForm:
    """See `Form`. `field`: where the answer's list stands."""

    done = b""

    def __init__(self, name: str, field: str) -> None:
        self.name = name
        self._field = field

    def whole(self, data: bytes) -> int:
        """Whole events."""
        return whole_events(data)

    def read(self, body: bytes) -> Completion:
        """A whole answer; its output has no tokens."""
        try:
            answer = _answer(body)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise self._malformed(str(error)) from error
        if getattr(answer, self._field) is None:
            raise self._malformed(f"it has no “{self._field}”")
        if answer.usage is not None:
            answer.usage.completion_tokens = answer.usage.completion_tokens or 0
        return Completion(choices=[], id=answer.id, model=answer.model, usage=answer.usage)

    def _malformed(self, why: str) -> ServerError:
        return ServerError(
            f"the provider's answer is none of the API “{self.name}”: {why}",
            hint="see the record's attempts; retries and fallbacks follow the route's policy",
            code="malformed_response",
            upstream_status=200,
        )

    def first(self, block: bytes) -> Began | None:
        """As what is passed through."""
        return ANY.first(block)

    def ends(self, block: bytes) -> bool:
        """As what is passed through."""
        return ANY.ends(block)

    def without_usage(self, block: bytes) -> bytes:
        """As it is."""
        return block

    def assembly(self) -> Assembling:
        """As what is passed through."""
        return ANY.assembly()

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:
        """As what is passed through."""
        return ANY.error_event(error, body)


EMBEDDINGS = ListForm("embeddings", "data")
MODERATIONS = ListForm("moderations", "results")
