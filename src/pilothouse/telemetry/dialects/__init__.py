"""What the instrumentations call things: one table a dialect, read in this order.

Each table says for every field of a span under which attribute keys it is found, first found wins; the keys of all
generations of a convention stand in one row, newest first. The first dialect that has a field gives it.
"""

from pilothouse.telemetry.dialects import (
    agents,
    genai,
    laminar,
    langfuse,
    langsmith,
    mlflow,
    openinference,
    openlit,
    openllmetry,
    pilothouse,
    pydantic_ai,
    vercel,
)
from pilothouse.telemetry.dialects.dialect import Dialect, Flattened, Inside

# Before the GenAI conventions stand those that use their keys in a way of their own.
DIALECTS: tuple[Dialect, ...] = (
    pilothouse.DIALECT,
    langsmith.DIALECT,
    genai.DIALECT,
    openlit.DIALECT,
    pydantic_ai.DIALECT,
    vercel.DIALECT,
    openinference.DIALECT,
    openllmetry.DIALECT,
    langfuse.DIALECT,
    mlflow.DIALECT,
    laminar.DIALECT,
    agents.GOOGLE_ADK,
    agents.LIVEKIT,
    agents.GENKIT,
    agents.STRANDS,
)
# What a span is called: the general conventions only where none of the particular ones left a mark.
BY_MARK: tuple[Dialect, ...] = (*DIALECTS[3:], langsmith.DIALECT, genai.DIALECT, pilothouse.DIALECT)

__all__ = ["BY_MARK", "DIALECTS", "Dialect", "Flattened", "Inside"]
