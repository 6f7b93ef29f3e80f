from inline_snapshot import snapshot

from pilothouse.domain.evaluation import CaseResult, Score
from pilothouse.evals.gate import judge
from pilothouse.evals.report import headline, markdown, p_value, points, text


def cases(passes: list[bool], task: str, prefix: str) -> list[CaseResult]:
    why = [Score(scorer="contains", passed=False, why="missing '4000' | '4001'")]
    return [
        CaseResult(case_id=f"{prefix}{i}", task=task, passed=one, scores=[] if one else why)
        for i, one in enumerate(passes)
    ]


BEFORE = cases([True] * 190 + [False] * 25, "fact", "f") + cases([True] * 30 + [False], "multi-hop", "m")
AFTER = cases([True] * 182 + [False] * 8 + [True] * 7 + [False] * 18, "fact", "f") + cases(
    [True] * 12 + [False] * 19, "multi-hop", "m"
)


def test_a_blocked_release_in_the_terminal() -> None:
    verdict = judge(BEFORE, AFTER, 0.03, run_id=88, baseline_run_id=87)
    url = "http://127.0.0.1:4001/evals/88"
    assert text(verdict, baseline=BEFORE, candidate=AFTER, url=url) == snapshot("""\
BLOCK  pass rate 0.894 → 0.817   −7.7 pp [−11.4, −3.9]   p = 0.0004   26 broke, 7 mended
         the pass rate fell by 7.7 pp, at least 3.9
         worst: task "multi-hop" 0.97 → 0.39
         246 cases, margin 3 pp, detects a drop of 5.8 pp or more at 80 % power
         see: http://127.0.0.1:4001/evals/88       baseline: pilothouse eval show 87\
""")


def test_a_first_release_with_errors_in_the_terminal() -> None:
    after = [*cases([True] * 59, "fact", "f"), CaseResult(case_id="e", task="fact", error="timeout", must_pass=True)]
    assert text(judge(None, after, 0.03, floor=0.8), candidate=after) == snapshot("""\
INCONCLUSIVE  pass rate 0.983   n = 60
         must-pass case e could not be judged
         worst: task "fact" 0.98
         1 case without an answer, counted against the candidate
         60 cases, margin 3 pp, detects a drop of 10.0 pp or more at 80 % power\
""")


def test_markdown_names_what_broke_and_why() -> None:
    before, after = cases([True, True], "fact", "f"), cases([True, False], "fact", "f")
    assert markdown(judge(before, after, 0.03), baseline=before, candidate=after) == snapshot("""\
**INCONCLUSIVE  pass rate 1.000 → 0.500   −50.0 pp [−79.4, +29.4]   p = 0.25   1 broke, 0 mended**

a drop of 3 pp is not excluded; about 3433 cases decide. 2 cases, margin 3 pp, detects no drop.

| task | n | baseline | candidate |
|---|---:|---:|---:|
| fact | 2 | 1.00 | 0.50 |

| broke | why |
|---|---|
| f1 | contains: missing '4000' \\| '4001' |
""")


def test_numbers_as_people_write_them() -> None:
    assert [points(one) for one in (-0.0771, 0.01, -0.0001)] == ["−7.7", "+1.0", "0.0"]
    assert [p_value(one) for one in (0.5, 0.0412, 0.0004, 1e-9)] == ["p = 0.50", "p = 0.04", "p = 0.0004", "p < 0.0001"]
    assert headline(judge([], [], 0.03)) == "INCONCLUSIVE  pass rate 0.000   n = 0"
