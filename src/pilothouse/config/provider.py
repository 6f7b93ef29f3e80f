"""The providers of pilothouse.yaml: their kind, where they are, where their secrets are."""

from pathlib import Path
from typing import Any

import msgspec

from pilothouse.config.quantities import seconds
from pilothouse.config.section import Section, one_of, text, whole
from pilothouse.domain.provider_kinds import PROVIDER_KINDS, KindOption, ProviderKind


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a model. `key`, and of `options` the secret ones, are references (`env://NAME`, `file://PATH`),
    never values."""

    name: str
    kind: str
    base_url: str = ""  # empty for the kinds that Pilothouse itself runs
    key: str = ""
    key_owner: str = ""
    rotate_s: float | None = None  # how long a key may live
    rotated: str = ""  # ISO date of the last rotation
    script: Path | None = None  # of a scripted provider
    threads: int = 2
    options: dict[str, str] = {}  # the kind's own: see domain/provider_kinds.py


def read_provider(name: str, section: Section) -> ProviderConfig:
    """One entry of `providers`; raises ConfigError."""
    kind = PROVIDER_KINDS[section.need("kind", one_of(*PROVIDER_KINDS))]
    script = section.maybe("script", text)
    options = {option.name: value for option in kind.options if (value := _option(section, kind, option))}
    provider = ProviderConfig(
        name=name,
        kind=kind.name,
        base_url=_base_url(section, kind, options),
        key=absolute(section.take("key", reference, ""), section.file.parent),
        key_owner=section.take("key_owner", text, ""),
        rotate_s=section.maybe("rotate", seconds),
        rotated=section.take("rotated", str, ""),
        script=section.file.parent / script if script else None,
        threads=section.take("threads", whole, 2),
        options=options,
    )
    section.close()
    if kind.name == "scripted" and provider.script is None:
        raise section.error("a scripted provider needs `script:`")
    if provider.script is not None and not provider.script.is_file():
        raise section.error(f"script: there is no file {script}")
    if kind.name == "bedrock":
        _signed(section, provider)
    return provider


def _base_url(section: Section, kind: ProviderKind, options: dict[str, str]) -> str:
    given = section.maybe("base_url", text)
    if given is not None:
        if not given.startswith(("https://", "http://")):
            raise section.error(
                f"base_url: {given!r} is not a web address", section.node("base_url"), hint="begin it with https://"
            )
        return given
    if not kind.base_url and not kind.hosted:
        raise section.error(
            f"a provider of kind {kind.name} needs `base_url:`",
            hint="base_url: https://RESOURCE.openai.azure.com" if kind.name == "azure-openai" else "",
        )
    return kind.base_url.replace("{region}", options.get("region", ""))


def _option(section: Section, kind: ProviderKind, option: KindOption) -> str:
    value = section.take(option.name, reference if option.secret else text, "")
    if option.needed and not value:
        raise section.error(f"a provider of kind {kind.name} needs `{option.name}:`", hint=f"add `{option.name}: …`")
    return absolute(value, section.file.parent) if option.secret else value


def _signed(section: Section, provider: ProviderConfig) -> None:
    """Bedrock is called with an API key, or with requests signed by an access key."""
    pair = [name for name in ("access_key", "secret_key") if name in provider.options]
    if provider.key and pair:
        raise section.error("give either `key` or `access_key` and `secret_key`, not both")
    if not provider.key and len(pair) < 2:
        raise section.error(
            "a provider of kind bedrock needs `access_key` and `secret_key`, or `key`",
            hint="access_key: env://AWS_ACCESS_KEY_ID, secret_key: env://AWS_SECRET_ACCESS_KEY",
        )


def reference(value: Any) -> str:
    """A reference to a secret, as it stands."""
    found = text(value)
    if not found.startswith(("env://", "file://")):
        raise ValueError("a secret is named by reference, never written here: use env://NAME or file://PATH")
    return found


def absolute(found: str, folder: Path) -> str:
    """A relative file reference as an absolute one: the processes that read it run elsewhere."""
    path = found.removeprefix("file://")
    return f"file://{(folder / path).absolute()}" if path != found else found
