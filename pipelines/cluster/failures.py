"""What it means that an endpoint gives no answer, refuses, or answers as Kubeflow Pipelines does not."""

import contextlib
import json
import re

from urllib3 import Retry
from urllib3.exceptions import IncompleteRead, InvalidHeader, ProtocolError
from urllib3.exceptions import TimeoutError as Silence

from components.shared.errors import shorten
from pipelines.cluster.answers import WebPage, WrongAnswer, read_object
from pipelines.cluster.client import is_inverse_proxy
from pipelines.compiler.config import Endpoint

LONGEST_MESSAGE = 500  # characters of what the server says


def explain(error: Exception, settings: Endpoint) -> str:
    """What the failure means, and what to do."""
    host = settings.host or "the kubeconfig's cluster"
    status = getattr(error, "status", None)
    if isinstance(error, WebPage):
        title = f" ('{error}')" if str(error) else ""
        return f"{host}: a web page{title} came instead of an answer, such as that of a login; {advise(settings)}"
    if isinstance(error, WrongAnswer):
        return f"{host}: the answer is not one of Kubeflow Pipelines ({error}); check that --host or KFP_HOST is right."
    if not status:
        return _explain_silence(error, host)
    message = _read_message(error)
    if status == 401:
        return f"{host}: the credentials are not accepted (401); {advise(settings)}"
    if status == 403:
        return f"{host}: not allowed (403): {message}; ask whoever runs the cluster for the role."
    if status == 404:
        return f"{host}: not found (404): {message}; check that this is the address of Kubeflow Pipelines."
    if seconds := read_retry_after(error):
        return f"{host}: answered {status}: {message}; it asks you to come back in {seconds:.0f} seconds."
    return f"{host}: answered {status}: {message}; if it happens again, ask whoever runs the cluster."


def is_own_refusal(error: Exception) -> bool:
    """Whether a refusal is that of Kubeflow Pipelines, which is JSON, and not that of a proxy in front of it."""
    try:
        read_object(getattr(error, "body", None) or "", "")
    except WrongAnswer:
        return False
    return True


def _explain_silence(error: Exception, host: str) -> str:
    """What it means that there is no answer."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be read ({error.strerror}); put a fresh token there."
    cause = getattr(error, "reason", None) or error
    is_cut = any(isinstance(part, IncompleteRead) for part in cause.args)
    reason = shorten(cause.args[-1] if isinstance(cause, ProtocolError) else cause)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"{host}: its certificate is not trusted; name its authority with --ca-file or KFP_CA_FILE."
    hint = "check that the port-forward is running and that --host or KFP_HOST is right."
    if is_cut:
        return f"{host}: the answer was cut short; {hint}"
    if isinstance(cause, Silence) and (seconds := re.search(r"timeout=([\d.]+)", reason)):
        return f"{host}: no answer for {float(seconds[1]):.0f} s; {hint}"
    return f"{host}: no answer ({reason.split(': ', 1)[-1]}); {hint}"


def read_retry_after(error: Exception) -> float | None:
    """The seconds after which the server wants to be asked again, if it says so."""
    value = (getattr(error, "headers", None) or {}).get("Retry-After")
    with contextlib.suppress(InvalidHeader, OverflowError):
        return Retry().parse_retry_after(value) if value else None
    return None


def advise(settings: Endpoint) -> str:
    """What to do when the credentials are not accepted."""
    if settings.token_file:
        return f"put a fresh token into {settings.token_file}."
    if settings.client_id:
        return "does your account have the role IAP-secured Web App User, and is --client-id right?"
    if not settings.host:
        return "run: gcloud container clusters get-credentials CLUSTER"
    if is_inverse_proxy(settings):
        return "run: gcloud auth application-default login"
    return "give --token-file, --client-id (IAP), or leave out --host to use the kubeconfig."


def _read_message(error: Exception) -> str:
    """Returns the server's own message: JSON from Kubeflow Pipelines, perhaps HTML from a proxy in front of it."""
    body = getattr(error, "body", None) or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        content = json.loads(text)
        message = shorten(next(filter(None, map(content.get, ("message", "error", "error_message"))), text))
        return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
    except (ValueError, AttributeError, RecursionError):
        return str(getattr(error, "reason", "")) or "no reason given"
