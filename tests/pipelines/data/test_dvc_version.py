"""Data versions in real git and DVC repositories: resolved or refused, and compared by the outputs of their runs."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError
from pipelines.data import dvc_version as data
from pipelines.data.dvc_version import DataVersion, resolve_version
from pipelines.output.results import keep_results
from tests.conftest import ROOT
from tests.fakes.evaluation import write_evaluation, write_history
from tests.fakes.gcs import Gcs
from tests.pages import read_plots

CLASSES = ["v", "ix", "x"]  # by their values, not by the alphabet
V1 = {"train/i/0.png": "an i", "train/v/0.png": "a v", "val/i/0.png": "another i"}
V2 = {**V1, "train/v/1.png": "a second v"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repository `home`, its data tagged v1 and v2, and the DVC remote that has both."""
    root = tmp_path_factory.mktemp("versions")
    home = new_repository(root / "home")
    configure(home, "remote", "add", "--default", "store", "../store")
    for tag, files in (("v1", V1), ("v2", V2)):
        write(home / "data", files)
        track(home)
        push(home)
        commit(home, tag)
    return root


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A copy of the repository, with its remote beside it, that the test may change; v2 is checked out."""
    shutil.copytree(template, tmp_path / "versions")
    return tmp_path / "versions" / "home"


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What DVC keeps per machine goes into a temporary folder; its commands can be named as in a shell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc")))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "tests")
            patch.setenv(f"GIT_{who}_EMAIL", "tests@localhost")
        yield


def new_repository(root: Path, *, subfolder: bool = False) -> Path:
    from dvc.repo import Repo

    root.mkdir(parents=True)
    if not subfolder:
        git(root, "init", "--quiet", "--initial-branch=main")
    Repo.init(str(root), subdir=subfolder).close()
    return root


def write(folder: Path, files: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def track(root: Path, name: str = "data") -> None:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.add(str(root / name))


def push(root: Path, remote: str | None = None) -> None:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.push(remote=remote)


def commit(root: Path, tag: str) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", tag)
    git(root, "tag", tag)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def configure(root: Path, *arguments: str) -> None:
    """`dvc remote ...` and `dvc config ...`, in this process: that is ten times as fast."""
    from dvc.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main([*arguments, "--quiet"]) == 0


def dvc(root: Path, *arguments: str) -> str:
    """What `dvc ...` prints, run as a user does."""
    return subprocess.run(["dvc", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def pointer(root: Path, rev: str, path: str = "data.dvc") -> str:
    """The version that git has at that revision."""
    found = re.search(r"md5: (\w+\.dir)", git(root, "show", f"{rev}:{path}"))
    assert found
    return found[1]


def refused(path: Path, rev: str | None = None, remote: str | None = None) -> str:
    """The one sentence with which the data is refused."""
    with pytest.raises(UserError) as caught:
        resolve_version(path, rev, remote)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]+\.", message), message
    return message


# --- resolved ----------------------------------------------------------------------------------


def check_manifest(version: DataVersion, files: dict[str, str]) -> None:
    entries = json.loads(Path(version.uri).read_text(encoding="utf-8"))
    root = Path(version.uri).parents[1]
    found = {entry["relpath"]: (root / entry["md5"][:2] / entry["md5"][2:]).read_text() for entry in entries}
    assert found == files
    assert version.version == "".join(Path(version.uri).parts[-2:])


def test_folder_on_disk(home: Path) -> None:
    version = resolve_version(home / "data")
    assert version.version == pointer(home, "HEAD") == pointer(home, "v2")
    assert version.uri.startswith(str(home.parent / "store"))
    check_manifest(version, V2)
    assert git(home, "status", "--porcelain") == ""


@pytest.mark.parametrize("rev", [None, "v2"])
def test_table_in_a_version(home: Path, rev: str | None) -> None:
    write(home / "data", {**V2, "lists/labels.csv": "path,label"})
    track(home)
    push(home)
    commit(home, "v3")
    folder = resolve_version(home / "data", "v3" if rev else None)
    table = resolve_version(home / "data/lists/labels.csv", "v3" if rev else None)
    assert table == folder._replace(uri=f"{folder.uri}/lists/labels.csv")
    (home / "labels.csv").write_text("path,label")
    with pytest.raises(UserError) as caught:
        resolve_version(home / "labels.csv", rev)
    assert str(caught.value) == (
        f"{home}/labels.csv: DVC tracks no folder that it lies in; put the table and its images into one folder, "
        "`dvc add` that, commit and `dvc push`."
    )


@pytest.mark.parametrize("rev", ["v1", "HEAD~1", "other", "commit"])
def test_revision(home: Path, rev: str) -> None:
    git(home, "branch", "other", "v1")
    version = resolve_version(home / "data", git(home, "rev-parse", "v1") if rev == "commit" else rev)
    assert version.version == pointer(home, "v1") != pointer(home, "v2")
    check_manifest(version, V1)


def test_revision_of_a_folder_that_is_not_on_disk(home: Path) -> None:
    expected = pointer(home, "v1")
    shutil.rmtree(home / "data")
    assert resolve_version(home / "data", "v1").version == expected
    git(home, "rm", "--quiet", "data.dvc")
    commit(home, "removed")
    assert resolve_version(home / "data", "v1").version == expected


@pytest.mark.parametrize("rev", [None, "v2"])
def test_place_and_spelling_do_not_matter(home: Path, monkeypatch: pytest.MonkeyPatch, rev: str | None) -> None:
    expected = resolve_version(home / "data", rev)
    (home.parent / "link").symlink_to(home / "data")
    for cwd, path in ((home, "data"), (home, "./data/../data/"), (home.parent, "link"), (home / "data/train", "..")):
        monkeypatch.chdir(cwd)
        assert resolve_version(Path(path), rev) == expected


def test_remote_of_today_serves_a_revision_that_did_not_know_it(home: Path) -> None:
    configure(home, "remote", "add", "newer", "../newer")
    configure(home, "remote", "modify", "--local", "newer", "verify", "true")
    push(home, "newer")
    assert resolve_version(home / "data", "v2", "newer").uri.startswith(str(home.parent / "newer"))


def test_repository_in_a_folder_of_a_git_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    home = new_repository(tmp_path / "team/images", subfolder=True)
    configure(home, "remote", "add", "--default", "Store", str(tmp_path / "store"))
    for tag, files in (("v1", V1), ("v2", V2)):
        write(home / "data", files)
        track(home)
        push(home)
        commit(tmp_path, tag)
    check_manifest(resolve_version(home / "data"), V2)
    check_manifest(resolve_version(home / "data", "v1"), V1)


def test_output_of_a_stage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    stage = {"stages": {"clean": {"cmd": "cp -r data clean", "deps": ["data"], "outs": ["clean"]}}}
    (home / "dvc.yaml").write_text(json.dumps(stage))
    assert "clean: has no version yet; run `dvc repro`" in refused(home / "clean")
    monkeypatch.chdir(home)
    with Repo() as repo:
        repo.reproduce()
        repo.push()
    assert "git add dvc.lock" in refused(home / "clean")
    commit(home, "cleaned")
    assert resolve_version(home / "clean") == resolve_version(home / "data")
    (home / "clean/train/i/0.png").write_text("changed")
    assert "differs from dvc.lock; run `dvc repro`" in refused(home / "clean")


# --- refused -----------------------------------------------------------------------------------


def edit(home: Path) -> None:
    (home / "data/train/i/0.png").write_text("a better i")


def edit_and_track(home: Path) -> None:
    edit(home)
    track(home)


def edit_and_commit(home: Path) -> None:
    edit_and_track(home)
    commit(home, "v3")


def track_a_file(home: Path) -> None:
    (home / "labels.csv").write_text("0.png,i\n")
    track(home, "labels.csv")


@pytest.mark.parametrize(
    ("change", "path", "named"),
    [
        pytest.param(edit, "data", "differs from data.dvc; run `dvc add data` in HOME, commit", id="changed"),
        pytest.param(
            lambda home: (home / "data/train/v/1.png").unlink(), "data", "differs from data.dvc", id="file removed"
        ),
        pytest.param(edit_and_track, "data", "not committed; run `git add data.dvc`", id="not committed"),
        pytest.param(edit_and_commit, "data", "run `dvc push -r store data` in HOME", id="not pushed"),
        pytest.param(
            lambda home: shutil.rmtree(home / "data"),
            "data",
            "not on disk; run `dvc pull data` in HOME",
            id="not on disk",
        ),
        pytest.param(
            lambda home: write(home / "my images", V1),
            "my images",
            "run `dvc add 'my images'` in HOME",
            id="not tracked",
        ),
        pytest.param(lambda home: None, "nowhere", "not tracked by DVC; run `dvc add nowhere`", id="nowhere"),
        pytest.param(lambda home: None, "data/train", "only a part of data, which DVC tracks as a whole", id="part"),
        pytest.param(lambda home: None, "", "DVC tracks only parts of it; give one of HOME/data.", id="more"),
        pytest.param(track_a_file, "labels.csv", "labels.csv: DVC tracks no folder that it lies in;", id="file"),
        pytest.param(
            lambda home: (home / "data.dvc").write_text("outs: ["), "data", "DVC cannot use its repository", id="broken"
        ),
    ],
)
def test_refuses_what_is_not_a_version(home: Path, change: Callable[[Path], Any], path: str, named: str) -> None:
    change(home)
    message = refused(home / path)
    assert str(home / path) in message
    assert named.replace("HOME", str(home)) in message


@pytest.mark.parametrize(
    ("path", "rev", "named"),
    [
        ("data", "v9", "'v9': no such tag, branch or commit in HOME"),
        ("data", "workspace", "'workspace': no such tag"),
        ("later", "v1", "later: not tracked by DVC at v1; `git log --all -- later.dvc`"),
        ("data/train", "v1", "only a part of data"),
    ],
)
def test_refuses_a_revision_without_the_folder(home: Path, path: str, rev: str, named: str) -> None:
    write(home / "later", V1)
    track(home, "later")
    commit(home, "later")
    assert named.replace("HOME", str(home)) in refused(home / path, rev)


def test_refuses_a_folder_outside_any_repository(tmp_path: Path) -> None:
    write(tmp_path / "data", V1)
    message = refused(tmp_path / "data")
    assert f"{tmp_path / 'data'}: not in a DVC repository; run `git init` and `dvc init`" in message


def test_refuses_a_repository_without_a_commit(tmp_path: Path) -> None:
    home = new_repository(tmp_path / "home")
    write(home / "data", V1)
    track(home)
    assert "not committed; run `git add data.dvc`" in refused(home / "data")


def test_refuses_what_was_imported_from_another_repository(home: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    other = new_repository(tmp_path / "other")
    with Repo(str(other)) as repo:
        repo.imp(str(home), "data", out=str(other / "data"))
    commit(other, "imported")
    assert f"imported from {home}, whose DVC remote has it" in refused(other / "data")


@pytest.fixture
def imported(home: Path) -> Path:
    """`dvc import-url` of a folder, as `images` beside `data`."""
    from dvc.repo import Repo

    write(home.parent / "source", V1)
    with Repo(str(home)) as repo:
        repo.imp_url(str(home.parent / "source"), out=str(home / "images"))
    push(home)
    commit(home, "imported")
    return home / "images"


@pytest.mark.parametrize("rev", [None, "imported"])
@pytest.mark.parametrize("frozen", [False, True])
def test_folder_that_was_imported_from_elsewhere(home: Path, imported: Path, rev: str | None, frozen: bool) -> None:
    if frozen:
        dvc(home, "freeze", "images.dvc")
        git(home, "commit", "--quiet", "--all", "--allow-empty", "--message", "frozen")
    check_manifest(resolve_version(imported, rev), V1)


def test_change_of_an_import_is_committed_as_told(home: Path, imported: Path) -> None:
    (imported / "train/i/0.png").write_text("a better i")
    message = refused(imported)
    assert message == (
        f"{imported}: differs from images.dvc; run `dvc commit --force images.dvc` in {home}, commit images.dvc and "
        "`dvc push`, or undo the changes with `dvc checkout images`."
    )
    dvc(home, "commit", "--force", "images.dvc")
    push(home)
    commit(home, "better")
    check_manifest(resolve_version(imported), {**V1, "train/i/0.png": "a better i"})


def test_import_without_a_version_is_named(home: Path) -> None:
    from dvc.repo import Repo

    write(home.parent / "source", V1)
    with Repo(str(home)) as repo:
        repo.imp_url(str(home.parent / "source"), out=str(home / "images"), no_download=True)
    commit(home, "imported")
    message = f"images.dvc names no version yet; run `dvc update images.dvc` in {home}, commit it and `dvc push`."
    assert refused(home / "images") == refused(home / "images", "imported") == f"{home / 'images'}: {message}"


def test_pipe_is_named(home: Path) -> None:
    os.mkfifo(home / "data/train/i/1.png")
    assert refused(home / "data") == (
        f"{home}/data/train/i/1.png: neither a file nor a folder; DVC cannot read it, so move it out of the data."
    )


def test_file_that_keeps_dvc_from_making_a_version_is_named(home: Path) -> None:
    (home / "data/train/.dvcignore").write_text("*.txt\n")
    assert refused(home / "data") == (
        f"{home}/data: DVC makes no version of it (.dvcignore file should not be in collected dir path: "
        f"'{home}/data/train'); move that file above it."
    )


@pytest.mark.parametrize("rev", [None, "v1"])
def test_version_that_dvc_2_made(home: Path, rev: str | None) -> None:
    """Its .dvc file has no `hash`, and its files lie directly in the cache and in the remote."""
    git(home, "checkout", "--quiet", "v1")
    dvc(home, "checkout", "--quiet")
    write_as_dvc_2(home)
    commit(home, "as-of-dvc-2")
    version = resolve_version(home / "data", rev and "as-of-dvc-2")
    check_manifest(version, V1)
    md5 = pointer(home, "v1")
    assert version == DataVersion(str(home.parent / "store" / md5[:2] / md5[2:]), md5)


def write_as_dvc_2(home: Path) -> None:
    text = (home / "data.dvc").read_text()
    (home / "data.dvc").write_text(text.replace("  hash: md5\n", ""))
    for store in (home / ".dvc/cache", home.parent / "store"):
        shutil.move(store / "files/md5", store / "moved")
        shutil.rmtree(store / "files")
        for folder in (store / "moved").iterdir():
            shutil.move(folder, store)
        (store / "moved").rmdir()


# root's own powers over files, since the environment of the tests may be closed to others
WITH_ACCESS = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
RESOLVE = """
import sys
from pathlib import Path
from components.shared.errors import command_line
from pipelines.data.dvc_version import resolve_version
with command_line():
    print(resolve_version(Path(sys.argv[1]), "v1").version)
"""


def resolve_as_another(home: Path, uid: int, **names: str) -> subprocess.CompletedProcess[str]:
    """By a user without an entry in /etc/passwd, as in a container with any uid."""
    nameless = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *WITH_ACCESS, sys.executable]
    return subprocess.run(
        [*command, "-W", "ignore", "-c", RESOLVE, str(home / "data")],
        env=nameless | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | names,
        cwd=home,
        capture_output=True,
        text=True,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another")


@needs_root
@pytest.mark.parametrize("names", [{}, {"HOME": "/proc"}], ids=["no home", "home that cannot be written"])
def test_user_without_a_name(template: Path, names: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        root = Path(name)
        shutil.copytree(template, root, dirs_exist_ok=True)
        version = pointer(root / "home", "v1")
        for path in (root, *root.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
        resolved = resolve_as_another(root / "home", 12345, **names)
    assert (resolved.returncode, resolved.stdout, resolved.stderr) == (0, f"{version}\n", "")


@needs_root
@pytest.mark.parametrize("has_home", [True, False])
def test_repository_of_another_user(home: Path, tmp_path: Path, has_home: bool) -> None:
    resolved = resolve_as_another(home, 12345, **({"HOME": str(tmp_path)} if has_home else {}))
    before = "" if has_home else "set HOME to a folder that you may write to and "
    assert (resolved.returncode, resolved.stderr) == (
        1,
        f"git does not trust {home}, which another user owns; {before}run git config --global --add safe.directory "
        f"{home}.\n",
    )


@pytest.mark.parametrize("rev", [None, "v1"])
def test_pushing_as_told_is_enough(home: Path, rev: str | None) -> None:
    shutil.rmtree(home.parent / "store")
    message = refused(home / "data", rev)
    assert message.endswith(f" in {home}.")
    for command in re.findall(r"`(.+?)`", message):
        subprocess.run(command, shell=True, cwd=home, check=True, capture_output=True)
    check_manifest(resolve_version(home / "data", rev), V1 if rev else V2)


def test_version_of_which_an_image_could_not_be_pushed_is_not_pushed(home: Path) -> None:
    """Asking for the manifest alone is enough: DVC does not upload it before everything that it names."""
    edit_and_commit(home)
    image = next(path for path in home.glob(".dvc/cache/files/md5/*/*") if path.read_text() == "a better i")
    image.chmod(0o600)
    image.unlink()
    (home / "data/train/i/0.png").unlink()
    push(home)
    assert "is not in the DVC remote 'store'" in refused(home / "data", "v3")


# --- remotes -----------------------------------------------------------------------------------


def without_remote(home: Path) -> None:
    configure(home, "remote", "remove", "store")


def without_default(home: Path) -> None:
    configure(home, "remote", "default", "--unset")


def cloud_versions(home: Path) -> None:
    configure(home, "remote", "add", "cloud", "gs://bucket/dvc")
    configure(home, "remote", "modify", "cloud", "version_aware", "true")


def readable_by_others(home: Path) -> None:
    configure(home, "remote", "add", "cloud", "gs://bucket/dvc")
    configure(home, "remote", "modify", "cloud", "endpointurl", "http://me:secret@storage.example:9000")


def unnamed_bucket(home: Path) -> None:
    configure(home, "remote", "add", "gcs", "gs://BUCKET/dvc")


def other_cloud(home: Path) -> None:
    configure(home, "remote", "add", "cloud", "s3://bucket/dvc")


@pytest.mark.parametrize(
    ("change", "remote", "named"),
    [
        (without_remote, None, "has no DVC remote; run `dvc remote add --default NAME gs://BUCKET/dvc` in HOME"),
        (without_default, None, "has no default DVC remote; run `dvc remote default NAME` in HOME with one of store."),
        (lambda home: None, "stroe", "the DVC remote 'stroe' does not exist. Did you mean store?"),
        (
            unnamed_bucket,
            "gcs",
            "the DVC remote 'gcs' is gs://BUCKET/dvc, which still has BUCKET in place of your bucket's name; run "
            "`dvc remote modify gcs url gs://NAME/dvc` in HOME, and `dvc push -r gcs`.",
        ),
        (other_cloud, "cloud", "the DVC remote 'cloud' is s3://bucket/dvc; ingest reads gs:// and folders"),
        (
            readable_by_others,
            "cloud",
            "http://storage.example:9000: a token would be sent unencrypted; give",
        ),
        (cloud_versions, "cloud", "'cloud' (gs://bucket/dvc) keeps cloud versions"),
    ],
)
@pytest.mark.parametrize("rev", [None, "v1"])
def test_refuses_a_remote(
    home: Path, change: Callable[[Path], None], remote: str | None, named: str, rev: str | None
) -> None:
    change(home)
    assert named.replace("HOME", str(home)) in refused(home / "data", rev, remote)


def test_what_cloud_storage_says_is_shown_without_tokens_and_escape_characters(home: Path) -> None:
    handler = type("Handler", (Answering,), {"status": 403, "asked": [], "says": "Bearer ya29.se-cret \x1b[31mred"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        in_bucket(home, f"http://127.0.0.1:{server.server_port}", "images")
        message = refused(home / "data", None, "bucket")
        server.shutdown()
    assert "Bearer [token] \ufffd[31mred)" in message


def in_bucket(home: Path, url: str, bucket: str, *options: str) -> None:
    configure(home, "remote", "add", "bucket", f"gs://{bucket}/team/dvc")
    for option in (f"endpointurl={url}", "allow_anonymous_login=true", *options):
        configure(home, "remote", "modify", "--local", "bucket", *option.split("="))


def test_version_in_cloud_storage(home: Path, gcs: Gcs) -> None:
    in_bucket(home, gcs.url, gcs.bucket.name)
    message = refused(home / "data", None, "bucket")
    assert f"is not in the DVC remote 'bucket' ({gcs.uri}/team/dvc); run `dvc push -r bucket data` in" in message
    push(home, "bucket")
    version = resolve_version(home / "data", None, "bucket")
    assert version.version == pointer(home, "v2")
    md5 = version.version
    assert version.uri == f"{gcs.uri}/team/dvc/files/md5/{md5[:2]}/{md5[2:]}"
    entries = json.loads(gcs.bucket.blob(version.uri.removeprefix(f"{gcs.uri}/")).download_as_text())
    assert [entry["relpath"] for entry in entries] == sorted(V2)
    assert "is not in the DVC remote 'bucket'" in refused(home / "data", "v1", "bucket")


class Answering(http.server.BaseHTTPRequestHandler):
    """Cloud Storage that answers every request with one status."""

    status: int
    asked: list[str]
    says = "no permission storage.objects.get"

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"error": {"code": self.status, "message": self.says}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("status", "named"),
    [(403, "(gs://images/team/dvc): permission refused (403"), (404, "is not in the DVC remote 'bucket'")],
)
def test_one_request_tells(home: Path, monkeypatch: pytest.MonkeyPatch, status: int, named: str) -> None:
    # For its traces google-cloud-storage asks about the bucket by itself, in a thread.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    handler = type("Handler", (Answering,), {"status": status, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        in_bucket(home, f"http://127.0.0.1:{server.server_port}", "images")
        message = refused(home / "data", None, "bucket")
        server.shutdown()
    assert named in message
    assert ("storage.objects.get" in message) == (status == 403)
    assert len(handler.asked) == 1
    assert "/images/o/team" in handler.asked[0]


def test_cloud_storage_that_does_not_answer(home: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PATIENCE", 1)
    in_bucket(home, f"http://127.0.0.1:{closed_port}", "images")
    message = refused(home / "data", None, "bucket")
    assert message.endswith(": Cloud Storage does not answer (Connection refused); check the network and the address.")


def test_credentials_that_are_not_there(home: Path) -> None:
    configure(home, "remote", "add", "bucket", "gs://images/dvc")
    configure(home, "remote", "modify", "--local", "bucket", "credentialpath", "../lost.json")
    message = refused(home / "data", None, "bucket")
    assert "the DVC remote 'bucket' (gs://images/dvc): no Google credentials (" in message
    assert "lost.json" in message


# --- results -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A repository with dvc.yaml where each data version, a and b, is committed with the results of its run."""
    root = tmp_path_factory.mktemp("story")
    home = root / "home"
    shutil.copytree(template, root, dirs_exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", home)
    shutil.copytree(ROOT / ".dvc/plots", home / ".dvc/plots")
    evaluations = {}
    for seed, (tag, rev) in enumerate({"a": "v1", "b": "v2"}.items(), start=1):
        git(home, "checkout", "--quiet", rev, "data.dvc")
        evaluation = root / f"evaluation {tag}"
        version = resolve_version(home / "data", rev).version
        evaluations[tag] = write_evaluation(evaluation, version, {"val": 40, "test": 30}, seed, classes=CLASSES)
        keep_results(evaluation, write_history(root / "history", seed), home / "results")
        commit(home, tag)
    return home, evaluations


def test_metrics_diff_tells_what_the_data_changed(story: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    home, evaluations = story
    changes = json.loads(dvc(home, "metrics", "diff", "a", "b", "--json"))["results/metrics.json"]
    a, b = evaluations["a"], evaluations["b"]
    assert changes["data_version"] == {"old": pointer(home, "v1"), "new": pointer(home, "v2")}
    assert changes["train.images"] == {"old": 11, "new": 12, "diff": 1}
    for split in ("val", "test"):
        for name in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
            change = changes[f"{split}.{name}"]
            assert (change["old"], change["new"]) == (a[split][name], b[split][name])
            assert change["diff"] == pytest.approx(b[split][name] - a[split][name])
    assert len(changes) == 2 + 2 * 4, "nothing that stayed the same, and no table"


def test_metrics_diff_per_class(story: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    home, evaluations = story
    table = dvc(home, "metrics", "diff", "a", "b", "--targets", "results/classes.json", "--md")
    rows = {cells[1]: cells[2:4] for line in table.splitlines() if len(cells := line.strip("| ").split("|")) == 5}
    rows = {name.strip(): [cell.strip() for cell in cells] for name, cells in rows.items()}
    for split in ("val", "test"):
        for name in CLASSES:
            expected = [evaluations[tag][split]["classes"][name]["f1"] for tag in "ab"]
            assert [float(cell) for cell in rows[f"{split}.{name}"]] == pytest.approx(expected, abs=1e-5)


def test_metrics_show_has_every_version(story: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    home, evaluations = story
    shown = json.loads(dvc(home, "metrics", "show", "--all-tags", "--json"))
    for tag, evaluation in evaluations.items():
        figures = shown[tag]["data"]["results/metrics.json"]["data"]
        assert figures.keys() == {"data_version", "settings", "train", "val", "test"}, "too many for a table"
        assert figures["data_version"] == evaluation["data_version"]
        assert figures["settings"] == evaluation["settings"]
        for split in ("val", "test"):
            assert figures[split] == {
                name: evaluation[split][name]
                for name in ("images", "accuracy", "macro_f1", "log_loss", "calibration_error")
            }


def test_plots_diff_has_curves_confusion_matrices_and_classes(
    story: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    home, evaluations = story
    plots = json.loads(dvc(home, "plots", "diff", "a", "b", "--json", "--split", "--out", str(tmp_path)))
    assert "errors" not in plots
    points = {name: plot["anchor_definitions"]["<DVC_METRIC_DATA>"] for name, (plot,) in plots["data"].items()}
    for split in ("val", "test"):
        pairs = Counter(
            (row["rev"], row["label"], row["prediction"]) for row in points[f"results/plots/confusion/{split}.csv"]
        )
        bars = {(row["rev"], row["class"]): float(row["f1"]) for row in points[f"results/plots/classes/{split}.csv"]}
        for tag, evaluation in evaluations.items():
            for label, counts in zip(CLASSES, evaluation[split]["confusion_matrix"], strict=True):
                assert [pairs[tag, label, prediction] for prediction in CLASSES] == counts
                assert bars[tag, label] == evaluation[split]["classes"][label]["f1"]
    curves = {(row["rev"], row["epoch"]): float(row["val_loss"]) for row in points["Loss per epoch"]}
    assert curves == {("a", "1"): 2.5, ("a", "2"): 1, ("b", "1"): 2.5, ("b", "2"): 2}
    assert {row["field"] for row in points["Accuracy per epoch"]} == {"accuracy", "val_accuracy"}


def test_page_of_plots_diff_has_both_versions_and_the_classes_in_their_order(
    story: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    home, evaluations = story
    dvc(home, "plots", "diff", "a", "b", "--out", str(tmp_path / "page"))
    plots = read_plots(tmp_path / "page/index.html")
    points = {title: split_by_version(plot["data"]["values"]) for title, plot in plots.items()}
    assert len(points) == 2 + 2 * 2
    for title, versions in points.items():
        assert versions.keys() == {"a", "b"}, title
        assert versions["a"] != versions["b"], title
    for split in ("val", "test"):
        bars = plots[f"results/plots/classes/{split}.csv"]
        assert (bars["encoding"]["y"]["field"], bars["encoding"]["y"]["sort"]) == ("class", None)
        matrix = plots[f"results/plots/confusion/{split}.csv"]["spec"]
        axes = [(axis["field"], axis["sort"]) for axis in (matrix["encoding"]["x"], matrix["encoding"]["y"])]
        assert axes == [("prediction", None), ("label", None)]
        first = matrix["layer"][0]["encoding"]["x"]  # the first rows need not have all predictions, but all labels
        assert (first["field"], first["sort"], first["title"]) == ("label", None, "prediction")
        for tag, evaluation in evaluations.items():
            assert [row["class"] for row in points[f"results/plots/classes/{split}.csv"][tag]] == CLASSES
            rows = points[f"results/plots/confusion/{split}.csv"][tag]
            assert list(dict.fromkeys(row["label"] for row in rows)) == CLASSES
            assert len(rows) == evaluation[split]["images"]
    assert git(home, "status", "--porcelain") == ""


def split_by_version(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each version, without its name."""
    versions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        versions.setdefault(row["rev"], []).append({name: value for name, value in row.items() if name != "rev"})
    return versions


def test_page_of_plots_show_has_the_templates_too(
    story: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    dvc(story[0], "plots", "show", "--out", str(tmp_path / "page"))
    plots = read_plots(tmp_path / "page/index.html")
    assert plots["results/plots/classes/val.csv"]["encoding"]["y"]["sort"] is None
    assert plots["results/plots/confusion/val.csv"]["spec"]["encoding"]["x"]["sort"] is None
