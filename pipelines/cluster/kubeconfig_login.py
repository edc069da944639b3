"""The address and the login that a kubeconfig has; the login may be a plugin, a command that prints a token."""

import json
import os
import subprocess
import time
from typing import Any

from google.auth.exceptions import GoogleAuthError
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.dateutil import parse_rfc3339
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, FileOrData, KubeConfigLoader, KubeConfigMerger
from yaml import YAMLError

from components.shared.errors import UserError, shorten
from pipelines.cluster.answers import Talk

PATIENCE = 60  # seconds; a plugin may open a browser, in which somebody logs in
LONGEST_MESSAGE = 500  # characters of what a plugin says
# What the library raises on a kubeconfig, which it reads without checking it.
BROKEN = (
    AttributeError,
    ConfigException,
    GoogleAuthError,
    ImportError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    YAMLError,
)


class PluginFailed(Exception):
    """A plugin gives no token; the text says which plugin, and what to do."""

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        """Notes also whether it is in vain to ask the plugin again."""
        super().__init__(message)
        self.is_lasting = is_lasting


class Kubeconfig(KubeConfigLoader):  # type: ignore[misc]
    """A kubeconfig whose plugin ends in time and says why it fails; the library waits for ever, and only logs that."""

    def __init__(self, context: str, talk: Talk) -> None:
        """Reads it, and logs in.

        Args:
            context: the name of one of its contexts; empty for the current one.
            talk: which says how long somebody wants to wait.

        Raises:
            ConfigException, or another of BROKEN: it cannot be used.
            PluginFailed: its plugin gives no token.
        """
        files = KubeConfigMerger(KUBE_CONFIG_DEFAULT_LOCATION)
        if files.config is None:
            raise ConfigException(f"there is none at {KUBE_CONFIG_DEFAULT_LOCATION}")
        self._talk, self.host = talk, ""
        super().__init__(
            files.config, active_context=context or None, config_base_path=None, config_persister=files.save_changes
        )
        self.load_and_set(Configuration())
        if not self.host:
            raise ConfigException("its cluster has no server")

    def put_into(self, config: Any) -> None:
        """Puts the address and the login into the configuration of a client, which renews a login that expires."""
        self._set_config(config)

    def _load_from_exec_plugin(self) -> bool | None:
        if "exec" not in self._user:
            return None
        seconds = min(PATIENCE, max(self._talk.end - time.monotonic(), 1))
        status = _run_plugin(self._user["exec"], self._get_base_path(self._cluster.path), seconds)
        if "token" in status:
            self.token = f"Bearer {status['token']}"
        else:
            self.cert_file, self.key_file = (
                FileOrData(status, None, name, file_base_path="", base64_file_content=False).as_file()
                for name in ("clientCertificateData", "clientKeyData")
            )
        if "expirationTimestamp" in status:
            self.expiry = parse_rfc3339(status["expirationTimestamp"])
        return True


def read_kubeconfig(context: str, talk: Talk) -> Kubeconfig:
    """The kubeconfig, logged in; see Kubeconfig.

    Raises:
        UserError: there is none, or it cannot be used.
        PluginFailed: its plugin gives no token.
    """
    try:
        return Kubeconfig(context, talk)
    except BROKEN as error:
        raise UserError(
            f"no endpoint: neither --host nor a kubeconfig ({shorten(error)}); "
            "for a GKE cluster: gcloud container clusters get-credentials CLUSTER."
        ) from None


def _run_plugin(settings: Any, folder: str, seconds: float) -> dict[str, Any]:
    """What a plugin says of the login, as Kubernetes' ExecCredential has it below `status`.

    Args:
        settings: the plugin's, in the kubeconfig.
        folder: in which it runs.
        seconds: that it may take.

    Raises:
        PluginFailed: it gives no login.
    """
    plugin = ExecProvider(settings, folder)
    name = (
        f"the plugin {os.path.basename(plugin.args[0])}, by which the kubeconfig logs in,"  # arguments may be secrets
    )
    check = "`kubectl cluster-info` shows whether it works."
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
    try:
        done = subprocess.run(
            plugin.args,
            env=environment,
            cwd=plugin.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise PluginFailed(f"{name} has given no answer for {seconds:.0f} s; {check}") from None
    except OSError as error:
        advice = shorten(settings.safe_get("installHint") or "install it, or put it on the PATH")
        raise PluginFailed(f"{name} cannot be started ({error.strerror}); {advice}.", is_lasting=True) from None
    if done.returncode:
        said = shorten(done.stderr)[:LONGEST_MESSAGE] or f"exit code {done.returncode}"
        raise PluginFailed(f"{name} failed ({said}); {check}")
    try:
        status = json.loads(done.stdout)["status"]
        if "token" in status or ("clientCertificateData" in status and "clientKeyData" in status):
            return dict(status)
    except (LookupError, TypeError, ValueError):
        pass
    raise PluginFailed(f"{name} has printed no token; {check}")
