"""Tells a webhook how a run ended."""

import os

from components.notify.outcome import Outcome
from components.shared.errors import UserError
from components.shared.webhook import VARIABLE, describe_end, send


def notify_end(run: str, outcome: Outcome, *, link: str) -> None:
    """Sends the line; what goes wrong is one sentence in the log, as it must not become the fault of the run.

    Args:
        run: the name of the run.
        outcome: how it ended.
        link: the address of its page; empty if there is none.
    """
    line = describe_end(run, outcome.state, failed=outcome.failed, link=link)
    webhook = os.environ.get(VARIABLE, "").strip()  # a secret that was made of a file ends with a line break
    if not webhook:
        print(f"notify: {line}\nnotify: there is no address; does the secret that the config names exist?", flush=True)
        return
    try:
        send(webhook, line)
    except UserError as error:
        print(f"notify: {line}\nnotify: {error}", flush=True)
        return
    print(f"notify: {line}", flush=True)
