"""A person with a browser in front of a whole `pilothouse up`: reads, promotes and rolls back, and traffic follows."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.process]


@pytest.fixture
def up(running, scripted_app):
    """A route with two releases, the first of them live in prod."""
    app = scripted_app()
    one = running(app)
    one.verb("release", "create", "answer", "-m", "first")
    one.verb("release", "promote", "answer")
    (app / "prompts/answer.system.md").write_text("You are a careful helper.\n")
    one.verb("release", "create", "answer", "-m", "careful")
    return one


def test_promote_and_roll_back_by_clicking(up, browser):
    key = up.key()
    served = [up.chat(key, "answer", f"question {n}")[1]["x-pilothouse-release"] for n in range(5)]
    assert set(served) == {"1"}

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))

    page.goto(up.control)
    page.wait_for_selector("h1:has-text('Overview')")
    assert "token" not in page.url
    assert page.locator("th a", has_text="answer").is_visible()

    page.goto(f"{up.pages}releases?route=answer")
    assert page.locator(".pointer[aria-label=prod] .big").inner_text() == "1"
    assert page.locator(".diff ins").inner_text() == "careful "
    page.select_option("form[action='/releases/promote'] [name=release]", "2")
    page.click("button.primary")
    page.wait_for_selector(".said")
    assert "Release 2 serves prod" in page.locator(".said").inner_text()
    assert page.locator(".pointer[aria-label=prod] .big").inner_text() == "2"
    assert up.chat(key, "answer", "after the promotion")[1]["x-pilothouse-release"] == "2"

    page.fill("[name=confirm]", "answer")
    page.fill("form[action='/releases/rollback'] [name=reason]", "worse")
    page.click("button.danger")
    page.wait_for_selector(".said:has-text('2 → 1')")
    assert page.locator(".pointer[aria-label=prod] .big").inner_text() == "1"
    assert up.chat(key, "answer", "after the rollback")[1]["x-pilothouse-release"] == "1"
    newest = page.locator(".log li").first.inner_text()
    assert "release.rollback" in newest and "person:admin" in newest and "worse" in newest

    up.eventually(lambda: len(up.get("/traces.json?route=answer")["traces"]) >= 7)
    page.goto(f"{up.pages}traces?route=answer")
    assert page.locator("tbody tr[data-open]").count() >= 7
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("trace-waterfall")
    page.click("text=Open the whole payload")
    page.wait_for_selector(".payload")
    assert "after the rollback" in page.locator(".payload").inner_text()

    for path, text in (("review", "Production-readiness review"), ("alerts", "Alerts"), ("?window=1h", "Overview")):
        page.goto(up.pages + path)
        page.wait_for_selector(f"h1:has-text('{text}')")
    assert not complaints
    context.close()


def test_a_release_is_edited_beside_somebody_else_and_its_plan_carried_on(up, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(up.control)
    page.goto(f"{up.pages}releases/new?route=answer&base=1")
    text, show = page.get_by_label("System template"), page.get_by_role("button", name="Show the difference")
    assert text.input_value() == "You are a helper.\n"
    text.fill("You are a {{ kind }} helper.\nAnswer in {% if %} lines.\n")
    show.click()
    assert "the template does not parse" in page.locator("#wrong-system").inner_text()
    text.fill("You are a brief helper.\n")
    (up.app / "prompts/answer.system.md").write_text("You are a patient helper.\n")
    assert up.verb("release", "create", "answer", "-m", "patient")["release"] == 3
    page.get_by_label("Notes: what changes and why").fill("brief")
    show.click()
    assert "release 3 was made meanwhile by" in page.locator("[role=alert]").inner_text()
    assert text.input_value() == "You are a brief helper.\n"
    show.click()
    assert page.locator(".drafted ins").inner_text() == "brief "
    page.click("text=Make release 4")
    page.wait_for_selector(".said:has-text('Release 4 is made')")

    made = up.get("/api/v1/routes/answer/releases")
    assert made["releases"][0]["notes"] == "brief" and made["releases"][0]["author"] == "person:admin"
    page.click(".switch >> text=dev")
    page.wait_for_selector("li:has-text('promote'):has-text('ready')")
    page.fill("[name=confirm]", "answer")
    page.click("button.primary")
    page.wait_for_selector(".side-col:has-text('Release 4 serves dev')")

    page.click(".switch >> text=prod")
    stale = up.get("/api/v1/routes/answer/plan?release=4")["revision"]
    up.verb("release", "promote", "answer", "2")
    page.fill("[name=confirm]", "answer")
    page.click("button.primary")
    assert (
        "the pointer has moved since the plan was looked at: release 2 is stable"
        in page.locator(".field-error").inner_text()
    )
    page.click("button.primary")
    page.wait_for_selector(".plan-carried:has-text('Carried on by person:admin')")
    assert up.get("/api/v1/routes/answer/plan?release=4")["revision"] > stale
    page.wait_for_selector("li:has-text('canary'):has-text('waiting')")
    page.click("text=Carry it on no further")
    page.wait_for_selector(".plan-carried:has-text('Stopped')")
    moves = up.get("/api/v1/routes/answer/releases")["moves"]
    assert moves[-1]["after"]["canary"] == 4 and moves[-1]["actor"]["id"] == "admin"
    context.close()


def test_a_live_canary_is_watched_a_part_taken_back_and_a_drill_seen(up, browser):
    key = up.key()
    up.verb("release", "promote", "answer", "2", "--canary", "50%")

    def board() -> dict:
        return up.get("/releases.json?route=answer")["routes"][0]

    def looked() -> bool:
        up.chat(key, "answer", "how long?")
        (run,) = board()["canaries"]
        return any(rail["n"] for rail in run["rails"]) and len(run["looks"]) > 0

    up.eventually(looked)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(up.control)
    page.goto(f"{up.pages}releases?route=answer")
    assert "Canary 2 against 1 in prod, at 50" in page.locator("#canary-prod").inner_text()
    assert "evidence against failed: e " in (page.locator(".ev-chart").first.get_attribute("aria-label") or "")
    page.fill("[name=confirm]", "answer")
    page.click("button.danger")
    page.wait_for_selector(".said")
    assert board()["canaries"][0]["state"] == "aborted"

    up.verb("release", "promote", "answer", "2")
    page.goto(f"{up.pages}releases?route=answer")
    page.select_option("[name=part]", "system")
    page.fill("[name=confirm]", "answer")
    page.click("button.danger")
    page.wait_for_selector(".said:has-text('system alone is as in release 1: release 1 serves prod')")
    assert "recorded inputs render" in page.locator(".said").inner_text()

    assert "never" in page.locator(".drills tr:has-text('restore')").inner_text()
    up.verb("drill", "restore", "answer")
    page.reload()
    assert "as promised" in page.locator(".drills tr:has-text('restore')").inner_text()
    page.click("text=Runbook")
    page.wait_for_selector("h1:has-text('Runbook of answer in prod')")
    assert "pilothouse release history answer" in page.locator(".runbook pre").first.inner_text()
    context.close()
