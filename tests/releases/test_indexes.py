"""Index versions: registered, resolved when a release is made, and one part reverted over them."""

import msgspec
import pytest

from pilothouse.domain.errors import BadRequest, ConfigError, Conflict, Refused
from pilothouse.domain.manifest import IndexRef
from pilothouse.domain.release import IndexVersion
from pilothouse.releases import indexes, mixed, pointer, registry
from pilothouse.releases.pointer import Promotion
from pilothouse.store.state import changes, drills, releases
from pilothouse.store.state import indexes as stored

R = "docs-answer"


def on(kit, version="", text="One."):
    route = kit.route(text=text)
    return msgspec.structs.replace(
        route, manifest=msgspec.structs.replace(route.manifest, index=IndexRef(name="docs", version=version))
    )


def register(store, clock, ana, version, name="docs"):
    return indexes.register(store, IndexVersion(name=name, version=version), actor=ana, clock=clock)


def index_of(store, number):
    with store.read() as conn:
        return releases.manifest(conn, releases.get(conn, R, number)).index


def test_a_release_takes_the_newest_version_or_the_one_it_names(store, clock, ana, kit):
    unknown = registry.create(store, on(kit), actor=ana, clock=clock)
    assert [(w.part, w.what) for w in unknown.warnings] == [("index", "no version of docs is registered")]
    for version in ("v1", "v2"):
        assert register(store, clock, ana, version).author == "person:ana"
    registry.create(store, on(kit), actor=ana, clock=clock)
    registry.create(store, on(kit, "v1"), actor=ana, clock=clock)
    assert [index_of(store, n).version for n in (1, 2, 3)] == ["", "v2", "v1"]
    with pytest.raises(ConfigError, match="index docs has no version v9"):
        registry.create(store, on(kit, "v9"), actor=ana, clock=clock)
    with store.read() as conn:
        assert [one.version for one in stored.every(conn)] == ["v2", "v1"]
        assert [row.change.object_id for row in changes.find(conn, actions=("index.register",))] == [
            "docs@v1",
            "docs@v2",
        ]


def test_a_version_is_registered_once_and_has_a_name(store, clock, ana):
    register(store, clock, ana, "v1")
    register(store, clock, ana, "v1", name="other")
    with pytest.raises(Refused, match="is registered already"):
        register(store, clock, ana, "v1")
    with pytest.raises(BadRequest, match="a name and a version"):
        register(store, clock, ana, " ")


@pytest.fixture
def incident(store, clock, ana, kit):
    """Release 1 on index v1; release 2 changes the prompt and takes v2."""
    for number, text in ((1, "One."), (2, "Two.")):
        register(store, clock, ana, f"v{number}")
        registry.create(store, on(kit, text=text), actor=ana, clock=clock)
        pointer.promote(store, on(kit), Promotion(env="prod", release=number, actor=ana), clock)
        clock.advance(1)
    return store


def revert(store, ana, clock, made):
    return mixed.revert(store, made, actor=ana, reason="bad answers", verified="tried", clock=clock)


def test_one_part_is_taken_back_and_the_rest_stays(incident, clock, ana):
    made = mixed.compose(incident, R, "prod", "index")
    assert (made.source, made.exists, made.live.release) == (1, False, 3)
    moved, release = revert(incident, ana, clock, made)
    assert (moved.what, moved.from_release, moved.to_release, release.number) == ("part_reverted", 2, 3, 3)
    with incident.read() as conn:
        now = releases.manifest(conn, releases.get(conn, R, 3))
        (row,) = drills.list_rollbacks(conn, R)
        log = changes.find(conn, actions=("release.revert_part",))[0].change
        born = changes.find(conn, actions=("release.create",))[-1].change
    assert (now.prompt.text, now.index.version) == ("Two.", "v1")
    assert (row.part, row.from_release, row.to_release, row.t_flip_us) == ("index", 2, 3, clock.now_us())
    assert log.detail["waived"] == "gate: every part was released before; tried"
    assert born.detail["mixed"] == {"base": 2, "part": "index", "source": 1}
    # the way back from the mixed release leads to the first, not to the one that was left
    assert pointer.rollback(incident, R, "prod", actor=ana, reason="", clock=clock).to_release == 1


def test_a_mix_that_is_a_release_already_is_served_as_that(incident, clock, ana, kit):
    registry.create(incident, on(kit, "v1", text="Two."), actor=ana, clock=clock)
    made = mixed.compose(incident, R, "prod", "index")
    assert (made.exists, made.live.release) == (True, 3)
    assert revert(incident, ana, clock, made)[1].number == 3


def test_what_cannot_be_reverted(incident, clock, ana, kit):
    with pytest.raises(Refused, match="has another schema"):
        mixed.compose(incident, R, "prod", "schema")
    with pytest.raises(Refused, match="release 1 has the same schema as release 2"):
        mixed.compose(incident, R, "prod", "schema", to=1)
    with pytest.raises(BadRequest, match="no part 'weights'"):
        mixed.compose(incident, R, "prod", "weights")
    made = mixed.compose(incident, R, "prod", "index")
    pointer.set_disabled(incident, R, "prod", True, actor=ana, reason="stop", clock=clock)
    with pytest.raises(Conflict, match="has moved meanwhile"):
        revert(incident, ana, clock, made)
    registry.create(incident, on(kit, text="Three."), actor=ana, clock=clock)
    pointer.promote(incident, on(kit), Promotion(env="prod", release=3, actor=ana, share=0.5), clock)
    with pytest.raises(Refused, match="a canary of release 3 is running"):
        mixed.compose(incident, R, "prod", "index")
