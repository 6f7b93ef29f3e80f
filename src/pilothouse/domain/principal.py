"""Who makes a request."""

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """The key behind a request and the environment it may reach."""

    key_id: str
    env: str
    name: str = ""
