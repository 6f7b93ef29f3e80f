"""The pages as a client without JavaScript sees them."""

import gzip
import hashlib
import re
from html import unescape as html_text
from pathlib import Path

import pytest

from pilothouse.server.pages import mount as pages

STATIC = Path(pages.__file__).parent / "static"
PATHS = [
    "/",
    "/?window=7d&route=docs-answer",
    "/traces",
    "/traces?q=outcome:failed+latency%3E100ms&live=1",
    "/sessions",
    "/users",
    "/releases?route=docs-answer",
    "/releases?route=code-review",
    "/releases?route=release-notes",
    "/releases?route=unborn",
    "/releases/new?route=docs-answer",
    "/releases/new?route=docs-answer&base=files",
    "/releases/plan?route=docs-answer&release=12",
    "/releases/plan?route=code-review&release=4&env=staging",
    "/runbook?route=docs-answer",
    "/flags",
    "/flags?env=staging",
    "/flags/checkout-copy",
    "/flags/refunds",
    "/review",
    "/review?route=docs-answer",
    "/alerts",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_whole_html_with_its_security_headers(site, path):
    answer = site.get(path)
    assert answer.status == 200
    assert answer.text.rstrip().endswith("</html>")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_no_inline_style_script_or_handler_and_loads_nothing_from_elsewhere(site, path):
    html = site.get(path).text
    assert " style=" not in html and "<style" not in html
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r'(?:src|href)="https?://', html)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_with_all_that_it_loads_weighs_less_than_200_kb(site, path):
    first = site.get(path, accept_encoding="gzip")
    html = gzip.decompress(first.body).decode()
    loaded = re.findall(r'<(?:script|link)[^>]*(?:src|href)="(/static/[^"]+)"', html)
    modules = ["/static/words.js", "/static/icons.svg"]
    weight = len(first.body) + sum(len(site.get(one, accept_encoding="gzip").body) for one in [*loaded, *modules])
    assert weight < 200_000


def test_the_overview_says_what_fires_and_who_has_it(site):
    html = site.get("/").text
    assert "1 alert is firing; cho has it." in html
    assert "canary <b>4</b> at 5&nbsp;%" in html
    assert "no price known" in html  # search-rewrite: unknown cost is never 0
    assert "no review yet" in html
    assert html.count("<spark-line") == 6 * 5 - 4  # one route without a price, three without quality


def test_without_a_request_the_chart_gives_way_to_what_to_do(site):
    html = site.get("/?env=staging").text
    assert "<time-chart" not in html and "keys create --name me --env staging" in html


def test_the_chart_of_all_routes_sums_traffic_and_shows_the_slowest(site):
    html = site.get("/").text
    assert "p95, slowest route" in html
    assert "p95, slowest route" not in site.get("/?route=docs-answer").text


def test_an_unknown_window_or_route_falls_back_to_the_plain_overview(site):
    assert site.get("/?window=9y&env=moon&route=nope").status == 200


def test_filters_narrow_the_list_and_stay_in_every_link(site):
    html = site.get("/traces?outcome=failed&q=the").text
    assert "<span>failed</span>" in html.partition('<tbody id="list">')[2]
    assert "<span>success</span>" not in html.partition('<tbody id="list">')[2]
    assert "q=the+outcome%3Afailed" in html


def test_the_next_page_of_rows_starts_after_the_last(site):
    first = site.get("/traces").text
    more = re.search(r'class="button" href="(/traces\?before=[^"]+)"', first)
    assert more
    second = site.get(more[1].replace("&amp;", "&")).text
    ids = re.findall(r'data-open="/traces/([^"]+)"', first)
    assert not set(ids) & set(re.findall(r'data-open="/traces/([^"]+)"', second))


def test_an_htmx_request_gets_the_results_alone(site):
    html = site.get("/traces?route=docs-answer", hx_request="true", hx_target="results").text
    assert "<html" not in html and "requests reflow" in html


@pytest.mark.parametrize("query", ["min_ms=nan", "min_ms=-1", "max_ms=1e999"])
def test_a_filter_that_cannot_be_is_refused_with_what_to_do(site, query):
    answer = site.get(f"/traces?{query}")
    assert answer.status == 400
    assert "clear the filter" in answer.text


def test_a_trace_shows_stages_attempts_parts_and_the_replay_command(site):
    ident = re.search(r'data-open="/traces/([^"]+)"', site.get("/traces?outcome=fallback").text)[1]
    html = site.get(f"/traces/{ident}").text
    for name in ("prompt", "system", "model", "params", "tools", "schema", "index", "policy"):
        assert f"<li><span>{name}</span>" in html
    assert f"pilothouse trace replay {ident}" in html
    assert "rate_limit" in html and "unaccounted" in html and "critical path" in html


def test_a_trace_shows_what_the_safeguards_did(site):
    found = site.get("/traces?api=messages&cache=miss").text
    idents = re.findall(r'data-open="/traces/([^"]+)"', found)
    assert len(idents) == 1
    html = site.get(f"/traces/{idents[0]}").text
    for kind in ("primary", "hedge", "reask", "fallback"):
        assert f"<small>{kind}</small>" in html
    assert "given up" in html and "3 messages left out" in html and "asks to wait 1.5" in html
    for fact in ("fallback: trim", "slots: concurrency", "pii mask output email", "continued", "140 ms"):
        assert fact in html


def test_a_filter_that_cannot_be_read_is_shown_with_the_place(site):
    answer = site.get("/traces?q=env:prod+latncy%3E2s")
    assert answer.status == 400
    assert "no field &#39;latncy&#39;, at character 10 of the filter" in answer.text
    assert "env:prod latncy&gt;2s\n         ▲" in answer.text and "Did you mean latency:?" in answer.text
    part = site.get("/traces?q=latncy%3E2s", hx_request="true", hx_target="results")
    assert part.status == 200 and "<html" not in part.text and "Did you mean" in part.text


def test_completion_offers_names_and_then_values_with_their_counts(site):
    names = site.get("/traces/complete?q=env:prod+rou&at=12", hx_request="true").text
    assert 'data-line="env:prod route:" data-cursor="15"' in names and names.count("<li") == 1
    values = site.get("/traces/complete?q=route:do", hx_request="true").text
    assert 'data-line="route:docs-answer "' in values and "<span>49</span>" in values
    assert 'data-line="has:tool "' in site.get("/traces/complete?q=has:t", hx_request="true").text
    assert "gpt-5-mini-2026-08-07" in site.get("/traces/complete?q=model:gpt+%22open&at=9", hx_request="true").text


def test_a_trace_over_otlp_alone_is_listed_and_shown_with_what_it_took(site):
    found = site.get("/traces?q=source:otlp+error:timeout").text
    ident = re.search(r'data-open="/traces/([^"]+)"', found)[1]
    html = site.get(f"/traces/{ident}").text
    assert "over OTLP, not through the gateway" in html and "execute_tool" in html
    steps = re.findall(r'hx-get="(/traces/[^"]+/step[^"]+)"', html)
    opened = [site.get(one.replace("&amp;", "&"), hx_request="true").text for one in steps]
    assert any("Arguments" in one and "Result" in one and "TimeoutError" in one for one in opened)
    assert any("Plan three days in Bergen for two" in one and "tool_calls" in one for one in opened)
    assert site.get(f"/traces/{ident}/step?of=none").status == 404
    assert site.get("/traces/none/rows").status == 404


def test_the_client_s_side_of_a_request_is_drawn_with_it_and_documents_are_listed(site):
    ident = re.search(r'data-open="/traces/([^"]+)"', site.get("/traces?route=docs-answer").text)[1]
    html = site.get(f"/traces/{ident}").text
    assert html.count("app + gateway") == 1
    assert not re.search(r'title="chat docs-answer"', html)
    steps = re.findall(r'hx-get="(/traces/[^"]+/step[^"]+)"', html)
    assert any("guide/0" in site.get(one, hx_request="true").text for one in steps)


def test_a_huge_trace_is_rendered_in_windows_with_its_tree_folded(site):
    ident = hashlib.sha256(b"huge").hexdigest()[:32]
    html = site.get(f"/traces/{ident}").text
    assert html.count("data-step") == 150 and "50,000 steps in all" in html
    later = re.search(r'hx-get="(/traces/[^"]+/rows\?from=1500)"', html)[1]
    assert site.get(later, hx_request="true").text.count("data-step") == 150
    below = re.search(r'hx-get="(/traces/[^"]+/rows\?under=[^"]+)"', html)[1]
    assert 1 <= site.get(below, hx_request="true").text.count("data-step") <= 49
    assert len(html.encode()) < 400_000


def test_two_payloads_are_compared_by_word(site):
    ids = re.findall(r'data-open="/traces/([^"]+)"', site.get("/traces?route=docs-answer").text)
    html = site.get(f"/compare?of={ids[0]}&of={ids[3]}").text
    assert "<ins>" in html or "You answer from the documentation alone" in html
    assert site.get(f"/compare?of={ids[0]}").status == 400


def test_a_request_is_replayed_from_its_page(site):
    ident = re.search(r'data-open="/traces/([^"]+)"', site.get("/traces?route=docs-answer").text)[1]
    assert "the same body byte for byte" in site.post(f"/traces/{ident}/replay", send="").text
    assert "The same answer, once more." in site.post(f"/traces/{ident}/replay", send="yes").text
    assert site.post(f"/traces/{ident}/replay", csrf="wrong").status == 403
    assert site.post("/traces/none/replay").status == 404


def test_a_view_is_saved_for_oneself_or_all_and_taken_away(site):
    assert site.post("/views", q="route:docs-answer", age="7d", name="Docs, mine").status == 303
    assert site.post("/views", q="env:prod", age="", name="Ours", shared="yes").status == 303
    html = site.get("/traces").text
    assert "Docs, mine" in html and "q=route%3Adocs-answer&amp;age=7d" in html and html.count(">shared<") == 2
    assert site.post("/views", q="nope:x", name="Bad").status == 400
    assert site.post("/views/delete", name="Docs, mine").status == 303
    assert "Docs, mine" not in site.get("/traces").text


def test_sessions_and_users_are_listed_and_a_session_is_a_conversation(site):
    html = site.get("/sessions").text
    first = re.search(r'data-open="(/sessions/one[^"]+)"', html)[1]
    assert "Last seen" in html and "Failed" in html
    talk = site.get(first).text
    assert talk.count('class="turn"') >= 2 and "Open the trace" in talk
    assert "user%3Au-" in site.get("/users").text
    assert site.get("/sessions/one?id=none").status == 404
    assert "No session was seen" in site.get("/sessions?q=zzz").text


def test_one_api_is_no_choice(site):
    assert "<h3>API</h3>" in site.get("/traces").text
    assert "<h3>API</h3>" not in site.get("/traces?outcome=failed").text
    assert "<h3>Cache</h3>" in site.get("/traces?cache=miss").text


def test_payloads_are_fetched_when_opened_and_shown_as_a_conversation(site):
    ident = re.search(r'data-open="/traces/([^"]+)"', site.get("/traces?route=docs-answer").text)[1]
    assert "You answer from the documentation alone" not in site.get(f"/traces/{ident}").text
    assert "You answer from the documentation alone" in site.get(f"/payload?of={ident}").text
    assert "<html" not in site.get(f"/payload?of={ident}", hx_request="true").text
    assert "No body is kept" in site.get("/payload?of=unknown").text


def test_a_request_that_is_not_there_is_a_404_that_says_so(site):
    answer = site.get("/traces/unknown")
    assert answer.status == 404 and "unknown" in answer.text
    assert site.get("/nowhere").status == 404
    assert site.get("/releases?route=nope").status == 404
    assert site.get("/releases?route=docs-answer&b=99").status == 404
    assert site.get("/review?route=nope").status == 404


def test_releases_show_the_difference_by_word_and_by_path(site):
    html = site.get("/releases?route=docs-answer").text
    assert "<del>five</del><ins>two</ins>" in html
    assert "<code>temperature</code>" in html and "<del>0.2</del>" in html and "<ins>0.7</ins>" in html
    assert "canary 12 ✕ taken back" in html
    assert "−7.7 pp" in html


def test_a_live_canary_is_shown_against_its_boundary(site):
    html = site.get("/releases?route=code-review").text
    assert "evidence against invalid: e = 24, taken back at 1,400, over 90 looks, n = 398" in html
    assert "invalid worse by +2.18\u00a0pp [+0.22\u00a0pp, +4.17\u00a0pp] against 2\u00a0pp allowed" in html
    assert "shares: shadow, 1\u00a0%, 5\u00a0%" in html
    assert "held: 21 of 398 requests invalid against 4.1 % allowed" in html
    table = html.partition('class="rows ev-table"')[2].partition("</table>")[0]
    assert table.count("<tr>") == 7 and "e = 24" in table and "+4.3\u00a0% [\u22121.8\u00a0%, +10.8\u00a0%]" in table
    assert "No data" in table and "e &lt; 0.01" in table and "nothing has been seen of it" in html
    assert html.partition("Decisions so far")[2].partition("</ol>")[0].count("<li>") == 5


def test_where_no_canary_runs_the_newest_is_shown_with_what_ended_it(site):
    html = site.get("/releases?route=docs-answer").text
    assert "aborted: 41 of 430 requests failed against 2.7 % allowed" in html
    assert "taken back after 1\u00a0h 35" in html
    assert "Decided 8.0\u00a0ms after the evidence was read, the pointer moved 32\u00a0ms later" in html
    assert 'id="canary"' not in site.get("/releases?route=ticket-triage").text


def test_drills_show_their_times_what_failed_and_what_was_never_practised(site):
    html = site.get("/releases?route=docs-answer").text.partition('id="drills"')[2].partition("</table>")[0]
    assert "on every worker after 41\u00a0ms; last request on the old release after 37\u00a0ms" in html
    assert "5 of 6 faults handled; wrong: stall: failed by timeout, expected fallback" in html
    assert html.count("as promised") == 5 and html.count("<span>failed</span>") == 1 and html.count("never") == 1
    assert "pilothouse drill model-switch docs-answer --env staging" in html
    assert 'href="/runbook?route=docs-answer"' in site.get("/releases?route=docs-answer").text


def test_the_runbook_is_a_page_with_the_ids_of_now(site):
    html = site.get("/runbook?route=docs-answer&env=prod").text
    assert "<h1>Runbook of docs-answer in prod</h1>" in html
    assert "pilothouse rollback docs-answer    # release 10 was good</pre>" in html
    assert "<td><b>failed</b></td>" in html and "<code>0a1b2c3d4e5f</code>" in html
    assert site.get("/runbook?route=nope").status == 404
    assert site.get("/runbook?route=docs-answer&env=moon").status == 400


def test_a_promotion_the_gate_blocks_is_refused_and_one_forced_needs_a_reason(site):
    refused = site.post("/releases/promote", route="docs-answer", release="12", env="prod", share="1.0")
    assert refused.status == 409 and "did not pass its gate" in refused.text
    bare = site.post("/releases/promote", route="docs-answer", release="12", env="prod", share="1.0", force="yes")
    assert bare.status == 400 and "needs a reason" in bare.text
    done = site.post(
        "/releases/promote", route="docs-answer", release="12", env="prod", share="0.1", force="yes", reason="drill"
    )
    assert done.status == 303
    assert "serves prod" in site.get(done.headers["location"]).text


@pytest.mark.parametrize(
    "form", [{"share": "0"}, {"share": "nan"}, {"share": "x"}, {"env": "moon"}, {"release": ""}, {"release": "-1"}]
)
def test_a_promotion_that_cannot_be_is_a_400(site, form):
    assert (
        site.post("/releases/promote", **{"route": "a", "release": "1", "env": "prod", "share": "1", **form}).status
        == 400
    )


def test_a_rollback_needs_the_routes_name_typed(site):
    wrong = site.post("/releases/rollback", route="docs-answer", env="prod", confirm="docs")
    assert wrong.status == 400 and "nothing was changed" in wrong.text
    done = site.post("/releases/rollback", route="docs-answer", env="prod", confirm="docs-answer")
    assert done.status == 303 and "0%20requests%20failed" in done.headers["location"]


def test_one_part_alone_is_taken_back_with_the_name_typed(site):
    asked = {"route": "docs-answer", "env": "prod", "part": "index"}
    assert site.post("/releases/rollback", **asked, confirm="docs").status == 400
    done = site.post("/releases/rollback", **asked, confirm="docs-answer")
    assert done.status == 303 and "index alone is as in release 10" in site.get(done.headers["location"]).text
    untried = site.post("/releases/rollback", **asked, confirm="docs-answer", force="yes")
    assert untried.status == 400 and "needs a reason" in untried.text
    unknown = site.post("/releases/rollback", **{**asked, "part": "soul"}, confirm="docs-answer")
    assert unknown.status == 400


def typed(site, query: str = "route=docs-answer") -> dict[str, str]:
    """The form of a new release as it comes, ready to be sent."""
    page = site.get(f"/releases/new?{query}").text.partition('<form class="draft"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'<input[^>]* ?name="([^"]+)" value="([^"]*)"', page))
    fields |= dict(re.findall(r'<textarea name="([^"]+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL))
    return {name: html_text(value) for name, value in fields.items() if name != "csrf"}


def shown(answer) -> str:
    return re.search(r'name="shown" value="([0-9a-f]{64})"', answer.text)[1]


def test_a_release_is_made_of_what_was_shown_and_of_nothing_else(site):
    form = typed(site)
    assert form["model"] == "openai/gpt-5-mini" and form["prompt"].endswith("Cite every source that you use.\n")
    form |= {"prompt": form["prompt"].replace("five", "three").replace("\n", "\r\n"), "notes": "Shorter"}
    draft = site.post("/releases/new", do="create", **form)
    assert draft.status == 200 and "Release 13 would be" in draft.text, "nothing is made before it was shown"
    assert "<del>five</del><ins>three</ins>" in draft.text and "1 part differs from release 11" in draft.text
    assert "nothing is taken away from callers of release 11" in draft.text and "names no version" in draft.text
    other = form | {"params": '{"temperature": 0.9}'}
    again = site.post("/releases/new", do="create", shown=shown(draft), **other)
    assert again.status == 200 and "<ins>0.9</ins>" in again.text, "what was changed since is shown first"
    made = site.post("/releases/new", do="create", shown=shown(draft), **form)
    assert made.status == 303 and made.headers["location"].startswith("/releases/plan?route=docs-answer&release=13")
    said = html_text(site.get(made.headers["location"].replace("release=13", "release=12")).text)
    assert "Release 13 is made: prompt changed by person:ana, 'Shorter'" in said


def test_what_callers_would_not_survive_is_said_before_a_release_is_made(site):
    draft = site.post("/releases/new", do="show", **typed(site) | {"schema": ""})
    assert "would not survive it; the plan will be blocked" in draft.text
    assert "212 of 246 requests rely on it" in draft.text and "no caller seen that relies on it" in draft.text


def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(site):
    form = typed(site) | {"model": "gpt", "params": '{"a": NaN}', "tools": "[1,", "notes": "</textarea><b>mine"}
    answer = site.post("/releases/new", do="create", shown="", **form)
    assert answer.status == 400 and "3 fields have something wrong" in answer.text
    for field, why in (("model", "is not `provider/model`"), ("params", "NaN is no number"), ("tools", "column 4")):
        at = answer.text.partition(f'id="wrong-{field}"')[2].partition("</p>")[0]
        assert why in html_text(at), (field, at)
    assert "{&#34;a&#34;: NaN}" in answer.text and 'value="&lt;/textarea&gt;&lt;b&gt;mine"' in answer.text
    policy = typed(site) | {"policy": '{"colour": 1}'}
    answer = site.post("/releases/new", do="show", **policy)
    assert (
        "no key" in answer.text.partition('id="wrong-policy"')[2]
        and "<details open><summary>Edit the policy" in answer.text
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"seed": %s}' % ("7" * 5_000), "too long a number"),
        ('{"seed": -9223372036854775809}', "too long a number"),
        ('{"top_p": 1e999}', "too large a number"),
        ("[" * 20_000, "nested"),
        ("[" * 400 + "]" * 400, "nested"),
    ],
)
def test_json_that_python_alone_cannot_read_or_would_change_is_refused_at_its_field(site, text, why):
    answer = site.post("/releases/new", do="show", **typed(site) | {"params": text})
    assert answer.status == 400
    assert why in answer.text.partition('id="wrong-params"')[2].partition("</p>")[0]


HUGE = "9" * 5_000


def test_a_number_of_thousands_of_digits_is_a_400_wherever_it_comes(site):
    for path in (
        f"/releases?route=docs-answer&a={HUGE}", f"/releases/plan?route=docs-answer&release={HUGE}",
        f"/releases/new?route=docs-answer&base={HUGE}",
    ):  # fmt: skip
        assert site.get(path).status == 400, path[:40]
    place = {"route": "docs-answer", "env": "prod", "confirm": "docs-answer"}
    assert site.post("/releases/rollback", **place, to=HUGE).status == 400
    assert site.post("/releases/apply", **place, release="11", revision=HUGE).status == 400
    assert site.post("/releases/new", do="show", **typed(site) | {"newest": HUGE}).status == 400
    flag = {"env": "prod", "what": "enable", "confirm": "checkout-copy"}
    assert site.post("/flags/checkout-copy", **flag, revision=HUGE).status == 400


def test_a_release_on_a_base_that_moved_says_so_and_keeps_what_was_typed(site):
    form = typed(site) | {"notes": "mine", "newest": "11"}
    answer = site.post("/releases/new", do="create", **form)
    assert answer.status == 409 and "release 12 was made meanwhile by person:ben" in answer.text
    assert 'name="newest" value="12"' in answer.text and 'name="notes" value="mine"' in answer.text
    assert "a=11&amp;b=12#diff" in answer.text


def test_a_plan_is_carried_on_only_with_the_name_typed_and_as_it_was_looked_at(fresh_site):
    site = fresh_site
    asked = {"route": "docs-answer", "release": "11", "env": "prod", "revision": "41", "gate": "yes"}
    wrong = site.post("/releases/apply", **asked, confirm="docs")
    assert wrong.status == 400 and 'id="wrong-confirm"' in wrong.text and 'value="docs"' in wrong.text
    moved = site.post("/releases/apply", **asked | {"revision": "40"}, confirm="docs-answer")
    assert moved.status == 409 and "the pointer has moved since the plan was looked at" in moved.text
    done = site.post("/releases/apply", **asked, confirm="docs-answer")
    assert done.status == 303
    page = site.get("/releases/plan?route=docs-answer&release=11").text
    assert "Carried on by person:ana" in page and "<b>82</b> of 492" in page and 'data-every="2"' in page
    assert "Carry it on no further" in page and 'name="confirm"' not in page
    news = site.get("/releases/plan?route=docs-answer&release=11&followed=1", hx_request="true")
    assert "<b>164</b> of 492" in news.text and "<html" not in news.text
    assert site.post("/releases/apply/stop", **asked).status == 303
    over = site.get("/releases/plan?route=docs-answer&release=11&followed=1", hx_request="true")
    assert over.status == 204 and over.headers["hx-refresh"] == "true"
    page = site.get("/releases/plan?route=docs-answer&release=11").text
    assert "what is live stays so" in page and "data-every" not in page and 'name="confirm"' in page


def test_a_plan_says_how_each_step_stands_and_what_is_not_reached(site):
    html = site.get("/releases/plan?route=docs-answer&release=12").text
    assert "246 cases, margin 3\u00a0pp" in html and "block: pass rate 0.894 → 0.817" in html
    assert html.count("not reached yet") == 2 and "<del>five</del><ins>two</ins>" in html
    assert "A step stands in the way, and says why" in html and "pilothouse rollback docs-answer" in html
    for query in ("release=x", "release=12&env=moon", ""):
        assert site.get(f"/releases/plan?route=docs-answer&{query}").status == 400
    assert site.get("/releases/plan?route=nope&release=1").status == 404
    assert site.get("/releases/new?route=nope").status == 404
    assert site.get("/releases/new?route=docs-answer&base=-1").status == 400


def test_a_live_canary_s_part_of_the_page_asks_for_its_news_until_it_has_ended(site):
    assert re.search(
        r'id="live" hx-get="/releases\?route=code-review"[^>]* data-keep data-every="5"',
        site.get("/releases?route=code-review").text,
    )
    news = site.get("/releases?route=code-review", hx_request="true").text
    assert (
        "<html" not in news and 'id="canary-prod"' in news and 'class="pointers"' in news and "data-ended" not in news
    )
    assert 'href="#canary-prod"' in news
    ended = site.get("/releases?route=docs-answer", hx_request="true").text
    assert "data-ended" in ended and "data-every" not in site.get("/releases?route=docs-answer").text


def test_a_form_without_its_token_changes_nothing(site):
    for path in ("/releases/new", "/releases/apply", "/releases/apply/stop"):
        assert site.post(path, csrf="wrong", route="docs-answer").status == 403
    for csrf in ("", "wrong"):
        answer = site.post("/releases/rollback", csrf=csrf, route="docs-answer", env="prod", confirm="docs-answer")
        assert answer.status == 403 and "Nothing was changed" in answer.text


def test_alerts_are_acknowledged_and_judged(site):
    text = site.get("/alerts").text
    assert text.index('id="alert-al-1"') < text.index('id="alert-al-3"') < text.index('id="alert-al-5"')  # by state
    assert "/alerts/al-3/ack" not in text and "/alerts/al-3/actionable" not in text  # it has not fired
    assert site.post("/alerts/al-1/ack", next="/alerts").headers["location"] == "/alerts"
    assert "acknowledged by ana" in site.get("/alerts").text
    assert site.post("/alerts/al-5/actionable", value="no").status == 303
    assert "was noise" in site.get("/alerts").text
    assert site.post("/alerts/al-5/actionable", value="perhaps").status == 400
    assert site.post("/alerts/unknown/ack").status == 404


def test_nobody_sees_a_page_without_signing_in(site):
    for path in PATHS:
        answer = site.ask("GET", path)
        assert answer.status == 303 and answer.headers["location"].startswith("/login?next=")
    assert site.ask("POST", "/releases/rollback", {"route": "x"}).status == 303
    assert site.ask("GET", "/traces", hx_request="true").headers["hx-redirect"].startswith("/login")


def test_signing_in_sets_the_cookie_and_goes_where_it_was_asked(site):
    assert "Admin password" in site.ask("GET", "/login?next=/review").text
    wrong = site.ask("POST", "/login", {"secret": "guess", "next": "/review"})
    assert wrong.status == 401 and "set-cookie" not in wrong.headers
    right = site.ask("POST", "/login", {"secret": "let-me-in-to-the-fixture", "next": "/review"})
    assert right.status == 303 and right.headers["location"] == "/review"
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    out = site.post("/logout")
    assert out.status == 303 and "pilothouse_fixture=" in out.headers["set-cookie"]


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_signing_in_never_leads_elsewhere(site, target):
    right = site.ask("POST", "/login", {"secret": "let-me-in-to-the-fixture", "next": target})
    assert right.headers["location"] == "/"


def test_hostile_text_is_shown_as_text(site):
    html = site.get("/traces?q=%3Cscript%3Ealert(1)%3C/script%3E%22%20onload=x").text
    assert "<script>alert" not in html and '" onload=x' not in html
    html = site.get("/releases?route=docs-answer&said=%3Cimg%20src=x%3E").text
    assert "<img" not in html


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/", "pilothouse release create"),
        ("/traces", "OPENAI_BASE_URL"),
        ("/releases", "pilothouse release create"),
        ("/review", "pilothouse release create"),
        ("/alerts", "pilothouse rules list"),
    ],
)
def test_an_empty_page_says_what_to_do_with_the_command(empty_site, path, command):
    answer = empty_site.get(path)
    assert answer.status == 200 and command in answer.text


def test_static_files_are_kept_by_browsers_only_under_their_hash(site):
    assert "immutable" in site.get("/static/page.css?v=abc").headers["cache-control"]
    assert site.get("/static/page.css").headers["cache-control"] == "no-cache"
    assert site.get("/static/../render.py").status == 404


def test_the_theme_comes_from_its_cookie(site):
    assert '<html lang="en" data-theme="dark">' in site.ask("GET", "/login", cookie="ph_theme=dark").text
    assert "data-theme" not in site.ask("GET", "/login", cookie='ph_theme="><script>').text.partition("<head>")[0]


def test_vendored_files_are_those_that_were_written_down():
    rows = re.findall(
        r"^\| `([^`]+)` .* `([0-9a-f]{64})` \|$", (STATIC / "vendor/VENDORED.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 3
    for name, digest in rows:
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def test_scripts_keep_to_their_budget():
    lengths = {path.name: len(path.read_text().splitlines()) for path in STATIC.glob("*.js")}
    assert max(lengths.values()) <= 400 and sum(lengths.values()) <= 4_000
