"""The flags' pages: what they say, and that nothing changes without the key typed."""

from urllib.parse import unquote


def test_the_list_says_what_is_on_and_what_to_look_at(site):
    html = site.get("/flags").text
    assert "<b>2</b> of 5 to look at" in html
    assert "unchanged for 74 days and everybody gets the same" in html
    assert "changed here: the files say otherwise" in html
    assert 'href="/flags/refunds?env=staging"' in site.get("/flags?env=staging").text


def test_a_flag_shows_rules_shares_and_history(site):
    html = site.get("/flags/checkout-copy").text
    assert "email ends with &#34;@example.org&#34; and app_version is a version &gt;=2.1.0" in html
    assert "50 % of keys" in html and "half of them, to compare" in html
    assert "everybody: the flag is off" in site.get("/flags/refunds").text
    assert site.get("/flags/nobody").status == 404


def test_a_change_needs_the_key_typed_the_token_and_the_revision_that_was_seen(site):
    asked = {"env": "prod", "what": "rollout:short", "share": "25 %", "reason": "try", "revision": "4"}
    done = site.post("/flags/checkout-copy", confirm="checkout-copy", **asked)
    assert done.status == 303
    assert "checkout-copy in prod: rollout short to 25% by person:ana" in unquote(done.headers["location"])
    assert site.post("/flags/checkout-copy", confirm="checkout", **asked).status == 400
    assert site.post("/flags/checkout-copy", csrf="wrong", confirm="checkout-copy", **asked).status == 403
    late = site.post("/flags/checkout-copy", confirm="checkout-copy", **asked | {"revision": "3"})
    assert late.status == 409 and "read it again" in late.text
    for wrong in ({"what": "explode"}, {"share": "many"}):
        assert site.post("/flags/checkout-copy", confirm="checkout-copy", **asked | wrong).status == 400


def test_without_flags_it_says_how_to_begin(empty_site):
    assert "pilothouse flag list" in empty_site.get("/flags").text
