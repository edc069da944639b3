"""Ingest from Cloud Storage and from DVC versions: the same examples, and faults on the way there."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest.folders import Folder
from components.ingest.ingestion import ingest_data
from components.ingest.opening import open_source
from components.ingest.sources import BadImage, File, Part
from components.shared.errors import UserError
from components.shared.formats.examples import ExamplesManifest, open_examples
from components.shared.formats.manifest import write_manifest
from pipelines.data.bucket_version import find_version
from tests.components.ingest.test_ingestion import version_of
from tests.conftest import BEAM, CLASSES, PATIENCE, PROCESSES, Folders, contents, copy_folders, ends_soon, run_killed
from tests.fakes.gcs import EMULATOR, Gcs
from tests.rows import make_augmented

GUIDELINE = "# Numerals\n\n## i\n\nOne stroke.\n"
IMAGE = f"train/{CLASSES[0]}/00.png"


def ingest(data: str, output: Path, **changed: Any) -> ExamplesManifest:
    options = {
        "test_data_uri": "",
        "data_version": "",
        "test_data_version": "",
        "classes": [],
        "on_bad_image": "fail",
        "max_images": 10_000,
        "max_pixels": 1_000_000,
        "shards": 2,
        "beam_options": BEAM,
    }
    assert changed.keys() <= options.keys()
    return ingest_data(data, **{**options, **changed}, output=str(output))


def refused(data: str, tmp_path: Path, **changed: Any) -> str:
    """The one sentence of an ingest that fails, after a look that it left nothing."""
    (tmp_path / "refused").mkdir()
    with pytest.raises(UserError) as caught:
        ingest(data, tmp_path / "refused" / "examples", **changed)
    assert contents(tmp_path / "refused") == {}
    return str(caught.value)


# --- the same examples from everywhere ---------------------------------------------------------


class Everywhere(NamedTuple):
    """One data set in a folder, and what ingest makes of it there."""

    folder: Path  # train/, val/, test/, and things that are no images
    examples: Path


@pytest.fixture(scope="module")
def local(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Everywhere:
    root = tmp_path_factory.mktemp("everywhere")
    folder = copy_folders(tiny, root).data
    shutil.move(root / "test", folder / "test")
    (folder / "about.txt").write_text("beside the splits")
    (folder / "labels.md").write_text(GUIDELINE)
    augmented = "train/v/01.augmented-1.png"
    shutil.copy(folder / "train/v/01.png", folder / augmented)
    write_manifest(folder, [make_augmented(augmented, (folder / augmented).read_bytes())])
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a").write_text("hidden")
    (folder / "train" / ".DS_Store").write_bytes(b"\0")
    (folder / IMAGE).rename((folder / IMAGE).with_name("Zwölf & one.png"))
    shutil.copy(folder / "train/v/00.png", folder / IMAGE)
    ingest(str(folder), root / "examples")
    return Everywhere(folder, root / "examples")


def assert_same_examples(output: Path, local: Everywhere) -> None:
    """All bytes but the address, which the manifest tells."""
    ours, theirs = contents(output), contents(local.examples)
    manifests = [json.loads(files.pop("examples.json") or b"") for files in (ours, theirs)]
    for manifest in manifests:
        del manifest["data_uri"], manifest["test_data_uri"]
    assert manifests[0] == manifests[1]
    assert ours == theirs


def test_the_guideline_is_kept_with_the_examples(local: Everywhere, tmp_path: Path) -> None:
    """It is part of the data version; the tests below compare the copies that ingest reads from other places."""
    assert contents(local.examples)["labels.md"] == GUIDELINE.encode()
    without = shutil.copytree(local.folder, tmp_path / "data")
    (without / "labels.md").unlink()
    manifest = ingest(str(without), tmp_path / "examples")
    assert manifest.data_version != open_examples(local.examples).manifest.data_version
    ours, theirs = contents(tmp_path / "examples"), contents(local.examples)
    assert theirs.keys() - ours.keys() == {"labels.md"}
    assert all(ours[name] == theirs[name] for name in ours if name != "examples.json")


def test_a_guideline_that_cannot_be_read_is_named(local: Everywhere, tmp_path: Path) -> None:
    data = shutil.copytree(local.folder, tmp_path / "data")
    (data / "labels.md").write_text("# i\n\n# i\n")
    assert refused(str(data), tmp_path) == f"{data}/labels.md: has two sections of the class 'i'; put them into one."


def test_bucket_gives_the_examples_and_the_version_of_the_folder(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    uri = gcs.upload(local.folder, "a/b")
    gcs.bucket.blob("a/b/").upload_from_string("")  # consoles make such objects for folders
    gcs.bucket.blob(f"a/b/train/{CLASSES[0]}/").upload_from_string("")
    manifest = ingest(f"{uri}/", tmp_path / "examples")
    assert manifest.data_uri == f"{uri}/"
    assert_same_examples(tmp_path / "examples", local)


def test_whole_bucket_may_be_the_data_set(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    ingest(gcs.upload(local.folder), tmp_path / "examples")
    assert_same_examples(tmp_path / "examples", local)


def test_workers_in_other_processes_read_the_bucket(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    ingest(gcs.upload(local.folder), tmp_path / "examples", beam_options=PROCESSES)
    assert_same_examples(tmp_path / "examples", local)


def test_workers_may_write_below_a_bucket(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    """That the folder there is removed is tested on a disk: the server knows no batch requests, which Beam makes."""
    options = [*BEAM, f"--temp_location={gcs.uri}/temporary", "--no_auth"]
    ingest(str(local.folder), tmp_path / "examples", beam_options=options)
    assert_same_examples(tmp_path / "examples", local)
    written = [blob.name for blob in gcs.client.list_blobs(gcs.bucket.name)]
    assert [name for name in written if name.endswith("/train-0")]


def test_test_split_may_come_from_another_place(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    data = shutil.copytree(local.folder, tmp_path / "data")
    shutil.move(data / "test", tmp_path / "test")
    uri = gcs.upload(tmp_path / "test", "test")
    splits = ingest(str(data), tmp_path / "examples", test_data_uri=uri).splits
    assert splits == open_examples(local.examples).manifest.splits
    version = push(tmp_path / "test", tmp_path / "repo", str(tmp_path / "remote"))
    splits = ingest(str(data), tmp_path / "again", test_data_uri=version.uri).splits
    assert splits == open_examples(local.examples).manifest.splits


class Pushed(NamedTuple):
    uri: str  # as dvc.api.get_url gives it
    version: str  # as the .dvc file gives it
    remote: str

    def at(self, md5: str) -> str:
        return f"{self.remote}/files/md5/{md5[:2]}/{md5[2:]}"

    @property
    def entries(self) -> list[dict[str, str]]:
        return json.loads(Path(self.uri).read_bytes())


def push(folder: Path, repo: Path, remote: str, endpoint: str = "") -> Pushed:
    """`dvc add` and `dvc push` of a copy of the folder."""
    shutil.copytree(folder, repo / "data")
    commands = ["init -q", f"remote add -q -d R {remote}", "add -q data", "push -q"]
    if endpoint:
        commands.insert(2, f"remote modify R endpointurl {endpoint}")
    # A process has one Cloud Storage emulator for gcsfs, and the cache of other repositories is none of ours.
    environment = {**os.environ, "DVC_SITE_CACHE_DIR": str(repo / "site"), "DVC_NO_ANALYTICS": "1"}
    code = "import sys; from dvc.cli import main; sys.exit(any(main(command.split()) for command in sys.argv[1:]))"
    subprocess.run(["git", "init", "-q", repo], check=True)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *commands], cwd=repo, env=environment, check=True)
    version = yaml.safe_load((repo / "data.dvc").read_text())["outs"][0]["md5"]
    return Pushed(f"{remote}/files/md5/{version[:2]}/{version[2:]}", version, remote)


@pytest.fixture(scope="module")
def pushed(local: Everywhere, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    root = tmp_path_factory.mktemp("pushed")
    return push(local.folder, root / "repo", str(root / "remote"))


@pytest.fixture
def own_remote(pushed: Pushed, tmp_path: Path) -> Pushed:
    """A copy of the remote that the test may spoil."""
    remote = shutil.copytree(pushed.remote, tmp_path / "remote")
    for path in remote.rglob("*"):
        path.chmod(0o755)  # DVC protects what it pushed
    return Pushed(pushed.uri.replace(pushed.remote, str(remote)), pushed.version, str(remote))


def test_pushed_version_gives_the_examples_of_the_folder(local: Everywhere, pushed: Pushed, tmp_path: Path) -> None:
    manifest = ingest(pushed.uri, tmp_path / "examples", data_version=pushed.version)
    assert manifest.data_version == pushed.version
    assert_same_examples(tmp_path / "examples", local)


def test_version_pushed_to_a_bucket_gives_the_examples_of_the_folder(
    local: Everywhere, gcs: Gcs, tmp_path: Path
) -> None:
    version = push(local.folder, tmp_path / "repo", f"{gcs.uri}/dvc", gcs.url)
    ingest(version.uri, tmp_path / "examples")
    assert_same_examples(tmp_path / "examples", local)


def test_version_of_dvc_2_is_read(local: Everywhere, pushed: Pushed, tmp_path: Path) -> None:
    """DVC 2 had no files/md5 in its remote."""
    shutil.copytree(Path(pushed.remote, "files/md5"), tmp_path / "remote")
    uri = str(tmp_path / "remote" / Path(pushed.uri).parent.name / Path(pushed.uri).name)
    assert ingest(uri, tmp_path / "examples").data_version == pushed.version
    assert_same_examples(tmp_path / "examples", local)


def test_backslash_is_a_character_like_others_beside_the_images(local: Everywhere, tmp_path: Path) -> None:
    folder = shutil.copytree(local.folder, tmp_path / "data")
    (folder / "notes\\1.txt").write_text("from Windows")
    version = push(folder, tmp_path / "repo", str(tmp_path / "remote"))
    assert ingest(version.uri, tmp_path / "examples").data_version == version.version
    assert ingest(str(folder), tmp_path / "again").data_version == version.version


def test_url_of_dvc_is_the_address_of_the_manifest(local: Everywhere, tmp_path: Path) -> None:
    version = push(local.folder, tmp_path / "repo", str(tmp_path / "remote"))
    import dvc.api

    assert dvc.api.get_url("data", str(tmp_path / "repo")) == version.uri


# --- data sets that are refused as folders are -------------------------------------------------

SPOILT: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no train split": (lambda f: shutil.rmtree(f / "train"), "train", "no such folder"),
    "unknown split": (lambda f: shutil.copytree(f / "val", f / "extra"), "extra", "not a split"),
    "class missing in one split": (lambda f: shutil.rmtree(f / "val/v"), "val/v", "every split needs each class"),
    "file beside the class folders": (lambda f: (f / "train/a.png").touch(), "train/a.png", "lies beside"),
    "empty file in a folder of a class": (lambda f: _write(f / "train/i/a/b.png"), "train/i/a/b.png", "is empty"),
    "no image": (lambda f: (f / "train/i/a.png").write_text("text"), "train/i/a.png", "not a PNG"),
    "too large": (lambda f: (f / "train/i/a.png").write_bytes(bytes(8_000_001)), "train/i/a.png", "larger than"),
}


def _write(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


@pytest.mark.parametrize(("spoil", "name", "reason"), SPOILT.values(), ids=SPOILT)
def test_bad_data_is_named_wherever_it_is(
    spoil: Callable[[Path], Any], name: str, reason: str, local: Everywhere, gcs: Gcs, tmp_path: Path
) -> None:
    folder = shutil.copytree(local.folder, tmp_path / "spoilt")
    spoil(folder)
    version = write_version(tmp_path / "remote", folder)
    addresses = {str(folder): f"{folder}/{name}", gcs.upload(folder): f"{gcs.uri}/{name}"}
    for uri, address in addresses.items():
        sentence = refused(uri, tmp_path)
        assert reason in sentence
        assert f"{address}: " in sentence
        (tmp_path / "refused").rmdir()
    sentence = refused(version, tmp_path)
    assert reason in sentence
    assert name in sentence


@pytest.mark.parametrize("uri", ["gs://", "gs:///train"])
def test_address_without_a_bucket_is_refused(uri: str, gcs: Gcs, tmp_path: Path) -> None:
    assert refused(uri, tmp_path) == f"{uri}: names no bucket; write gs://BUCKET/FOLDER."


def test_empty_place_in_a_bucket_is_named(gcs: Gcs, tmp_path: Path) -> None:
    assert refused(f"{gcs.uri}/nothing", tmp_path).startswith(f"{gcs.uri}/nothing: no such folder")


def test_missing_bucket_is_named(gcs: Gcs, tmp_path: Path) -> None:
    sentence = refused("gs://no-such-bucket/data", tmp_path)
    assert sentence == "gs://no-such-bucket/data: not found in Cloud Storage; check the address."


def test_missing_credentials_are_said(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != EMULATOR}
    environment |= {"GOOGLE_APPLICATION_CREDENTIALS": "", "NO_GCE_CHECK": "true", "HOME": str(tmp_path)}
    code = (
        "from components.shared.errors import command_line\n"
        "from components.ingest.opening import open_source\n"
        "with command_line(): open_source('gs://b/data').list_children()"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 1
    assert result.stderr.startswith("gs://b/data: no Google credentials (")
    assert result.stderr.count("\n") == 1


# --- manifests ---------------------------------------------------------------------------------


def write_version(remote: Path, folder: Path | None = None, manifest: bytes | None = None) -> str:
    """A manifest, and the files it names, as DVC writes them; returns its address."""
    entries = []
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file():
            md5 = hashlib.md5(path.read_bytes()).hexdigest()
            target = remote / "files" / "md5" / md5[:2] / md5[2:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    data = manifest
    if data is None:
        data = json.dumps(sorted(entries, key=lambda entry: entry["relpath"])).encode()
    md5 = hashlib.md5(data).hexdigest()
    target = remote / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return str(target)


def entry(relpath: Any = "train/i/a.png", md5: Any = "0" * 32) -> dict[str, Any]:
    return {"md5": md5, "relpath": relpath}


HOSTILE: dict[str, tuple[list[Any], str]] = {
    "absolute": ([entry("/etc/passwd")], "has a path that is not a plain one"),
    "parent": ([entry("train/i/../../../secret.png")], "has a path that is not a plain one"),
    "parent first": ([entry("../secret.png")], "has a path that is not a plain one"),
    "dot": ([entry("train/./a.png")], "has a path that is not a plain one"),
    "empty part": ([entry("train//a.png")], "has a path that is not a plain one"),
    "empty": ([entry("")], "has a path that is not a plain one"),
    "folder": ([entry("train/i/")], "has a path that is not a plain one"),
    "NUL": ([entry("train/i/a\0.png")], "has a path that is not a plain one"),
    "md5 too short": ([entry(md5="0" * 31)], "has no md5 of 32"),
    "md5 is a path": ([entry(md5="../../../../../etc/passwd".ljust(32, "x"))], "has no md5 of 32"),
    "md5 in capitals": ([entry(md5="A" * 32)], "has no md5 of 32"),
    "md5 with a line end": ([entry(md5="0" * 32 + "\n")], "has no md5 of 32"),
    "md5 is a number": ([entry(md5=1)], "has no md5 and relpath"),
    "relpath is nothing": ([entry(relpath=None)], "has no md5 and relpath"),
    "no relpath": ([{"md5": "0" * 32}], "has no md5 and relpath"),
    "twice": ([entry(), entry(md5="1" * 32)], "is listed twice"),
    "out of order": ([entry("train/i/b.png"), entry("train/i/a.png")], "is out of order"),
}


@pytest.mark.parametrize(("entries", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_entry_is_named(entries: list[Any], reason: str, tmp_path: Path) -> None:
    uri = write_version(tmp_path, manifest=json.dumps(entries).encode())
    sentence = refused(uri, tmp_path)
    assert sentence.startswith(f"{uri}: the entry ")
    assert f" {reason}" in sentence
    assert "\n" not in sentence
    assert repr(entries[-1].get("relpath", "0" * 32)) in sentence


def test_name_that_no_disk_can_hold_is_named(local: Everywhere, tmp_path: Path) -> None:
    entries = json.loads(Path(write_version(tmp_path / "remote", local.folder)).read_bytes())
    name, md5 = f"{Path(IMAGE).parent}/{'y' * 252}.png", entries[-1]["md5"]
    entries = sorted([*entries, entry(name, md5)], key=lambda entry: entry["relpath"])
    uri = write_version(tmp_path / "remote", manifest=json.dumps(entries).encode())
    assert refused(uri, tmp_path).splitlines()[1:] == [
        f"'{name} ({tmp_path}/remote/files/md5/{md5[:2]}/{md5[2:]})': its name has a control character, a line break, "
        "a backslash or more than 255 bytes; rename it"
    ]


FLAT = b'{"md5": "00000000000000000000000000000000", "relpath": "train/i/a.png"}'
NO_MANIFESTS = (
    *(b"", b"[", b"[]", b"{}", b'"text"', b"[{]", b"\xff", b"[1e999999]", b'["train/i/a.png"]', b"[null]"),
    *(b'[{"relpath": ["train"]}]', b'[{"a": {}}]', b"[%s]]" % FLAT, b"[%s] x" % FLAT, b"[%s" % FLAT),
)


@pytest.mark.parametrize("data", NO_MANIFESTS)
def test_what_is_no_manifest_is_refused(data: bytes, tmp_path: Path) -> None:
    uri = write_version(tmp_path, manifest=data)
    assert refused(uri, tmp_path).startswith(f"{uri}: ")


def test_manifest_with_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    uri = write_version(tmp_path, manifest=b'[{"size": %s}]' % (b"1" * 5_000))
    assert refused(uri, tmp_path).startswith(f"{uri}: not a DVC manifest (")


@pytest.mark.parametrize("deep", [b"[", b'{"a":', b'[{"a":'])
def test_deep_manifest_takes_no_memory(deep: bytes, tmp_path: Path) -> None:
    uri = write_version(tmp_path, manifest=deep * 100_000)
    tracemalloc.start()
    sentence = refused(uri, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sentence == f"{uri}: not a DVC manifest (not a list of flat objects)."
    assert peak < 20 * 2**20


parts = st.sampled_from(
    ["..", ".", "", "train", "val", "i", "a.png", "/", "\\", "\0", "~", "C:", "%2e%2e", "\ud800", "é"]
)
paths = st.lists(parts, max_size=5).map("/".join)
entries = st.fixed_dictionaries({"relpath": paths | st.text(), "md5": st.just("0" * 32) | st.text(max_size=40)})


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(entries | st.recursive(st.none() | st.text(), st.lists), max_size=3))
def test_no_manifest_leads_outside_the_data_set(tmp_path_factory: pytest.TempPathFactory, content: list[Any]) -> None:
    remote = tmp_path_factory.getbasetemp() / "hypothesis"
    uri = write_version(remote, manifest=json.dumps(content).encode())
    files, refusal = [], ""
    try:
        source = open_source(uri)
        names = [child.name for child in source.list_children() or [] if child.is_folder]
        files = list(source.list_files([Part((name,), "train", name) for name in names]))
    except UserError as error:
        refusal = str(error)
    Path(uri).unlink()
    assert not refusal or refusal.startswith(f"{uri}: ")
    for file in files:
        # ijson reads half of a surrogate pair as a question mark
        assert file.problem or file.name in {listed["relpath"].encode(errors="replace").decode() for listed in content}
        assert not {"", ".", ".."} & set(file.name.split("/"))
        if not file.problem:
            assert Path(file.address).resolve().parent.parent == (remote / "files" / "md5").resolve()


def test_manifest_that_differs_from_its_name_is_refused(own_remote: Pushed, tmp_path: Path) -> None:
    manifest = Path(own_remote.uri)
    kept = [one for one in json.loads(manifest.read_bytes()) if one["relpath"] != IMAGE]
    manifest.write_text(json.dumps(kept), encoding="utf-8")
    assert refused(own_remote.uri, tmp_path) == (
        f"{own_remote.uri}: differs from the md5 in its name; push the data again."
    )


def test_other_data_version_than_the_manifests_is_refused(pushed: Pushed, tmp_path: Path) -> None:
    other = "0" * 32 + ".dir"
    assert refused(pushed.uri, tmp_path, data_version=other) == (
        f"data_version is {other}, but data_uri names {pushed.version}; leave data_version empty."
    )


def test_missing_manifest_is_named(own_remote: Pushed, gcs: Gcs, tmp_path: Path) -> None:
    Path(own_remote.uri).unlink()
    assert refused(own_remote.uri, tmp_path).startswith(f"{own_remote.uri}: cannot be read (No such file")
    (tmp_path / "refused").rmdir()
    uri = f"{gcs.uri}/files/md5/{own_remote.version[:2]}/{own_remote.version[2:]}"
    assert refused(uri, tmp_path).startswith(f"{uri}: not found in Cloud Storage")


# --- files that are missing or wrong -----------------------------------------------------------


def md5_of(name: str, version: Pushed) -> str:
    return next(one["md5"] for one in version.entries if one["relpath"] == name)


@pytest.mark.parametrize("on_bad_image", ["fail", "quarantine"])
def test_file_missing_in_the_remote_stops_with_its_name(on_bad_image: str, own_remote: Pushed, tmp_path: Path) -> None:
    address = own_remote.at(md5_of("val/v/00.png", own_remote))
    os.remove(address)
    sentence = refused(own_remote.uri, tmp_path, on_bad_image=on_bad_image)
    assert sentence == f"val/v/00.png ({address}): cannot be read (No such file or directory); run `dvc push`."


def test_pipe_in_the_remote_is_not_waited_for(own_remote: Pushed, tmp_path: Path) -> None:
    address = own_remote.at(md5_of("val/v/00.png", own_remote))
    os.remove(address)
    os.mkfifo(address)
    assert refused(own_remote.uri, tmp_path).startswith(f"val/v/00.png ({address}): cannot be read")


@pytest.mark.parametrize("on_bad_image", ["fail", "quarantine"])
def test_file_that_differs_from_its_md5_stops_with_its_name(
    on_bad_image: str, own_remote: Pushed, tmp_path: Path
) -> None:
    md5 = md5_of("val/v/00.png", own_remote)
    shutil.copy(own_remote.at(md5_of("val/x/00.png", own_remote)), own_remote.at(md5))
    sentence = refused(own_remote.uri, tmp_path, on_bad_image=on_bad_image)
    assert sentence.startswith(f"val/v/00.png ({own_remote.at(md5)}): differs from its md5, {md5};")


class Proxy(ThreadingHTTPServer):
    """In front of the server: `fault` sees each request and may answer in its place with (status, body)."""

    daemon_threads = True

    def __init__(self, target: str, fault: Callable[[str], tuple[int, bytes] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = target.removeprefix("http://")
        self.fault = fault

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forward(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        answer = self.server.fault(unquote(self.path))
        headers: list[tuple[str, str]] = []
        if answer is None:
            connection = http.client.HTTPConnection(self.server.target)
            connection.request("GET", self.path, headers=dict(self.headers))
            response = connection.getresponse()
            answer, headers = (response.status, response.read()), response.getheaders()
        elif answer[0] == 200:  # with the checksum of the true content
            connection = http.client.HTTPConnection(self.server.target)
            connection.request("GET", self.path, headers=dict(self.headers))
            response = connection.getresponse()
            response.read()
            headers = response.getheaders()
        self.send_response(answer[0])
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def faulty_server(
    gcs: Gcs, monkeypatch: pytest.MonkeyPatch, fault: Callable[[str], tuple[int, bytes] | None]
) -> Iterator[None]:
    server = Proxy(gcs.url, fault)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(EMULATOR, server.url)
    yield
    server.shutdown()
    server.server_close()


def is_download(path: str, name: str) -> bool:
    return path.startswith("/download/") and f"/{name}?" in path


@pytest.mark.parametrize("on_bad_image", ["fail", "quarantine"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            (403, b"{}"),
            r"permission refused \(.+\); give the account of this run the role Storage Object Viewer on",
        ),
        (
            (404, b"{}"),
            "not found in Cloud Storage; look for it in the bucket, and run again if it was replaced during the run",
        ),
        ((200, b"other bytes"), "differs from its checksum; run again, and if that does not help, upload it again"),
    ],
)
def test_object_that_cannot_be_had_stops_with_its_name(
    answer: tuple[int, bytes],
    reason: str,
    on_bad_image: str,
    local: Everywhere,
    gcs: Gcs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = gcs.upload(local.folder, "data")
    with faulty_server(gcs, monkeypatch, lambda path: answer if is_download(path, f"data/{IMAGE}") else None):
        sentence = refused(uri, tmp_path, on_bad_image=on_bad_image)
    assert re.match(f"{uri}/{IMAGE}: {reason}", sentence)
    assert "\n" not in sentence


def test_refused_listing_names_the_folder(
    local: Everywhere, gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = gcs.upload(local.folder, "data")
    prefix = "prefix=data/val/v/"
    with faulty_server(gcs, monkeypatch, lambda path: (403, b"{}") if prefix in path else None):
        assert refused(uri, tmp_path).startswith(f"{uri}/val/v: permission refused")


def test_transient_errors_are_retried(
    local: Everywhere, gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = gcs.upload(local.folder, "data")
    failures = {"/o?": 2, IMAGE: 2}  # a listing and a download: each fails twice
    lock = threading.Lock()  # many requests come at once

    def fault(path: str) -> tuple[int, bytes] | None:
        with lock:
            for part, left in failures.items():
                if part in path and left:
                    failures[part] -= 1
                    return 503, b"{}"
        return None

    with faulty_server(gcs, monkeypatch, fault):
        ingest(uri, tmp_path / "examples")
    assert_same_examples(tmp_path / "examples", local)
    assert set(failures.values()) == {0}


def reads_image(path: str) -> bool:
    """Whether a request reads an image."""
    return path.startswith("/download/") and not any(name in path for name in ("manifest.csv", "labels.md"))


def test_object_replaced_during_the_run_stops_with_its_name(
    local: Everywhere, gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = gcs.upload(local.folder, "data")
    replaced = threading.Event()

    def fault(path: str) -> None:
        if reads_image(path) and not replaced.is_set():  # all is listed: the first image is read
            replaced.set()
            for split in ("train", "val", "test"):
                blob = gcs.bucket.blob(f"data/{split}/v/00.png")
                blob.upload_from_filename(str(local.folder / "val/x/00.png"))

    with faulty_server(gcs, monkeypatch, fault):
        sentence = refused(uri, tmp_path)
    assert sentence.startswith(f"{uri}/")
    assert "/v/00.png: not found in Cloud Storage; look for it in the bucket, and run again if it was repl" in sentence


def test_cap_is_checked_before_an_image_is_read(
    local: Everywhere, gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = gcs.upload(local.folder, "data")
    paths: list[str] = []
    with faulty_server(gcs, monkeypatch, paths.append):
        assert "max_images allows 10: remove" in refused(uri, tmp_path, max_images=10)
    assert paths
    assert not list(filter(reads_image, paths))


def test_bucket_that_is_still_what_it_was_keeps_its_version(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    """As submit.py passes the versions of both when the test split lies elsewhere."""
    data = shutil.copytree(local.folder, tmp_path / "data")
    shutil.move(data / "test", tmp_path / "test")
    (tmp_path / "test" / ".cache").mkdir()
    for name in (".cache/a", "README", f"{CLASSES[0]}/.DS_Store"):
        (tmp_path / "test" / name).write_text("of the version, and no image")
    uris = gcs.upload(data, "data"), gcs.upload(tmp_path / "test", "test")
    given = [find_version(uri).version for uri in uris]
    assert given == [version_of(folder) for folder in (data, tmp_path / "test")]
    options = dict(zip(("data_version", "test_data_version"), given, strict=True))
    manifest = ingest(uris[0], tmp_path / "examples", test_data_uri=uris[1], **options)
    assert manifest.data_version == given[0]
    assert manifest.splits == open_examples(local.examples).manifest.splits


@pytest.mark.parametrize("kind", ["an image more", "another picture", "a hidden file", "one file less"])
@pytest.mark.parametrize("name", ["data", "test_data"])
def test_bucket_that_has_changed_since_it_was_listed_is_refused(
    name: str, kind: str, local: Everywhere, gcs: Gcs, tmp_path: Path
) -> None:
    data = shutil.copytree(local.folder, tmp_path / "data")
    shutil.move(data / "test", tmp_path / "test")
    (tmp_path / "test" / "README").write_text("beside the images")
    uris = {"data": gcs.upload(data, "data"), "test_data": gcs.upload(tmp_path / "test", "test")}
    given = {f"{each}_version": find_version(uri).version for each, uri in uris.items()}
    folder = "data/val" if name == "data" else "test"
    picture = (local.folder / "val/x/01.png").read_bytes()
    if kind == "one file less":
        gcs.bucket.blob("data/about.txt" if name == "data" else "test/README").delete()
    else:
        file = {"an image more": "v/99.png", "another picture": "v/00.png", "a hidden file": ".cache/a"}[kind]
        gcs.bucket.blob(f"{folder}/{file}").upload_from_string(picture)
    now = find_version(uris[name]).version
    assert now != given[f"{name}_version"]
    assert refused(uris["data"], tmp_path, test_data_uri=uris["test_data"], **given) == (
        f"{uris[name]}: has changed since this run was asked for, from the data version {given[f'{name}_version']} to "
        f"{now}; start the run again, which looks at what is there then."
    )


def test_repositories_in_a_bucket_are_no_part_of_the_data(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    uri = gcs.upload(local.folder, "data")
    version = find_version(uri).version
    for name in (".git/HEAD", ".dvc/config", "train/.hg/a", "train/i/.git/HEAD", "val/i/.git", ".hidden/.git/HEAD"):
        gcs.bucket.blob(f"data/{name}").upload_from_string("of a repository")
    assert find_version(uri).version == version
    assert ingest(uri, tmp_path / "examples", data_version=version).data_version == version
    assert_same_examples(tmp_path / "examples", local)


# --- killed ------------------------------------------------------------------------------------

INGEST = """
from components.ingest.ingestion import ingest_data
uri, output = sys.argv[1:]
ingest_data(
    uri, test_data_uri="", data_version="", classes=[], on_bad_image="fail", max_images=10_000,
    max_pixels=1_000_000, shards=2, beam_options=["--runner=FnApiRunner"], output=output,
)
"""


def test_killed_ingest_of_a_bucket_runs_again(local: Everywhere, gcs: Gcs, tmp_path: Path) -> None:
    uri = gcs.upload(local.folder)
    output = tmp_path / "killed" / "examples"
    group = run_killed(INGEST, "ingest: train shard", uri, output)
    (left,) = os.listdir(output.parent)
    assert re.fullmatch(r"\.partial\.[0-9a-f]{16}\.examples", left), "it was killed in mid-write"
    assert ends_soon(group)
    ingest(uri, output)
    assert os.listdir(output.parent) == ["examples"]
    assert_same_examples(output, local)


# --- files of a disk that are none when they are read ------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_file_that_was_replaced_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    file = File("train/i/a.png", str(path))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server, Folder(str(tmp_path)).open_reader() as reader:
        if kind == "socket":
            server.bind(str(path))
        with pytest.raises(BadImage, match=r"cannot be read \(not a regular file\)"):
            reader.read(file, 1000)
        assert reader.hash(file) == "", "DVC has no md5 of it"
        with pytest.raises(UserError, match=f"{path}: cannot be read"), reader.open(str(path)):
            pass
