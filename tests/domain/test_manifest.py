"""Content addresses: equal content has equal hashes, and the order of a schema's properties is content."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.hashing import canonical, content_hash, names_hash
from pilothouse.domain.manifest import PARTS, Manifest, manifest_from_parts
from pilothouse.domain.model_ref import ModelRef

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(
    params=st.dictionaries(st.text(max_size=6), JSON, max_size=4), schema=st.none() | st.dictionaries(st.text(), JSON)
)
def test_a_manifest_survives_its_parts(params: dict[str, object], schema: dict[str, object] | None) -> None:
    manifest = Manifest(model=ModelRef("p", "m"), params=params, schema=schema)
    stored = {name: msgspec.json.decode(msgspec.json.encode(manifest.part(name))) for name in PARTS}
    again = manifest_from_parts(stored)
    assert again.hashes() == manifest.hashes()
    assert again.hash() == manifest.hash()


def test_property_order_is_content() -> None:
    first = Manifest(model=ModelRef("p", "m"), schema={"properties": {"customer": {}, "city": {}}})
    second = Manifest(model=ModelRef("p", "m"), schema={"properties": {"city": {}, "customer": {}}})
    assert first.hashes()["schema"] != second.hashes()["schema"]
    assert {part for part in PARTS if first.hashes()[part] != second.hashes()[part]} == {"schema"}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=6))
def test_a_mapping_of_names_has_one_hash_in_any_order(hashes: dict[str, str]) -> None:
    assert names_hash(dict(reversed(hashes.items()))) == names_hash(hashes)
    assert canonical(dict(reversed(hashes.items()))) == canonical(hashes)


def test_absent_parts_have_the_hash_of_null() -> None:
    hashes = Manifest(model=ModelRef("p", "m")).hashes()
    assert set(hashes) == set(PARTS)
    assert hashes["schema"] == hashes["tools"] == content_hash(None)
