"""The state store's tables (SQLAlchemy Core). Times `*_us`: microseconds since 1970. JSON columns: canonical text.

`parts`, `releases` and `changes` are append-only: the migration adds triggers that refuse UPDATE and DELETE.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

APPEND_ONLY = ("parts", "releases", "changes")


def _text(name: str) -> Column[str]:
    """A text column that is never null: empty means "none"."""
    return Column(name, Text, nullable=False, server_default="")


parts = Table(
    "parts",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # the part's name; equal content under two names is stored once
    Column("content", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

releases = Table(
    "releases",
    METADATA,
    Column("route", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("manifest_hash", Text, nullable=False, index=True),
    Column("parts", Text, nullable=False),  # {part name: hash}
    _text("author"),
    _text("notes"),
    _text("vcs_commit"),
    Column("vcs_dirty", Boolean, nullable=False, server_default="0"),
    _text("floating_alias"),  # the model's name where it is not pinned to a version
    Column("created_us", BigInteger, nullable=False),
)

pointers = Table(
    "pointers",
    METADATA,
    Column("route", Text, primary_key=True),
    Column("env", Text, primary_key=True),
    Column("stable", Integer, nullable=False),
    Column("canary", Integer),
    Column("share", Float, nullable=False, server_default="0"),
    _text("salt"),
    Column("canary_started_us", BigInteger, nullable=False, server_default="0"),
    Column("disabled", Boolean, nullable=False, server_default="0"),
    _text("disabled_reason"),
    _text("pinned_model"),
    Column("revision", Integer, nullable=False),  # of this pointer, for optimistic concurrency
    Column("updated_us", BigInteger, nullable=False),
    ForeignKeyConstraint(["route", "stable"], ["releases.route", "releases.number"]),
    ForeignKeyConstraint(["route", "canary"], ["releases.route", "releases.number"]),
)

table_revision = Table(
    "table_revision",
    METADATA,
    Column("id", Integer, primary_key=True),  # always 1
    Column("revision", Integer, nullable=False),
)

keys = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("hmac", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("name", Text, nullable=False),
    _text("owner"),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False, server_default="0"),  # 0: never
    Column("revoked_us", BigInteger, nullable=False, server_default="0"),  # 0: not revoked
    Column("last_used_us", BigInteger, nullable=False, server_default="0"),  # 0: never used
)

changes = Table(
    "changes",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("ts_us", BigInteger, nullable=False, index=True),
    _text("route"),
    _text("env"),
    Column("action", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index(None, "route", "env", "action"),
)

eval_runs = Table(
    "eval_runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("route", Text, nullable=False),
    Column("release", Integer, nullable=False),
    _text("env"),
    _text("dataset"),
    _text("dataset_hash"),
    _text("key"),  # what makes two runs the same run, so that one is resumed instead of begun again
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
    Column("status", Text, nullable=False),  # running, done, failed
    Column("n", Integer, nullable=False, server_default="0"),
    Index(None, "route", "release"),
    Index(None, "key"),
)

eval_cases = Table(
    "eval_cases",
    METADATA,
    Column("run_id", Integer, ForeignKey("eval_runs.id"), primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("repeat", Integer, primary_key=True, autoincrement=False),
    Column("result", Text, nullable=False),
)

verdicts = Table(
    "verdicts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("route", Text, nullable=False),
    Column("release", Integer, nullable=False),
    Column("baseline", Integer),  # null: nothing to compare with
    Column("run_id", Integer),
    Column("verdict", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    ForeignKeyConstraint(["route", "release"], ["releases.route", "releases.number"]),
    Index(None, "route", "release"),
)

rules = Table(
    "rules",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("rule", Text, nullable=False),
)

alerts = Table(
    "alerts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False, index=True),
    Column("route", Text, nullable=False),
    _text("env"),
    Column("state", Text, nullable=False, index=True),
    Column("alert", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
)

drills = Table(
    "drills",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("ts_us", BigInteger, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("detail", Text, nullable=False),  # what was measured, as JSON
    Index(None, "route", "env", "kind"),
)

waivers = Table(
    "waivers",
    METADATA,
    Column("item", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("until_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
)

reviews = Table(
    "reviews",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("ts_us", BigInteger, nullable=False, index=True),
    Column("review", Text, nullable=False),
)

canary_runs = Table(
    "canary_runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("route", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("release", Integer, nullable=False),
    Column("baseline", Integer, nullable=False),
    Column("state", Text, nullable=False),  # running, promoted, aborted, superseded
    Column("started_us", BigInteger, nullable=False),
    Column("stepped_us", BigInteger, nullable=False),  # when its present share began
    Column("ended_us", BigInteger),
    _text("decision"),  # the last word: hold, step, promote, abort, no_data, inconclusive
    Column("evidence", Text, nullable=False, server_default="{}"),
    Column("t_detect_us", BigInteger),
    Column("t_decide_us", BigInteger),
    Column("t_flip_us", BigInteger),
    Column("t_last_bad_us", BigInteger),
    Index(None, "route", "env", "state"),
)

canary_steps = Table(
    "canary_steps",
    METADATA,
    Column("run_id", Integer, ForeignKey("canary_runs.id"), primary_key=True),
    Column("ts_us", BigInteger, primary_key=True),  # when the share began
    Column("share", Float, nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),  # of the first table with it; 0: not known
)

canary_looks = Table(
    "canary_looks",
    METADATA,
    Column("run_id", Integer, ForeignKey("canary_runs.id"), primary_key=True),
    Column("ts_us", BigInteger, primary_key=True),
    Column("look", Text, nullable=False),  # what it saw: `domain.release.CanaryLook` without its time
)

canary_pairs = Table(
    "canary_pairs",
    METADATA,
    Column("run_id", Integer, ForeignKey("canary_runs.id"), primary_key=True),
    Column("request_id", Text, primary_key=True),  # of the recorded input
    _text("answer_id"),  # of the candidate's request; empty: it has not been asked yet, or could not be
    _text("winner"),  # canary, stable, tie; empty: not compared
    _text("detail"),
    Column("cost_usd", Float),  # of the request and its judging; NULL: unknown
)

canary_counts = Table(
    "canary_counts",
    METADATA,
    Column("run_id", Integer, ForeignKey("canary_runs.id"), primary_key=True),
    Column("ident", Text, primary_key=True),  # of the host's data directory
    Column("host", Text, nullable=False),
    Column("seen_us", BigInteger, nullable=False),  # when it last said so, by the database's clock
    Column("told", LargeBinary, nullable=False),  # `releases.shown.HostShown`, packed
)

rollbacks = Table(
    "rollbacks",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("route", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("from_release", Integer, nullable=False),
    Column("to_release", Integer, nullable=False),
    Column("ts_us", BigInteger, nullable=False),
    Column("propagated_ms", Float),  # null until every worker has acknowledged
    Column("workers", Integer),
    Column("actor", Text, nullable=False),
    _text("reason"),
    _text("part"),  # the one part that was taken back; empty: all of the release
    Column("t_detect_us", BigInteger),
    Column("t_decide_us", BigInteger),
    Column("t_flip_us", BigInteger),
    Column("t_last_bad_us", BigInteger),
    Index(None, "route", "env"),
)

views = Table(
    "views",
    METADATA,
    Column("owner", Text, primary_key=True),  # a person's id; empty: everybody's
    Column("name", Text, primary_key=True),
    Column("filter", Text, nullable=False),
    _text("age"),
    Column("updated_us", BigInteger, nullable=False),
)

step_evidence = Table(
    "step_evidence",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("route", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("release", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # check, gate, stage …
    Column("step", Text, nullable=False),  # the step in one line, as it was shown
    Column("state", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("evidence", Text, nullable=False, server_default="{}"),
    Column("actor", Text, nullable=False),
    Column("ts_us", BigInteger, nullable=False),
    Index(None, "route", "env", "release"),
)

index_versions = Table(
    "index_versions",
    METADATA,
    Column("id", Integer, primary_key=True),  # in the order of registration
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("author", Text, nullable=False),
    _text("notes"),
    Column("documents", BigInteger),  # null: not said
    Column("built_us", BigInteger),  # null: not said
    Column("registered_us", BigInteger, nullable=False),
    Index(None, "name", "version", unique=True),
)

sightings = Table(
    "sightings",
    METADATA,
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),  # as asked for
    Column("served_model", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
)

probe_days = Table(
    "probe_days",
    METADATA,
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("day", Text, primary_key=True),  # UTC, 2026-11-27
    Column("ts_us", BigInteger, nullable=False),
    Column("answers", Text, nullable=False),  # {prompt's id: class of its answer}
    _text("compared_with"),  # the days before, first to last; empty: the first days, with nothing to compare
    Column("p", Float),  # of the G-test against them; null: not compared
)

flags = Table(
    "flags",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("env", Text, primary_key=True),
    Column("state", Text, nullable=False),  # what was changed at run time, as JSON
    _text("declared"),  # hash of what the files say of it; empty: they do not name it any more
    Column("revision", Integer, nullable=False),  # of this state, for optimistic concurrency
    Column("first_us", BigInteger, nullable=False),  # when it was first seen in the files
    Column("changed_us", BigInteger, nullable=False),  # when the files or the state last changed it
)

hosts = Table(
    "hosts",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("ident", Text, nullable=False),  # of its data directory: two hosts of one name are told apart
    Column("seen_us", BigInteger, nullable=False),  # the last heartbeat, by the database's clock
    Column("revision", Integer, nullable=False),  # of the table that its control gives out
    Column("workers", Text, nullable=False),  # {worker: revision that it holds}
    Column("leads", Boolean, nullable=False, server_default="0"),
    Column("watched_s", Float),  # since its rules' evaluator ran to its end, when it said so; null: never here
    _text("telemetry"),  # address of the server that its telemetry is in; empty: a file of its own
    _text("version"),
    _text("files"),  # hash of the app's files as this host has them
)

rule_readings = Table(
    "rule_readings",
    METADATA,
    Column("ident", Text, primary_key=True),  # of the host's data directory
    Column("host", Text, nullable=False),
    Column("seen_us", BigInteger, nullable=False),  # when it last said so, by the database's clock
    Column("readings", Text, nullable=False),  # {question: [value, n]} of its own telemetry
)

installation = Table(
    "installation",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
