"""Retrieval over Pilothouse's own documentation: sections of Markdown pages, ranked by BM25."""

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_WORD = re.compile(r"[a-z0-9_./]+")
_STOP = frozenset(
    (
        *(
            "a",
            "an",
            "and",
            "are",
            "as",
            "at",
            "be",
            "by",
            "can",
            "do",
            "does",
            "for",
            "from",
            "has",
            "have",
            "how",
            "in",
        ),
        *("is", "it", "its", "many", "much", "of", "on", "one", "or", "per", "s", "that", "the", "there", "to", "what"),
        *("when", "where", "which", "who", "with"),
    )
)
K1, B = 1.2, 0.6
PAGES = ("concepts", "evals", "gateway", "house", "index", "monitoring", "releases", "review", "security")


@dataclass(frozen=True)
class Section:
    """A section of a page. `id` is `page#heading`; `updated_at` is the page's time of change, s since 1970."""

    id: str
    title: str
    text: str
    updated_at: float


@dataclass(frozen=True)
class Hit:
    """A section that was found, with its BM25 score."""

    section: Section
    score: float


def words(text: str) -> list[str]:
    """Lower-case words with their plural endings off, stop words apart."""
    found = (word.strip("./") for word in _WORD.findall(text.lower()))
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found if word and word not in _STOP]


def sections(folder: Path) -> list[Section]:
    """Every `## ` section of the PAGES in `folder`, code blocks left out."""
    result: list[Section] = []
    for page in (folder / f"{name}.md" for name in PAGES):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for block in text.split("\n## ")[1:]:
            title, _, body = block.partition("\n")
            slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
            clean = " ".join(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", body).replace("`", "").split())
            if clean:
                result.append(Section(f"{page.stem}#{slug}", title.strip(), clean, page.stat().st_mtime))
    return result


class Index:
    """BM25 over the sections (Robertson and Zaragoza, 2009); a title's words count twice."""

    def __init__(self, documents: list[Section]) -> None:
        self.documents = documents
        self._counts = [Counter(words(d.title) * 2 + words(d.text)) for d in documents]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(1, len(self._lengths))
        seen = Counter(word for counts in self._counts for word in counts)
        n = len(documents)
        self._idf = {word: math.log(1 + (n - df + 0.5) / (df + 0.5)) for word, df in seen.items()}
        content = "".join(d.id + d.text for d in documents)
        self.version = hashlib.sha256(content.encode()).hexdigest()[:12]

    def search(self, query: str, k: int = 2) -> list[Hit]:
        """The `k` best sections with a score above zero, best first."""
        terms = words(query)
        scored = []
        for document, counts, length in zip(self.documents, self._counts, self._lengths, strict=True):
            norm = K1 * (1 - B + B * length / self._mean)
            score = sum(self._idf.get(t, 0.0) * counts[t] * (K1 + 1) / (counts[t] + norm) for t in terms if t in counts)
            if score > 0:
                scored.append(Hit(document, round(score, 3)))
        return sorted(scored, key=lambda hit: -hit.score)[:k]


def as_prompt(hits: list[Hit]) -> str:
    """What the prompt's `documents` variable holds."""
    return "\n\n".join(f"{hit.section.title}: {hit.section.text}" for hit in hits) or "(nothing was found)"
