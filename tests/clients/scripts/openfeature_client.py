"""OpenFeature's Python SDK over its OFREP provider: every type, targeting, errors, and a flip that it is told of."""

import json
import os
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

KEY = os.environ["FLAGS_KEY"]
api.set_provider(
    OFREPProvider(os.environ["FLAGS_URL"], headers_factory=lambda: {"authorization": f"Bearer {KEY}"}, timeout=20)
)
client = api.get_client()
nobody = EvaluationContext("user-1", {"plan": "free"})
staff = EvaluationContext("user-1", {"email": "ana@example.org"})


def details(found: object) -> list[object]:
    """Value, variant, reason and error of an evaluation."""
    code = getattr(found, "error_code", None)
    return [found.value, found.variant, str(found.reason).rpartition(".")[2], code.value if code else ""]


out = {
    "boolean": details(client.get_boolean_details("new-answer", True, nobody)),
    "targeted": details(client.get_boolean_details("new-answer", False, staff)),
    "string": details(client.get_string_details("colour", "none", nobody)),
    "integer": details(client.get_integer_details("retries", 0, nobody)),
    "float": details(client.get_float_details("ratio", 0.0, nobody)),
    "object": details(client.get_object_details("layout", {}, nobody)),
    "split": details(client.get_boolean_details("half", False, nobody))[2],
    "disabled": details(client.get_string_details("gone", "the code's", nobody)),
    "unknown": details(client.get_boolean_details("nobody-knows", True, nobody)),
    "wrong_type": details(client.get_boolean_details("colour", True, nobody)),
    "no_key": details(client.get_boolean_details("half", True, EvaluationContext())),
}
print(json.dumps(out), flush=True)
sys.stdin.readline()  # the flip is done
print(json.dumps({"flipped": client.get_boolean_details("new-answer", False, nobody).value}), flush=True)
