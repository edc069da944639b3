"""What it means that an endpoint gives no answer, refuses, or answers as Kubeflow Pipelines does not."""

import contextlib
import json
import re

from urllib3 import Retry
from urllib3.exceptions import ConnectTimeoutError, IncompleteRead, InvalidHeader, NewConnectionError, ProtocolError
from urllib3.exceptions import TimeoutError as Silence

from components.shared.errors import shorten
from pipelines.cluster.answers import WebPage, WrongAnswer, read_object
from pipelines.cluster.client import is_inverse_proxy
from pipelines.cluster.kubeconfig_login import PluginFailed
from pipelines.compiler.config import Endpoint

LONGEST_MESSAGE = 500  # characters of what the server says
# What a server with users says of one whom it knows, but who may not do it, and of one whom it does not know.
DENIED = re.compile(
    r"User '(?P<user>[^']*)' is not authorized .*?Namespace:(?P<namespace>[^,]*),Verb:(?P<verb>[^,]*),"
    r".*?Resource:(?P<resource>[^,]*),"
)
DENIED_BY_KUBERNETES = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)"'
    r'(?:.*? in the namespace "(?P<namespace>[^"]*)")?'
)
PERMISSION = re.compile(r"requires one of \[[^\]]*\]")  # which GKE adds
NO_IDENTITY = "no user identity header"
WHO = "say who you are, by --header-file or --token-file."
SERVICE = 'services "ml-pipeline'  # what Kubernetes has not found


def explain(error: Exception, settings: Endpoint) -> str:
    """What the failure means, and what to do."""
    host = settings.host or "the kubeconfig's cluster"
    status = getattr(error, "status", None)
    if isinstance(error, WebPage):
        title = f" ('{error}')" if str(error) else ""
        return f"{host}: a web page{title} came instead of an answer, such as that of a login; {advise(settings)}"
    if isinstance(error, WrongAnswer):
        return f"{host}: the answer is not one of Kubeflow Pipelines ({error}); {_advise_address(settings)}"
    if isinstance(error, PluginFailed):
        return str(error)
    if not status:
        return _explain_silence(error, settings)
    message = _limit(_read_message(error))
    if status == 401:
        said = f"401: {message}" if is_own_refusal(error) else "401"  # a page of a proxy says no more than that
        advice = WHO if NO_IDENTITY in message else advise(settings)
        return f"{host}: the credentials are not accepted ({said}); {advice}"
    if status == 403:
        return f"{host}: not allowed (403): {_describe_denied(_read_message(error), settings)}"
    if status == 404:
        return f"{host}: not found (404): {message}; {_advise_where(message, settings)}"
    if seconds := read_retry_after(error):
        return f"{host}: answered {status}: {message}; it asks you to come back in {seconds:.0f} seconds."
    return f"{host}: answered {status}: {message}; if it happens again, ask whoever runs the cluster."


def _describe_denied(message: str, settings: Endpoint) -> str:
    """Who one is to the server, and what that person may not do, where it says so."""
    role = "ask whoever runs the cluster for the role"
    denied = DENIED.search(message) or DENIED_BY_KUBERNETES.search(message)
    if not denied:
        return f"{_limit(message)}; {role}."
    user, verb, resource, namespace = (denied[name] for name in ("user", "verb", "resource", "namespace"))
    place = f" in the namespace {namespace}" if namespace else ""
    other = (
        ", or name a namespace of yours with --user-namespace" if namespace not in (None, settings.namespace) else ""
    )
    needed = f" ({needs[0]})" if (needs := PERMISSION.search(message)) else ""
    return f"you are {user} there, who may not {verb} {resource}{place}{needed}; {role}{other}."


def _advise_where(message: str, settings: Endpoint) -> str:
    """What to do where something is not found; Kubernetes names the service that it looked for."""
    if SERVICE in message:
        return (
            f"Kubeflow Pipelines is not in its namespace {settings.namespace}; name another with --namespace or "
            "--kube-context, or its address with --host."
        )
    return "check that this is the address of Kubeflow Pipelines."


def is_own_refusal(error: Exception) -> bool:
    """Whether a refusal is that of Kubeflow Pipelines, and not that of a proxy in front of it, or of Kubernetes."""
    try:
        content = read_object(getattr(error, "body", None) or "", "")
    except WrongAnswer:
        return False
    return content.get("kind") != "Status"  # as Kubernetes calls what it says itself


def has_done_nothing(error: Exception) -> bool:
    """Whether a request that failed may be repeated because it surely has done nothing.

    It did not arrive, it was refused, or the server asks to be asked again.
    """
    if status := getattr(error, "status", None):
        was_refused = 400 <= status < 500 and status not in (408, 409)  # these may come of what it has done
        return was_refused or (status == 503 and read_retry_after(error) is not None)
    return isinstance(getattr(error, "reason", None) or error, (ConnectTimeoutError, NewConnectionError))


def _explain_silence(error: Exception, settings: Endpoint) -> str:
    """What it means that there is no answer."""
    host = settings.host or "the kubeconfig's cluster"
    if isinstance(error, OSError) and error.filename:
        what = "header" if error.filename == settings.header_file else "token"
        return f"{error.filename}: cannot be read ({error.strerror}); put a fresh {what} there."
    cause = getattr(error, "reason", None) or error
    is_cut = any(isinstance(part, IncompleteRead) for part in cause.args)
    reason = shorten(cause.args[-1] if isinstance(cause, ProtocolError) else cause)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"{host}: its certificate is not trusted; name its authority with --ca-file or KFP_CA_FILE."
    hint = _advise_address(settings, "the port-forward is running" if settings.host else "`kubectl cluster-info` works")
    if is_cut:
        return f"{host}: the answer was cut short; {hint}"
    if isinstance(cause, Silence) and (seconds := re.search(r"timeout=([\d.]+)", reason)):
        return f"{host}: no answer for {float(seconds[1]):.0f} s; {hint}"
    return f"{host}: no answer ({reason.split(': ', 1)[-1]}); {hint}"


def _advise_address(settings: Endpoint, other: str = "") -> str:
    """What to do when something else, or nothing, is at the address; `other` is to be checked before that."""
    address = "--host or KFP_HOST" if settings.host else "the context of the kubeconfig"
    return f"check that {f'{other} and that ' if other else ''}{address} is right."


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
    if settings.header_file:
        return f"put a fresh header into {settings.header_file}."
    if settings.client_id:
        return "does your account have the role IAP-secured Web App User, and is --client-id right?"
    if not settings.host:
        return "run: gcloud container clusters get-credentials CLUSTER"
    if is_inverse_proxy(settings):
        return "run: gcloud auth application-default login"
    return "give --token-file, --header-file, --client-id (IAP), or leave out --host to use the kubeconfig."


def _read_message(error: Exception) -> str:
    """Returns the server's own message: JSON from Kubeflow Pipelines, perhaps HTML from a proxy in front of it."""
    body = getattr(error, "body", None) or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        content = json.loads(text)
        return shorten(next(filter(None, map(content.get, ("message", "error", "error_message"))), text))
    except (ValueError, AttributeError, RecursionError):
        return str(getattr(error, "reason", "")) or "no reason given"


def _limit(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
