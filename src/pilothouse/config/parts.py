"""The parts of a manifest from the app's files: prompts with front matter, schemas, tools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pilothouse.config.section import Section, parse, text, words
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.manifest import IndexRef, Template

_JINJA = ImmutableSandboxedEnvironment()


def template(file: Path, shown: str) -> Template:
    """A Markdown prompt. Front matter may hold `version` and `variables`; undeclared ones are found in the text."""
    source = read(file, shown)
    head, body, offset = _front_matter(source)
    front = parse(head, Path(shown)) if head else None
    found = undeclared(body, shown, offset)
    if front is None:
        return Template(text=body, variables=found)
    variables = front.maybe("variables", words())
    version = front.take("version", str, "")
    front.take("description", text, "")
    front.close()
    if variables is not None and (missing := [name for name in found if name not in variables]):
        raise ConfigError(
            f"the template uses {', '.join(missing)}, which its front matter does not declare",
            where=f"{shown}:1",
            hint="add the name to `variables`",
        )
    return Template(text=body, variables=variables if variables is not None else found, version=version)


def undeclared(body: str, shown: str, offset: int = 0) -> tuple[str, ...]:
    """The variables that a template uses and nobody sets, sorted; ConfigError where it does not parse."""
    try:
        return tuple(sorted(meta.find_undeclared_variables(_JINJA.parse(body))))
    except TemplateSyntaxError as error:
        raise ConfigError(
            f"the template does not parse: {error.message}", where=f"{shown}:{error.lineno + offset}"
        ) from error


def _front_matter(source: str) -> tuple[str, str, int]:
    if not source.startswith("---\n"):
        return "", source, 0
    head, mark, body = source[4:].partition("\n---\n")
    if not mark:
        return "", source, 0
    return head, body.lstrip("\n"), head.count("\n") + 3


def schema(file: Path, shown: str) -> dict[str, Any]:
    """A JSON Schema, checked against its own meta-schema."""
    return usable_schema(_json(file, shown), f"{shown}:1")


def usable_schema(value: Any, where: str) -> dict[str, Any]:
    """The same of a value that was read already."""
    if not isinstance(value, dict):
        raise ConfigError("a JSON Schema must be an object", where=where)
    try:
        jsonschema_rs.validator_for(value)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ConfigError(f"not a usable JSON Schema: {str(error).splitlines()[0]}", where=where) from error
    return value


def tools(file: Path, shown: str) -> list[Any]:
    """A list of OpenAI tool definitions, or one definition."""
    return tool_list(_json(file, shown), f"{shown}:1")


def tool_list(value: Any, where: str) -> list[Any]:
    """The same of a value that was read already."""
    entries = value if isinstance(value, list) else [value]
    for i, tool in enumerate(entries):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ConfigError(f"tool {i} has no function.name", where=where, hint="use OpenAI's tool shape")
    return entries


def index(section: Section) -> IndexRef | None:
    """`index: name`, or `index: {name, version}`; a version may be `file://PATH`, whose first line it is."""
    inner = None
    if "index" in section and isinstance(section.node("index"), yaml.MappingNode):
        inner = section.section("index")
    if inner is None:
        name = section.maybe("index", text)
        return IndexRef(name=name) if name else None
    ref = IndexRef(name=inner.need("name", text), version=inner.take("version", str, ""))
    inner.close()
    if ref.version.startswith("file://"):
        path = ref.version.removeprefix("file://")
        first = read(inner.file.parent / path, path).strip().splitlines()
        return IndexRef(name=ref.name, version=first[0] if first else "")
    return ref


def file_part(section: Section, key: str, convert: Callable[[Path, str], Any]) -> Any:
    """The part whose file `key` names, relative to the config file; None where the key is absent."""
    name = section.maybe(key, text)
    if name is None:
        return None
    file = section.file.parent / name
    if not file.is_file():
        raise section.error(f"{key}: there is no file {name}", section.node(key))
    return convert(file, name)


def read(file: Path, shown: str) -> str:
    """The text of a file of the app; ConfigError where it cannot be read as UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the file: {error}", where=shown) from error


def _json(file: Path, shown: str) -> Any:
    try:
        return json.loads(read(file, shown))
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}", where=f"{shown}:{error.lineno}") from error
