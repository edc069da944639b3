"""The connection to a Kubeflow Pipelines endpoint: which one it is, and how often it is asked."""

import contextlib
import io
import logging
import os
import shlex
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import kfp
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared.errors import UserError, blot, clean, name_unknown, shorten
from pipelines.cluster.answers import Talk, WebPage, WrongAnswer, read_headers
from pipelines.cluster.client import Client, connect
from pipelines.cluster.failures import advise, explain, is_own_refusal, read_retry_after
from pipelines.cluster.kubeconfig_login import PluginFailed
from pipelines.compiler.config import Config, Endpoint, load_config, validate

Answer = TypeVar("Answer")
PATIENCE = 5  # seconds for which what may pass is tried again
LONGEST_PAUSE = 60  # seconds; a server may ask for hours
PORT_FORWARD = Endpoint(ui="http://localhost:8080")  # where one usually puts the pages


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
    for name in flags.keys() - Endpoint.model_fields.keys():
        raise UserError(name_unknown("the setting of the endpoint", name, Endpoint.model_fields))
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
        self._talk = Talk(header_file=settings.header_file)

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """While the block runs, no call takes longer than what is left of these seconds; None is for ever."""
        self._talk.end = time.monotonic() + seconds if seconds is not None else float("inf")
        try:
            yield
        finally:
            self._talk.end = float("inf")

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
            expected: the statuses of refusals that the caller deals with, if they are those of Kubeflow Pipelines.

        Returns:
            What `request` returns.

        Raises:
            NoAnswerYetError: there is still no answer.
            UserError: there is a refusal.
            kfp_server_api.ApiException: a refusal with an `expected` status.
        """
        end = min(time.monotonic() + (PATIENCE if patience is None else patience), self._talk.end)
        pause = 0.25
        while True:
            try:
                with _silence():
                    self._client = self._client or connect(self.endpoint, self._talk)
                    return request(self._client)
            # An OSError is that the file of the token is being replaced.
            except (ApiException, HTTPError, WrongAnswer, PluginFailed, OSError) as error:
                status = getattr(error, "status", None)
                if status in expected and self._client and is_own_refusal(error):
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

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace of the runs; on a server with users, each user has one.

        kfp may have saved that in a file of its own, which a server without users ignores.
        """
        client = self._client
        kept = client.get_user_namespace() if client and client.health["multi_user"] else ""
        return self.endpoint.user_namespace or kept or self.endpoint.namespace

    def explain(self, error: Exception) -> str:
        """What a failure means, and what to do: a sentence that a terminal can show, without a token."""
        return clean(blot(self._talk.blot(explain(error, self.endpoint))))

    def write_kubectl(self, *words: str) -> str:
        """A command of kubectl about the runs."""
        context = ("--context", self.endpoint.kube_context) if self.endpoint.kube_context else ()
        return shlex.join(["kubectl", *context, "-n", self.namespace, *words])

    def link_to(self, page: str) -> str:
        """The address of a page of Kubeflow Pipelines, such as runs/details/ID."""
        return self.endpoint.link_to(page) or PORT_FORWARD.link_to(page)


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


def _check(settings: dict[str, str]) -> None:
    host = settings["host"]
    if host and not host.startswith(("https://", "http://")):
        raise UserError(f"--host {host}: must begin with https:// (http:// for a port-forward).")
    try:
        address = urlsplit(host)
        user, _ = address.username, address.port  # a port that is no number is a ValueError
    except ValueError as error:
        raise UserError(f"--host {host}: is no address ({shorten(error)}).") from None
    if user is not None:
        raise UserError(f"--host: leave out the user name and password; {advise(Endpoint(host=address.scheme))}")
    for flag, field in (("--token-file", "token_file"), ("--header-file", "header_file"), ("--ca-file", "ca_file")):
        path = settings[field]
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise UserError(f"{flag} {path}: no such file, or it cannot be read.")
    if settings["header_file"]:
        try:
            read_headers(Path(settings["header_file"]))
        except OSError as error:
            raise UserError(explain(error, Endpoint(header_file=settings["header_file"]))) from None
    try:
        ssl.create_default_context(cafile=settings["ca_file"] or None)
    except ssl.SSLError:
        raise UserError(f"--ca-file {settings['ca_file']}: has no certificate; it must be a file in PEM.") from None


def _may_pass(error: Exception, status: int | None) -> bool:
    if isinstance(error, PluginFailed):
        return not error.is_lasting
    if status is None:
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    # 409: somebody else has made it in the meantime, so the next attempt finds it
    return status in (401, 408, 409, 429) or status >= 500
