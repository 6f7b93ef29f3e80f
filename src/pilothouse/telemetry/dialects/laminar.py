"""Laminar: its spans' own input, output and type, beside the GenAI conventions."""

from pilothouse.telemetry.dialects.dialect import Dialect

_ABOUT = "lmnr.association.properties."

DIALECT = Dialect(
    name="laminar",
    marks=("lmnr",),
    scopes=("lmnr",),
    fields={
        "session": (_ABOUT + "session_id",),
        "user": (_ABOUT + "user_id",),
    },
    operations={
        "lmnr.span.type": {
            "LLM": "chat",
            "CACHED": "task",  # an answer from Laminar's cache: no model was asked
            "TOOL": "execute_tool",
            "EXECUTOR": "invoke_workflow",
            "PIPELINE": "invoke_workflow",
            "EVALUATOR": "evaluate",
            "HUMAN_EVALUATOR": "evaluate",
            "EVALUATION": "invoke_workflow",
        }
    },
    cost=("gen_ai.usage.cost",),
    cost_parts=("gen_ai.usage.input_cost", "gen_ai.usage.output_cost"),
    input=("lmnr.span.input",),
    output=("lmnr.span.output",),
    said_twice=("lmnr.sdk.raw.response",),
    documents_in_output=True,
)
