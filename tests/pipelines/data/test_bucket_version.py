"""The version of a folder in a bucket, from its listing: the one that DVC gives the same files on a disk."""

import base64
import contextlib
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from components.shared.errors import UserError
from components.shared.formats.dvc_manifest import compute_version
from pipelines.data import bucket_version
from pipelines.data.bucket_version import find_version
from pipelines.data.dvc_version import DataVersion
from tests.fakes.gcs import EMULATOR, Gcs, unanswered_port

FILES = (
    *("train/i/0.png", "train/i/Zwölf & one.png", "train/i/a/0.png", "train/v/0.png", "val/i/0.png", "val/v/0.png"),
    *("labels.md", "train/.DS_Store", "train/README", ".hidden/a", "train/i0.txt", "train/i/.git", ".hg/store"),
)
WITHOUT = "So the data have no version before the run, and ingest is not taken from the cache.\n"


def make_folder(root: Path) -> Path:
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_it_is_the_version_of_dvc(gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    data = make_folder(tmp_path / "data")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    Repo.init(str(tmp_path)).add(str(data))
    expected = yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"]

    uri = gcs.upload(data, "a/b")
    for name in ("a/b/", "a/b/train/", "a/b/train/empty/"):  # consoles make such objects for folders
        gcs.bucket.blob(name).upload_from_string("")
    gcs.bucket.blob("a/bc/train/i/0.png").upload_from_string("of another folder, whose name begins alike")
    assert find_version(uri) == DataVersion(uri, expected)
    assert find_version(f"{uri}/") == DataVersion(f"{uri}/", expected)
    gcs.bucket.blob("a/b/train/i/0.png").upload_from_string("another picture")
    assert find_version(uri).version not in ("", expected)


def test_it_may_be_that_of_a_whole_bucket(gcs: Gcs, tmp_path: Path):
    elsewhere = gcs.client.create_bucket(f"{gcs.bucket.name}-whole")
    whole = Gcs(gcs.url, gcs.client, elsewhere)
    data = make_folder(tmp_path / "data")
    assert find_version(whole.upload(data)).version == find_version(gcs.upload(data, "folder")).version


MD5 = base64.b64encode(hashlib.md5(b"a picture").digest()).decode()
PAGE = 1000  # objects that Cloud Storage lists at once


@contextlib.contextmanager
def listing(objects: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that lists objects below gs://images/numerals as Cloud Storage does; yields what it was asked for.

    The other stand-in has an md5 of every object, and cannot keep what no disk can.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path != "/storage/v1/b/images/o":  # the library looks at the bucket itself by the way
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked.append(self.path)
            query = parse_qs(address.query)
            assert query["prefix"] == ["numerals/"]
            start = int(query.get("pageToken", ["0"])[0])
            page: dict[str, Any] = {"items": [describe(each) for each in objects[start : start + PAGE]]}
            if start + PAGE < len(objects):
                page["nextPageToken"] = str(start + PAGE)
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def describe(each: dict[str, str]) -> dict[str, str]:
        common = {"bucket": "images", "generation": "1", "crc32c": "AAAAAA==", "updated": "2026-11-22T14:25:01.000Z"}
        return {**common, **each, "name": f"numerals/{each['name']}"}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv(EMULATOR, f"http://127.0.0.1:{server.server_port}")
    try:
        yield asked
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["train/i/0.png"], "/train/i/0.png: "),
        (["train/i/0.png", *(f"train/v/{number}.png" for number in range(1200))], "/train/i/0.png and 1,200 more: "),
    ],
)
def test_composite_objects_have_no_md5_which_one_line_says(
    names: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    uri = "gs://images/numerals"
    objects = [{"name": "train/i/00.png", "md5Hash": MD5}, *({"name": name, "componentCount": "2"} for name in names)]
    with listing(objects, monkeypatch):
        assert find_version(uri) == DataVersion(uri, "")
    reason = f"{uri}{says}Cloud Storage has no md5 of composite objects, which were uploaded in parts."
    assert capsys.readouterr().out == f"{reason} {WITHOUT}"


@pytest.mark.parametrize("name", ["train/i//0.png", "train/../0.png", "./0.png"])
def test_names_that_no_disk_can_hold_have_no_version(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with listing([{"name": name, "md5Hash": MD5}], monkeypatch):
        assert find_version("gs://images/numerals").version == ""
    assert capsys.readouterr().out == (
        f"gs://images/numerals/{name}: no folder of a disk, whose versions DVC makes, can hold a file of this name. "
        f"{WITHOUT}"
    )


def test_the_images_of_a_table_have_no_version(capsys: pytest.CaptureFixture[str]):
    assert find_version("gs://images/numerals.csv") == DataVersion("gs://images/numerals.csv", "")
    assert capsys.readouterr().out == f"gs://images/numerals.csv: the images of a table may lie anywhere. {WITHOUT}"


def test_a_hundred_thousand_images_are_listed_a_thousand_at_once_and_none_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    names = [f"train/i/{number:06d}.png" for number in range(100_000)]
    with listing([{"name": name, "md5Hash": MD5} for name in names], monkeypatch) as asked:
        version = find_version("gs://images/numerals").version
    assert len(asked) == 100
    assert version == compute_version((name, hashlib.md5(b"a picture").hexdigest()) for name in names)
    assert capsys.readouterr() == ("", "")


def test_where_nothing_lies_no_run_is_started(gcs: Gcs):
    gcs.bucket.blob("train/i/0.png").upload_from_string("a picture")
    empty = gcs.client.create_bucket(f"{gcs.bucket.name}-empty")
    for uri, says in (
        (f"{gcs.uri}/train/i/0.png", "is an object and no folder; give the address of a folder of images."),
        (f"gs://{empty.name}", "nothing lies there in Cloud Storage; give the address of a folder of images."),
        (f"{gcs.uri}/lost", "nothing lies there in Cloud Storage; give the address of a folder of images."),
        ("gs://no-such-bucket/data", "not found in Cloud Storage; check the address."),
    ):
        with pytest.raises(UserError) as raised:
            find_version(uri)
        assert str(raised.value) == f"{uri}: {says}"


def test_who_may_not_list_the_images_may_start_a_run_on_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As the account of the run may be another one."""

    def refuse(uri: str, **_: float) -> None:
        raise UserError(f"{uri}: permission refused.")

    monkeypatch.setattr(bucket_version, "list_objects", refuse)
    assert find_version("gs://images/numerals") == DataVersion("gs://images/numerals", "")
    assert capsys.readouterr().out == f"gs://images/numerals: permission refused. {WITHOUT}"


def test_a_cloud_storage_that_does_not_answer_is_not_waited_for_as_long_as_the_library_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Which is two minutes."""
    assert bucket_version.TIMEOUT == 10
    monkeypatch.setattr(bucket_version, "TIMEOUT", 1)
    began = time.monotonic()
    with unanswered_port() as port:
        monkeypatch.setenv(EMULATOR, f"http://127.0.0.1:{port}")
        assert find_version("gs://images/numerals") == DataVersion("gs://images/numerals", "")
    assert time.monotonic() - began < 60
    assert capsys.readouterr().out == (
        "gs://images/numerals: Cloud Storage does not answer (Connection refused); check the network and the address. "
        f"{WITHOUT}"
    )
