"""What the files say of a route, as the change log keeps it."""

import msgspec

from pilothouse.config.retention import Keep, RetentionConfig
from pilothouse.domain.change import Change
from pilothouse.releases import declared
from pilothouse.store.state import changes

R = "docs-answer"


def told(store) -> list[tuple[str, str]]:
    with store.read() as conn:
        return [(event.what, event.reason) for event in declared.events(conn, R, 0)]


def keeping(kit, **days):
    return msgspec.structs.replace(kit.config(kit.route()), retention=RetentionConfig(general=Keep(**days)))


def test_what_a_file_changes_is_told_and_what_it_began_with_is_not(store, clock, kit):
    declared.sync(store, keeping(kit), clock)
    declared.sync(store, keeping(kit), clock)
    assert told(store) == []
    declared.sync(store, keeping(kit, requests=60), clock)
    assert told(store) == [("retention", "requests kept for ever → 60 d")]


def test_a_kind_of_record_that_the_code_did_not_know_before_is_no_change_of_the_files(store, clock, kit):
    """The log of an older version names fewer kinds."""
    config = keeping(kit, requests=60)
    declared.sync(store, config, clock)
    with store.read() as conn:
        [row] = changes.find(conn, route=R, actions=(declared.ACTION,))
    after = row.change.detail["after"]
    older = {"before": None, "after": after | {"retention": {"requests": 60}}}
    with store.write() as conn:
        change = Change(
            actor=declared.FILES, action=declared.ACTION, object_type="route", object_id=R, route=R, detail=older
        )
        changes.append(conn, change, clock)
    declared.sync(store, config, clock)
    assert told(store) == []
    with store.read() as conn:
        assert changes.find(conn, route=R, actions=(declared.ACTION,))[-1].change.detail["after"] == after
    declared.sync(store, keeping(kit, requests=30), clock)
    assert told(store) == [("retention", "requests kept 60 d → 30 d")]
