"""What the callers of a route were seen to do: what they send, and what they are served."""

import msgspec


class Callers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a sample of a route's recorded requests. Counts are of requests in the sample unless said otherwise.

    `fields`, `values`: of the JSON objects that were served, by JSON pointer with `*` for a place in a list.
    """

    total: int = 0  # requests in the window
    sample: int = 0  # of them: looked at, whose bodies are kept
    since_us: int = 0
    formats: dict[str, int] = {}  # JSON Schema (as JSON) that callers sent in `response_format`
    own_tools: dict[str, int] = {}  # names of tools that callers sent themselves
    called: dict[str, int] = {}  # names of tools that were called: in answers of the sample, and in tool spans
    prompted: int = 0  # requests that named a prompt with variables, or could have: chat requests to the route
    variables: dict[str, int] = {}  # names of prompt variables that came along
    objects: int = 0  # requests that were served a JSON object
    fields: dict[str, int] = {}
    values: dict[str, dict[str, int]] = {}  # of fields with few different short texts: value → requests


class Incompatible(msgspec.Struct, frozen=True, kw_only=True):
    """A change that callers may not survive. `n` of `of` requests of the sample show that they rely on it.

    `breaks`: some do. Otherwise it is worth a look: nobody was seen to rely on it, or nobody was seen at all.
    """

    part: str
    path: str
    what: str
    n: int = 0
    of: int = 0

    @property
    def breaks(self) -> bool:
        """Whether callers were seen to rely on what changes."""
        return self.n > 0

    def __str__(self) -> str:
        seen = f", {self.n:,} of {self.of:,} requests rely on it" if self.n else ", no caller seen that relies on it"
        return f"{self.part}{self.path}: {self.what}{seen}"
