"""What runs on a cluster leave in Cloud Storage: found, fetched, and whether one may write there."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from pipelines.compiler.config import first_sentence
from pipelines.compiler.packages import Task

if TYPE_CHECKING:
    from google.cloud.storage import Client


class Artifact(NamedTuple):
    """What a task of a run wrote."""

    task: str  # its name without that of its part of the pipeline, which nothing in the bucket tells
    output: str
    uri: str


def find_artifacts(*folders: str) -> list[Artifact]:
    """What runs wrote, oldest first, so that of several attempts the last one counts.

    KFP's driver puts an output at <root>/<pipeline>/<run>/<task>/<id of the attempt>/<output>; each folder is the part
    up to the run.

    Raises:
        UserError: the bucket cannot be listed.
    """
    found = []
    for folder in folders:
        bucket, prefix = _split(folder)
        with _explained(folder):
            for blob in _client().list_blobs(bucket, prefix=prefix):
                task, *attempt = blob.name.removeprefix(prefix).split("/")[:3]
                if len(attempt) == 2:
                    uri = f"gs://{bucket}/{prefix}{task}/{'/'.join(attempt)}"
                    found.append((blob.updated, Artifact(task, attempt[1], uri)))
    return list(dict.fromkeys(artifact for _, artifact in sorted(found)))


def by_task(artifacts: list[Artifact], tasks: list[Task]) -> dict[tuple[str, str], str]:
    """The URIs by the full name of a task, and its output.

    Parts of a pipeline that have tasks of the same name come one after another: what is there after a later part has
    begun belongs to that.
    """
    parts = list(dict.fromkeys(task.name.partition("/")[0] for task in tasks))
    found, reached = {}, 0
    for artifact in artifacts:
        places = {parts.index(task.name.partition("/")[0]): task for task in tasks if task.base_name == artifact.task}
        if places:
            place = min((place for place in places if place >= reached), default=max(places))
            reached = max(reached, place)
            found[places[place].name, artifact.output] = artifact.uri
    return found


def fetch(uri: str, target: Path) -> Path:
    """Copies the object or all objects below `uri` to `target`, a file or a folder, checked against their checksums.

    Raises:
        UserError: there is nothing at `uri`, or it cannot be read.
    """
    bucket, prefix = _split(uri)
    name = prefix.rstrip("/")
    with _explained(uri):
        client = _client()
        blobs = {blob.name: blob for blob in client.list_blobs(bucket, prefix=name)}
        if name in blobs:
            with new_file(target) as path:
                blobs[name].download_to_filename(str(path), checksum="crc32c")
            return target
        below = {path.removeprefix(f"{name}/"): blob for path, blob in blobs.items() if path.startswith(f"{name}/")}
        if not below:
            raise UserError(f"{uri}: there is nothing; did the run that made it end well?")
        with new_directory(target) as folder:
            for relpath, blob in below.items():
                path = (folder / relpath).resolve()
                if not path.is_relative_to(folder.resolve()):
                    raise UserError(f"gs://{bucket}/{blob.name}: its name leads out of the folder; remove it.")
                path.parent.mkdir(parents=True, exist_ok=True)
                blob.download_to_filename(str(path), checksum="crc32c")
    return target


def upload(path: Path, uri: str) -> None:
    """Writes the file to the object `uri`.

    Raises:
        UserError: that may not be written.
    """
    bucket, prefix = _split(uri)
    with _explained(uri):
        _client().bucket(bucket).blob(prefix.rstrip("/")).upload_from_filename(str(path), checksum="crc32c")


def check_writable(root: str) -> None:
    """Writes an object below `root`, reads it back and deletes it.

    Raises:
        UserError: one of these failed.
    """
    bucket, prefix = _split(root)
    content = uuid.uuid4().hex
    with _explained(root):
        blob = _client().bucket(bucket).blob(f"{prefix}.check-{content}")
        blob.upload_from_string(content, checksum="crc32c")
        same = blob.download_as_text() == content
        blob.delete()
    if not same:
        raise UserError(f"{root}: what was read back is not what was written.")


def _client() -> "Client":
    from google.cloud import storage

    return storage.Client(project=None)  # asked for nothing that belongs to a project


def _split(uri: str) -> tuple[str, str]:
    """gs://BUCKET/FOLDER -> BUCKET, FOLDER/"""
    if not uri.startswith("gs://"):
        raise UserError(f"'{uri}': not a place in Cloud Storage; pipeline_root must be gs://BUCKET/FOLDER.")
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAuthError as error:
        raise UserError(
            f"{uri}: no Google credentials ({first_sentence(error)}); run: gcloud auth application-default login"
        ) from None
    except NotFound:
        raise UserError(f"{uri}: no such bucket or object; is it written right in the config?") from None
    except (Forbidden, Unauthorized) as error:
        raise UserError(
            f"{uri}: not allowed ({first_sentence(error)}); ask for the role Storage Object User."
        ) from None
    except (GoogleAPICallError, RequestException) as error:
        raise UserError(f"{uri}: Cloud Storage cannot be used ({first_sentence(error)}).") from None
