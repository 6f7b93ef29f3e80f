"""What the instrumentations call things: one table a dialect, read in this order.

Each table says for every field of a span under which attribute keys it is found, first found wins; the keys of all
generations of a convention stand in one row, newest first. The first dialect that has a field gives it.
"""

from pilothouse.telemetry.dialects import genai, openinference, openllmetry, pilothouse
from pilothouse.telemetry.dialects.dialect import Dialect, Flattened

DIALECTS: tuple[Dialect, ...] = (pilothouse.DIALECT, genai.DIALECT, openinference.DIALECT, openllmetry.DIALECT)

__all__ = ["DIALECTS", "Dialect", "Flattened"]
