"""`python -m pilothouse.security.entities`: what patterns cannot see, such as names of persons (extra `ner`: Presidio).

A process of its own, since a language model takes 160 MB and seconds to start, and nothing of it belongs on the path of
a request. It reads texts from stdin, each a JSON string in a line; it answers with one line that says what it goes by,
then for each text with its findings, `{class: count}`. It never loads anything from a network.
"""

import json
import re
import sys
from importlib.metadata import version
from typing import Any

MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")  # the first that is installed, also under a longer name
KINDS = {"PERSON": "person"}  # what has a form is left to redaction's own patterns, which are wrong about less
SURE = 0.6  # Presidio's score from which on a finding counts
LONGEST = 20_000  # characters of a text that are looked at
_IGNORED = (
    "CARDINAL", "DATE", "EVENT", "FAC", "GPE", "LANGUAGE", "LAW", "LOC", "MONEY", "NORP", "ORDINAL", "ORG", "PERCENT",
    "PRODUCT", "QUANTITY", "TIME", "WORK_OF_ART",
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\[[A-Z_]{2,20}:[0-9a-f]{6}\]")


def main() -> int:
    """Answer until stdin ends; 3 where Presidio or a model is not installed, with what is missing as the first line."""
    try:
        analyzer, looks = _analyzer()
    except (ImportError, LookupError) as missing:
        _tell({"missing": str(missing)})
        return 3
    _tell({"version": looks})
    for line in sys.stdin:
        # What stood around a placeholder must not seem to be one word.
        text = _PLACEHOLDER.sub(" - ", json.loads(line)[:LONGEST])
        found: dict[str, int] = {}
        for one in analyzer.analyze(text, language="en", entities=list(KINDS), score_threshold=SURE):
            found[KINDS[one.entity_type]] = found.get(KINDS[one.entity_type], 0) + 1
        _tell(found)
    return 0


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _analyzer() -> tuple[Any, str]:
    import presidio_analyzer  # noqa: PLC0415  # optional extra
    import spacy  # noqa: PLC0415  # optional extra
    from presidio_analyzer.nlp_engine import NlpEngineProvider  # noqa: PLC0415  # optional extra

    installed = sorted(spacy.util.get_installed_models())
    model = next((name for wanted in MODELS for name in installed if name.startswith(wanted)), None)
    if model is None:  # Presidio would try to download one
        raise LookupError(f"no spaCy model: install one of {', '.join(MODELS)}")
    engine = NlpEngineProvider(
        nlp_configuration={
            "nlp_engine_name": "spacy",
            "models": [{"lang_code": "en", "model_name": model}],
            "ner_model_configuration": {
                "labels_to_ignore": list(_IGNORED),
                "model_to_presidio_entity_mapping": {"PERSON": "PERSON", "PER": "PERSON"},
            },
        }
    ).create_engine()
    analyzer = presidio_analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    meta = spacy.util.get_package_path(model) / "meta.json"
    number = json.loads(meta.read_text(encoding="utf-8"))["version"]
    return analyzer, f"Presidio {version('presidio-analyzer')} with {model} {number}"


if __name__ == "__main__":
    raise SystemExit(main())
