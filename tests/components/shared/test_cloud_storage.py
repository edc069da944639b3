"""The Cloud Storage module against a real server, and that no other module does its work."""

import ast
import io
import re
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import ServiceUnavailable
from google.api_core.retry import Retry

from components.shared import cloud_storage
from components.shared.errors import UserError
from tests.conftest import ROOT, contents
from tests.fakes.gcs import Gcs

MODULE = ROOT / "components/shared/cloud_storage.py"
OTHERS = [
    path
    for path in (*ROOT.glob("*.py"), *(ROOT / "components").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py"))
    if path != MODULE
]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_else_takes_addresses_apart_or_imports_the_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported = [str(node.module), *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            imported = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        assert not [name for name in imported if name.startswith(("google.cloud.storage", "google.resumable_media"))]
        # Messages and descriptions may show an address; a string that is only its beginning is there to parse one.
        assert not (isinstance(node, ast.Constant) and re.fullmatch(r"gs:/{0,2}", str(node.value)))


@pytest.mark.parametrize(
    ("uri", "bucket", "name"),
    [
        ("gs://b", "b", ""),
        ("gs://b/", "b", ""),
        ("gs://b/a/c.csv", "b", "a/c.csv"),
        ("gs://b//a/c/", "b", "a/c"),
        ("gs://b/a\nc", "b", "a\nc"),
    ],
)
def test_address_is_split(uri: str, bucket: str, name: str) -> None:
    assert cloud_storage.is_address(uri)
    address = cloud_storage.parse_address(uri)
    assert address == (bucket, name)
    assert cloud_storage.parse_address(str(address)) == address


@pytest.mark.parametrize("uri", ["gs://", "gs:///a", "b/a", ""])
def test_wrong_address_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="names no bucket; write gs://BUCKET/FOLDER"):
        cloud_storage.parse_address(uri)


@pytest.mark.parametrize("bucket", ["Bad_Bucket!", "Images", "images ", "-images", "images.", "bücket", "a\nb"])
def test_a_name_that_no_bucket_can_have_is_refused(bucket: str) -> None:
    with pytest.raises(UserError) as raised:
        cloud_storage.parse_address(f"gs://{bucket}/x")
    assert str(raised.value) == (
        f"gs://{bucket}/x: no bucket has the name {bucket}, since names of buckets have lowercase letters, "
        "digits, dashes, underscores and dots, with a letter or digit at both ends; check the address."
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b/c.txt", "b/d/e.txt"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    return tmp_path / "folder"


def test_folder_is_listed(folder: Path, gcs: Gcs) -> None:
    uri = gcs.upload(folder, "f")
    gcs.upload(folder, "f-2")
    assert [(found.name, found.address) for found in cloud_storage.list_objects(f"{uri}/")] == [
        (name, f"{uri}/{name}") for name in ("a.txt", "b/c.txt", "b/d/e.txt")
    ]
    objects, folders = cloud_storage.list_folder(uri)
    assert ([found.name for found in objects], folders) == (["a.txt"], ["b"])
    assert list(cloud_storage.list_objects(f"{uri}/none")) == []
    assert len(list(cloud_storage.list_objects(gcs.uri))) == 6


def test_folder_and_object_are_fetched_whole(folder: Path, gcs: Gcs, tmp_path: Path) -> None:
    uri = gcs.upload(folder, "f")
    gcs.bucket.blob("f/b/").upload_from_string("")  # consoles make such objects for folders
    cloud_storage.fetch(uri, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(folder)
    cloud_storage.fetch(f"{uri}/b/c.txt", tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "b/c.txt"
    with pytest.raises(UserError, match=f"^{uri}/none: not found in Cloud Storage; ask somebody\\.$"):
        cloud_storage.fetch(f"{uri}/none", tmp_path / "none", if_missing="ask somebody")
    with pytest.raises(UserError, match=f"^{uri}/none: not found in Cloud Storage; check the address\\.$"):
        cloud_storage.fetch_objects(uri, ["a.txt", "none"], tmp_path / "some")
    assert not [path for path in tmp_path.iterdir() if "none" in path.name]


def test_name_that_leads_out_of_the_folder_is_refused(folder: Path, gcs: Gcs, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match="its name leads out of the folder"):
        cloud_storage.fetch_objects(gcs.upload(folder), ["../a.txt"], tmp_path / "target")
    assert not (tmp_path / "a.txt").exists()


def test_generation_is_the_one_that_was_listed(gcs: Gcs) -> None:
    gcs.bucket.blob("a").upload_from_string("old")
    listed = next(cloud_storage.list_objects(gcs.uri))
    with cloud_storage.open_client(gcs.uri) as client:
        target = io.BytesIO()
        cloud_storage.download(client, listed.address, target, generation=listed.generation)
        assert target.getvalue() == b"old"
        gcs.bucket.blob("a").upload_from_string("new")
        with pytest.raises(UserError, match="not found in Cloud Storage"):
            cloud_storage.download(client, listed.address, io.BytesIO(), generation=listed.generation)


def test_written_object_is_there(folder: Path, gcs: Gcs) -> None:
    uri = f"{gcs.uri}/x/a.txt"
    assert not cloud_storage.exists(uri, uri, timeout=20)
    cloud_storage.upload(folder / "a.txt", uri)
    assert cloud_storage.exists(uri, uri, timeout=20)
    cloud_storage.check_writable(f"{gcs.uri}/x")
    assert [found.name for found in cloud_storage.list_objects(gcs.uri)] == ["x/a.txt"], "what was tried is removed"


def test_what_lies_at_an_address_is_an_object_or_a_folder(gcs: Gcs) -> None:
    gcs.bucket.blob("run/train/model").upload_from_string("a")
    for name, there in {
        "": True,
        "/run": True,
        "/run/train/": True,
        "/run/train/model": True,
        "/run/tra": False,
    }.items():
        assert cloud_storage.lies_at(f"{gcs.uri}{name}", timeout=20) is there
    with pytest.raises(
        cloud_storage.MissingError, match="^gs://no-such-bucket/a: not found in Cloud Storage; check the"
    ):
        cloud_storage.lies_at("gs://no-such-bucket/a", timeout=20)


def raise_forbidden() -> None:
    from google.api_core.exceptions import Forbidden

    raise Forbidden("no storage.objects.create")


@pytest.mark.parametrize("role", [cloud_storage.READ, cloud_storage.WRITE])
def test_role_that_is_lacking_is_named(role: str) -> None:
    with pytest.raises(UserError) as caught, cloud_storage.explain_errors("gs://b/a", role=role):
        raise_forbidden()
    assert str(caught.value) == (
        f"gs://b/a: permission refused (403 no storage.objects.create); give the account of this run the role {role}"
        " on the bucket."
    )


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            ServiceUnavailable("come back later"),
            "cannot be used (503 come back later); check the address and run again",
        ),
        (requests.exceptions.SSLError("expired"), "cannot be used (expired); check the address and run again"),
        (requests.ConnectionError("refused"), "does not answer (refused); check the network and the address"),
        (requests.Timeout("too late"), "does not answer (too late); check the network and the address"),
    ],
)
def test_only_who_is_silent_is_said_not_to_answer(cause: Exception, said: str) -> None:
    def ask() -> None:
        raise cause

    with pytest.raises(UserError) as caught, cloud_storage.explain_errors("gs://b/a"):
        Retry(predicate=lambda _: True, initial=0.01, timeout=0.05)(ask)()
    assert str(caught.value) == f"gs://b/a: Cloud Storage {said}."
