"""`submit.py --check`: everything a run on a cluster needs, tried one by one."""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote

import google.auth
import kfp
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from components.shared.cloud_storage import check_writable, is_address, parse_address
from components.shared.errors import UserError, clean, shorten_to_sentence
from pipelines.cluster import runs
from pipelines.cluster.client import Client
from pipelines.cluster.connection import Cluster

OLDEST = (2, 3)  # the first whose stages may run as another user than root (kubeflow/pipelines#10857)
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


class CannotTellError(UserError):
    """Something cannot be asked from here. A cluster may have it all the same, so that no start is refused for it."""


class Check(NamedTuple):
    """Something that a run needs."""

    name: str
    has_passed: bool
    message: str  # what was found, or what to do


def run_checks(checks: dict[str, Callable[[], str]]) -> Iterator[Check]:
    """Yields what each check, by its name, finds."""
    for name, check in checks.items():
        try:
            yield Check(name, True, check())
        except UserError as error:
            yield Check(name, False, str(error))


def check_endpoint(cluster: Cluster) -> str:
    """Asks the endpoint for its version.

    Raises:
        UserError: it does not answer, it is too old, or in multi-user mode no namespace is named.
    """
    answer = cluster.call(ask_health)
    version = clean(str(answer.get("tag_name", "unknown")))
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers and not OLDEST <= numbers < (3,):
        raise UserError(f"{cluster.name} runs Kubeflow Pipelines {version}; this project needs 2.3 or a newer 2.x.")
    namespace = cluster.endpoint.user_namespace or cluster.call(lambda client: client.get_user_namespace())
    if answer.get("multi_user") and not namespace:
        raise UserError(f"{cluster.name} is in multi-user mode; name your namespace with --user-namespace.")
    return f"{cluster.name}: Kubeflow Pipelines {version}, kfp {kfp.__version__} here"


def ask_health(client: Client) -> dict[str, Any]:
    """What the server says of itself now."""
    client.get_kfp_healthz()
    return client.health


def check_credentials(cluster: Cluster) -> str:
    """Asks for something that only those may read whose credentials are accepted.

    Raises:
        UserError: they are not.
    """
    namespace = cluster.endpoint.user_namespace or None
    cluster.call(lambda client: client.list_experiments(page_size=1, namespace=namespace))
    return "accepted"


def check_experiment(cluster: Cluster, name: str) -> str:
    """Looks for the experiment, which need not be there.

    Raises:
        UserError: it may not be read.
    """
    if not runs.find_experiment(cluster, name):
        return f"{name}: does not exist yet; the first run makes it"
    return f"{name}: readable"


def check_bucket(root: str) -> str:
    """Writes to the folder of the runs, which is gs://BUCKET/FOLDER.

    Raises:
        UserError: it is not in Cloud Storage, or may not be written and read.
    """
    check_root(root)
    check_writable(root)
    return f"{root}: written, read back, deleted"


def check_root(root: str) -> None:
    """Checks that the folder of the runs is a place in Cloud Storage.

    Raises:
        UserError: it is not.
    """
    if not is_address(root):
        raise UserError(f"'{root}': not a place in Cloud Storage; pipeline_root must be gs://BUCKET/FOLDER.")
    parse_address(root)


def check_images(images: list[str]) -> str:
    """Asks the registry for each image's manifest.

    Raises:
        CannotTellError: the registry cannot be asked.
        UserError: an image is not there.
    """
    if missing := find_missing(_is_there, images):
        raise UserError(f"{', '.join(missing)}: not in the registry; run: make images push REGISTRY=...")
    return f"all {len(images)} in the registry"


def find_missing(ask: Callable[[str], bool], names: Iterable[str]) -> list[str]:
    """Those that are not there; all are asked for at once.

    Raises:
        CannotTellError: none is known to be missing, but one cannot be asked for.
    """

    def try_to_ask(name: str) -> bool | CannotTellError:
        try:
            return ask(name)
        except CannotTellError as error:
            return error

    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        answers = dict(zip(names, pool.map(try_to_ask, names), strict=True))
    missing = [name for name, answer in answers.items() if answer is False]
    for answer in answers.values():
        if isinstance(answer, CannotTellError) and not missing:
            raise answer
    return missing


def _is_there(image: str) -> bool:
    host, slash, path = image.partition("/")
    if not slash or ("." not in host and ":" not in host and host != "localhost"):
        raise CannotTellError(f"{image}: has no registry; set `registry` in the config.")
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?", host):
        raise UserError(f"{image}: '{host}' is no host of a registry; correct `registry` in the config.")
    name, _, tag = path.rpartition(":")
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    headers = {"Accept": MANIFESTS}
    if takes_google_token(host):
        headers["Authorization"] = f"Bearer {_fetch_google_token(image)}"
    address = f"{scheme}://{host}/v2/{quote(name)}/manifests/{quote(tag)}"
    try:
        # To another host that it may lead to, requests does not send the token.
        answer = requests.head(address, headers=headers, timeout=20, allow_redirects=True)
    except requests.RequestException as error:
        raise CannotTellError(
            f"{host}: the registry does not answer ({type(error).__name__}); is `registry` in the config right?"
        ) from None
    if answer.status_code in (401, 403):
        raise CannotTellError(
            f"{image}: the registry does not let you read ({answer.status_code}); "
            "ask for the role Artifact Registry Reader, or run: gcloud auth application-default login"
        )
    if answer.status_code not in (200, 404):
        raise CannotTellError(f"{host}: the registry answers {answer.status_code}; try again, or ask whoever runs it.")
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if (answer.ok and kind not in MANIFESTS.split(", ")) or "html" in kind:
        raise CannotTellError(
            f"{host}: what answers is no registry of images ({clean(kind) or 'no Content-Type'}); "
            "is `registry` in the config right?"
        )
    return answer.ok


def takes_google_token(host: str) -> bool:
    """Whether a registry is Google's, for which alone its token is."""
    return host.lower() == "gcr.io" or host.lower().endswith((".pkg.dev", ".gcr.io"))


def _fetch_google_token(image: str) -> str:
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        raise CannotTellError(
            f"{image}: no Google credentials ({shorten_to_sentence(error)}); run: gcloud auth application-default login"
        ) from None
    return str(credentials.token)
