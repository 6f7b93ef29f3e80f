"""The pages in a real browser: no error, no violation of the policy, keys, phone width, accessibility, pictures.

`SCREENSHOTS=docs/images pytest tests/server/pages/test_browser.py -k pictured` writes the documentation's pictures;
`pngquant --force --ext .png 128 docs/images/*.png` then makes them small.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.browser
SIZES = {"wide": (1280, 900), "phone": (390, 844)}
PAGES = {
    "overview": "/",
    "traces": "/traces",
    "trace": "",
    "agent": "",
    "sessions": "/sessions",
    "session": "",
    "users": "/users",
    "releases": "/releases?route=docs-answer",
    "canary": "/releases?route=code-review",
    "release": "/releases/new?route=docs-answer",
    "plan": "/releases/plan?route=docs-answer&release=12",
    "runbook": "/runbook?route=docs-answer",
    "flags": "/flags",
    "flag": "/flags/checkout-copy",
    "review": "/review?route=docs-answer",
    "alerts": "/alerts",
}
LISTED = {  # pages that are the first of a list
    "trace": "/traces?outcome=fallback&route=docs-answer",
    "agent": "/traces?q=source:otlp+error:timeout",
    "session": "/sessions",
}
PICTURED = (
    "overview",
    "traces",
    "trace",
    "sessions",
    "releases",
    "canary",
    "release",
    "plan",
    "runbook",
    "flags",
    "flag",
    "review",
)


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["wide", "phone"])
def size(request: pytest.FixtureRequest) -> str:
    return request.param


class Watched:
    """A page that remembers what the browser complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("requestfailed", self._failed)
        page.on("request", lambda r: None if r.url.startswith(url) else self.complaints.append(f"elsewhere: {r.url}"))

    def _failed(self, request: Request) -> None:
        left = request.failure == "net::ERR_ABORTED" and "/static/mark.svg?" in request.url
        if not left:  # a browser asks for the icon after `load`, and gives it up when the page is left
            self.complaints.append(f"not loaded: {request.url}: {request.failure}")

    def open(self, name: str) -> Page:
        path = PAGES[name]
        if name in LISTED:
            self.page.goto(self.url + LISTED[name])
            path = self.page.locator("tr[data-open]").first.get_attribute("data-open") or ""
        self.page.goto(self.url + path, wait_until="load")
        if name == "overview":
            self.page.wait_for_selector("time-chart canvas")
        if name == "agent":
            for step in self.page.locator("[data-step] > summary").all()[:5]:
                step.click()
            self.page.wait_for_function("() => document.querySelectorAll('.wf-detail .pairs').length >= 5")
        return self.page


def _watched(
    browser: Browser, url: str, size: str = "wide", theme: str = "light", **options: object
) -> Iterator[Watched]:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, timezone_id="Europe/Oslo", **options
    )
    context.add_cookies([{"name": "pilothouse_fixture", "value": "fixture", "url": url}])
    yield Watched(context.new_page(), url)
    context.close()


@pytest.fixture
def watched(browser, site, size, theme) -> Iterator[Watched]:
    yield from _watched(browser, site.url, size, theme)


@pytest.fixture
def wide(browser, site) -> Iterator[Watched]:
    yield from _watched(browser, site.url)


def test_every_page_is_clean_accessible_within_its_width_and_pictured(watched, size, theme, tmp_path):
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        page = watched.open(name)
        beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{name} is {beyond} px wider than the window"
        if name in PICTURED:
            whole = size == "wide" and name in {
                "overview",
                "releases",
                "canary",
            }  # their charts and verbs lie below the fold
            page.screenshot(path=folder / f"{name}-{theme}-{size}.png", full_page=whole)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = {f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in {"serious", "critical"}}
        assert not serious, (name, serious)
    assert not watched.complaints


def test_keys_move_through_rows_open_one_search_and_change_page(wide):
    page = wide.open("traces")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    rows = page.locator("tbody tr")
    assert rows.nth(0).get_attribute("aria-current") == "true"
    target = rows.nth(0).get_attribute("data-open")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}")
    page.keyboard.press("g")
    page.keyboard.press("v")
    page.wait_for_url("**/review")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert not wide.complaints


def test_a_flag_is_changed_only_with_its_key_typed(wide):
    page = wide.open("flag")
    button = page.locator("form.verb button.danger")
    assert button.is_disabled()
    page.select_option("form.verb select[name=what]", "rollout:short")
    page.fill("form.verb input[name=share]", "25")
    page.fill("form.verb input[name=confirm]", "checkout")
    assert button.is_disabled()
    page.fill("form.verb input[name=confirm]", "checkout-copy")
    button.click()
    page.wait_for_selector(".said:has-text('rollout short to 25%')")
    assert not wide.complaints


def test_a_filter_is_completed_with_keys_and_narrows_the_list_without_a_new_page(wide):
    page = wide.open("traces")
    before = page.locator(".count b").inner_text()
    page.focus("#q")
    page.keyboard.type("rou")
    page.wait_for_selector("#complete:not([hidden]) [role=option]:has-text('route:')")
    page.keyboard.press("Tab")
    page.wait_for_selector("#complete [role=option]:has-text('ticket-triage')")
    page.keyboard.type("ti")
    page.wait_for_function("() => document.querySelectorAll('#complete [role=option]').length === 1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.input_value("#q") == "route:ticket-triage "
    page.keyboard.type("Rechnung")
    page.keyboard.press("Escape")
    page.focus("#q")
    with page.expect_response(lambda r: "Rechnung" in r.url and "/complete" not in r.url):
        page.keyboard.press("Enter")
    page.wait_for_function("text => document.querySelector('.count b').textContent !== text", arg=before)
    assert "q=route%3Aticket-triage" in page.url and "Rechnung" in page.url
    assert set(page.locator("tbody .input span").all_inner_texts()) == {
        "Subject: Rechnung doppelt erhalten. Bitte um Korrektur für Oktober."
    }
    assert not wide.complaints


def test_what_is_wrong_with_a_filter_is_said_in_place(wide):
    page = wide.open("traces")
    page.fill("#q", "latncy>2s")
    page.keyboard.press("Escape")
    page.click("form.filters button")
    page.wait_for_selector(".wrong:has-text('Did you mean latency:?')")
    assert not wide.complaints


def test_a_histogram_is_brushed_with_the_pointer_and_with_keys(wide):
    page = wide.open("traces")
    chart = page.locator("brush-chart").first
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('#q').value.startsWith('latency:')")
    page.wait_for_selector(".count .more")
    first = page.input_value("#q")
    page.goto(page.url.partition("?")[0])
    page.locator("brush-chart a").nth(2).focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    assert page.locator("brush-chart a.brushed").count() == 4
    page.keyboard.press("Enter")
    page.wait_for_selector(".count .more")
    assert page.input_value("#q").startswith("latency:") and page.input_value("#q") != first
    assert not wide.complaints


def test_live_rows_appear_while_the_filter_holds_and_wait_while_paused(browser, fresh_site):
    for reader in _watched(browser, fresh_site.url):
        page = reader.page
        page.goto(f"{fresh_site.url}/traces?q=outcome:failed&live=1")
        page.wait_for_selector("tr.new[data-id^='live-']")
        assert set(page.locator("tr.new .out .st span").all_inner_texts()) == {"failed"}
        page.click("live-tail button")
        shown = page.locator("tr.new").count()
        page.wait_for_selector(".live-said:has-text('Paused: 1 waiting')")
        assert page.locator("tr.new").count() == shown
        page.click("live-tail button")
        assert page.locator("tr.new").count() > shown
        assert not reader.complaints


def test_steps_are_opened_compared_and_the_request_replayed(wide):
    page = wide.page
    page.goto(f"{wide.url}/traces?q=source:otlp")
    page.goto(wide.url + (page.locator("tr[data-open]").first.get_attribute("data-open") or ""))
    tools = page.locator("[data-step] > summary:has-text('execute_tool')")
    for n in (0, 1):
        tools.nth(n).click()
        page.locator("[data-step][open] input[form=compare]").nth(n).check()
    page.click("#compare button")
    page.wait_for_selector("h1:has-text('Two payloads')")
    assert page.locator(".diff del").count() and page.locator(".diff ins").count()
    page = wide.open("trace")
    page.click("text=Send it again")
    page.wait_for_selector(".replayed:has-text('The same answer, once more.')")
    assert not wide.complaints


def test_a_huge_trace_scrolls_and_renders_only_what_is_near(wide):
    page = wide.page
    page.goto(f"{wide.url}/traces/{hashlib.sha256(b'huge').hexdigest()[:32]}")
    first = page.locator("[data-step]").count()
    page.evaluate("document.querySelectorAll('.wf-later')[20].scrollIntoView()")
    page.wait_for_function("n => document.querySelectorAll('[data-step]').length > n", arg=first)
    assert page.locator("[data-step]").count() < 2_000
    assert not wide.complaints


def test_older_rows_are_added_beneath(wide):
    page = wide.open("traces")
    page.click("text=Show older")
    page.wait_for_selector(".continued tbody tr")
    assert page.locator("tr[data-open]").count() == 100
    assert not wide.complaints


def test_a_payload_opens_in_place(wide):
    page = wide.open("trace")
    page.click("text=Open the whole payload")
    page.wait_for_selector(".payload .msg-assistant")
    page.locator("[data-step] > summary").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("[data-step][open]").count() == 1
    assert not wide.complaints


def test_the_theme_is_switched_and_kept(wide):
    page = wide.open("overview")
    page.click("theme-switch button")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 25)"


def test_a_sparkline_tells_its_value_and_time_on_hover_on_every_row_at_once(wide):
    page = wide.open("overview")
    page.locator("spark-line").nth(3).hover()
    assert "Cost per request, from" in page.locator("#tip").inner_text()
    assert page.locator("spark-line line.cursor").count() == page.locator("spark-line").count()


def test_the_chart_writes_the_value_under_the_pointer_in_every_panel(wide):
    page = wide.open("overview")
    page.locator("time-chart .u-over").first.hover()
    labels = page.locator(".tc-label").all_inner_texts()
    assert len(labels) == 4 and all("from" in text for text in labels), labels
    assert page.locator(".tc-flag.bad").inner_text() == "✕ docs-answer: 12 taken back"


def test_a_canarys_evidence_tells_its_numbers_under_the_pointer_and_in_a_table(wide):
    page = wide.open("canary")
    plots = page.locator(".ev-plot")
    assert plots.count() == 5 + 4  # of six guardrails one has no data, four have bounds
    box = plots.first.bounding_box()
    said = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y - scrollY).querySelector('title').textContent",
        [box["x"] + box["width"] - 2, box["y"] + 20 + page.evaluate("scrollY")],
    )
    assert "UTC: e = 1.9, n = 412" in said
    page.click("text=The numbers")
    assert page.locator(".ev-table tbody tr").nth(1).inner_text().split("\t")[:4] == [
        "missed the schema",
        "Worse than allowed",
        "21",
        "398",
    ]
    page.click("text=Runbook")
    page.wait_for_selector("h1:has-text('Runbook of code-review in prod')")
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 1
    assert not wide.complaints


def test_a_release_is_made_by_editing_another_with_the_keyboard_alone(wide):
    page = wide.page
    page.goto(f"{wide.url}/releases?route=docs-answer")
    page.locator("a:has-text('New release')").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('New release')")
    page.get_by_label("Prompt template").focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("Say so when you do not know.")
    page.get_by_label("Notes: what changes and why").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("Honest")
    page.keyboard.press("Enter")  # shows the difference: it never makes a release
    page.wait_for_selector("#drafted")
    assert page.locator(".drafted ins").inner_text().strip() == "Say so when you do not know."
    page.get_by_role("button", name="Make release 13").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Plan')")
    assert "Release 13 is made: prompt changed by person:ana, 'Honest'" in page.locator(".said").inner_text()
    assert not wide.complaints


_NAMED = "one => (one.labels?.[0]?.innerText ?? one.ariaLabel ?? one.innerText).trim()"
_AT = "one => [...document.querySelectorAll('main *')].indexOf(one ?? document.activeElement)"


def test_every_field_and_button_of_the_forms_has_a_name_and_is_reached_by_tab(wide):
    page = wide.page
    for path in ("/releases/new?route=docs-answer", "/releases/plan?route=docs-answer&release=11"):
        page.goto(wide.url + path)
        kinds = ("input", "textarea", "select", "button:enabled", "summary")
        shown = page.locator("main").locator(", ".join(f"{kind}:visible" for kind in kinds)).all()
        assert len(shown) >= 3 and all(one.evaluate(_NAMED) for one in shown), path
        page.locator("#main").focus()
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(_AT))
        assert {one.evaluate(_AT) for one in shown} <= reached, path


def test_a_plan_is_carried_on_and_its_page_follows_it_to_the_end(browser, fresh_site):
    for reader in _watched(browser, fresh_site.url):
        page = reader.page
        page.goto(f"{fresh_site.url}/releases/plan?route=docs-answer&release=11")
        button = page.locator("button.primary")
        assert button.is_disabled()
        page.fill("[name=confirm]", "docs-answer")
        button.click()
        page.wait_for_selector(".plan-carried:has-text('82 of 492')")
        page.get_by_role("button", name="Carry it on no further").focus()
        page.wait_for_selector(".plan-carried:has-text('246 of 492')")
        page.wait_for_selector("[name=confirm]")  # it has ended: the page is loaded anew, with its form
        assert "Ended" in page.locator(".plan-carried").inner_text()
        assert not reader.complaints


def test_a_live_canary_is_refreshed_under_what_a_person_has_open_and_focused(wide):
    page = wide.open("canary")
    page.click("text=The numbers")
    page.locator(".ev-scroll").focus()
    marked = "() => document.querySelector('#canary-prod').dataset.old = 'yes'"
    page.evaluate(marked)
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        pass
    page.wait_for_function("() => !document.querySelector('#canary-prod').dataset.old")
    assert page.locator(".ev-below details").first.get_attribute("open") is not None
    assert page.evaluate("document.activeElement.className") == "ev-scroll"
    page.route(
        "**/releases?route=code-review", lambda route: route.continue_(url=f"{wide.url}/releases?route=docs-answer")
    )
    page.wait_for_selector("[data-ended]")
    assert page.locator("#live").get_attribute("data-every") is None
    assert not wide.complaints


def test_one_part_alone_is_taken_back_on_the_page(wide):
    page = wide.open("releases")
    page.select_option("form[data-confirm] select[name=part]", "index")
    page.fill("[name=confirm]", "docs-answer")
    page.locator("button.danger").click()
    page.wait_for_selector(".said:has-text('index alone is as in release 10')")
    assert not wide.complaints


def test_roll_back_is_sent_only_with_the_name_typed(wide):
    page = wide.open("releases")
    button = page.locator("button.danger")
    assert button.is_disabled()
    page.fill("[name=confirm]", "docs-answer")
    button.click()
    page.wait_for_selector(".said")
    assert "0 requests failed" in page.locator(".said").inner_text()


def test_an_alert_is_acknowledged_where_it_is_seen(browser, fresh_site):
    for reader in _watched(browser, fresh_site.url):
        page = reader.open("overview")
        page.locator("#alert-al-1 button").click()
        page.wait_for_selector("#alert-al-1:has-text('acknowledged')")
        assert page.locator(".answer").inner_text() == "2 acknowledged, in the hands of ana, dee."


def test_the_review_of_a_route_prints_on_one_sheet(wide):
    page = wide.open("review")
    for paper in ("A4", "Letter"):
        pdf = page.pdf(format=paper)
        assert pdf.count(b"/Type /Page\n") == 1, paper


def test_pages_can_be_read_without_javascript(browser, site):
    for reader in _watched(browser, site.url, java_script_enabled=False):
        for path in ("/", "/traces", "/releases?route=code-review", "/runbook?route=docs-answer", "/review"):
            reader.page.goto(site.url + path)
            assert reader.page.locator("h1").is_visible()
            assert reader.page.locator("table:visible").first.is_visible()
        reader.page.goto(site.url + "/traces")
        reader.page.fill("[name=q]", "outcome:failed")
        reader.page.click("form.filters button")
        assert "q=outcome%3Afailed" in reader.page.url
