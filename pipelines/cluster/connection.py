"""The connection to a Kubeflow Pipelines endpoint: credentials, retries, and what a failure means."""

import contextlib
import io
import json
import logging
import os
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import kfp
from google.auth.exceptions import GoogleAuthError
from kfp.client.auth import get_auth_token, get_gcp_access_token
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp_server_api.exceptions import ApiException
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_kube_config
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from components.shared.errors import UserError, shorten
from pipelines.compiler.config import Config, Endpoint, load_config, validate

Answer = TypeVar("Answer")
SILENCE = 30  # seconds without an answer after which a connection counts as lost


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


class Cluster:
    """An endpoint that is called through the real kfp.Client, with retries after transient failures."""

    def __init__(self, config: Config, settings: Endpoint) -> None:
        """Connects when something is asked."""
        self.config = config
        self.endpoint = settings
        self.name = settings.host or "the kubeconfig's cluster"
        self._client: kfp.Client | None = None

    def call(
        self, request: Callable[[kfp.Client], Answer], *, patience: float = 5, expected: tuple[int, ...] = ()
    ) -> Answer:
        """Calls the endpoint and retries for `patience` seconds, with new credentials after a 401.

        Args:
            request: asks a client, and may be called several times.
            patience: seconds.
            expected: the statuses of refusals that the caller deals with.

        Returns:
            What `request` returns.

        Raises:
            UserError: there is still no answer, or a refusal.
            kfp_server_api.ApiException: a refusal with an `expected` status.
        """
        end = time.monotonic() + patience
        pause = 0.25
        while True:
            try:
                with _silence():
                    self._client = self._client or connect(self.endpoint)
                    return request(self._client)
            except (ApiException, HTTPError, OSError) as error:  # OSError: the token's file is being replaced
                status = getattr(error, "status", None)
                if status in expected:
                    raise
                if not _may_pass(error, status) or time.monotonic() + pause > end:
                    raise UserError(explain(error, self.endpoint)) from None
                if status == 401:
                    self._client = None
            time.sleep(pause)
            pause = min(2 * pause, 15)

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


def connect(settings: Endpoint) -> kfp.Client:
    """A kfp.Client for these settings, which has not necessarily asked anything yet.

    Raises:
        UserError: the credentials that the settings ask for are not there.
    """
    _check_scheme(settings)
    options: dict[str, Any] = {"namespace": settings.namespace, "ssl_ca_cert": settings.ca_file or None}
    if settings.token_file:
        options["credentials"] = ServiceAccountTokenVolumeCredentials(settings.token_file)
    if not settings.host:
        _check_kubeconfig(settings)
        return _new_client(kube_context=settings.kube_context or None, **options)
    if settings.client_id:
        options["existing_token"] = _fetch_iap_token(settings.client_id)
    elif _is_inverse_proxy(settings):
        options["existing_token"] = _fetch_google_token()
    return _new_client(settings.host, **options)


def _split_host(settings: Endpoint) -> SplitResult:
    return urlsplit(settings.host if "//" in settings.host else f"//{settings.host}")


def _is_inverse_proxy(settings: Endpoint) -> bool:
    return (_split_host(settings).hostname or "").endswith(".googleusercontent.com")


def _check_scheme(settings: Endpoint) -> None:
    """Refuses to send a token over the network where others can read it; to this machine it may go as it is."""
    address = _split_host(settings)
    has_token = settings.token_file or settings.client_id or _is_inverse_proxy(settings)
    if has_token and address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"{settings.host}: a token would be sent unencrypted; give an address that begins with https.")


def _new_client(*args: Any, **options: Any) -> kfp.Client:
    """A client of kfp that keeps the proxy's path, leaves retries to Cluster.call, and times out."""

    class Client(kfp.Client):  # type: ignore[misc]
        def _load_config(self, *settings: Any) -> Any:
            """Keeps the proxy's path in the address, which a kubeconfig's token drops (kubeflow/pipelines#8313).

            It also leaves asking again to Cluster.call: urllib3 would wait four times as long for a silent server.
            """
            config = super()._load_config(*settings)
            config.retries = Retry(total=3, connect=0, read=0, other=0, redirect=3)
            host, refresh = config.host, config.refresh_api_key_hook
            if refresh:

                def refresh_and_keep_host(config: Any) -> None:
                    refresh(config)
                    config.host, config.refresh_api_key_hook = host, refresh_and_keep_host

                config.refresh_api_key_hook = refresh_and_keep_host
            return config

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """Asks once; kfp's own method retries for half a minute and prints stack traces."""
            return self.healthzs.healthz_service_get_healthz(_request_timeout=SILENCE)

    client = Client(*args, **options)
    rest = client.runs.api_client.rest_client  # that of all services
    request = rest.request

    def request_in_time(*args: Any, _request_timeout: float | None = None, **options: Any) -> Any:
        """Waits no longer than SILENCE for an answer; the generated client would wait forever."""
        return request(*args, _request_timeout=_request_timeout or SILENCE, **options)

    rest.request = request_in_time
    return client


def ask_health(client: kfp.Client) -> dict[str, Any]:
    """The answer in full, with `tag_name`, the server's version, which the client's model leaves out."""
    return json.loads(client.healthzs.healthz_service_get_healthz(_preload_content=False).data)  # type: ignore[no-any-return]


def explain(error: Exception, settings: Endpoint) -> str:
    """What the failure means, and what to do."""
    host = settings.host or "the kubeconfig's cluster"
    status = getattr(error, "status", None)
    if status is None:
        if isinstance(error, OSError) and error.filename:
            return f"{error.filename}: cannot be read ({error.strerror}); put a fresh token there."
        reason = shorten(getattr(error, "reason", None) or error)
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return f"{host}: its certificate is not trusted; name its authority with --ca-file or KFP_CA_FILE."
        hint = "check that the port-forward is running and that --host or KFP_HOST is right."
        return f"{host}: no answer ({reason.split(': ', 1)[-1]}); {hint}"
    message = _read_message(error)
    if status == 401:
        return f"{host}: the credentials are not accepted (401); {_advise(settings)}"
    if status == 403:
        return f"{host}: not allowed (403): {message}; ask whoever runs the cluster for the role."
    if status == 404:
        return f"{host}: not found (404): {message}; check that this is the address of Kubeflow Pipelines."
    return f"{host}: answered {status}: {message}; if it happens again, ask whoever runs the cluster."


def _check(settings: dict[str, str]) -> None:
    host = settings["host"]
    if host and not host.startswith(("https://", "http://")):
        raise UserError(f"--host {host}: must begin with https:// (http:// for a port-forward).")
    for flag, field in (("--token-file", "token_file"), ("--ca-file", "ca_file")):
        path = settings[field]
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise UserError(f"{flag} {path}: no such file, or it cannot be read.")
    try:
        ssl.create_default_context(cafile=settings["ca_file"] or None)
    except ssl.SSLError:
        raise UserError(f"--ca-file {settings['ca_file']}: has no certificate; it must be a file in PEM.") from None


def _check_kubeconfig(settings: Endpoint) -> None:
    """Checks that there is a kubeconfig: kfp.Client only prints that there is none, and uses a default address."""
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        return  # inside a cluster
    try:
        load_kube_config(client_configuration=Configuration(), context=settings.kube_context or None)
    except (ConfigException, TypeError) as error:
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
        return shorten(next(filter(None, map(content.get, ("message", "error", "error_message"))), text))
    except (ValueError, AttributeError):
        return str(getattr(error, "reason", "")) or "no reason given"
