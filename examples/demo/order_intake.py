"""The second demo app: reads an order out of a message, as JSON that meets schemas/order.json.

export OPENAI_BASE_URL=http://127.0.0.1:4000/v1 OPENAI_API_KEY=ph_…
python order_intake.py "This is Ann Berg. Please send 3 lamps to Oslo."
"""

import json
import sys
from typing import Any

from openai import OpenAI

ROUTE = "order-intake"


def read_order(client: OpenAI, message: str, session: str = "") -> dict[str, Any]:
    """The order in `message`; raises the OpenAI SDK's errors, `invalid_output` among them."""
    reply = client.chat.completions.create(
        model=ROUTE, messages=[{"role": "user", "content": message}], user=session or "demo"
    )
    order: dict[str, Any] = json.loads(reply.choices[0].message.content or "")
    return order


if __name__ == "__main__":
    print(json.dumps(read_order(OpenAI(), " ".join(sys.argv[1:])), indent=2))
