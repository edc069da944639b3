"""Google Cloud Storage: addresses, clients, listing, reading, writing, and errors as one sentence.

No other module knows how an address is written or imports the client library. The library is imported inside the
functions, because the command lines import this module and must start fast.
"""

import base64
import contextlib
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from components.shared.errors import UserError, shorten
from components.shared.files import new_directory, new_file

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Blob
    from google.cloud.storage import Client as Client  # exported for the annotations of callers

SCHEME = "gs://"
ADDRESS = re.compile(r"gs://([^/]+)/*(.*?)/*", re.DOTALL)
BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
CONNECTIONS = 10  # that a client keeps open, so that many objects are read at once
CHUNK = 2**20  # bytes of an object that are read at once

# The roles that messages ask for, and the default advice for an object that is missing.
READ = "Storage Object Viewer"
WRITE = "Storage Object User"
IF_MISSING = "check the address"


class MissingError(UserError):
    """There is no such bucket, or no such object."""


class Address(NamedTuple):
    """A bucket, and an object or a folder in it."""

    bucket: str
    name: str  # without a slash at either end; empty for the whole bucket

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.name}".rstrip("/")


class Object(NamedTuple):
    """An object as it is listed."""

    name: str  # relative to the folder that was listed
    address: str
    generation: int  # changes when the object is replaced
    md5: str  # of the content, in hex; empty for objects that were composed of others
    updated: datetime


def is_address(text: str) -> bool:
    """Whether a path or address is meant to be one of Cloud Storage."""
    return text.startswith(SCHEME)


def parse_address(uri: str) -> Address:
    """Splits gs://BUCKET/FOLDER/NAME.

    Raises:
        UserError: it is not such an address.
    """
    matched = ADDRESS.fullmatch(uri)
    if not matched:
        raise UserError(f"{uri or repr(uri)}: names no bucket; write gs://BUCKET/FOLDER.")
    if not BUCKET.fullmatch(matched[1]):
        raise UserError(
            f"{uri}: no bucket has the name {matched[1]}, since names of buckets have lowercase letters, digits, "
            "dashes, underscores and dots, with a letter or digit at both ends; check the address."
        )
    return Address(matched[1], matched[2])


@contextlib.contextmanager
def open_client(shown: str, *, endpoint: str = "", token: str = "") -> "Iterator[Client]":
    """Opens a client, which is closed at the end of the block.

    Args:
        shown: How messages name what the client is for.
        endpoint: The URL of a server other than Google's.
        token: The path of a file with credentials, or "anon" for none; empty takes those of the machine.

    Yields:
        The client; several threads may use it at once.

    Raises:
        UserError: There are no credentials.
    """
    from google.cloud.storage import Client

    with explain_errors(shown):
        options = {"api_endpoint": endpoint} if endpoint else None
        client = Client(project=None, credentials=_load_credentials(token), client_options=options)
    with contextlib.closing(client):
        yield client


def _load_credentials(token: str) -> "Credentials | None":
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    if token == "anon":
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    if token:
        credentials, _ = google.auth.load_credentials_from_file(token, Client.SCOPE)  # type: ignore[no-untyped-call]
        return cast("Credentials", credentials)
    return None


@contextlib.contextmanager
def explain_errors(shown: str, *, role: str = READ, if_missing: str = IF_MISSING) -> Iterator[None]:
    """Turns what the client library raises into one sentence. Errors that may pass were retried by the library.

    Args:
        shown: What the block works on, as the sentence names it.
        role: The role that the block needs on the bucket.
        if_missing: What to do if the object or the bucket does not exist.

    Raises:
        MissingError: The bucket or the object does not exist.
        UserError: Cloud Storage refused, or could not be reached.
    """
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.resumable_media import DataCorruption

    try:
        yield
    except api.NotFound:
        raise MissingError(f"{shown}: not found in Cloud Storage; {if_missing}.") from None
    except (api.Forbidden, api.Unauthorized) as error:
        reason = f"permission refused ({shorten(error)}); give the account of this run the role {role} on the bucket"
    except DataCorruption:
        reason = "differs from its checksum; run again, and if that does not help, upload it again"
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        reason = (
            f"no Google credentials ({shorten(error)}); run `gcloud auth application-default login`, or give the stage"
            " a service account"
        )
    except (api.RetryError, requests.ConnectionError, requests.Timeout) as error:
        cause, said = (error.cause if isinstance(error, api.RetryError) else error), _find_first_cause(error)
        if isinstance(cause, (api.GoogleAPICallError, requests.exceptions.SSLError)):  # it did answer, but not so
            reason = f"Cloud Storage cannot be used ({said}); check the address and run again"
        else:
            reason = f"Cloud Storage does not answer ({said}); check the network and the address"
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        reason = f"Cloud Storage cannot be used ({shorten(error)}); check the address and run again"
    else:
        return
    raise UserError(f"{shown}: {reason}.")


def _find_first_cause(error: BaseException) -> str:
    """What the system or the server said, such as Connection refused, and not what each library made of that."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return shorten(getattr(error, "strerror", None) or error)


def _set_patience(seconds: float) -> dict[str, Any]:
    """The options of a request that is repeated for so long, and not for the library's two minutes."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": seconds, "retry": DEFAULT_RETRY.with_timeout(seconds)}


def list_objects(uri: str, *, if_missing: str = IF_MISSING, timeout: float | None = None) -> Iterator[Object]:
    """Yields all objects below a folder, sorted by name; nothing if there is no such folder.

    Args:
        uri: The address of the folder.
        if_missing: What to do if the bucket does not exist.
        timeout: Seconds for which each request is repeated, one for some thousand objects; None takes the library's.

    Raises:
        UserError: The bucket does not exist or cannot be listed.
    """
    with open_client(uri) as client, explain_errors(uri, if_missing=if_missing):
        for blob in _list(client, uri, **(_set_patience(timeout) if timeout else {})):
            found = _describe(blob, uri)
            if found.name:
                yield found


def list_folder(uri: str) -> tuple[list[Object], list[str]]:
    """Lists what lies directly in a folder.

    Returns:
        The objects, and the names of the folders. Consoles make an object for the folder itself; its name is empty.

    Raises:
        UserError: The bucket does not exist or cannot be listed.
    """
    with open_client(uri) as client, explain_errors(uri):
        blobs = _list(client, uri, delimiter="/")
        objects = [_describe(blob, uri) for blob in blobs]
        return objects, [prefix.split("/")[-2] for prefix in blobs.prefixes]


def _list(client: "Client", uri: str, **options: Any) -> Any:  # HTTPIterator
    bucket, name = parse_address(uri)
    fields = "items(name,generation,md5Hash,updated),prefixes,nextPageToken"
    return client.list_blobs(bucket, prefix=name and f"{name}/", fields=fields, page_size=5000, **options)


def _describe(blob: "Blob", uri: str) -> Object:
    name = parse_address(uri).name
    relative = blob.name.removeprefix(f"{name}/") if name else blob.name
    md5 = base64.b64decode(blob.md5_hash).hex() if blob.md5_hash else ""
    return Object(relative, f"{SCHEME}{blob.bucket.name}/{blob.name}", blob.generation, md5, blob.updated)


def exists(uri: str, shown: str, *, timeout: float, endpoint: str = "", token: str = "") -> bool:
    """Asks for an object, with one request unless it has to be repeated.

    Args:
        uri: The address of the object.
        shown: How messages name it.
        timeout: Seconds until Cloud Storage must have answered.
        endpoint: As in open_client.
        token: As in open_client.

    Returns:
        Whether there is such an object.

    Raises:
        UserError: Cloud Storage refuses to tell, or does not answer in time.
    """
    with open_client(shown, endpoint=endpoint, token=token) as client, explain_errors(shown):
        return bool(_get_blob(client, uri).exists(**_set_patience(timeout)))


def lies_at(uri: str, *, timeout: float) -> bool:
    """Whether there is an object at the address or below it.

    Args:
        uri: The address.
        timeout: Seconds for which each of two requests is repeated.

    Raises:
        MissingError: The bucket does not exist.
        UserError: Cloud Storage refuses to tell, or cannot be reached.
    """
    bucket, name = parse_address(uri)
    patience = _set_patience(timeout)
    with open_client(uri) as client, explain_errors(uri):
        prefix = name and f"{name}/"
        below = client.list_blobs(bucket, prefix=prefix, max_results=1, fields="items(name)", **patience)
        return any(True for _ in below) or bool(name and _get_blob(client, uri).exists(**patience))


@contextlib.contextmanager
def open_object(client: "Client", uri: str) -> "Iterator[BinaryIO]":
    """Opens an object to be read piece by piece.

    Raises:
        UserError: It cannot be read.
    """
    with explain_errors(uri), _get_blob(client, uri).open("rb", chunk_size=CHUNK) as file:
        yield file


def download(
    client: "Client",
    uri: str,
    target: IO[bytes],
    *,
    generation: int | None = None,
    shown: str = "",
    if_missing: str = IF_MISSING,
) -> None:
    """Writes the content of an object, checked against its crc32c, to an open file.

    Args:
        client: Of open_client.
        uri: The address of the object.
        target: A file, or anything else with a `write` that takes bytes; what `write` raises is passed on.
        generation: Of the content that is wanted; any other one counts as missing.
        shown: How messages name the object; empty takes its address.
        if_missing: What to do if it does not exist.

    Raises:
        UserError: It cannot be read.
    """
    with explain_errors(shown or uri, if_missing=if_missing):
        _get_blob(client, uri, generation).download_to_file(target, checksum="crc32c")


def fetch(uri: str, target: Path, *, if_missing: str = IF_MISSING) -> Path:
    """Copies the object or all objects below `uri` to this machine.

    Args:
        uri: The address of an object or a folder.
        target: The path of the new file or folder, which is whole or absent.
        if_missing: What to do if there is neither.

    Returns:
        The target.

    Raises:
        UserError: There is nothing at `uri`, or it cannot be read.
    """
    names = [found.name for found in list_objects(uri, if_missing=if_missing) if not found.name.endswith("/")]
    if names:
        with new_directory(target) as folder:
            fetch_objects(uri, names, folder, if_missing=if_missing)
    else:
        fetch_object(uri, target, if_missing=if_missing)
    return target


def fetch_object(uri: str, target: Path, *, if_missing: str = IF_MISSING) -> None:
    """Copies an object to the file `target`, which is whole or absent.

    Raises:
        UserError: `uri` names no object, or it cannot be read.
    """
    if not parse_address(uri).name:
        raise UserError(f"{uri}: names no object; write gs://BUCKET/FOLDER/FILE.")
    with new_file(target) as path, path.open("wb") as file, open_client(uri) as client:
        download(client, uri, file, if_missing=if_missing)


@contextlib.contextmanager
def open_local_copy(uri: str) -> Iterator[Path]:
    """Yields the path of a file, or of a copy of an object that is gone afterwards.

    Raises:
        UserError: `uri` is an address, and names no object, or one that cannot be read.
    """
    if not is_address(uri):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        fetch_object(uri, path)
        yield path


def fetch_objects(uri: str, names: Iterable[str], folder: Path, *, if_missing: str = IF_MISSING) -> None:
    """Copies objects below `uri`, many at once, to the same names below a folder of this machine.

    Raises:
        UserError: One of them cannot be read, or its name leads out of the folder.
    """

    def fetch_one(name: str) -> None:
        address, path = f"{uri.rstrip('/')}/{name}", folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{address}: its name leads out of the folder; remove it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            download(client, address, file, if_missing=if_missing)

    with open_client(uri) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(fetch_one, names):
            pass


def upload(path: Path, uri: str, *, timeout: float | None = None) -> None:
    """Writes a file of this machine to the object `uri`.

    Args:
        path: The file.
        uri: The address of the object.
        timeout: Seconds for which a request is repeated; None takes the library's.

    Raises:
        UserError: It may not be written.
    """
    with open_client(uri) as client, explain_errors(uri, role=WRITE):
        options = _set_patience(timeout) if timeout else {}
        _get_blob(client, uri).upload_from_filename(str(path), checksum="crc32c", **options)


def delete(uri: str, *, timeout: float) -> None:
    """Deletes the object `uri`.

    Args:
        uri: Its address.
        timeout: Seconds for which the request is repeated.

    Raises:
        MissingError: It does not exist.
        UserError: It may not be deleted.
    """
    with open_client(uri) as client, explain_errors(uri, role=WRITE):
        _get_blob(client, uri).delete(**_set_patience(timeout))


def check_writable(uri: str) -> None:
    """Writes an object below the folder `uri`, reads it back and deletes it.

    Raises:
        UserError: One of these failed.
    """
    content = uuid.uuid4().hex
    with open_client(uri) as client, explain_errors(uri, role=WRITE):
        blob = _get_blob(client, f"{uri.rstrip('/')}/.check-{content}")
        blob.upload_from_string(content, checksum="crc32c")
        same = blob.download_as_text() == content
        blob.delete()
    if not same:
        raise UserError(f"{uri}: what was read back is not what was written.")


def _get_blob(client: "Client", uri: str, generation: int | None = None) -> "Blob":
    bucket, name = parse_address(uri)
    return client.bucket(bucket).blob(name, generation=generation)
