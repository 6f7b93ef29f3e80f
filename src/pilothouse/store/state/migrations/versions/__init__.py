"""One module a schema change, in order of its name."""
