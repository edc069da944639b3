"""The client of Kubeflow Pipelines: kfp's own, with the credentials that an endpoint wants."""

import contextlib
import errno
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
from google.auth.exceptions import GoogleAuthError
from kfp.client.auth import get_auth_token, get_gcp_access_token
from kfp.client.token_credentials_base import TokenCredentialsBase
from kfp_server_api import V2beta1GetHealthzResponse

from components.shared.errors import UserError, shorten
from components.shared.hosts import check_private
from pipelines.cluster.answers import Talk, check_content, guard, read_object
from pipelines.cluster.kubeconfig_login import Kubeconfig, read_kubeconfig
from pipelines.compiler.config import Endpoint


class Client(kfp.Client):  # type: ignore[misc]
    """A client of kfp whose answers are checked, and which goes to the given address alone."""

    def __init__(self, host: str | None, talk: Talk, kubeconfig: Kubeconfig | None = None, **options: Any) -> None:
        """Asks the server what it is before anything else, because an empty list looks the same from any server.

        Args:
            host: the address; None for the kubeconfig's, or that inside a cluster.
            talk: what its requests have in common.
            kubeconfig: the one whose cluster is asked; None if there is a host, or inside a cluster.
            options: those of kfp.Client.

        Raises:
            WrongAnswer: it is not Kubeflow Pipelines.
        """
        self._address, self._talk, self._kubeconfig = host, talk, kubeconfig
        self._is_guarded = False
        self.health: dict[str, Any] = {}
        super().__init__(host, **options)
        if not self.health:  # kfp has asked already, unless it knows its namespace
            self.get_kfp_healthz()

    def _load_config(self, _host: Any, _client_id: Any, namespace: str, _id: Any, _secret: Any, *settings: Any) -> Any:
        """Keeps the proxy's path in the address, which a kubeconfig's token drops (kubeflow/pipelines#8313).

        The addresses and OAuth clients that kfp would take from variables of its own are left out.
        """
        address = self._kubeconfig.host if self._kubeconfig else self._address  # kfp would read a kubeconfig itself
        config = super()._load_config(address, None, namespace, None, None, *settings)
        if self._kubeconfig:
            self._kubeconfig.put_into(config)
            config.host = f"{config.host}/{self._KUBE_PROXY_PATH.format(namespace)}"
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
        if not self._is_guarded:
            guard(self.healthzs.api_client, self._talk)  # that of all services
            self._is_guarded = True
        answer = self.healthzs.healthz_service_get_healthz(_preload_content=False)
        content = read_object(answer.data, answer.headers.get("Content-Type", ""))
        # In full, because the model leaves out `tag_name`, the server's version.
        self.health = check_content(content, "V2beta1GetHealthzResponse")
        return V2beta1GetHealthzResponse(multi_user=self.health["multi_user"])


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


def connect(settings: Endpoint, talk: Talk) -> Client:
    """A client for these settings.

    Args:
        settings: the address and the credentials.
        talk: what the client's requests have in common.

    Raises:
        UserError: the credentials that the settings ask for are not there, or would go where others can read them.
        PluginFailed: the kubeconfig's plugin gives no token.
        WrongAnswer: it is not Kubeflow Pipelines.
        kfp_server_api.ApiException: the server refuses.
        urllib3.exceptions.HTTPError: there is no answer.
    """
    _check_context()
    options: dict[str, Any] = {"namespace": settings.namespace, "ssl_ca_cert": settings.ca_file or None}
    if settings.token_file:
        options["credentials"] = TokenFile(settings.token_file)
    if not settings.host:
        kubeconfig = None if _is_in_cluster() else read_kubeconfig(settings.kube_context, talk)
        return Client(None, talk, kubeconfig, **options)
    if settings.token_file or settings.header_file or settings.client_id or is_inverse_proxy(settings):
        check_private(settings.host)  # before somebody is asked for a token that could not be sent
    if settings.client_id:
        options["existing_token"] = _fetch_iap_token(settings.client_id)
    elif is_inverse_proxy(settings):
        options["existing_token"] = _fetch_google_token()
    return Client(settings.host, talk, **options)


def is_inverse_proxy(settings: Endpoint) -> bool:
    """Whether the endpoint is behind Google's proxy, which wants Google's token."""
    return (urlsplit(settings.host).hostname or "").endswith(".googleusercontent.com")


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


def _is_in_cluster() -> bool:
    """Whether this runs in a cluster, where kfp.Client knows the address and the login."""
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


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
