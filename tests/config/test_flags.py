"""Flags as they are written in pilothouse.yaml: what is read, and what is refused with its line."""

from pathlib import Path

import pytest

from pilothouse.config.app import AppConfig, load
from pilothouse.config.flags import rules_of
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.flag import AllOf, AnyOf, Compare, FlagRule, Flow, Not, Selects, Share
from pilothouse.domain.limit import Rate

HEAD = "providers: {p: {kind: openai}}\npeople: {ana: {name: A}}\nroutes: {r: {model: p/m}}\nflags:\n"


def read(folder: Path, flags: str, more: str = "") -> AppConfig:
    (folder / "pilothouse.yaml").write_text(HEAD + flags + more)
    return load(folder)


def test_a_flag_with_everything(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        """\
  f:
    kind: experiment
    owner: ana
    tags: [growth]
    description: Tries it.
    expires: 2027-03-01
    salt: shared
    default: {dev: on, staging: on, prod: off}
    enabled: {prod: false}
    rollout: {prod: {on: 10 %}}
    rules:
    - name: staff
      when: {email: {ends_with: "@x.org"}, app.version: {semver: ">=2.1.0"}}
      serve: on
    - when: {any: [{plan: pro}, {not: {age: {">=": 18, "<": 65}}}]}
      serve: {on: 50%, off: 0.25}
      env: [prod]
""",
        "flag_rate: 100/s\n",
    )
    flag = made.flags["f"]
    assert made.flag_rate == Rate(100, 1.0)
    assert (flag.type, flag.variants, flag.kind, flag.salt) == (
        "boolean",
        {"on": True, "off": False},
        "experiment",
        "shared",
    )
    assert (flag.owner, flag.tags, flag.expires) == ("ana", ("growth",), "2027-03-01")
    assert flag.default == {"dev": "on", "staging": "on", "prod": "off"}
    assert flag.enabled == {"prod": False}
    assert flag.rollout == {"prod": (Share("on", 0.1),)}
    email = Compare("email", "ends_with", "@x.org")
    assert flag.rules == (
        FlagRule(when=AllOf((email, Compare("app.version", "semver", ">=2.1.0"))), serve=(Share("on"),), name="staff"),
        FlagRule(
            when=AnyOf(
                (
                    Compare("plan", "==", "pro"),
                    Not(AllOf((Compare("age", ">=", 18), Compare("age", "<", 65)))),
                )
            ),
            serve=(Share("on", 0.5), Share("off", 0.25)),
            envs=("prod",),
        ),
    )


def test_typed_variants_switches_and_selectors(tmp_path: Path) -> None:
    flags = read(
        tmp_path,
        """\
  ratio: {type: float, variants: {low: 1, high: 2.5}, default: low}
  layout: {type: object, variants: {wide: {columns: 3}}, default: wide}
  prompt: {type: integer, variants: {live: 0, two: 2}, default: live, selects: {route: r, part: prompt}}
  refunds: {flow: {route: r, when: {flow: refunds}}}
""",
    ).flags
    assert flags["ratio"].variants == {"low": 1.0, "high": 2.5}
    assert all(isinstance(value, float) for value in flags["ratio"].variants.values())
    assert flags["prompt"].selects == Selects("r", "prompt")
    refunds = flags["refunds"]
    assert refunds.flow == Flow("r", Compare("flow", "==", "refunds"))
    assert (refunds.kind, refunds.default["prod"], refunds.off, refunds.permanent) == ("flow", "on", "off", True)


@pytest.mark.parametrize(
    ("flags", "line", "said"),
    [
        ("  f: {defualt: on}\n", 5, "did you mean 'default'?"),
        ("  f:\n    default: onn\n", 6, "did you mean 'on'?"),
        ("  f: {default: {prod: on}}\n", 5, "nothing is said of dev"),
        ("  f/g: {default: on}\n", 5, "no flag's key"),
        ("  f: {owner: bob}\n", 5, "not in `people`"),
        ("  f: {type: string}\n", 5, "'variants' is missing"),
        ("  f: {type: strng}\n", 5, "did you mean 'string'?"),
        ("  f: {type: integer, variants: {a: x}, default: a}\n", 5, "not of type integer"),
        ("  f: {type: integer, variants: {a: true}, default: a}\n", 5, "not of type integer"),
        ("  f: {type: object, variants: {a: [1]}, default: a}\n", 5, "not of type object"),
        ("  f: {type: string, variants: {prod: x}, default: prod}\n", 5, "that is an environment"),
        ("  f: {rollout: {on: 60%, off: 50%}}\n", 5, "more than 100 %"),
        ("  f: {rollout: {on: 110%}}\n", 5, "between 0 and 100 %"),
        ("  f: {rollout: {third: 1%}}\n", 5, "no variant 'third'"),
        ("  f:\n    rules:\n    - {when: {a: 1}}\n", 7, "'serve' is missing"),
        ("  f:\n    rules:\n    - {serve: on}\n", 7, "'when' is missing"),
        ("  f:\n    rules:\n    - {when: {a: {equals: 1}}, serve: on}\n", 7, "no comparison 'equals'"),
        ("  f:\n    rules:\n    - {when: {a: {start_with: x}}, serve: on}\n", 7, "did you mean 'starts_with'?"),
        ("  f:\n    rules:\n    - {when: {a: {matches: '(?=x)'}}, serve: on}\n", 7, "RE2"),
        ("  f:\n    rules:\n    - {when: {a: {semver: '2.0'}}, serve: on}\n", 7, "no comparison of versions"),
        ("  f:\n    rules:\n    - {when: {a: {'<': '2.0'}}, serve: on}\n", 7, "not a number"),
        ("  f:\n    rules:\n    - {when: {a: 2026-01-01}, serve: on}\n", 7, "in quotes"),
        ("  f:\n    rules:\n    - {when: {any: {a: 1}}, serve: on}\n", 7, "hold a list"),
        ("  f:\n    rules:\n    - {when: {headers.Authorization: x}, serve: on}\n", 7, "a credential"),
        ("  f: {expires: soon}\n", 5, "not a day"),
        ("  f: {kind: flow}\n", 5, "what it switches"),
        ("  f: {flow: {route: nowhere}}\n", 5, "none of r"),
        ("  f: {type: string, variants: {a: x}, default: a, flow: {route: r}}\n", 5, "a flow's flag is boolean"),
        ("  f: {selects: {route: r}}\n", 5, "type integer"),
        ("  f: {type: integer, variants: {a: -1}, default: a, selects: {route: r}}\n", 5, "type integer"),
        ("  f: {type: integer, variants: {a: 1}, default: a, selects: {route: r, part: promt}}\n", 5, "'prompt'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, flags: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, flags)
    assert wrong.value.where.endswith(f"pilothouse.yaml:{line}"), wrong.value
    assert said in str(wrong.value)


def test_rules_given_at_run_time_are_written_alike(tmp_path: Path) -> None:
    flag = read(tmp_path, "  f: {owner: ana}\n").flags["f"]
    as_json = rules_of([{"when": {"a": 1}, "serve": "on"}], flag, "x")
    assert as_json == (FlagRule(when=Compare("a", "==", 1), serve=(Share("on"),)),)
    assert rules_of("- {when: {a: 1}, serve: on}\n", flag, "x") == as_json
    assert rules_of("rules:\n- {when: {a: 1}, serve: on}\n", flag, "x") == as_json
    with pytest.raises(ConfigError, match="no variant") as wrong:
        rules_of("- {when: {a: 1}, serve: on}\n- {when: {a: 2}, serve: x}\n", flag, "my-rules.yaml")
    assert wrong.value.where == "my-rules.yaml:2"
    for text in ("a: 1", "x", ": ["):
        with pytest.raises(ConfigError):
            rules_of(text, flag, "x")
