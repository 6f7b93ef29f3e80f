"""What differs, part by part."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from pilothouse.domain.manifest import PARTS, Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy, Retry
from pilothouse.releases.diff import PartDiff, diff

BASE = Manifest(model=ModelRef("openai", "gpt-5-mini-2026-08-07"))


def of(part: str, before: object, after: object) -> PartDiff:
    a, b = (msgspec.structs.replace(BASE, **{part: value}) for value in (before, after))
    found = {one.part: one for one in diff(a, b)}
    assert [one.part for one in found.values() if one.changed] == [part]
    return found[part]


def tool(name: str, description: str = "d") -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "description": description}}


def test_equal_manifests_differ_in_nothing():
    found = diff(BASE, BASE)
    assert [one.part for one in found] == list(PARTS)
    assert {one.summary for one in found} == {"unchanged"}


def test_a_prompt_by_lines_and_words():
    one = of(
        "prompt", Template("Be brief.\nAnswer the question.\n"), Template("Be brief.\nAnswer every question.\nNow.\n")
    )
    assert (one.added, one.removed, one.summary) == (2, 1, "+2 −1 lines")
    assert one.unified == snapshot("""\
--- before
+++ after
@@ -1,2 +1,3 @@
 Be brief.
-Answer the question.
+Answer every question.
+Now.\
""")
    assert [(edit.kind, edit.text) for edit in one.words] == snapshot(
        [
            ("same", "Be brief.\nAnswer "),
            ("removed", "the"),
            ("added", "every"),
            ("same", " question.\n"),
            ("added", "Now.\n"),
        ]
    )


def test_a_policy_by_paths():
    one = of("policy", Policy(), Policy(retry=Retry(attempts=3), log="full"))
    assert one.summary == "log redacted → full and 1 more"
    assert [str(path) for path in one.paths] == ["log redacted → full", "retry.attempts 2 → 3"]


def test_tools_are_matched_by_name_whatever_their_order():
    one = of("tools", [tool("search"), tool("buy")], [tool("buy"), tool("search", "better"), tool("sell")])
    assert [(path.path, path.kind) for path in one.paths] == [
        ("[search].function.description", "changed"),
        ("[sell]", "added"),
    ]


def test_plain_lists_are_compared_as_sets_and_their_order_is_told():
    one = of("schema", {"required": ["a", "b"]}, {"required": ["b", "c"]})
    assert [str(path) for path in one.paths] == ["required[] − a", "required[] + c"]
    assert of("schema", {"required": ["a", "b"]}, {"required": ["b", "a"]}).paths[0].kind == "changed"


def test_a_part_that_appears_is_one_line():
    assert of("schema", None, {"type": "object"}).summary == '(all) + {"type": "object"}'
    assert of("system", Template("Be kind."), None).summary == "+0 −1 lines"


def test_only_a_template_s_version_changed():
    assert of("prompt", Template("x", version="v1"), Template("x", version="v2")).summary == "version v1 → v2"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text("pq", min_size=1, max_size=1), VALUES),
    st.dictionaries(st.text("pq", min_size=1, max_size=1), VALUES),
)
def test_a_part_has_paths_and_lines_exactly_when_its_hash_changed(before, after):
    a, b = (msgspec.structs.replace(BASE, params=value) for value in (before, after))
    one = {found.part: found for found in diff(a, b)}["params"]
    assert one.changed == (one.before_hash != one.after_hash) == bool(one.paths) == bool(one.added + one.removed)


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=30))
def test_words_rebuild_both_texts(before, after):
    a, b = (msgspec.structs.replace(BASE, prompt=Template(text)) for text in (before, after))
    one = diff(a, b)[0]
    if one.changed:
        assert "".join(edit.text for edit in one.words if edit.kind != "added") == before
        assert "".join(edit.text for edit in one.words if edit.kind != "removed") == after
