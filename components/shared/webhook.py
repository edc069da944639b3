"""Telling people by a webhook that a run has ended.

A webhook is an address of a chat, or of any other server, that takes a message from whoever knows it. So the address is
a secret: no message here shows more of it than the host.
"""

import json
import re
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener, getproxies

from components.shared.deadlines import TooLate, run_within
from components.shared.errors import UserError, clean, shorten
from components.shared.hosts import check_private

VARIABLE = "WEBHOOK"  # in which the task of a pipeline that tells of its end finds the address
SECONDS = 10  # within which a webhook must have answered
LONGEST = 300  # characters of a reason
SECRET = "the address of a webhook, which is as good as a password,"


def check_webhook(address: str) -> None:
    """Checks that a message could be sent to an address, and that nobody else could read the address on its way.

    Raises:
        UserError: it could not, or somebody could.
    """
    address = address.strip()  # a file ends with a line break, and one of Windows with two characters
    parts = _split(address)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise UserError("the address of the webhook is none; it begins with https:// and the name of a host.")
    if parts.username is not None:
        raise UserError(f"{parts.hostname}: leave the user name and password out of the address of the webhook.")
    check_private(address, SECRET)


def describe_end(run: str, state: str, *, failed: str = "", reason: str = "", link: str = "") -> str:
    """The line that says how a run ended.

    Args:
        run: its name.
        state: what became of it, such as succeeded.
        failed: the task that failed first; empty if none did, or if that is not known.
        reason: why it did, if that is known.
        link: the address of a page about the run; empty if there is none.
    """
    why = shorten(reason)
    why = why if len(why) <= LONGEST else f"{why[: LONGEST - 1]}…"
    place = f" in {failed}{f': {why}' if why else ''}" if failed else ""
    return f"{clean(run)}: {state}{place}{f', {link}' if link else ''}"


def send(webhook: str, text: str) -> None:
    """Sends a line of text, as JSON in the form that Slack and those that imitate it take: {"text": ...}.

    Args:
        webhook: the address.
        text: the line.

    Raises:
        UserError: the address is none that may be used, or the webhook did not take the line.
    """
    check_webhook(webhook)
    webhook = webhook.strip()
    host = str(urlsplit(webhook).hostname)
    body = json.dumps({"text": _escape(text)}).encode()
    # Some hosts refuse the name that urllib has for itself.
    headers = {"Content-Type": "application/json", "User-Agent": "data-centric-pipeline"}
    request = Request(webhook, body, headers, method="POST")
    try:
        run_within(SECONDS, lambda: _post(request))
    except TooLate:
        problem = f"did not answer within {SECONDS} seconds"
    except HTTPError as error:
        problem = f"answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:  # the last of an address in a proxy's variable or an answer
        problem = f"cannot be reached ({_name_cause(error)})"
    else:
        return
    raise UserError(f"{host}: the webhook {problem}, so nobody was told; check its address.")


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None if it is none."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # one that is no number is a ValueError, and so is a name that no host can have
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    return parts if re.fullmatch("[!-~]+", address) else None


def _escape(text: str) -> str:
    """The text as Slack wants it, so that a run's name cannot be read as a mention of everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _NoRedirect(HTTPRedirectHandler):
    """Takes an answer that leads elsewhere for what it is: urllib would go there without the message."""

    def redirect_request(self, *_: object) -> None:
        return None


def _post(request: Request) -> None:
    # What goes by http goes to this machine, so no proxy is to see it.
    proxies = {scheme: proxy for scheme, proxy in getproxies().items() if scheme != "http"}
    with build_opener(_NoRedirect, ProxyHandler(proxies)).open(request, timeout=SECONDS):
        pass


def _name_cause(error: Exception) -> str:
    """What is wrong, in words of the system or of the class alone: others might repeat the address."""
    cause = error.reason if isinstance(error, URLError) else error
    return str(getattr(cause, "strerror", None) or type(cause).__name__)
