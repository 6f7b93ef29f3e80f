"""Writes datasets/docs-answer.jsonl: each question of questions.jsonl with the sections that retrieval finds today.

python build_dataset.py [--docs ../../docs]
"""

import argparse
import json
from pathlib import Path

from retrieval import Index, as_prompt, sections

HERE = Path(__file__).resolve().parent
K = 1


def case(row: dict[str, object], index: Index) -> dict[str, object]:
    """One case of the dataset."""
    question = str(row["question"])
    hits = index.search(question, K)
    made: dict[str, object] = {
        "id": row["id"],
        "task": row["task"],
        "input": question,
        "variables": {"question": question, "documents": as_prompt(hits)},
        "retrieved": [{"id": hit.section.id, "score": hit.score} for hit in hits],
    }
    if row.get("refuses"):
        made |= {"target": {"refuses": True}, "scorers": ["refuses"]}
    else:
        made |= {"target": {"contains": row["contains"], "relevant": row["relevant"]}}
    return made


def main() -> None:
    """Write the dataset and the version of the index that it was made with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=HERE.parent.parent / "docs")
    index = Index(sections(parser.parse_args().docs))
    rows = [json.loads(line) for line in (HERE / "datasets/questions.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps(case(row, index), ensure_ascii=False) for row in rows]
    (HERE / "datasets/docs-answer.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (HERE / "datasets/index.version").write_text(index.version + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
