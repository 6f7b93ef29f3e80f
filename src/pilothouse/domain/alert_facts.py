"""What monitoring knows of its own rules and alerts, for the review (T9.7); None where nothing is known."""

import msgspec


class AlertFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence for T9.7. Lists hold names of rules, except where said."""

    rules: int
    unowned: list[str] = []
    without_action: list[str] = []
    without_runbook: list[str] = []
    notify_only: list[str] = []  # prose for people, nothing a machine does
    watched_items: list[str] = []  # checklist ids with a rule
    unwatched_items: list[str] = []  # checklist ids that should have one
    firing: int = 0
    unacknowledged: int = 0
    oldest_unacknowledged_s: float | None = None
    median_ack_s: float | None = None  # over alerts that were acknowledged; None where none was
    acknowledged: int = 0
    answered: int = 0  # alerts of which a person said whether they were actionable
    actionable: int = 0
    heartbeat_age_s: float | None = None  # since the evaluator last ran to its end; None: it never did
    no_data: list[str] = []  # rules that saw too little to judge
    failed_actions: list[str] = []  # `rule: sentence` of actions that did not succeed
