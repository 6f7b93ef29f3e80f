"""Writes the reference pages from the code: the command line, pilothouse.yaml, the checklist.

python docs/generate.py          write them
python docs/generate.py --check  exit 1 where a page is out of date (the tests do this)
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

from pilothouse.cli.main import app as command_line
from pilothouse.config import app as config
from pilothouse.config.section import Section
from pilothouse.review.catalogue import ITEMS

HERE = Path(__file__).resolve().parent
HEAD = "<!-- Written by docs/generate.py from the code. Edit the code, then run it. -->\n\n"

# What each key of pilothouse.yaml means. A key that the loader knows and this table does not fails the tests.
KEYS = {
    "providers": "How models are reached, by name; a model is then `name/model`.",
    "people": "Who owns routes and rules, by short name.",
    "routes": "The LLM uses of the app, by name: the name is what a client sends as `model`.",
    "prices": "USD per million tokens by `provider/model`, where the public price list has none or yours differs.",
    "rules": "Alert rules: a list.",
    "flags": "Flags, by key: see [Flags](../flags.md).",
    "flag_rate": "How often a key may read flags over OFREP, at each worker, such as `1000/s`. Default: as often as it likes.",
    "flags.NAME.type": "`boolean` (default), `string`, `integer`, `float` or `object`.",
    "flags.NAME.variants": "Names and their values. A boolean flag has `on` and `off` unless it says otherwise.",
    "flags.NAME.default": "The variant that is given where no rule is met: one, or one for each environment. Default for a boolean flag: `off`.",
    "flags.NAME.enabled": "Whether the flag is evaluated, or one answer for each environment. Default `true`.",
    "flags.NAME.off": "The variant that is given while the flag is disabled. Default: none, and then the default of the app's code holds.",
    "flags.NAME.rollout": "Shares of keys by variant, such as `{on: 10%}`, of those that no rule meets; or for each environment.",
    "flags.NAME.rules": "A list; the first rule that is met counts.",
    "flags.NAME.rules.when": "The condition: attributes of the context and what they must be; `all`, `any`, `not`.",
    "flags.NAME.rules.serve": "A variant, or shares by variant; what they leave over gets the default.",
    "flags.NAME.rules.name": "A name, shown with the reason.",
    "flags.NAME.rules.env": "Only in these environments: a list. Default: in all.",
    "flags.NAME.kind": "`release` (default), `experiment` or `operational`. A flag with `flow` is of the kind flow.",
    "flags.NAME.salt": "What shares are drawn with. Default: the key. Flags of one salt draw alike; a new salt draws anew.",
    "flags.NAME.owner": "Who answers for it: a key of `people`.",
    "flags.NAME.tags": "A list of words.",
    "flags.NAME.description": "What it is for.",
    "flags.NAME.expires": "The day by which it should be gone, such as `2027-03-01`. It is evaluated all the same.",
    "flags.NAME.permanent": "Meant to stay: it is never called stale. Default `false`; of a flow's switch `true`.",
    "flags.NAME.flow": "The flag is the kill switch of a use of a route.",
    "flags.NAME.flow.route": "The route.",
    "flags.NAME.flow.when": "Which of its requests: a condition. Default: all of them.",
    "flags.NAME.selects": "The flag's value is the number of a release that answers instead of the pointer's; 0: the pointer's own.",
    "flags.NAME.selects.route": "The route.",
    "flags.NAME.selects.part": "Only this of the 8 parts is taken from that release. Default: all of it.",
    "journal": "How records are kept before they are loaded.",
    "store": "Where state and telemetry are kept; without it in files of this host. See [Stores](../stores.md).",
    "store.telemetry": "The address of a ClickHouse database, `clickhouse://USER@HOST:8123/DATABASE` (`clickhouses://`, 8443: with TLS; "
    "extra `clickhouse`). Default: DuckDB in the data directory.",
    "store.telemetry_password": "A reference to the user's password: `env://NAME` or `file://PATH`.",
    "export": "Each day's records as files, when the day (UTC) is over. See [Export and import](../export.md).",
    "export.to": "A folder, or a URL that fsspec knows, such as `s3://bucket/path` (extra `s3`).",
    "export.format": "`parquet` (the default) or `jsonl`.",
    "retention": "How long records stay, in whole days (UTC). Nothing is removed unless it stands here. See [Retention](../retention.md).",
    "retention.payloads": "Prompts and answers, such as `30d`.",
    "retention.spans": "Apps' spans and their events.",
    "retention.requests": "The gateway's requests, with their attempts and scores.",
    "retention.floor": "Requests and spans younger than this are never removed, not for lack of disk either. Default `30d`, "
    "which the review's trends look back over; `0d`: none.",
    "retention.metrics": "What apps sent as metrics.",
    "retention.rollups": "Counts by the minute, which outlive the requests.",
    "retention.disk_cap": "What all of telemetry may take on the disk, such as `50GB`: over it the oldest payloads go first, "
    "then metrics, spans and requests that are over the floor.",
    "retention.routes": "Routes with rules of their own, by name; what they leave out is as above.",
    "retention.routes.NAME.payloads": "The route's payloads.",
    "retention.routes.NAME.spans": "The route's spans.",
    "retention.routes.NAME.requests": "The route's requests.",
    "retention.routes.NAME.floor": "The route's floor.",
    "spans": "Apps' spans and events that name no route. See [Redaction](../redaction.md#how-much-is-kept).",
    "spans.log": "What is kept of them.",
    "spans.log.mode": "`full`, `redacted` (default), `metadata` or `off`.",
    "forward": "A second backend that gets every request and span over OTLP/HTTP. See [Export and import](../export.md#to-another-backend).",
    "forward.endpoint": "Its address; `/v1/traces` is added where it is missing.",
    "forward.headers": "Headers of each call; what may be a secret is a reference, `env://NAME` or `file://PATH`.",
    "forward.content": "Whether prompts and answers go along, as they are stored. No, unless said.",
    "drift": "Questions put to the models that serve production. See [Releases](../releases.md#when-the-provider-changes).",
    "drift.probes": "How many, once a day to each model, 0 to 30. Default 0, since each costs money.",
    "limits": "Limits and budgets across routes: a list. See [Limits and budgets](../limits.md).",
    "store.state": "A PostgreSQL address without a password: `postgresql://user@host/database`.",
    "store.state_password": "A reference to its password: `env://NAME` or `file:///PATH`.",
    "counters": "Where limits and budgets are counted. See [Limits and budgets](../limits.md#where-they-are-counted).",
    "counters.kind": "`shared` (a file of this host, the default), `valkey` (any number of hosts) or `local` (each worker alone).",
    "counters.url": "For `valkey`: a reference to its URL, `env://NAME` or `file:///PATH`.",
    "counters.on_error": "While Valkey does not answer: `open` (default), each worker counts alone; `closed`, what falls under a "
    "limit is refused.",
    "providers.NAME.kind": "What the provider is: see [Providers](../providers.md). `openai` is anything that speaks OpenAI's API, "
    "`local` llama.cpp on this machine, `scripted` the public fake.",
    "providers.NAME.base_url": "Where it is, up to and including `/v1`. Default: the kind's own address. Needed for `azure-openai`; "
    "not for `local` and `scripted`.",
    "providers.NAME.key": "A reference to the secret: `env://NAME` or `file://PATH`. A value is refused.",
    "providers.NAME.key_owner": "Who answers for the secret.",
    "providers.NAME.rotate": "How long the secret may live, such as `90d`.",
    "providers.NAME.rotated": 'The date it was last changed, such as `"2026-10-01"`.',
    "providers.NAME.script": "The script of a `scripted` provider.",
    "providers.NAME.threads": "Threads of a `local` model. Default 2.",
    "providers.NAME.api_version": "Of `azure-openai`: the `api-version` of deployment addresses. Default: none, the `/openai/v1` API.",
    "providers.NAME.region": "Of `bedrock`: the AWS region. Needed.",
    "providers.NAME.access_key": "Of `bedrock`: a reference to the access key's id. Not beside `key`, a Bedrock API key.",
    "providers.NAME.secret_key": "Of `bedrock`: a reference to the secret access key.",
    "providers.NAME.session_token": "Of `bedrock`: a reference to the token of temporary credentials.",
    "people.NAME.name": "The name to show.",
    "people.NAME.notify": "Notification URLs, tried in order: `log://`, `json://host/path` and the others that Apprise knows.",
    "prices.NAME.input": "Per million uncached input tokens, such as `0.15 USD`.",
    "prices.NAME.output": "Per million output tokens.",
    "prices.NAME.cache_read": "Per million cached input tokens. Default: as `input`.",
    "prices.NAME.cache_write": "Per million tokens written to a cache. Default: as `input`.",
    "prices.NAME.cache_write_1h": "The same, of those kept for an hour. Default: 1.6 times `cache_write`, as Anthropic has it.",
    "prices.NAME.reasoning": "Per million reasoning tokens. Default: as `output`.",
    "prices.NAME.input_audio": "Per million audio input tokens. Default: not known, and then neither is the cost.",
    "prices.NAME.output_audio": "Per million audio output tokens. Default: likewise.",
    "prices.NAME.context_window": "How many tokens the model can be given, for the review (T7.4). Default: as genai-prices lists it; for servers of one's own it is not known.",
    "journal.fsync": "`always`, `interval` (every 200 ms, the default) or `never`.",
    "journal.segment": "A segment's size, such as `16MiB`.",
    "journal.reserve": "Free disk under which payloads are dropped, such as `256MiB`.",
    "routes.NAME.app": "A label.",
    "routes.NAME.owner": "Who answers for the route: a key of `people`.",
    "routes.NAME.backup": "Who answers when the owner is away.",
    "routes.NAME.tier": "`high`, `standard` (default) or `lite`.",
    "routes.NAME.system": "File of the system text (a template).",
    "routes.NAME.prompt": "File of the prompt: Markdown with front matter (`version`, `variables`, `description`) and Jinja.",
    "routes.NAME.model": "`provider/model`.",
    "routes.NAME.params": "Sampling parameters and any other field of the upstream body.",
    "routes.NAME.tools": "File with OpenAI tool definitions (JSON).",
    "routes.NAME.schema": "File with the JSON Schema that the output must meet.",
    "routes.NAME.index": "The retrieval index: a name, or name and version.",
    "routes.NAME.index.name": "The index's name.",
    "routes.NAME.index.version": "Its version, or `file://PATH` of a file whose first line it is.",
    "routes.NAME.policy": "Runtime safeguards.",
    "routes.NAME.gate": "What a release must pass.",
    "routes.NAME.checks": "Thresholds and fallbacks of checklist items, by id, for this route.",
    "routes.NAME.alternates": "Models that this route may be switched to, as `provider/model`.",
    "routes.NAME.canary": "How a new release of the route goes out. See [Canary](../canary.md).",
    "routes.NAME.canary.steps": "The shares, in order. Default `[1 %, 5 %, 25 %, 50 %, 100 %]`.",
    "routes.NAME.canary.min_requests": "Requests on the canary before the next share. Default 20.",
    "routes.NAME.canary.min_time": "Time at a share before the next. Default `10m`.",
    "routes.NAME.canary.max_time": "Time in all, after which it is inconclusive and a person decides. Default `7d`.",
    "routes.NAME.canary.auto": "`true`: it steps and is promoted by itself too. Default `false`: it is only aborted by itself.",
    "routes.NAME.canary.alpha": "The probability that a canary that is no worse than half of every margin is aborted, over all guardrails and "
    "looks together. Default `1 %`.",
    "routes.NAME.canary.alpha_promote": "The probability that one that is worse than a margin is promoted. Default `5 %`.",
    "routes.NAME.canary.baseline": "How much of the stable release's traffic before the canary sets the limits of rates. Default `1d`.",
    "routes.NAME.canary.slo": "An answer that takes longer is slow, such as `2s`. Default: none.",
    "routes.NAME.canary.margins": "How much worse a canary may be.",
    "routes.NAME.canary.margins.failed": "Failed requests. Default `2pp`.",
    "routes.NAME.canary.margins.refused": "Requests that the model refuses. Default `5pp`.",
    "routes.NAME.canary.margins.invalid": "Outputs that miss their schema at first. Default `2pp`.",
    "routes.NAME.canary.margins.guarded": "Requests in which a guardrail finds something. Default `2pp`.",
    "routes.NAME.canary.margins.slow": "Answers over `slo`. Default `5pp`.",
    "routes.NAME.canary.margins.score": "Scores of 0 and 1 that are not named below. Default `5pp`.",
    "routes.NAME.canary.margins.latency": "Of the typical (geometric mean) time of an answer. Default `25 %`; `off`: not watched.",
    "routes.NAME.canary.margins.cost": "Of a request's mean cost. Default `25 %`; `off`: not watched.",
    "routes.NAME.canary.margins.tokens": "Of a request's mean tokens. Default `off`.",
    "routes.NAME.canary.margins.scores": "Names of scores of 0 and 1 (1 is good) with their margins, such as `{helpful: 5pp}`.",
    "routes.NAME.canary.margins.means": "Names of numeric scores (more is better) with their margins, such as `{grade: 0.2}`.",
    "routes.NAME.canary.replay": "Recorded inputs are asked of both releases while there is little traffic. Default: none.",
    "routes.NAME.canary.replay.per_minute": "Requests on the canary a minute, users' own included, up to which it is fed. Default 6.",
    "routes.NAME.canary.replay.spend": "What that may cost in all, such as `1 USD`. Needed.",
    "routes.NAME.canary.shadow": "The stage before the first share. Default: none.",
    "routes.NAME.canary.shadow.share": "The share of the stable release's requests that are asked of the candidate too. Default `100 %`.",
    "routes.NAME.canary.shadow.requests": "So many before the first share. Default 50.",
    "routes.NAME.canary.shadow.spend": "What that may cost in all. Needed.",
    "routes.NAME.canary.shadow.judge": "A route that says which of two answers is better. Default: the scorers of the gate alone.",
    "routes.NAME.policy.timeout": "Four timeouts.",
    "routes.NAME.policy.retry": "Bounded retries.",
    "routes.NAME.policy.fallback": "What to do, in order, when the model gives no usable answer: a list.",
    "routes.NAME.policy.invalid": "What to do, in order, with output that fails its schema, and with tool calls that fail "
    "theirs: `repair` (low-risk repairs and coercion), `reask` (once, with the errors explained), `retry`, `fallback`, "
    "`error`. Default `[repair, error]`.",
    "routes.NAME.policy.tools": "What is checked of tool calls.",
    "routes.NAME.policy.tools.check": "Whether calls are held to the declared tools and their schemas. Default `true`.",
    "routes.NAME.policy.tools.repeats": "The same call this many times in one conversation is a loop; 0: never. Default 5.",
    "routes.NAME.policy.log": "What is kept of bodies.",
    "routes.NAME.policy.timeout.connect": "To a connection. Default `2s`.",
    "routes.NAME.policy.timeout.first_token": "To a stream's first token, per attempt. A whole answer has an equal share of the "
    "time left, and this at least. Default `15s`.",
    "routes.NAME.policy.timeout.idle": "Between chunks of a stream. Default `15s`.",
    "routes.NAME.policy.timeout.total": "For the whole request, all attempts; less where the client says so. Default `60s`.",
    "routes.NAME.policy.retry.attempts": "Upstream calls per model, the first included. Default 2.",
    "routes.NAME.policy.retry.on": "Error classes: `rate_limit`, `server_error`, `timeout`, `connect_failed`, `cut_stream`, or "
    "`error` for all of them. Default: the first four. See [Resilience](../resilience.md#error-classes).",
    "routes.NAME.policy.retry.budget": "Retries are at most this share of the route's requests, and 10 in hand. Default `20 %`.",
    "routes.NAME.policy.retry.backoff": "Base of the exponential back-off. Default `250ms`.",
    "routes.NAME.policy.fallback.model": "Another `provider/model`.",
    "routes.NAME.policy.fallback.static": "A fixed answer.",
    "routes.NAME.policy.fallback.trim": "The same model, with the system message and so many last messages.",
    "routes.NAME.policy.fallback.cached": "The newest cached answer, at most so old.",
    "routes.NAME.policy.fallback.delayed": "202 and an address to ask at; the request is worked on for so long.",
    "routes.NAME.policy.fallback.handoff": "A webhook that takes the request over: a URL, `env://NAME` or `file://PATH`.",
    "routes.NAME.policy.fallback.on": "The error classes it is for. Default `[error]`; of `trim`, `[context_window]`. "
    "`context_window`, `content_filter`, `guardrail` and `cost_cap` must be named.",
    "routes.NAME.policy.fallback.outcome": "`fallback`, `degraded` or `escalated`.",
    "routes.NAME.policy.caps": "What one request may use in all. See [Resilience](../resilience.md).",
    "routes.NAME.policy.caps.attempts": "Upstream calls of every kind. Default 8.",
    "routes.NAME.policy.caps.cost": "Money its calls may be expected to cost, such as `0.05 USD`. Default: no cap.",
    "routes.NAME.policy.breaker": "When a provider's model is left alone. See [Resilience](../resilience.md#circuit-breakers).",
    "routes.NAME.policy.breaker.failures": "After so many failures in a row; 0: never. Default 5.",
    "routes.NAME.policy.breaker.share": "Or when this share of at least 10 calls failed. Default `50 %`.",
    "routes.NAME.policy.breaker.window": "Within so long. Default `30s`.",
    "routes.NAME.policy.breaker.cooldown": "For how long, or as long as the provider's `Retry-After` says. Default `10s`.",
    "routes.NAME.policy.hedge": "A second call where the first is late. Default: none.",
    "routes.NAME.policy.hedge.after": "Late is after so long. Default: after `quantile`.",
    "routes.NAME.policy.hedge.quantile": "Late is slower than this share of the target's recent calls, 20 at least. Default `95 %`.",
    "routes.NAME.policy.hedge.share": "At most this share of the route's requests are hedged. Default `5 %`.",
    "routes.NAME.policy.hedge.model": "Who gets the second call. Default: the same model.",
    "routes.NAME.policy.balance": "The model's deployments.",
    "routes.NAME.policy.balance.over": "A list of `provider/model`, or of what follows.",
    "routes.NAME.policy.balance.over.model": "`provider/model`.",
    "routes.NAME.policy.balance.over.weight": "Its share among the others' weights. Default 1.",
    "routes.NAME.policy.balance.by": "`weight` (default), or `load`: the less loaded of two drawn by weight.",
    "routes.NAME.policy.cut": "What becomes of a stream that breaks off: `error`, `restart` (default) or `continue`. See "
    "[Resilience](../resilience.md#streams-that-break-off).",
    "routes.NAME.policy.webhooks": "Hosts that clients may have delayed answers sent to. Default: none.",
    "routes.NAME.policy.log.mode": "`full`, `redacted` (default), `metadata` or `off`.",
    "routes.NAME.policy.guards": "Guardrails, in order: a list of names, or of what follows. See [Guardrails](../guardrails.md).",
    "routes.NAME.policy.guards.use": "`secrets`, `pii`, `prompt_size`, `topics`, `regex`, `tools`, or `module:function` of your own.",
    "routes.NAME.policy.guards.at": "`[input]`, `[output]` or both (default).",
    "routes.NAME.policy.guards.action": "`block` (default), `mask` or `flag`.",
    "routes.NAME.policy.guards.fail": "`closed` (default): a guardrail that fails blocks. `open`: it is noted and passed over.",
    "routes.NAME.policy.guards.options": "The guardrail's own.",
    "routes.NAME.policy.cache": "Answers that are given again. See [Cache](../cache.md).",
    "routes.NAME.policy.cache.ttl": "For how long, such as `10m`.",
    "routes.NAME.policy.cache.scope": "Who shares answers: `key` (default), `session`, `user`, `segment` or `route`.",
    "routes.NAME.policy.cache.semantic": "The least similarity (0 to 1) at which the answer to another wording is taken. Default: never.",
    "limits.name": "The limit's name: errors and records say it. Needed.",
    "limits.by": "Dimensions: `key`, `route`, `segment`, `model`, `env`, `app`, `session`, `user`. Each combination "
    "of their values has a counter. Default `[key]`.",
    "limits.where": "Only requests with these values, such as `{segment: free}`.",
    "limits.requests": "A rate such as `600/min`, `5/s` or `100/10s`; as many may come at once.",
    "limits.tokens": "Likewise of input and output tokens, such as `200k/min`.",
    "limits.concurrency": "Requests at a time.",
    "limits.shadow": "`true`: counted and recorded as if it held, but nothing is refused.",
    "limits.budget": "Money.",
    "limits.budget.per_request": "USD for one request, all its attempts.",
    "limits.budget.per_trace": "USD for all requests of a trace.",
    "limits.budget.per_hour": "USD per UTC hour.",
    "limits.budget.per_day": "USD per UTC day, such as `20 USD`.",
    "limits.budget.per_month": "USD per UTC month.",
    "limits.budget.soft": "Shares of the budget that are announced, once per period. Default `[80 %, 95 %]`; that it is used "
    "up is announced too.",
    "routes.NAME.policy.limits": "The route's own limits, for each environment apart.",
    "routes.NAME.policy.limits.by": "Dimensions: `key`, `route`, `segment`, `model`, `env`, `app`, `session`, `user`. Each combination "
    "of their values has a counter. Default `[route]`.",
    "routes.NAME.policy.limits.where": "Only requests with these values, such as `{segment: free}`.",
    "routes.NAME.policy.limits.requests": "A rate such as `600/min`, `5/s` or `100/10s`; as many may come at once.",
    "routes.NAME.policy.limits.tokens": "Likewise of input and output tokens, such as `200k/min`.",
    "routes.NAME.policy.limits.concurrency": "Requests at a time.",
    "routes.NAME.policy.limits.shadow": "`true`: counted and recorded as if it held, but nothing is refused.",
    "routes.NAME.policy.limits.budget": "Money, as under `budget`.",
    "routes.NAME.policy.limits.budget.per_request": "USD for one request, all its attempts.",
    "routes.NAME.policy.limits.budget.per_trace": "USD for all requests of a trace.",
    "routes.NAME.policy.limits.budget.per_hour": "USD per UTC hour.",
    "routes.NAME.policy.limits.budget.per_day": "USD per UTC day, such as `20 USD`.",
    "routes.NAME.policy.limits.budget.per_month": "USD per UTC month.",
    "routes.NAME.policy.limits.budget.soft": "Shares of the budget that are announced, once per period. Default `[80 %, 95 %]`; that it is used "
    "up is announced too.",
    "routes.NAME.policy.budget": "The route's own budget, for each environment apart.",
    "routes.NAME.policy.budget.by": "Dimensions: `key`, `route`, `segment`, `model`, `env`, `app`, `session`, `user`. Each combination "
    "of their values has a counter. Default `[route]`.",
    "routes.NAME.policy.budget.shadow": "`true`: counted and recorded as if it held, but nothing is refused.",
    "routes.NAME.policy.budget.per_request": "USD for one request, all its attempts.",
    "routes.NAME.policy.budget.per_trace": "USD for all requests of a trace.",
    "routes.NAME.policy.budget.per_hour": "USD per UTC hour.",
    "routes.NAME.policy.budget.per_day": "USD per UTC day, such as `20 USD`.",
    "routes.NAME.policy.budget.per_month": "USD per UTC month.",
    "routes.NAME.policy.budget.soft": "Shares of the budget that are announced, once per period. Default `[80 %, 95 %]`; that it is used "
    "up is announced too.",
    "routes.NAME.policy.queue": "What waits where a limit is reached.",
    "routes.NAME.policy.queue.max_wait": "How long a request waits at most. Default `0s`: it is refused at once.",
    "routes.NAME.policy.queue.size": "How many wait at a time, per worker. Default 100.",
    "routes.NAME.gate.dataset": "A JSONL file of cases.",
    "routes.NAME.gate.scorers": "`exact`, `contains`, `regex`, `schema`, `numeric`, `fields`, `cites_retrieved`, `refuses`.",
    "routes.NAME.gate.margin": "The largest tolerated drop in pass rate. Default `3pp`.",
    "routes.NAME.gate.floor": "The least pass rate (its lower bound) of a first release. Default: none.",
    "routes.NAME.gate.concurrency": "Cases at once. Default 2.",
    "routes.NAME.gate.case_timeout": "For one case. Default `120s`.",
    "routes.NAME.checks.NAME.warn": "From here on WARN.",
    "routes.NAME.checks.NAME.fail": "From here on FAIL.",
    "routes.NAME.checks.NAME.fallback": "The action to take.",
    "rules.name": "The rule's name.",
    "rules.item": "The checklist item it watches.",
    "rules.metric": "A metric of the catalogue, such as `error.rate`.",
    "rules.route": "The route.",
    "rules.env": "Default `prod`.",
    "rules.op": "`>` (default), `<`, `>=`, `<=`.",
    "rules.threshold": "A number, share, duration or amount with its unit.",
    "rules.window": "How far back. Default `5m`.",
    "rules.for": "How long it must hold. Default: at once.",
    "rules.min_n": "Observations needed. Default 20.",
    "rules.owner": "Who answers: a key of `people`. Needed.",
    "rules.actions": "A list of `rollback`, `pin_model: MODEL`, `disable_route`, `notify: URL`. At least one.",
    "rules.runbook": "A link.",
}

SAMPLE = """\
providers:
  p: {kind: openai}
  azure: {kind: azure-openai, base_url: "https://x.openai.azure.com", api_version: "2024-10-21"}
  aws: {kind: bedrock, region: eu-central-1, access_key: env://A, secret_key: env://B}
people: {a: {name: A}}
prices: {p/m: {input: 1 USD, output: 1 USD}}
journal: {fsync: never}
counters: {kind: shared}
store: {state: "postgresql://a@b/c", state_password: env://P, telemetry: "clickhouse://h/d", telemetry_password: env://P}
limits: [{name: l, requests: 1/s, budget: {per_day: 1 USD}}]
flags:
  f: {rules: [{when: {a: 1}, serve: on}]}
  w: {flow: {route: r}}
  s: {type: integer, variants: {live: 0}, default: live, selects: {route: r}}
routes:
  r:
    model: p/m
    index: {name: i}
    policy: {timeout: {total: 1s}, retry: {attempts: 1}, fallback: [{static: x}], log: {mode: full},
      caps: {attempts: 1}, breaker: {failures: 1}, hedge: {after: 1s}, balance: {over: [{model: p/m}]},
      guards: [{use: pii}], cache: {ttl: 1s},
      limits: {requests: 1/s, budget: {per_day: 1 USD}}, budget: {per_day: 1 USD}, queue: {max_wait: 1s}}
    gate: {dataset: d.jsonl, scorers: [exact]}
    checks: {T1.0: {warn: 1}}
    canary: {margins: {failed: 2pp}, replay: {spend: 1 USD}, shadow: {spend: 1 USD}}
rules: [{name: n, metric: m, route: r, threshold: 1, owner: a, actions: [rollback]}]
"""


def known_keys(folder: Path) -> list[str]:
    """Every key that the loader takes, found by loading a file that has every section."""
    (folder / "pilothouse.yaml").write_text(SAMPLE)
    (folder / "d.jsonl").write_text("")
    seen: dict[str, None] = {}
    close = Section.close

    def noting(section: Section) -> None:
        path = re.sub(r"\[\d+\]", "", section.path)
        for group in ("providers", "people", "prices", "routes", "checks", "flags"):
            path = re.sub(rf"(^|\.){group}\.(T1\.0|p/m|[^.]+)", rf"\1{group}.NAME", path)
        for key in section.known():
            seen[f"{path}.{key}".lstrip(".")] = None
        close(section)

    Section.close = noting  # type: ignore[method-assign]
    try:
        config.load(folder)
    finally:
        Section.close = close  # type: ignore[method-assign]
    return [key for key in seen if not key.startswith("rules.") or key.split(".")[1] not in config.ACTIONS]


def config_page(keys: list[str]) -> str:
    """The page on pilothouse.yaml."""
    if missing := sorted(set(keys) - set(KEYS)):
        raise SystemExit(f"docs/generate.py does not explain {', '.join(missing)}")
    lines = [
        "# pilothouse.yaml",
        "",
        (
            "Durations are written `500ms`, `2s`, `10m`, `1h`, `30d`; sizes `64KiB`, `16MiB`; shares `5 %` or `3pp`; money "
            "`0.05 USD`. An unknown key is an error with file, line and the nearest known key."
        ),
        "",
        "| key | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{key}` | {KEYS[key]} |" for key in KEYS if key in keys]
    return HEAD + "\n".join(lines) + "\n"


def commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb with the words that call it."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        elif not command.hidden:
            yield (*words, name), command


def cli_page() -> str:
    """The page on the command line."""
    lines = [
        "# Command line",
        "",
        (
            "Every verb takes `--json`. Exit codes: 0 ok or pass, 1 block or fail, 2 usage or infrastructure error, 3 inconclusive "
            "or no data."
        ),
    ]
    for words, command in commands(typer.main.get_command(command_line), ("pilothouse",)):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
        usage = " ".join([*words, *((p.name or "").upper() for p in arguments)])
        lines += ["", f"## {' '.join(words[1:])}", "", f"`{usage}`", "", (command.help or "").strip()]
        if options:
            lines += ["", "| option | meaning |", "|---|---|"]
            lines += [f"| `{'`, `'.join(p.opts)}` | {(getattr(p, 'help', '') or '').strip()} |" for p in options]
    return HEAD + "\n".join(lines) + "\n"


def checklist_page() -> str:
    """The page on the checklist."""
    lines = [
        "# Checklist",
        "",
        (
            "Every item that the review tracks. Ids are public and stable. WARN and FAIL are the defaults; a route's `checks` "
            "override them. K continuous, R before a release, W weekly, M monthly, Q quarterly."
        ),
    ]
    layer = ""
    for item in ITEMS.values() if isinstance(ITEMS, dict) else ITEMS:
        if item.layer != layer:
            layer = item.layer
            lines += [
                "",
                f"## {layer}",
                "",
                "| id | item | WARN | FAIL | fallback | cadence |",
                "|---|---|---|---|---|---|",
            ]
        cells = (item.id, item.title, item.warn, item.fail, item.fallback, item.cadence)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(lines) + "\n"


def pages(folder: Path) -> dict[Path, str]:
    """Each reference page's path and text; `folder` is scratch space."""
    return {
        HERE / "reference/cli.md": cli_page(),
        HERE / "reference/config.md": config_page(known_keys(folder)),
        HERE / "reference/checklist.md": checklist_page(),
    }


def main() -> None:
    """Write the pages, or check them."""
    with tempfile.TemporaryDirectory() as folder:
        made = pages(Path(folder))
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run docs/generate.py" if stale else 0)
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
        print("wrote", path.relative_to(HERE))


if __name__ == "__main__":
    main()
