"""Reviews that were opened again, wired: found by the review, kept by releases, told to the route's owner once."""

from pilothouse.domain.finding import Review
from pilothouse.domain.trigger_facts import Reopened, signing
from pilothouse.monitoring import notify
from pilothouse.monitoring.notify import Notice
from pilothouse.releases import reopened
from pilothouse.security.secrets import make_secret_reader
from pilothouse.server.composition import Control


def keep(control: Control, review: Review) -> None:
    """Write down which triggers wait, and tell the owners of those that are new. Blocking.

    It is written first: a host that dies in between has told nobody, and nobody is told twice.
    """
    for one in review.routes:
        opened = reopened.keep(control.state, one.route, one.env, one.reopened, control.clock)
        for trigger in opened:
            _tell(control, one.route, one.env, trigger)


def _tell(control: Control, route: str, env: str, trigger: Reopened) -> None:
    """Tell the route's owner what has to be looked at anew, and what waits for it."""
    config = control.config.routes.get(route)
    notice = Notice(
        title=f"the review of {route} in {env} is open again: {trigger.id}",
        text=f"{trigger.sentence}; {trigger.due}; no release gets more than {reopened.SHARE} until it is signed",
        alert="",
        rule=f"review {trigger.id}",
        route=route,
        env=env,
        state="firing",
        owner=config.owner if config is not None else "",
        value=None,
        threshold=0.0,
        n=0,
        since_us=trigger.ts_us,
        item=trigger.id,
        runbook=signing(route, env),
    )
    notify.make_notify(control.config.people, make_secret_reader(control.app_dir))(notice)
