"""Azure OpenAI: with `api_version` a deployment's own address, without it the version-free `/openai/v1`.

The model's name is the deployment's. The key goes in `api-key`.
"""

import urllib.parse

from pilothouse.providers.compatible import PATHS, CompatibleWire
from pilothouse.providers.embeddings import EMBEDDINGS
from pilothouse.providers.openai import request_headers
from pilothouse.providers.responses import RESPONSES
from pilothouse.providers.wire import Ask, Request

_OF_DEPLOYMENT = ("chat", "embeddings")  # the others stand beside the deployments, with the model in the body


class AzureWire(CompatibleWire):
    """See `Wire`."""

    def request(self, ask: Ask) -> Request:
        """As OpenAI's, at Azure's addresses."""
        headers = request_headers("", ask.trace_id, ask.span_id, ask.headers)
        if ask.key:
            headers.append(("api-key", ask.key))
        return Request(_url(ask), headers, ask.body, ask.method)


def _url(ask: Ask) -> str:
    base = ask.provider.base_url.rstrip("/")
    base = base.removesuffix("/v1").removesuffix("/openai")
    path = PATHS.get(ask.form) or ask.path
    version = ask.provider.options.get("api_version", "")
    if not version:
        return f"{base}/openai/v1{path}"
    if ask.form in _OF_DEPLOYMENT:
        path = f"/deployments/{urllib.parse.quote(ask.model, safe='')}{path}"
    joint = "&" if "?" in path else "?"
    return f"{base}/openai{path}{joint}api-version={urllib.parse.quote(version, safe='')}"


AZURE = AzureWire(RESPONSES, EMBEDDINGS)
