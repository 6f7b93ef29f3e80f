"""Runtime safeguards: the request path."""
