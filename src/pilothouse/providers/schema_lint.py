"""What a provider's strict mode takes of JSON Schema: warnings, when a release is made, instead of 400s when it serves.

Each profile is what the provider's own documentation says of structured output and strict tools: OpenAI (structured
outputs), Anthropic (structured outputs and strict tools), Gemini (the OpenAPI subset of `responseSchema`), llama.cpp
(the grammar that a schema is converted to). A keyword that a provider ignores is a warning too: what it asks for is
then checked by the gateway alone. A schema that does not compile at all is an error everywhere.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import msgspec

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.release import SchemaWarning

WARNINGS_MAX = 50
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties", "contentSchema",
)  # fmt: skip
_COMPOSED = frozenset((
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties", "propertyNames",
    "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties",
))  # fmt: skip
_OPENAI_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"))


class Profile(msgspec.Struct, frozen=True):
    """What one provider's strict mode asks. 0: no limit."""

    name: str
    refused: frozenset[str] = frozenset()  # keywords answered with 400
    ignored: frozenset[str] = frozenset()  # keywords without effect
    closed: bool = False  # every object says additionalProperties: false
    all_required: bool = False
    object_root: bool = False  # the whole is an object, and no anyOf
    depth: int = 0  # of objects and arrays
    properties: int = 0  # in all
    enum_values: int = 0  # in all
    formats: frozenset[str] = frozenset()  # taken; empty: any
    recursive: bool = True


OPENAI = Profile(
    "OpenAI", refused=_COMPOSED | {"allOf", "oneOf", "prefixItems", "uniqueItems"}, closed=True, all_required=True,
    object_root=True, depth=10, properties=5_000, enum_values=1_000, formats=_OPENAI_FORMATS,
    ignored=frozenset(("minLength", "maxLength", "minProperties", "maxProperties", "default")),
)  # fmt: skip
ANTHROPIC = Profile(
    "Anthropic", closed=True, recursive=False, formats=_OPENAI_FORMATS | {"uri"},
    refused=_COMPOSED | {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "maxItems", "uniqueItems", "minProperties", "maxProperties", "oneOf", "prefixItems",
    },
)  # fmt: skip
GEMINI = Profile(
    "Gemini", recursive=False,
    formats=frozenset(("date-time", "date", "time", "int32", "int64", "float", "double", "enum")),
    refused=_COMPOSED | {"$ref", "$defs", "definitions", "allOf", "const", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf", "uniqueItems"},
    ignored=frozenset(("additionalProperties", "default")),
)  # fmt: skip
LLAMA_CPP = Profile(
    "llama.cpp", formats=frozenset(("date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5")),
    ignored=_COMPOSED | {"multipleOf", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum", "minProperties",
        "maxProperties", "default"},
)  # fmt: skip
# By the provider's kind. A kind that is not here is spoken to in OpenAI's form, but asks nothing that is known.
PROFILES: dict[str, Profile] = {
    "openai": OPENAI, "azure": OPENAI, "anthropic": ANTHROPIC, "bedrock": ANTHROPIC, "gemini": GEMINI,
    "local": LLAMA_CPP, "llamacpp": LLAMA_CPP, "ollama": LLAMA_CPP,
}  # fmt: skip


def kind_of(kind: str, base_url: str) -> str:
    """The kind whose profile holds: `openai` stands for OpenAI itself only at an address of OpenAI's or Azure's."""
    return "" if kind == "openai" and base_url and "openai" not in base_url else kind


def lint(kind: str, schema: Any, tools: list[Any] | None) -> tuple[SchemaWarning, ...]:
    """What the provider of this kind will refuse or ignore; raises ConfigError (`bad_schema`) for an unusable schema.

    A tool is held to the strict mode only where it asks for it (`strict: true`).
    """
    profile = PROFILES.get(kind)
    found: list[SchemaWarning] = []
    if schema is not None:
        usable(schema, "the schema")
        found += _lint(profile, schema, "schema", "") if profile else ()
    for i, tool in enumerate(tools or ()):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        parameters = function.get("parameters", function.get("input_schema"))
        if parameters is None:
            continue
        usable(parameters, f"the schema of the tool “{function.get('name')}”")
        if profile and function.get("strict", tool.get("strict")) is True:
            found += _lint(profile, parameters, "tools", f"/{i}/function/parameters")
    return tuple(found[:WARNINGS_MAX])


def usable(schema: Any, what: str) -> None:
    """Raise ConfigError where this is no JSON Schema that can be compiled."""
    try:
        jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{what} is not a usable JSON Schema: {str(error).splitlines()[0]}",
            hint="references to other documents are not fetched: put them into $defs",
            code="bad_schema",
        ) from error


def _lint(profile: Profile, schema: Any, part: str, base: str) -> Iterator[SchemaWarning]:
    def warn(at: str, what: str, advice: str) -> SchemaWarning:
        return SchemaWarning(part=part, pointer=base + at, what=f"{profile.name}: {what}", advice=advice)

    nodes = list(_nodes(schema, "", 0))
    if profile.object_root and (schema.get("type") != "object" or "anyOf" in schema):
        yield warn("", "the whole must be an object, and no anyOf", "put the value into a property of an object")
    for at, node, _ in nodes:
        for check in (_keywords, _objects, _formats):
            for what, advice in check(profile, node):
                yield warn(at, what, advice)
    yield from _sizes(profile, nodes, warn)


def _nodes(node: Any, at: str, depth: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every schema object with its pointer and its depth in objects and arrays."""
    if not isinstance(node, dict):
        return
    yield at, node, depth
    deeper = depth + 1
    for keyword in _MAPS:
        inner = node.get(keyword)
        for name, child in inner.items() if isinstance(inner, dict) else ():
            place = f"{at}/{keyword}/{name.replace('~', '~0').replace('/', '~1')}"
            yield from _nodes(child, place, 0 if keyword in ("$defs", "definitions") else deeper)
    for keyword in _LISTS:
        inner = node.get(keyword)
        for i, child in enumerate(inner if isinstance(inner, list) else ()):
            yield from _nodes(child, f"{at}/{keyword}/{i}", depth)
    for keyword in _SINGLES:
        yield from _nodes(node.get(keyword), f"{at}/{keyword}", deeper if keyword == "items" else depth)


def _keywords(profile: Profile, node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for keyword in node:
        if keyword in profile.refused:
            yield f"“{keyword}” is refused in strict mode", "leave it out; the gateway can check it in its place"
        elif keyword in profile.ignored:
            yield f"“{keyword}” is not enforced", "the gateway still checks it; say it in the description for the model"


def _is_object(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in node


def _objects(profile: Profile, node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not _is_object(node):
        return
    if profile.closed and node.get("additionalProperties") is not False:
        yield "an object without additionalProperties: false is refused", "add “additionalProperties”: false"
    properties = node.get("properties")
    absent = set(properties if isinstance(properties, dict) else ()) - set(node.get("required") or ())
    if profile.all_required and absent:
        names = ", ".join(f"“{name}”" for name in sorted(absent))
        yield f"{names} must be required", "add to “required”, and allow null where it may be absent"


def _formats(profile: Profile, node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    said = node.get("format")
    if isinstance(said, str) and profile.formats and said not in profile.formats:
        yield f"the format “{said}” is not known", "leave it out, or use a pattern"


def _sizes(
    profile: Profile, nodes: list[tuple[str, dict[str, Any], int]], warn: Callable[[str, str, str], SchemaWarning]
) -> Iterator[SchemaWarning]:
    deep = max(nodes, key=lambda one: one[2])
    if profile.depth and deep[2] > profile.depth:
        yield warn(deep[0], f"nested {deep[2]} deep, taken are {profile.depth}", "flatten the object")
    properties = sum(len(n.get("properties") or ()) for _, n, _ in nodes if isinstance(n.get("properties"), dict))
    if profile.properties and properties > profile.properties:
        yield warn("", f"{properties} properties in all, taken are {profile.properties}", "split the schema")
    values = sum(len(n["enum"]) for _, n, _ in nodes if isinstance(n.get("enum"), list))
    if profile.enum_values and values > profile.enum_values:
        yield warn("", f"{values} enum values in all, taken are {profile.enum_values}", "shorten the lists")
    for at, node, _ in nodes if not profile.recursive else ():
        ref = node.get("$ref")
        if isinstance(ref, str) and (ref == "#" or at.startswith(ref.removeprefix("#") + "/")):
            yield warn(at, "a schema that contains itself is refused", "unroll it to the depth that is needed")
