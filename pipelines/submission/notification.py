"""Tells a webhook how a run ended for which a command has waited: `submit.py --notify`.

The address is as good as a password. It is handed on by itself, and is part of no request and no options, which are
kept in the folder of the run and shown.
"""

from components.shared.errors import UserError
from components.shared.webhook import describe_end, send
from pipelines.output.console import print_line


def notify_end(webhook: str, run: str, state: str, *, failed: str = "", reason: str = "", link: str = "") -> None:
    """Sends the line, if there is a webhook; what goes wrong is printed, and changes nothing else.

    Args:
        webhook: its address; empty for none.
        run: the name of the run.
        state: what became of it.
        failed: the task that failed first; empty if none did.
        reason: why it did, if that is known.
        link: the address of the run's page; empty if there is none.
    """
    if not webhook:
        return
    try:
        send(webhook, describe_end(run, state, failed=failed, reason=reason, link=link))
    except UserError as error:
        print_line(str(error))
