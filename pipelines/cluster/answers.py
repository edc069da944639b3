"""What an answer of the server must be: each is read in bounded time and checked here, where it arrives."""

import base64
import contextlib
import datetime
import errno
import io
import json
import re
import time
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import kfp_server_api.models
from kfp_server_api import ApiClient
from urllib3 import HTTPResponse, PoolManager, Retry, Timeout
from urllib3.response import BaseHTTPResponse

from components.shared.deadlines import TooLate, run_within
from components.shared.errors import BLOT, UserError, clean
from components.shared.hosts import check_private

SILENCE = 30  # seconds without a word after which a connection counts as lost
LONGEST = 60  # seconds that a whole answer may take
GRACE = 1  # second more for the checks that know better what is wrong
LARGEST = 256 * 2**20  # bytes of an answer; a page of runs with all their tasks has some millions
# Asking again is left to Cluster.call: urllib3 would multiply the silence, and sleep as long as a Retry-After says.
RETRIES = Retry(total=3, connect=0, read=0, other=0, status=0, redirect=3, respect_retry_after_header=False)

# What no answer lacks, by the model of kfp_server_api. Lists that are empty are left out.
REQUIRED = {
    "V2beta1Experiment": ("experiment_id", "display_name"),
    "V2beta1GetHealthzResponse": ("multi_user",),
    "V2beta1Pipeline": ("pipeline_id", "display_name"),
    "V2beta1PipelineVersion": ("pipeline_id", "pipeline_version_id", "display_name"),
    "V2beta1RecurringRun": ("recurring_run_id", "display_name"),
    "V2beta1Run": ("run_id", "display_name", "created_at"),
}
# They become parts of addresses and the names of folders.
IDS = ("experiment_id", "pipeline_id", "pipeline_version_id", "recurring_run_id", "run_id")
ID = re.compile(r"\w[\w.-]*", re.ASCII)
PYTHON_TYPES = {"str": str, "int": int, "bool": bool, "datetime": str}
LATE = "it did not come to its end in time"
SHORTEST_TOKEN = 10  # characters; a shorter one may be a part of any word
SECRET = ("authorization", "cookie")  # headers
# Headers by which a request is framed; a person may set none of them, nor any that begins with Content-.
OWN = ("accept-encoding", "connection", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade")
HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([!-~]([ -~]*[!-~])?)[ \t]*")  # as RFC 9110 has it, in ASCII
Heard = tuple[BaseHTTPResponse, bytes]  # an answer and its content


class WrongAnswer(Exception):
    """An answer that Kubeflow Pipelines does not give; the text says what it is."""


class WebPage(WrongAnswer):
    """A page for a browser, such as that of a login; the text is its title."""


@dataclass
class Talk:
    """What all requests of a command have in common."""

    end: float = float("inf")  # when, by time.monotonic(), somebody wants to wait no longer
    tokens: set[str] = field(default_factory=set)  # those that were sent
    header_file: str = ""  # with headers that every request has; somebody may replace it at any time

    def blot(self, text: str) -> str:
        """The text without the tokens that were sent."""
        for token in sorted(self.tokens, key=len, reverse=True):  # the longest first, since one may be part of another
            text = text.replace(token, BLOT)
        return text


class Pool:
    """A pool of connections whose requests all come to an end; the generated client's may last for ever."""

    def __init__(self, pool: PoolManager, talk: Talk) -> None:
        """Asks through `pool`."""
        self._pool, self._talk = pool, talk

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        preload_content: bool = True,  # noqa: ARG002 - the generated client gives it; the whole answer is read anyway
        timeout: Timeout | None = None,  # noqa: ARG002 - that of the generated client, which is none
        **options: Any,
    ) -> BaseHTTPResponse:
        """The answer, read to its end, as UTF-8 and without the token, should it come back.

        Raises:
            UserError: a token would go where others can read it.
            OSError: the file of the headers has none, perhaps because it is being replaced.
            WrongAnswer: the answer is too long or too slow.
            urllib3.exceptions.HTTPError: there is no answer, or it is cut short.
        """
        own = read_headers(Path(self._talk.header_file)) if self._talk.header_file else {}
        named = {name.lower() for name in own}
        for name, value in (*headers.items(), *own.items()):
            if name.lower() in (*SECRET, *named):
                check_private(url)
                self._talk.tokens |= set(_list_tokens(name, value))
        left = max(self._talk.end - time.monotonic(), 1)
        silence = min(SILENCE, left)
        end = time.monotonic() + min(LONGEST, left)

        def ask() -> Heard:
            response = self._pool.request(
                method,
                url,
                headers={name: value for name, value in headers.items() if name.lower() not in named} | own,
                preload_content=False,
                timeout=Timeout(connect=silence, read=silence),
                retries=RETRIES.new(remove_headers_on_redirect=[*Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT, *own]),
                **options,
            )
            return response, _read(response, end)

        try:
            response, data = run_within(end + GRACE - time.monotonic(), ask)
        except TooLate:
            raise WrongAnswer(LATE) from None
        kept = {name: response.headers[name] for name in ("Retry-After",) if name in response.headers}
        kind = response.headers.get("Content-Type", "").partition(";")[0]  # not its charset: it may be any word
        return HTTPResponse(
            io.BytesIO(self._talk.blot(data.decode(errors="replace")).encode()),
            headers={"Content-Type": kind, **kept},
            status=response.status,
            reason=response.reason,
            preload_content=False,
        )


def read_headers(path: Path) -> dict[str, str]:
    """The headers in a file that has one on each line, such as `Cookie: oauth2_proxy_kubeflow=...`.

    Raises:
        OSError: it cannot be read, or has something else.
        UserError: it has a header twice, or one that is not for a person to set.
    """
    # Of utf-8-sig, because editors on Windows begin a file with a mark.
    lines = [line for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if line.strip()]
    found = [HEADER.fullmatch(line) for line in lines]
    if not found or None in found:
        raise OSError(errno.EINVAL, "each line must be NAME: VALUE" if found else "it is empty", str(path))
    headers: dict[str, str] = {}
    for name, value in ((header[1], header[2]) for header in found if header):
        if name.lower() in OWN or name.lower().startswith("content-"):
            raise UserError(f"{path}: has {name}, which each request sets for itself; leave that line out.")
        if name.lower() in map(str.lower, headers):
            raise UserError(f"{path}: has {name} twice; write one line (with `; ` between the values of a Cookie).")
        headers[name] = value
    return headers


def _list_tokens(name: str, value: str) -> list[str]:
    """What nobody may read in a header; one that names a person by an address of mail is no secret."""
    if name.lower() not in SECRET and "@" in value:
        return []
    is_cookie = name.lower() == "cookie"
    parts = [part.partition("=")[2].strip() for part in value.split(";")] if is_cookie else value.split()[-1:]
    bare = [part.strip('"') for part in parts]
    tokens = [*bare, *map(unquote, bare)]  # the latter as a server that has read them may say them
    if value.lower().startswith("basic "):
        with contextlib.suppress(ValueError):
            login = base64.b64decode(bare[0]).decode()
            tokens += [login, login.partition(":")[2]]
    return [token for token in tokens if len(token) >= SHORTEST_TOKEN]


def guard(client: ApiClient, talk: Talk) -> None:
    """Makes every answer to the client pass through this module."""
    client.rest_client.pool_manager = Pool(client.rest_client.pool_manager, talk)
    deserialize = client.deserialize

    def check_and_deserialize(response: Any, response_type: str) -> Any:
        content = read_object(response.data, response.getheader("Content-Type") or "")
        response.data = json.dumps(check_content(content, response_type))
        return deserialize(response, response_type)

    client.deserialize = check_and_deserialize


def read_object(content: bytes | str, kind: str) -> dict[str, Any]:
    """The JSON object that an answer is.

    Args:
        content: the answer.
        kind: its Content-Type.

    Raises:
        WrongAnswer: it is something else.
    """
    text = (content if isinstance(content, str) else content.decode(errors="replace")).strip()
    if not text:
        raise WrongAnswer("it is empty")
    if text.startswith("<") or "html" in kind:
        raise WebPage(read_title(text))
    try:
        found = json.loads(text)
    except RecursionError:
        raise WrongAnswer("its JSON is nested too deeply") from None
    except ValueError:
        is_cut = text.startswith("{") and not text.endswith("}")
        raise WrongAnswer("it was cut short" if is_cut else "it is no JSON") from None
    if not isinstance(found, dict):
        raise WrongAnswer("it is JSON, but no object")
    return found


def read_title(page: str) -> str:
    """The title of a page in HTML, on one line; nothing if it has none."""
    title = re.search(r"<title[^>]*>(.{0,100}?)</title", page, re.DOTALL | re.IGNORECASE)
    return clean(" ".join(unescape(title[1]).split())) if title else ""


def check_content(content: Any, model: str, place: str = "") -> Any:
    """What an answer holds, if it is what the model of kfp_server_api says; its texts can be printed.

    Fields that the model does not know are those of a newer server and stay.

    Args:
        content: the answer or a part of it.
        model: a type as in the `openapi_types` of kfp_server_api.
        place: where in the answer the part is.

    Raises:
        WrongAnswer: it is something else.
    """
    if model == "object" or content is None:
        return content
    if model.startswith("list["):
        _check_type(content, list, place)
        inner = model.removeprefix("list[").removesuffix("]")
        if None in content:
            raise WrongAnswer(f"{place} has an item that is null")
        return [check_content(item, inner, f"{place}[{number}]") for number, item in enumerate(content)]
    if model.startswith("dict("):
        _check_type(content, dict, place)
        inner = model.partition(", ")[2].removesuffix(")")
        return {key: check_content(value, inner, f"{place}.{key}") for key, value in content.items()}
    if model in PYTHON_TYPES:
        return _check_value(content, model, place)
    kind = getattr(kfp_server_api.models, model)
    if not kind.openapi_types:  # a state or the like, of which a newer server may have more
        return _check_value(content, "str", place)
    return _check_object(content, kind, place)


def _check_object(content: Any, kind: Any, place: str) -> dict[str, Any]:
    """The object, if its fields are those of the model `kind`, and none that no answer lacks is missing."""
    _check_type(content, dict, place)
    if content and not place and not content.keys() & kind.attribute_map.values():
        raise WrongAnswer(f"it has no {min(kind.attribute_map.values())}")
    types = {key: kind.openapi_types[field] for field, key in kind.attribute_map.items()}
    checked = {
        key: check_content(value, types[key], f"{place}.{key}".lstrip(".")) if key in types else value
        for key, value in content.items()
    }
    for key in REQUIRED.get(kind.__name__, ()):
        if checked.get(key) in (None, ""):
            raise WrongAnswer(f"{place or 'it'} has no {key}")
    for key in IDS:
        if checked.get(key) and key in types and not ID.fullmatch(checked[key]):
            raise WrongAnswer(f"{place}.{key} is no id".lstrip("."))
    return checked


def _check_type(content: Any, expected: type, place: str) -> None:
    if not isinstance(content, expected):
        raise WrongAnswer(f"{place or 'it'} is of type {type(content).__name__}, not {expected.__name__}")


def _check_value(value: Any, model: str, place: str) -> Any:
    """The value, if it is of a type in PYTHON_TYPES."""
    _check_type(value, PYTHON_TYPES[model], place)
    if model == "int" and isinstance(value, bool):
        raise WrongAnswer(f"{place} is of type bool, not int")
    if model == "datetime":
        _check_time(value, place)
    return clean(value) if isinstance(value, str) else value


def _check_time(text: str, place: str) -> None:
    """Checks a time as protobuf writes it, with its zone; of year 9999 not every zone has all."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year == datetime.MAXYEAR:
        raise WrongAnswer(f"{place} is no time")


def _read(response: BaseHTTPResponse, end: float) -> bytes:
    """The content; `end` is by time.monotonic()."""
    content = bytearray()
    while chunk := response.read1(2**16):
        content += chunk
        if len(content) > LARGEST or time.monotonic() > end:
            response.close()
            raise WrongAnswer("it is endless" if len(content) > LARGEST else LATE)
    response.release_conn()
    return bytes(content)
