"""The four faces of the one Review: text, Markdown, HTML and JSON."""

from pilothouse.review.render_html import html
from pilothouse.review.render_json import from_json, to_json
from pilothouse.review.render_markdown import markdown
from pilothouse.review.render_text import text

__all__ = ["from_json", "html", "markdown", "text", "to_json"]
