"""An app's own guardrails: `use: module:function`, found in the app's folder or wherever Python finds modules."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pilothouse.domain.errors import ConfigError


def resolve(use: str, options: Mapping[str, Any], app_dir: Path | None) -> tuple[Callable[..., Any], bool]:
    """The function that `module:function` names, with its options bound, and whether it is async.

    Raises ConfigError where there is none.
    """
    module_name, _, name = use.partition(":")
    if app_dir is not None and str(app_dir) not in sys.path:
        sys.path.append(str(app_dir))  # last: an app's own `email.py` does not stand in for Python's
    try:
        importlib.invalidate_caches()
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # plugin call: a module may fail in any way while it is imported
        raise _error(use, f"cannot be loaded ({type(error).__name__}: {error})") from error
    if not callable(found):
        raise _error(use, "is not a function")
    try:
        inspect.signature(found).bind(None, **options)
    except (TypeError, ValueError) as error:
        raise _error(use, f"does not take these options: {error}") from error
    waits = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(getattr(found, "__call__", None))  # noqa: B004  # whether it is async, not whether it is callable
    return (functools.partial(found, **options) if options else found), waits


def _error(use: str, what: str) -> ConfigError:
    return ConfigError(
        f"guardrail “{use}” {what}",
        where="policy.guards",
        hint="`use` is a built-in guardrail, or module:function of a function that takes what is seen",
        code="bad_guardrail",
    )
