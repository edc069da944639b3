"""The connection to a Kubeflow Pipelines endpoint: credentials, retries, and what a failure means."""

import contextlib
import errno
import io
import json
import logging
import os
import re
import ssl
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp
from google.auth.exceptions import GoogleAuthError
from kfp.client.auth import get_auth_token, get_gcp_access_token
from kfp.client.token_credentials_base import TokenCredentialsBase
from kfp_server_api import V2beta1GetHealthzResponse
from kfp_server_api.exceptions import ApiException
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_kube_config
from urllib3 import Retry
from urllib3.exceptions import HTTPError, IncompleteRead, InvalidHeader, ProtocolError
from urllib3.exceptions import TimeoutError as Silence
from yaml import YAMLError

from components.shared.errors import UserError, shorten
from pipelines.cluster.answers import (
    Pool,
    WebPage,
    WrongAnswer,
    check_content,
    check_private,
    clean,
    guard,
    read_object,
)
from pipelines.compiler.config import Config, Endpoint, load_config, validate

Answer = TypeVar("Answer")
PATIENCE = 5  # seconds for which what may pass is tried again
LONGEST_MESSAGE = 500  # characters of what the server says
LONGEST_PAUSE = 60  # seconds; a server may ask for hours
# Tokens of Google, tokens in three parts as OpenID Connect has them, and whatever is sent as one.
TOKEN = re.compile(r"ya29\.[\w.-]+|\beyJ[\w-]+(\.[\w-]+)*|(?i:bearer)\s+\S+")
BLOT = "[token]"


def open_cluster(config_name: str, flags: dict[str, str]) -> "Cluster":
    """The cluster of a configuration; see choose_endpoint.

    Raises:
        UserError: there is no such configuration, or the endpoint's settings are wrong.
    """
    config = load_config(config_name)
    return Cluster(config, choose_endpoint(config, flags))


def choose_endpoint(config: Config, flags: dict[str, str]) -> Endpoint:
    """The config's endpoint; variables such as KFP_HOST come before it, and flags before those.

    Raises:
        UserError: an address or a file is wrong.
    """
    settings = config.endpoint.model_dump()
    for field in Endpoint.model_fields:
        value = flags.get(field) or os.environ.get(f"KFP_{field.upper()}")
        if value:
            settings[field] = value
    _check(settings)
    return validate(Endpoint, settings, config.path)


class NoAnswerYetError(UserError):
    """There was no answer, or one that may be another the next time."""


class Cluster:
    """An endpoint that is called through the real kfp.Client, with retries after transient failures."""

    def __init__(self, config: Config, settings: Endpoint) -> None:
        """Connects when something is asked."""
        self.config = config
        self.endpoint = settings
        self.name = settings.host or "the kubeconfig's cluster"
        self._client: Client | None = None
        self._end = float("inf")  # by time.monotonic()

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """While the block runs, no call takes longer than what is left of these seconds; None is for ever."""
        self._end = time.monotonic() + seconds if seconds is not None else float("inf")
        try:
            yield
        finally:
            self._end = float("inf")

    def call(
        self,
        request: Callable[[kfp.Client], Answer],
        *,
        patience: float | None = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """Calls the endpoint and retries for `patience` seconds, with new credentials after a 401 or a web page.

        Args:
            request: asks a client, and may be called several times.
            patience: seconds; None stands for PATIENCE.
            expected: the statuses of refusals that the caller deals with.

        Returns:
            What `request` returns.

        Raises:
            NoAnswerYetError: there is still no answer.
            UserError: there is a refusal.
            kfp_server_api.ApiException: a refusal with an `expected` status.
        """
        end = min(time.monotonic() + (PATIENCE if patience is None else patience), self._end)
        pause = 0.25
        while True:
            try:
                with _silence():
                    self._client = self._client or connect(self.endpoint, self._end)
                    self._client.wait_until(self._end)
                    return request(self._client)
            except (ApiException, HTTPError, WrongAnswer, OSError) as error:  # OSError: its token's file is replaced
                status = getattr(error, "status", None)
                if status in expected:
                    raise
                wait = max(pause, min(read_retry_after(error) or 0, LONGEST_PAUSE))
                if not _may_pass(error, status):
                    raise UserError(self.explain(error)) from None
                if time.monotonic() + wait > end:
                    raise NoAnswerYetError(self.explain(error)) from None
                if status == 401 or isinstance(error, WebPage):
                    self._client = None
            time.sleep(wait)
            pause = min(2 * pause, 15)

    def explain(self, error: Exception) -> str:
        """What a failure means, and what to do, in a sentence without the token that was sent."""
        return explain(error, self.endpoint, self._client.list_tokens() if self._client else [])

    def link_to(self, page: str) -> str:
        """The address of a page of Kubeflow Pipelines, such as runs/details/ID."""
        host = self.endpoint.ui or self.endpoint.host or "http://localhost:8080"  # where a port-forward usually puts it
        return f"{host.rstrip('/')}/#/{page}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """While the block runs, the libraries print, warn and log nothing: what went wrong is told in one sentence."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


class Client(kfp.Client):  # type: ignore[misc]
    """A client of kfp whose answers are checked, and which goes to the given address alone."""

    def __init__(self, host: str | None, end: float, **options: Any) -> None:
        """Asks the server what it is before anything else, because an empty list looks the same from any server.

        Args:
            host: the address; None for the kubeconfig's.
            end: when to wait no longer, by time.monotonic().
            options: those of kfp.Client.

        Raises:
            WrongAnswer: it is not Kubeflow Pipelines.
        """
        self._address, self._end = host, end
        self._pool: Pool | None = None
        self.health: dict[str, Any] = {}
        super().__init__(host, **options)
        if not self.health:  # kfp has asked already, unless it knows its namespace
            self.get_kfp_healthz()

    def _load_config(self, _host: Any, _client_id: Any, namespace: str, _id: Any, _secret: Any, *settings: Any) -> Any:
        """Keeps the proxy's path in the address, which a kubeconfig's token drops (kubeflow/pipelines#8313).

        The addresses and OAuth clients that kfp would take from variables of its own are left out.
        """
        config = super()._load_config(self._address, None, namespace, None, None, *settings)
        host, refresh = config.host, config.refresh_api_key_hook
        if refresh:

            def refresh_and_keep_host(config: Any) -> None:
                refresh(config)
                config.host, config.refresh_api_key_hook = host, refresh_and_keep_host

            config.refresh_api_key_hook = refresh_and_keep_host
        return config

    def _is_inverse_proxy_host(self, _: str) -> bool:
        """Leaves Google's token to `connect`: kfp would send it to any address that ends much like the proxy's."""
        return False

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002 - as kfp has it
        """Asks once; kfp's own method retries for half a minute and prints stack traces."""
        if not self._pool:
            self._pool = guard(self.healthzs.api_client)  # that of all services
            self.wait_until(self._end)
        answer = self.healthzs.healthz_service_get_healthz(_preload_content=False)
        content = read_object(answer.data, answer.headers.get("Content-Type", ""))
        # In full, because the model leaves out `tag_name`, the server's version.
        self.health = check_content(content, "V2beta1GetHealthzResponse")
        return V2beta1GetHealthzResponse(multi_user=self.health["multi_user"])

    def wait_until(self, end: float) -> None:
        """Lets no request last longer than until `end`, by time.monotonic()."""
        if self._pool:
            self._pool.end = end

    def list_tokens(self) -> list[str]:
        """The tokens that it sends."""
        keys = self.healthzs.api_client.configuration.api_key.values()
        return [key.removeprefix("Bearer ") for key in keys if key]


class TokenFile(TokenCredentialsBase):  # type: ignore[misc]
    """A token in a file, which somebody may replace at any time."""

    def __init__(self, path: str) -> None:
        """The file need not be read yet."""
        self._path = path

    def _get_token(self) -> str:
        """The token.

        Raises:
            OSError: there is none, perhaps because the file is being replaced.
        """
        token = Path(self._path).read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch("[!-~]+", token):
            raise OSError(errno.EINVAL, "it is empty" if not token else "it is no token", self._path)
        return token

    def refresh_api_key_hook(self, config: Any) -> None:
        """Puts the token into kfp's configuration."""
        config.api_key["authorization"] = self._get_token()


def connect(settings: Endpoint, end: float = float("inf")) -> Client:
    """A client for these settings.

    Args:
        settings: the address and the credentials.
        end: when to wait no longer, by time.monotonic().

    Raises:
        UserError: the credentials that the settings ask for are not there, or would go where others can read them.
        WrongAnswer: it is not Kubeflow Pipelines.
        kfp_server_api.ApiException: the server refuses.
        urllib3.exceptions.HTTPError: there is no answer.
    """
    _check_context()
    options: dict[str, Any] = {"namespace": settings.namespace, "ssl_ca_cert": settings.ca_file or None}
    if settings.token_file:
        options["credentials"] = TokenFile(settings.token_file)
    if not settings.host:
        _check_kubeconfig(settings)
        return Client(None, end, kube_context=settings.kube_context or None, **options)
    if settings.token_file or settings.client_id or _is_inverse_proxy(settings):
        check_private(settings.host)  # before somebody is asked for a token that could not be sent
    if settings.client_id:
        options["existing_token"] = _fetch_iap_token(settings.client_id)
    elif _is_inverse_proxy(settings):
        options["existing_token"] = _fetch_google_token()
    return Client(settings.host, end, **options)


def _is_inverse_proxy(settings: Endpoint) -> bool:
    return (urlsplit(settings.host).hostname or "").endswith(".googleusercontent.com")


def explain(error: Exception, settings: Endpoint, tokens: Iterable[str] = ()) -> str:
    """What the failure means, and what to do: a sentence that a terminal can show, without the `tokens`."""
    text = _explain(error, settings)
    for token in tokens:
        text = text.replace(token, BLOT)
    return clean(TOKEN.sub(BLOT, text))


def _explain(error: Exception, settings: Endpoint) -> str:
    host = settings.host or "the kubeconfig's cluster"
    status = getattr(error, "status", None)
    if isinstance(error, WebPage):
        title = f" ('{error}')" if str(error) else ""
        return f"{host}: a web page{title} came instead of an answer, such as that of a login; {_advise(settings)}"
    if isinstance(error, WrongAnswer):
        return f"{host}: the answer is not one of Kubeflow Pipelines ({error}); check that --host or KFP_HOST is right."
    if not status:
        return _explain_silence(error, host)
    message = _read_message(error)
    if status == 401:
        return f"{host}: the credentials are not accepted (401); {_advise(settings)}"
    if status == 403:
        return f"{host}: not allowed (403): {message}; ask whoever runs the cluster for the role."
    if status == 404:
        return f"{host}: not found (404): {message}; check that this is the address of Kubeflow Pipelines."
    if seconds := read_retry_after(error):
        return f"{host}: answered {status}: {message}; it asks you to come back in {seconds:.0f} seconds."
    return f"{host}: answered {status}: {message}; if it happens again, ask whoever runs the cluster."


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


def _check(settings: dict[str, str]) -> None:
    host = settings["host"]
    if host and not host.startswith(("https://", "http://")):
        raise UserError(f"--host {host}: must begin with https:// (http:// for a port-forward).")
    try:
        address = urlsplit(host)
        has_user = address.username is not None or (address.port or 1) < 0
    except ValueError as error:
        raise UserError(f"--host {host}: is no address ({shorten(error)}).") from None
    if has_user:
        raise UserError(f"--host: leave out the user name and password; {_advise(Endpoint(host=address.scheme))}")
    for flag, field in (("--token-file", "token_file"), ("--ca-file", "ca_file")):
        path = settings[field]
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise UserError(f"{flag} {path}: no such file, or it cannot be read.")
    try:
        ssl.create_default_context(cafile=settings["ca_file"] or None)
    except ssl.SSLError:
        raise UserError(f"--ca-file {settings['ca_file']}: has no certificate; it must be a file in PEM.") from None


def _check_context() -> None:
    """Checks the file in which kfp.Client keeps the namespace of the user.

    Raises:
        UserError: it cannot be used.
    """
    path = Path(kfp.Client._LOCAL_KFP_CONTEXT)
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({shorten(error)}); repair or delete it.") from None
    if not (isinstance(content, dict) and isinstance(content.get("namespace"), str)):
        raise UserError(f"{path}: has no namespace; repair or delete it.")


def _check_kubeconfig(settings: Endpoint) -> None:
    """Checks that there is a kubeconfig: kfp.Client only prints that there is none, and uses a default address."""
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        return  # inside a cluster
    try:
        load_kube_config(client_configuration=Configuration(), context=settings.kube_context or None)
    except (ConfigException, TypeError, ValueError, YAMLError) as error:
        raise UserError(
            f"no endpoint: neither --host nor a kubeconfig ({shorten(error)}); "
            "for a GKE cluster: gcloud container clusters get-credentials CLUSTER."
        ) from None


def _fetch_google_token() -> str:
    token = get_gcp_access_token()
    if not token:
        raise UserError("no Google credentials for the inverse proxy; run: gcloud auth application-default login")
    return str(token)


def _fetch_iap_token(client_id: str) -> str:
    """An ID token; Google gives none for a user's own credentials."""
    token = None
    with contextlib.suppress(GoogleAuthError):
        token, _ = get_auth_token(client_id, None, None)
    if not token:
        raise UserError(
            "no credentials of a Google service account, which IAP wants; "
            "run: gcloud auth application-default login --impersonate-service-account=ACCOUNT"
        )
    return str(token)


def _may_pass(error: Exception, status: int | None) -> bool:
    if status is None:
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    # 409: somebody else has made it in the meantime, so the next attempt finds it
    return status in (401, 408, 409, 429) or status >= 500


def _advise(settings: Endpoint) -> str:
    if settings.token_file:
        return f"put a fresh token into {settings.token_file}."
    if settings.client_id:
        return "does your account have the role IAP-secured Web App User, and is --client-id right?"
    if not settings.host:
        return "run: gcloud container clusters get-credentials CLUSTER"
    if _is_inverse_proxy(settings):
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
