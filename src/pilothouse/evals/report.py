"""A verdict as people read it, in the terminal and in a pull request."""

from collections.abc import Mapping, Sequence

from pilothouse.domain.evaluation import CaseResult, Verdict
from pilothouse.evals.gate import Changed, Slice, changed, slices

INDENT = " " * 9
WORDS: Mapping[str, str] = {"pass": "PASS", "block": "BLOCK", "inconclusive": "INCONCLUSIVE"}


def points(share: float) -> str:
    """A difference of shares in percentage points, signed, with a true minus."""
    rounded = round(share * 100, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else ''}{abs(rounded):.1f}"


def p_value(p: float) -> str:
    """`p = 0.0004`, with as many digits as say something."""
    if p < 0.0001:
        return "p < 0.0001"
    return f"p = {p:.4f}" if p < 0.01 else f"p = {p:.2f}"


def headline(verdict: Verdict) -> str:
    """One line: the word, the rates, the difference with its 90 % interval, p, what broke and what mended."""
    word = f"{WORDS[verdict.verdict]:<5}"
    if verdict.baseline_rate is None or verdict.delta is None or verdict.low is None or verdict.high is None:
        return f"{word}  pass rate {verdict.candidate_rate:.3f}   n = {verdict.n}"
    parts = [
        f"{word}  pass rate {verdict.baseline_rate:.3f} → {verdict.candidate_rate:.3f}",
        f"{points(verdict.delta)} pp [{points(verdict.low)}, {points(verdict.high)}]",
        p_value(verdict.p_harm) if verdict.p_harm is not None else "",
        f"{verdict.broke} broke, {verdict.mended} mended",
    ]
    return "   ".join(part for part in parts if part)


def text(
    verdict: Verdict,
    *,
    baseline: Sequence[CaseResult] | None = None,
    candidate: Sequence[CaseResult] | None = None,
    url: str = "",
) -> str:
    """The gate's block of the terminal. With the results it names the worst task's rates; `url` is where to look."""
    lines = [headline(verdict), INDENT + verdict.reason]
    if worst := _worst(verdict, baseline, candidate):
        lines.append(INDENT + worst)
    if verdict.must_pass_failed:
        lines.append(f"{INDENT}must pass: {', '.join(verdict.must_pass_failed)}")
    if verdict.errors:
        lines.append(f"{INDENT}{_count(verdict.errors, 'case')} without an answer, counted against the candidate")
    lines.append(INDENT + power(verdict))
    links = [f"see: {url}"] if url else []
    if verdict.baseline_run_id is not None:
        links.append(f"baseline: pilothouse eval show {verdict.baseline_run_id}")
    if links:
        lines.append(INDENT + "       ".join(links))
    return "\n".join(lines)


def power(verdict: Verdict) -> str:
    """What this comparison could have seen."""
    if verdict.mde is None:
        return f"{_count(verdict.n, 'case')}, margin {verdict.margin * 100:g} pp"
    detects = (
        f"detects a drop of {verdict.mde * 100:.1f} pp or more at 80 % power" if verdict.mde < 1 else "detects no drop"
    )
    return f"{_count(verdict.n, 'case')}, margin {verdict.margin * 100:g} pp, {detects}"


def _worst(verdict: Verdict, baseline: Sequence[CaseResult] | None, candidate: Sequence[CaseResult] | None) -> str:
    if not verdict.worst_task:
        return ""
    found = next((one for one in slices(baseline, candidate or ()) if one.task == verdict.worst_task), None)
    return f'worst: task "{verdict.worst_task}"' + (f" {_rates(found)}" if found else "")


def _rates(one: Slice) -> str:
    return f"{one.candidate:.2f}" if one.baseline is None else f"{one.baseline:.2f} → {one.candidate:.2f}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def markdown(
    verdict: Verdict, *, baseline: Sequence[CaseResult] | None = None, candidate: Sequence[CaseResult] = ()
) -> str:
    """The same for a pull request: the line, the tasks, and the cases that broke with why."""
    lines = [f"**{headline(verdict).strip()}**", "", f"{verdict.reason}. {power(verdict)}.", ""]
    if candidate:
        lines += ["| task | n | baseline | candidate |", "|---|---:|---:|---:|"]
        for one in slices(baseline, candidate):
            before = "" if one.baseline is None else f"{one.baseline:.2f}"
            lines.append(f"| {_cell(one.task)} | {one.n} | {before} | {one.candidate:.2f} |")
        lines.append("")
        lines += _broken(changed(baseline, candidate) if baseline is not None else _failed(candidate), candidate)
    return "\n".join(lines).rstrip() + "\n"


def _failed(candidate: Sequence[CaseResult]) -> Changed:
    return Changed([one.case_id for one in candidate if not one.passed], [])


def _broken(moved: Changed, candidate: Sequence[CaseResult]) -> list[str]:
    if not moved.broke:
        return []
    by_id = {one.case_id: one for one in candidate}
    lines = ["| broke | why |", "|---|---|"]
    return lines + [f"| {_cell(case_id)} | {_cell(why(by_id[case_id]))} |" for case_id in moved.broke]


def why(result: CaseResult) -> str:
    """Why a case did not pass: its error, or the first scorer's word that failed it."""
    if result.error:
        return result.error
    failed = next((score for score in result.scores if not score.passed), None)
    return f"{failed.scorer}: {failed.why}" if failed else ""


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
