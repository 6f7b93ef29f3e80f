"""The pages: view models, templates and static files of the control plane's user interface.

`mount.routes(ctx)` is the door: control fills a `PageContext` and mounts what it returns. Pages only read through
the context and act through its verbs; they open no store.
"""
