"""The shape of a dialect's table."""

from collections.abc import Mapping

import msgspec


class Flattened(msgspec.Struct, frozen=True):
    """Messages or documents spread over keys: `{prefix}{i}.{infix}{name}`."""

    prefix: str
    infix: str = ""


class Inside(msgspec.Struct, frozen=True):
    """Fields or buckets inside the JSON of attribute `key`, each under dotted paths, the first found wins.

    Of the rows with one key that is read whose path `when` is there; "" always is.
    """

    key: str
    paths: Mapping[str, tuple[str, ...]]
    when: str = ""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One table. Of a row's keys the first that says something wins.

    `fields`: field → attribute keys. `operations`: marker key → its value ("": any) → our operation; one that sums up
    others (`invoke_agent`, `task` …) has no tokens of its own, whatever the span says.

    `tokens`: bucket → keys. `input` and `output` are inclusive totals (input holds cached, output holds reasoning), as
    OpenTelemetry and OpenInference say; `input_uncached` and `output_text` are for dialects that report them exclusive.
    """

    name: str
    marks: tuple[str, ...] = ()  # keys that only this dialect has, or all up to their first dot
    scopes: tuple[str, ...] = ()  # how the names of its instrumentation scopes begin
    fields: Mapping[str, tuple[str, ...]] = {}
    tokens: Mapping[str, tuple[str, ...]] = {}
    inside: tuple[Inside, ...] = ()
    operations: Mapping[str, Mapping[str, str]] = {}
    cost: tuple[str, ...] = ()  # USD of the call, as the instrumentation says
    cost_parts: tuple[str, ...] = ()  # that sum to it, where it gives no total
    ttft_s: tuple[str, ...] = ()  # time to the first token in seconds
    ttft_ms: tuple[str, ...] = ()
    first_at: tuple[str, ...] = ()  # when it came, ISO 8601
    chunks: tuple[str, ...] = ()  # span events of which the first tells when
    input: tuple[str, ...] = ()  # keys that hold what went in, as text or JSON
    output: tuple[str, ...] = ()
    flat_input: tuple[Flattened, ...] = ()
    flat_output: tuple[Flattened, ...] = ()
    also: tuple[str, ...] = ()  # content that is kept with the input under its own key
    flat_also: tuple[Flattened, ...] = ()
    said_twice: tuple[str, ...] = ()  # content that another key has too, or vectors: kept nowhere
    flat_twice: tuple[Flattened, ...] = ()
    documents: tuple[str, ...] = ()  # keys that hold a list of documents
    flat_documents: tuple[Flattened, ...] = ()
    documents_in_output: bool = False  # a retrieval's output is the list of its documents
