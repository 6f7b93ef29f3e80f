"""Our own attributes: what an app says explicitly goes before what is inferred; and OpenTelemetry's general ones."""

from pilothouse.telemetry.dialects.dialect import Dialect

DIALECT = Dialect(
    name="pilothouse",
    marks=("pilothouse",),
    fields={
        "stage": ("pilothouse.stage",),
        "operation": ("pilothouse.operation",),
        "route": ("pilothouse.route",),
        "app": ("pilothouse.app", "service.name"),
        "env": ("deployment.environment.name", "deployment.environment", "langfuse.environment"),
        "session": ("pilothouse.session", "langfuse.session.id", "session.id"),
        "user": ("pilothouse.user", "langfuse.user.id", "user.id", "enduser.id"),
        "release": ("pilothouse.release", "langfuse.release", "service.version", "langfuse.version"),
        "index_name": ("pilothouse.index.name",),
        "index_version": ("pilothouse.index.version",),
        "error_type": ("error.type",),
    },
    operations={
        "mcp.method.name": {"tools/call": "execute_tool", "resources/read": "retrieval", "prompts/get": "render_prompt"}
    },
    documents=("pilothouse.documents",),
)
