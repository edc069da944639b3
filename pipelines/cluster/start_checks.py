"""What is looked for before anything is sent, because the run would fail without it minutes later."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from components.shared.cloud_storage import MissingError, is_address, lies_at, open_local_copy, parse_address
from components.shared.errors import UserError
from components.shared.formats.decisions import check_decisions
from components.shared.formats.dvc_manifest import split_manifest
from components.shared.formats.image_table import is_table_name
from pipelines.cluster.checks import CannotTellError, check_images, check_root, find_missing
from pipelines.submission.preparation import VERSIONS, PreparedRun, choose_schema, name_reviewers
from pipelines.submission.request import RunRequest

TIMEOUT = 10  # seconds for Cloud Storage


def check_start(root: str, images: list[str], prepared: PreparedRun, request: RunRequest) -> list[str]:
    """Looks whether all is there that the run needs, at once.

    Args:
        root: the folder of the runs.
        images: those that the registry must have.
        prepared: the run.
        request: what was asked for.

    Returns:
        What cannot be told from here, a sentence each: the cluster may reach what this machine does not.

    Raises:
        UserError: something is not there, or is not what it should be.
    """
    named = {name: file for name, file in name_reviewers(request.decisions).items() if is_address(file)}
    steps: list[Callable[[], object]] = [
        lambda: check_bucket_exists(root),
        lambda: check_artifacts(list_addresses(prepared, request)),
        lambda: check_data(prepared.arguments),
        *(lambda uri=uri, reviewer=reviewer: check_decisions_at(uri, reviewer) for reviewer, uri in named.items()),
    ]
    if images:
        steps.append(lambda: check_images(images))
    with ThreadPoolExecutor(len(steps)) as pool:
        found = [pool.submit(step) for step in steps]
    doubts = []
    for each in found:
        try:
            each.result()
        except CannotTellError as error:
            doubts.append(str(error))
    return doubts


def list_addresses(prepared: PreparedRun, request: RunRequest) -> dict[str, str]:
    """The addresses in Cloud Storage at which the run is given artifacts or a schema, by the parameter."""
    names = set(prepared.stages.artifact_parameters)
    schema = choose_schema(request, prepared.stages.config)
    if not schema or is_address(schema):  # a file of this machine goes to its address when the run is started
        names.add("curated_schema_uri")
    return {name: uri for name, uri in prepared.arguments.items() if name in names and is_address(str(uri))}


def check_artifacts(addresses: Mapping[str, str]) -> None:
    """Looks for something at the address that each parameter names.

    Raises:
        CannotTellError: Cloud Storage cannot be asked.
        UserError: nothing is there, or it is no address.
    """
    for uri in addresses.values():
        parse_address(uri)
    missing = find_missing(_lies_at, addresses.values())
    for name, uri in addresses.items():
        if uri in missing:
            raise UserError(
                f"{name}: nothing lies at {uri} in Cloud Storage; give the address of what a run has left there."
            )


def check_data(arguments: Mapping[str, object]) -> None:
    """Looks for the tables and the manifests of versions that the run is to read; a folder has been listed before.

    Raises:
        CannotTellError: Cloud Storage cannot be asked.
        UserError: one is not there.
    """
    named = filter(is_address, (str(arguments.get(name, "")) for name in VERSIONS))
    manifests = {uri: split_manifest(uri) for uri in named}
    files = [found[0] if found else uri for uri, found in manifests.items() if found or is_table_name(uri)]
    for file in find_missing(_lies_at, files):
        raise UserError(f"{file}: nothing lies there in Cloud Storage; name images that are there by --data.")


def check_decisions_at(uri: str, reviewer: str) -> None:
    """Checks each row of a file of decisions in Cloud Storage by itself.

    Raises:
        CannotTellError: it cannot be read.
        UserError: there is none, or a row says nothing clear.
    """
    with contextlib.ExitStack() as stack:
        with _doubt_refusals():
            path = stack.enter_context(open_local_copy(uri))
        check_decisions(path, reviewer=reviewer, shown=uri)


def check_bucket_exists(root: str) -> None:
    """Looks for the bucket of the runs; who starts them need not be allowed to write there.

    Raises:
        CannotTellError: it cannot be asked for.
        UserError: there is none.
    """
    check_root(root)
    try:
        with _doubt_refusals():
            lies_at(root, timeout=TIMEOUT)
    except MissingError:
        raise UserError(f"{root}: not found in Cloud Storage; check pipeline_root in the config.") from None


def _lies_at(uri: str) -> bool:
    try:
        with _doubt_refusals():
            return lies_at(uri, timeout=TIMEOUT)
    except MissingError:
        return False


@contextlib.contextmanager
def _doubt_refusals() -> Iterator[None]:
    """Makes a CannotTellError of every UserError but MissingError."""
    try:
        yield
    except MissingError:
        raise
    except UserError as error:
        raise CannotTellError(str(error)) from None
