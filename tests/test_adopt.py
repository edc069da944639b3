"""A curated folder becomes a DVC version: announced, adopted, refused, killed in between; in real repositories."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import adopt
from components.shared.formats.examples import ExamplesManifest, MadeSplit, Quarantined, Shard, SplitInfo, name_shard
from components.shared.formats.examples import write_manifest as write_examples_manifest
from components.shared.formats.manifest import CuratedImage, write_manifest
from pipelines.data.dvc_version import resolve_version
from pipelines.output.results import read_data_version
from pipelines.submission.commands import Command, keep_command
from pipelines.submission.request import ClusterOptions, LocalOptions, RunRequest
from tests.conftest import ROOT, contents
from tests.fakes.evaluation import write_evaluation, write_history
from tests.fakes.gcs import Gcs


class File(NamedTuple):
    """What curate wrote: a file and its source."""

    name: str
    text: str
    source: str
    source_text: str


DATA = {
    "train/i/0.png": "i0",
    "train/i/1.png": "a v, really",
    "train/i/2.png": "junk",
    "train/i/0.augmented-9.png": "of an earlier turn",
    "train/v/0.png": "v0",
    "train/v/1.png": "v1",
    "val/i/0.png": "val i",
    "val/v/0.png": "val v",
    "notes.txt": "beside the images",
}
CURATED = [
    File("train/i/0.png", "i0", "train/i/0.png", "i0"),
    File("train/i/0.augmented-0.png", "i0 turned", "train/i/0.png", "i0"),
    File("train/i/0.augmented-1.png", "i0 bent", "train/i/0.png", "i0"),
    File("train/v/1-2.png", "a v, really", "train/i/1.png", "a v, really"),
    File("train/v/0.png", "v0 cleaned", "train/v/0.png", "v0"),
    File("val/v/1.png", "v1", "train/v/1.png", "v1"),
    File("val/i/0.png", "val i", "val/i/0.png", "val i"),
    File("val/v/0.png", "val v", "val/v/0.png", "val v"),
    File("test/i/0.png", "test i", "test/i/0.png", "test i"),
]
CHANGES = "1 relabelled, 1 moved, 1 edited, 1 removed, 1 added to test, 2 augmented"
EVERYTHING = ("--yes", "--commit", "--tag", "v3", "--push")


class Place(NamedTuple):
    home: Path  # a git and DVC repository with data/, tagged v2, and its remote ../store
    made: Path  # the curated folder
    version: str  # that `dvc add` gives it, in another repository

    @property
    def submit(self) -> str:
        """How commands begin that are to be typed in `home`."""
        return f"python {os.path.relpath(ROOT / 'submit.py', self.home)}"


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What DVC keeps per machine goes into a temporary folder; git knows who commits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc")))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "tests")
            patch.setenv(f"GIT_{who}_EMAIL", "tests@localhost")
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adopt")
    home = new_repository(root / "home")
    (home / ".gitignore").write_text("/runs\n")
    write(home / "data", DATA)
    track(home, push=True)
    commit(home, "v2")
    write_curated(home / "runs/default/20260101-000000-improvement/artifacts/data", CURATED)
    leave_run(home, "20260101-000000-improvement", "succeeded", "data")
    other = new_repository(root / "other")
    write_curated(other / "data", CURATED)
    track(other)
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy that the test may change, and works in."""
    for name in ("home", "store"):
        shutil.copytree(template / name, tmp_path / "team" / name, symlinks=True)
    home = tmp_path / "team/home"
    leave_run(home, "20260101-000000-improvement", "succeeded", "data")
    monkeypatch.chdir(home)
    made = home / "runs/default/20260101-000000-improvement/artifacts/data"
    return Place(home, made, pointer((template / "other/data.dvc").read_text()))


def new_repository(root: Path) -> Path:
    from dvc.repo import Repo

    root.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    Repo.init(str(root)).close()
    (root / ".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../../store\n")
    return root


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_curated(folder: Path, files: list[File]) -> None:
    write(folder, {file.name: file.text for file in files})
    write_manifest(folder, [describe(file) for file in files])


def describe(file: File) -> CuratedImage:
    label = file.name.split("/")[1] if file.name.count("/") > 1 else ""
    operations = [{"operation": "crop"}] if file.text.endswith("cleaned") else []
    return CuratedImage(
        file.name, sha256(file.text), file.source, sha256(file.source_text), file.source, label, operations, 1
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def leave_run(home: Path, name: str, state: str, data: str | None = None, **facts: str) -> None:
    run = home / "runs/default" / name
    run.mkdir(parents=True, exist_ok=True)
    artifacts = {"data": str(run / "artifacts" / data)} if data else {"examples": str(run / "artifacts/examples")}
    summary = {"run": name, "pipeline": "improvement", "state": state, "stages": {}, "artifacts": artifacts}
    summary |= {"started": "2026-01-01T00:00:00+00:00", "arguments": {}, "seconds": 1.0, **facts}
    (run / "run.json").write_text(json.dumps(summary))


def track(root: Path, *, push: bool = False) -> None:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.add(str(root / "data"))
        if push:
            repo.push()


def commit(root: Path, tag: str) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", tag)
    git(root, "tag", tag)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def pointer(text: str) -> str:
    found = re.search(r"md5: (\w+\.dir)", text)
    assert found
    return found[1]


def dvc(root: Path, *arguments: str) -> None:
    from dvc.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main([*arguments, "--quiet"]) == 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """adopt.py in this process, with --data data; returns what it prints."""

    def call(*options: str | Path, data: str | Path = "data") -> str:
        monkeypatch.setattr(sys, "argv", ["adopt.py", "--data", str(data), *map(str, options)])
        capsys.readouterr()
        adopt.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(run: Callable[..., str], place: Place) -> Callable[..., str]:
    """The one sentence with which adopt.py refuses, whatever else it was asked to do; nothing is changed."""

    def call(*options: str | Path, data: str | Path = "data") -> str:
        before = state(place.home)
        with pytest.raises(SystemExit) as caught:
            run(*options, data=data)
        message = str(caught.value.code)
        assert re.fullmatch(r"[^\n]+[.?]", message), message
        assert state(place.home) == before
        return message

    return call


def test_version_without_splits_becomes_one_with_them(place: Place, run: Callable[..., str]) -> None:
    """As curate leaves it: each image with its path in the present version, where class folders lie alone."""
    shutil.rmtree(place.home / "data")
    write(
        place.home / "data", {"i/0.png": "i0", "i/1.png": "a v", "i/2.PNG": "junk", "v/0.png": "v0", "v/Thumbs.db": "x"}
    )
    track(place.home, push=True)
    commit(place.home, "unsplit")
    shutil.rmtree(place.made)
    files = {
        "i/0.png": File("train/i/0.png", "i0", "train/i/0.png", "i0"),
        "i/1.png": File("train/v/1.png", "a v", "train/i/1.png", "a v"),
        "v/0.png": File("val/v/0.png", "v0", "val/v/0.png", "v0"),
    }
    write(place.made, {file.name: file.text for file in files.values()})
    write_manifest(place.made, [describe(file)._replace(source_path=path) for path, file in files.items()])
    shown = " ".join(run("--yes", "--commit").split())
    assert "1 relabelled, 1 removed" in shown
    assert (
        "4 images of the present version lie in other folders than train/<class>/, val/<class>/ and test/<class>/"
        in shown
    )
    assert "leaves out the files that are no images of a class: v/Thumbs.db" in shown
    assert sorted(name for name, data in contents(place.home / "data").items() if data is not None) == [
        "manifest.csv",
        *sorted(file.name for file in files.values()),
    ]


def test_pictures_that_curate_writes_as_png_stay_the_same_images(place: Place, run: Callable[..., str]) -> None:
    write(place.home / "data", {"train/i/2.tiff": "a TIFF"})
    track(place.home, push=True)
    commit(place.home, "with-a-tiff")
    write_curated(place.made, [*CURATED, File("train/i/2.png", "its PNG", "train/i/2.tiff", "a TIFF")])
    assert f"\n{CHANGES.replace('1 removed', '1 converted to png, 1 removed')}\n" in run()


def test_guideline_goes_with_the_images(place: Place, run: Callable[..., str], gcs: Gcs) -> None:
    """It is no image, so it counts for none, and the version is the one that DVC gives."""
    write(place.home / "data", {"labels.md": "# i"})
    track(place.home, push=True)
    commit(place.home, "with-a-guideline")
    write(place.made, {"labels.md": "# i"})
    for source in ((), ("--curated", gcs.upload(place.made, "curated"))):
        shown = run(*source)
        assert f"\n{CHANGES}\nThe new version leaves out the files that are no images of a class: notes.txt\n" in shown
        assert "labels.md" not in shown
    write(place.made, {"labels.md": "# i, as it was"})
    assert "\nlabels.md differs from the one in the curated folder, which replaces it.\n" in run()
    write(place.made, {"labels.md": "# i"})
    run("--yes")
    assert (place.home / "data/labels.md").read_text() == "# i"
    announced = pointer((place.home / "data.dvc").read_text())
    dvc(place.home, "add", "data")
    assert pointer((place.home / "data.dvc").read_text()) == announced != place.version


def test_version_that_is_adopted_already_changes_nothing(place: Place, run: Callable[..., str]) -> None:
    run(*EVERYTHING)
    output = run()
    assert f"data: {place.version} is its version already\n" in output
    assert table(output)["all"] == ["5", "3", "1"]
    assert "\nno changes\n" in output
    assert "give data the content" not in output
    shutil.rmtree(place.home / ".dvc/cache")
    shutil.rmtree(place.home / "data")
    assert table(run())["all"] == ["5", "3", "1"]


def test_nothing_to_do_is_said_once_the_version_is_committed(place: Place, run: Callable[..., str]) -> None:
    run("--yes")
    assert "\nTo do:\n    dvc add data\n" in run()  # it is not committed
    run(*EVERYTHING)
    once = state(place.home)
    for options in ([], ["--yes"]):
        output = run(*options)
        assert output.endswith("\nThere is nothing to do: data has this version, and git's last commit names it.\n")
        assert "To do" not in output
        assert state(place.home) == once
    assert "\n    git tag " in run("--commit", "--tag", "later")
    run("--yes", "--commit", "--tag", "later")
    assert resolve_version(place.home / "data", "later").version == place.version
    (place.home / "data.dvc").write_text(git(place.home, "show", "v2:data.dvc") + "\n")
    run("--yes")
    assert state(place.home) == once | {"git": state(place.home)["git"]}


def test_images_that_ingest_left_out_are_told_from_those_that_the_curation_dropped(
    place: Place, run: Callable[..., str]
) -> None:
    """The reports of the curation do not count them, and this command counts what differs from the present version."""
    reason = "left out of train: the same picture is in val, as val/i/0.png"
    leave_examples(place, MadeSplit(0, 0.2, 0.0, [Quarantined("train/i/2.png", reason)], []))
    said = f"\nOf the removed images, ingest had left out 1 before the curation:\n    train/i/2.png: {reason}\n"
    assert f"\n{CHANGES}{said}" in run()
    assert f"\n{CHANGES}{said}" in run("--curated", place.made)
    leave_examples(place, None, Quarantined("train/i/2.png", "no image"), Quarantined("elsewhere.png", "no image"))
    assert "ingest had left out 1 before the curation:\n    train/i/2.png: no image\n" in run()
    leave_examples(place, None)
    assert "ingest had left out" not in run()
    shutil.rmtree(place.made.parents[1] / "examples")
    assert "ingest had left out" not in run()


def leave_examples(place: Place, made_split: MadeSplit | None, *bad: Quarantined) -> None:
    """Leaves the examples of which the run made the curated folder, as far as this command reads them."""
    folder = place.made.parents[1]
    (folder / "examples").mkdir(exist_ok=True)
    splits = {
        name: SplitInfo(1, {"i": 1}, [Shard(name_shard(name, 0, 1), 1, sha256(name))]) for name in ("train", "val")
    }
    manifest = ExamplesManifest("data", "", "0123.dir", ["i"], splits, list(bad), made_split)
    write_examples_manifest(folder / "examples", manifest)
    record = json.loads((folder / "run.json").read_text())
    task = {"stage": "curate", "state": "succeeded", "seconds": 1.0, "parameters": {}, "artifacts": {}}
    record["stages"] = {"curate": task | {"inputs": {"examples": str(folder / "examples")}}}
    (folder / "run.json").write_text(json.dumps(record))


def test_results_that_git_ignores_though_it_tracks_them_are_left_out(place: Place, run: Callable[..., str]) -> None:
    write(place.home / "results", {"metrics.json": json.dumps({"data_version": place.version})})
    commit(place.home, "results")
    (place.home / ".gitignore").write_text("/runs\n/results\n")
    git(place.home, "commit", "--quiet", "--all", "--message", "ignored")
    output = run(*EVERYTHING)
    assert "git ignores results/, so the commit leaves out all of results/.\n" in output
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]


def test_results_of_which_git_ignores_a_part_are_left_out(place: Place, run: Callable[..., str]) -> None:
    (place.home.parent / "ignored").write_text("*.csv\n")
    git(place.home, "config", "core.excludesFile", str(place.home.parent / "ignored"))
    write(place.home / "results", {"metrics.json": json.dumps({"data_version": place.version})})
    output = run(*EVERYTHING)
    assert "git ignores results/plots/training.csv, so the commit leaves out all of results/.\n" in output
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]


def test_a_repository_that_a_hook_names_is_left_alone(
    place: Place, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.home.parent / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    run(*EVERYTHING)
    assert "GIT_DIR" not in os.environ
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]
    assert git(other, "for-each-ref") == ""


def test_a_tag_opens_no_editor(place: Place, run: Callable[..., str]) -> None:
    """With tag.forceSignAnnotated or tag.gpgSign git wants a message."""
    git(place.home, "config", "tag.gpgSign", "true")
    git(place.home, "config", "gpg.program", "true")  # signs nothing, with success
    git(place.home, "config", "core.editor", "false")
    with contextlib.suppress(SystemExit):
        run(*EVERYTHING)
    said = "git tag failed in"
    with pytest.raises(SystemExit, match=said) as caught:
        run(*EVERYTHING)
    assert "gpg" in str(caught.value.code)
    git(place.home, "config", "tag.gpgSign", "false")
    run(*EVERYTHING)
    assert git(place.home, "tag", "--list", "--format=%(contents:subject)", "v3").startswith("Data version ")


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("main", "a branch 'main' exists, and git could not tell the two apart; choose another name."),
        ("rel/1/2", "the tag 'rel/1' exists, and git cannot have both; choose another name than 'rel/1/2'."),
        ("rel", "the tag 'rel/1' exists, and git cannot have both; choose another name than 'rel'."),
    ],
)
def test_a_tag_that_git_would_refuse_or_mistake_is_refused_first(
    place: Place, refused: Callable[..., str], tag: str, said: str
) -> None:
    git(place.home, "branch", "--move", "main")
    git(place.home, "tag", "rel/1")
    assert refused("--yes", "--commit", "--tag", tag) == said


def test_git_at_work_and_no_branch_are_refused_first(place: Place, refused: Callable[..., str]) -> None:
    lock = place.home / ".git/index.lock"
    lock.touch()
    assert refused(*EVERYTHING) == (
        f"{place.home}: another git is at work there; wait for it, or remove {lock} if it was killed."
    )
    lock.unlink()
    git(place.home, "checkout", "--quiet", "--detach")
    assert refused(*EVERYTHING) == (
        f"{place.home}: no branch is checked out, so the commit would be on none; run `git switch -c NAME`."
    )


def test_staged_name_that_is_no_utf8_is_spelt_out(place: Place, run: Callable[..., str]) -> None:
    Path(os.fsdecode(os.fsencode(place.home) + b"/\xe9.txt")).touch()
    git(place.home, "add", ".")
    with pytest.raises(SystemExit, match=r"other changes are staged \(.*xe9\.txt\)"):
        run(*EVERYTHING)


def test_results_outside_the_repository_are_left_out(
    place: Place, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.home.parent)
    output = run("--curated", place.made, *EVERYTHING, data=place.home / "data")
    assert f"results/ is outside {place.home}, so the commit leaves out all of results/.\n" in output
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]


def test_ignored_results_that_are_not_there_yet_stop_nothing(place: Place, run: Callable[..., str]) -> None:
    (place.home / ".gitignore").write_text("/runs\nresults/\n")
    git(place.home, "commit", "--quiet", "--all", "--message", "ignored")
    leave_figures(place, "20260101-000000-improvement")
    run(*EVERYTHING)
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]
    assert not (place.home / "results").exists()


def state(home: Path) -> dict[str, Any]:
    """All that a person would miss."""
    names = [path.name for path in home.parent.iterdir()]
    return {
        "files": {
            name: content
            for name, content in contents(home).items()
            if not name.startswith((".git/", ".dvc/tmp", ".dvc/cache")) and name not in (".dvc", ".git")
        },
        "cache": contents(home / ".dvc/cache"),
        "store": contents(home.parent / "store"),
        "beside": sorted(names),
        "git": [git(home, *command.split()) for command in ("log --format=%H --all", "tag", "status --porcelain")],
    }


def adopted(place: Place) -> dict[str, bytes | None]:
    return contents(place.made)


# --- shown and done ----------------------------------------------------------------------------


def table(output: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in output.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_shows_what_it_would_change_and_changes_nothing(place: Place, run: Callable[..., str]):
    before = state(place.home)
    output = run("--commit", "--tag", "v3", "--push")
    assert state(place.home) == before
    assert f"data: {pointer((place.home / 'data.dvc').read_text())} -> {place.version}\n" in output
    assert table(output) == {
        "images": ["train", "val", "test"],
        "i": ["4 -> 3", "1", "0 -> 1"],
        "v": ["2", "1 -> 2", "0"],
        "all": ["6 -> 5", "2 -> 3", "0 -> 1"],
    }
    assert f"\n{CHANGES}\nThe new version leaves out the files that are no images of a class: notes.txt\n" in output
    todo = output.split("To do:\n")[1].splitlines()
    assert [line.strip() for line in todo[:5]] == [
        f"give data the content of {place.made}",
        "dvc add data",
        f"git add data.dvc && git commit -m 'Data version {place.version[:8]}: {CHANGES}'",
        f"git tag --cleanup whitespace -m 'Data version {place.version[:8]}: {CHANGES}' v3",
        "dvc push data",
    ]


def leave_ignored(home: Path) -> list[str]:
    (home / ".dvcignore").write_text("*.txt\n")
    track(home)
    commit(home, "ignore")
    write(home / "data", {"train/rules.txt": "how we label"})
    return ["notes.txt", "train/rules.txt"]


def leave_repository(home: Path) -> list[str]:
    git(home, "init", "--quiet", str(home / "data"))
    return [".git/HEAD"]


def leave_link(home: Path) -> list[str]:
    (home.parent / "scans").mkdir()
    (home / "data/scans").symlink_to(home.parent / "scans")
    return ["scans"]


@pytest.mark.parametrize("leave", [leave_ignored, leave_repository, leave_link])
@pytest.mark.parametrize("options", [(), ("--yes", "--commit")], ids=["shown", "done"])
def test_what_no_version_holds_is_named_and_stays(
    place: Place, refused: Callable[..., str], leave: Callable[[Path], list[str]], options: tuple[str, ...]
):
    named = leave(place.home)
    before = state(place.home)
    message = refused(*options)
    assert message.startswith("data: no version holds ")
    assert message.endswith("adopt.py replaces the folder, so move them out of it first.")
    assert [name for name in named if name not in message] == []
    assert state(place.home) == before


def test_the_version_is_the_one_that_was_announced_and_runs_by_its_tag(place: Place, run: Callable[..., str]):
    announced = run()
    old = resolve_version(place.home / "data")
    run(*EVERYTHING)
    version = resolve_version(place.home / "data", "v3")
    assert version == resolve_version(place.home / "data")
    assert version.version == place.version
    assert f"-> {version.version}\n" in announced
    assert contents(place.home / "data") == adopted(place)
    assert git(place.home, "status", "--porcelain") == ""
    assert git(place.home, "show", "--format=%s", "--name-only", "v3^{commit}").split("\n") == [
        f"Data version {place.version[:8]}: {CHANGES}",
        "",
        "data.dvc",
    ]
    assert resolve_version(place.home / "data", "v2") == old
    dvc(place.home, "checkout", "data.dvc")  # nothing to do
    git(place.home, "checkout", "--quiet", "v2")
    dvc(place.home, "checkout")
    assert {name: text.decode() for name, text in contents(place.home / "data").items() if text is not None} == DATA


def test_what_is_edited_afterwards_leaves_the_run_and_the_cache_alone(place: Place, run: Callable[..., str]):
    before = contents(place.made)
    run("--yes")
    for path in (place.home / "data").rglob("*.png"):
        path.chmod(0o644)
        path.write_text("edited")
    assert contents(place.made) == before
    dvc(place.home, "checkout", "--force", "data")
    assert contents(place.home / "data") == before


def test_yes_alone_adds_and_the_rest_can_follow(place: Place, run: Callable[..., str]):
    head = git(place.home, "rev-parse", "HEAD")
    run("--yes")
    assert pointer((place.home / "data.dvc").read_text()) == place.version
    assert git(place.home, "rev-parse", "HEAD") == head
    output = run(*EVERYTHING)
    assert f"\n{CHANGES}\n" in output
    assert "give data" not in output
    assert resolve_version(place.home / "data", "v3").version == place.version
    once = state(place.home)
    run(*EVERYTHING)
    assert state(place.home) == once


def test_results_of_that_version_are_committed_with_it(place: Place, run: Callable[..., str]):
    write(place.home / "results", {"metrics.json": json.dumps({"data_version": place.version}), "plots/x.csv": "1\n"})
    run("--yes", "--commit", "-m", "Version 3: 'cleaned'")
    shown = git(place.home, "show", "--format=%s", "--name-only", "HEAD").split()
    assert shown == ["Version", "3:", "'cleaned'", "data.dvc", "results/metrics.json", "results/plots/x.csv"]


@pytest.mark.parametrize("content", ['{"data_version": "0123.dir"}', "[]", "{"])
def test_other_results_are_left(place: Place, run: Callable[..., str], content: str):
    write(place.home / "results", {"metrics.json": content})
    run("--yes", "--commit")
    assert git(place.home, "status", "--porcelain") == "?? results/"


def test_figures_of_another_version_are_named(place: Place, run: Callable[..., str]):
    write(place.home / "results", {"metrics.json": '{"data_version": "0123.dir"}'})
    assert "results/ holds the figures of another version, 0123.dir, so a commit leaves them out" in run()
    write(place.home / "results", {"metrics.json": json.dumps({"data_version": place.version})})
    assert "another version" not in run()


def leave_figures(place: Place, run: str, stage: str = "evaluate", **changed: str) -> dict[str, Any]:
    """Makes a run one that has measured its model on the curated folder; or that ran a stage on what another had."""
    folder = place.home / "runs/default" / run
    measured = write_evaluation(folder / "evaluation", place.version, {"val": 8}, seed=1) | changed
    (folder / "evaluation/evaluation.json").write_text(json.dumps(measured))
    write_history(folder / "history.csv", seed=7)
    record = json.loads((folder / "run.json").read_text())
    record["artifacts"] |= {"evaluation": str(folder / "evaluation"), "history": str(folder / "history.csv")}
    task = {"stage": stage, "state": "succeeded", "seconds": 1.0, "parameters": {}, "artifacts": {}, "inputs": {}}
    record["stages"] = {stage: task}
    (folder / "run.json").write_text(json.dumps(record))
    return measured


def test_the_next_turn_has_the_options_of_the_run_that_made_the_folder(place: Place, run: Callable[..., str]):
    request = RunRequest("default", "sample", pipeline="improvement", data="old", test_data="t", schema="own.pbtxt")
    params = ("epochs=2", "val_to_train=0.5")  # what has moved is in the folder, and no more is to move
    keep_command(place.made.parents[1], Command(replace(request, params=params), LocalOptions("docker")))
    assert run("--yes").endswith(
        f"\nNext:\n    git add data.dvc && git commit\n    {place.submit} --local --runner docker --config sample "
        "--pipeline improvement --data data --schema own.pbtxt --param epochs=2\n"
    )


def test_the_next_turn_keeps_to_what_people_decided_before(place: Place, run: Callable[..., str]):
    folder = place.made.parents[1]
    keep_command(folder, Command(RunRequest("default", "sample", pipeline="improvement", data="old"), LocalOptions()))
    (folder / "decisions-earlier.csv").touch()
    assert run("--yes").endswith(
        f"\n    {place.submit} --local --config sample --pipeline improvement --data data "
        "--decisions runs/default/20260101-000000-improvement/decisions-earlier.csv\n"
    )


def test_no_decisions_of_another_folder_than_that_of_the_run_are_offered(place: Place, run: Callable[..., str]):
    for folder in (place.home, place.home / "runs", place.home / "runs/default"):
        (folder / "decisions-earlier.csv").touch()
    said = run("--yes")
    assert said.endswith(f"\n    {place.submit} --local --pipeline improvement --data data\n")


def leave_second_turn(place: Place, files: list[File]) -> Path:
    """A run that began with what the first one had curated."""
    name = "20260102-000000-improvement"
    leave_run(place.home, name, "succeeded", "data", started="2026-01-02T00:00:00+00:00")
    path = place.home / "runs/default" / name / "run.json"
    record = json.loads(path.read_text())
    examples = str(path.parent / "artifacts/examples")
    task = {"stage": "curate", "state": "succeeded", "seconds": 1.0, "parameters": {}, "artifacts": {}}
    record["stages"]["curate"] = {**task, "inputs": {"examples": examples}}
    record["arguments"]["data_uri"] = str(place.made)
    path.write_text(json.dumps(record))
    write_curated(path.parent / "artifacts/data", files)
    return path.parent / "artifacts/data"


SECOND = [
    File("train/i/0.png", "i0", "train/i/0.png", "i0"),
    File("train/i/0.augmented-0.png", "i0 bent otherwise", "train/i/0.png", "i0"),
    File("train/i/1-2.png", "a v, really", "train/v/1-2.png", "a v, really"),  # back again
    File("train/i/0-3.png", "v0 cleaned", "train/v/0.png", "v0 cleaned"),
    File("train/v/1.png", "v1", "val/v/1.png", "v1"),
    File("val/v/0.png", "val v", "val/v/0.png", "val v"),
    File("test/i/0.png", "test i", "test/i/0.png", "test i"),
]


def test_what_several_turns_have_made_is_adopted_at_once(place: Place, run: Callable[..., str]):
    """Each change counts from the present version, so what a turn has taken back is none."""
    made = leave_second_turn(place, SECOND)
    output = run()
    assert "\n1 relabelled, 1 edited, 2 removed, 1 added to test, 1 augmented\n" in output
    assert "another version" not in output
    run("--yes")
    assert {name: data for name, data in contents(place.home / "data").items() if data} == {
        name: data for name, data in contents(made).items() if data
    }


def test_what_two_turns_have_made_follows_the_first_where_that_was_adopted(place: Place, run: Callable[..., str]):
    run(*EVERYTHING)
    leave_second_turn(place, SECOND)
    output = run("--yes")
    assert "\n2 relabelled, 1 moved, 1 removed, 1 augmented\n" in output


def test_what_several_turns_have_made_of_another_version_is_adopted_only_by_force(
    place: Place, refused: Callable[..., str], run: Callable[..., str]
):
    made = leave_second_turn(place, SECOND)
    write(place.home / "data", {"train/v/1.png": "improved by hand since"})
    track(place.home)
    commit(place.home, "by-hand")
    version = pointer((place.home / "data.dvc").read_text())
    assert refused("--yes") == (
        f"data: {version} lacks images of which {made} was made, so that is the next version of another one; "
        "run the improvement on data, or insist with --force."
    )


def test_figures_that_its_run_measured_are_committed_with_it(place: Place, run: Callable[..., str]):
    """Whatever is in results/ then: a comparison or another training may have come between."""
    write(place.home / "results", {"metrics.json": '{"data_version": "0123.dir"}', "mine.txt": "kept"})
    measured = leave_figures(place, "20260101-000000-improvement")
    leave_run(place.home, "20260102-000000-training", "succeeded", started="2026-01-02T00:00:00+00:00")
    leave_figures(place, "20260102-000000-training", trained_on="0123.dir")  # another model
    leave_run(place.home, "20260103-000000-curate", "succeeded", started="2026-01-03T00:00:00+00:00")
    leave_figures(place, "20260103-000000-curate", stage="curate")
    output = run("--commit", "--tag", "v3")
    assert (
        "\n    copy the figures of 20260101-000000-improvement to results/\n    git add data.dvc results && " in output
    )
    assert "another version" not in output
    assert read_data_version(place.home / "results") == "0123.dir"
    output = run(*EVERYTHING)
    assert "\ndone: copy the figures of 20260101-000000-improvement to results/\n" in output
    assert output.endswith(
        "\nNext:\n    git push && git push origin v3\n    dvc metrics diff v3~1 v3\n    dvc plots diff v3~1 v3\n"
        f"    {place.submit} --local --pipeline improvement --data data\n"
    )
    committed = json.loads(git(place.home, "show", "v3:results/metrics.json"))
    assert committed["data_version"] == place.version
    assert committed["val"]["accuracy"] == measured["val"]["accuracy"]
    assert git(place.home, "show", "v3:results/plots/training.csv").endswith("2,0.625,1,0.375,7")
    assert git(place.home, "status", "--porcelain") == ""
    assert (place.home / "results/mine.txt").read_text() == "kept"


@pytest.mark.parametrize("changed", [{"data_version": "0123.dir"}, {"trained_on": "0123.dir"}])
def test_figures_of_another_version_or_model_are_never_committed(
    place: Place, run: Callable[..., str], changed: dict[str, str]
):
    leave_figures(place, "20260101-000000-improvement", **changed)
    run(*EVERYTHING)
    assert git(place.home, "show", "--format=", "--name-only", "v3^{commit}").split() == ["data.dvc"]
    assert not (place.home / "results").exists()


def test_a_damaged_evaluation_is_no_measurement(place: Place, run: Callable[..., str]):
    leave_figures(place, "20260101-000000-improvement")
    (place.home / "runs/default/20260101-000000-improvement/evaluation/evaluation.json").write_text("{")
    assert "copy the figures" not in run("--commit")


def test_first_version(place: Place, run: Callable[..., str]):
    output = run("--new", "--yes", "--commit", "--tag", "first", "--push", data="images")
    assert f"images: no version -> {place.version}\n" in output
    assert git(place.home, "show", "--format=", "--name-only", "first^{commit}").split() == [".gitignore", "images.dvc"]
    assert resolve_version(place.home / "images", "first").version == place.version
    assert contents(place.home / "images") == adopted(place)


@pytest.mark.parametrize("cache_type", ["hardlink", "symlink"])
def test_any_kind_of_dvc_link(place: Place, run: Callable[..., str], cache_type: str):
    dvc(place.home, "config", "cache.type", cache_type)
    dvc(place.home, "checkout", "--relink")
    git(place.home, "commit", "--quiet", "--all", "-m", "links")
    run(*EVERYTHING)
    assert resolve_version(place.home / "data").version == place.version
    assert {name: (place.home / "data" / name).read_text() for name in (file.name for file in CURATED)} == {
        file.name: file.text for file in CURATED
    }
    git(place.home, "checkout", "--quiet", "v2")
    dvc(place.home, "checkout")
    assert {name: (place.home / "data" / name).read_text() for name in DATA} == DATA


def test_folder_that_is_not_on_disk(place: Place, run: Callable[..., str]):
    shutil.rmtree(place.home / "data")
    assert f"\n{CHANGES}\n" in run(*EVERYTHING)
    assert resolve_version(place.home / "data", "v3").version == place.version


def test_old_images_may_be_in_the_remote_alone(place: Place, run: Callable[..., str]):
    shutil.rmtree(place.home / ".dvc/cache")
    run(*EVERYTHING)
    assert resolve_version(place.home / "data", "v3").version == place.version


def test_curated_of_another_version_is_said_to_be(place: Place, run: Callable[..., str]):
    write(place.home / "data", {"train/v/1.png": "improved by hand since"})
    track(place.home)
    commit(place.home, "by-hand")
    output = run()
    assert "1 relabelled, 1 edited, 2 removed, 1 added, 1 added to test, 2 augmented\n" in output
    assert "so the curated folder was made from another version." in output


def test_curated_of_another_version_is_adopted_only_by_force(
    place: Place, refused: Callable[..., str], run: Callable[..., str]
):
    write(place.home / "data", {"train/v/1.png": "improved by hand since"})
    track(place.home)
    commit(place.home, "by-hand")
    version = pointer((place.home / "data.dvc").read_text())
    assert refused("--yes") == (
        f"data: {version} lacks images of which {place.made} was made, so that is the next version of another one; "
        "run the improvement on data, or insist with --force."
    )
    run("--yes", "--force")
    assert pointer((place.home / "data.dvc").read_text()) == place.version
    run("--yes", "--commit")


def test_misspelled_folder_is_no_new_data_set(place: Place, refused: Callable[..., str]):
    assert refused("--yes", data="dat") == (
        "dat: neither on disk nor tracked by DVC. Did you mean data? Name a folder that it tracks, or insist on a new "
        "data set with --new."
    )


@pytest.mark.parametrize(
    "name", [".partial.data", ".partial.old.data", ".partial.old.other.0123456789abcdef0123456789abcdef", ".partial.x"]
)
def test_what_a_person_called_partial_stays(place: Place, run: Callable[..., str], name: str):
    write(place.home, {f"{name}/rules.txt": "three weeks of work"})
    run(*EVERYTHING)
    assert (place.home / name / "rules.txt").read_text() == "three weeks of work"


WRITTEN_MEANWHILE = """
import sys
from pathlib import Path

name = sys.argv.pop()

def watch(event, arguments):
    if event == "os.rename" and "/.partial.old.data" in str(arguments[1]):
        Path("data/train/i", name).write_text("written at the last moment")

sys.addaudithook(watch)
import adopt
adopt.main()
"""


@pytest.mark.parametrize("name", ["mine.png", "0.png"], ids=["added", "changed"])
def test_what_is_written_while_the_folder_is_replaced_is_kept(place: Place, run: Callable[..., str], name: str):
    command = [sys.executable, "-c", WRITTEN_MEANWHILE, "--data", "data", *EVERYTHING, name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, cwd=place.home, env=environment, capture_output=True, text=True)
    (kept,) = place.home.glob(".partial.old.data.*")
    sentence = (
        f"{kept}: was data until adopt.py replaced it, and was changed meanwhile; move what you need out of it, remove "
        "it, and run again."
    )
    assert (first.returncode, first.stderr) == (1, f"{sentence}\n")
    assert (kept / "train/i" / name).read_text() == "written at the last moment"
    with pytest.raises(SystemExit) as caught:
        run(*EVERYTHING)
    assert caught.value.code == sentence
    assert (kept / "train/i" / name).read_text() == "written at the last moment"
    shutil.rmtree(kept)
    run(*EVERYTHING)
    assert resolve_version(place.home / "data", "v3").version == place.version


def test_pipe_is_named(place: Place, refused: Callable[..., str]):
    os.mkfifo(place.home / "data/train/i/pipe.png")
    message = "neither a file nor a folder; DVC cannot read it, so move it out of the data."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.test_adopt.state", lambda _: {})  # which would read it
        assert refused("--yes") == f"{place.home}/data/train/i/pipe.png: {message}"


def test_latest_run_is_the_latest_success_that_curated(place: Place, run: Callable[..., str]):
    leave_run(place.home, "20260102-000000-improvement", "failed", "data")
    leave_run(place.home, "20260103-000000-training", "succeeded")
    assert f"give data the content of {place.made}\n" in run()
    assert f"give data the content of {place.made}\n" in run("--from-run", "20260101-000000-improvement")


def test_latest_run_is_the_one_that_was_started_last(place: Place, refused: Callable[..., str]):
    """When summer time ends, the local time in its name comes before that of the run before."""
    leave_run(place.home, "20261025-025500-improvement", "succeeded", "data", started="2026-10-25T00:55:00+00:00")
    leave_run(place.home, "20261025-020500-improvement", "succeeded", "data", started="2026-10-25T01:05:00+00:00")
    assert "20261025-020500-improvement" in refused()


def test_as_a_user_runs_it(place: Place):
    command = [sys.executable, str(ROOT / "adopt.py"), "--data", "data"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=place.home)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.endswith(
        f"\nNothing is changed yet. To do it:\n    {place.submit.replace('submit.py', 'adopt.py')} --data data --yes\n"
        "and to commit the version without figures, since no run has measured it: add --commit --tag NAME\n"
    )
    refused = subprocess.run([*command, "--from-run", "lost", "--yes"], capture_output=True, text=True, cwd=place.home)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == ("lost: no such run in runs/default; give the name or the folder of an earlier run.\n")


def test_an_experiment_that_has_no_folder_among_the_runs_is_refused(place: Place, refused: Callable[..., str]):
    assert refused("--experiment", "../default") == (
        "--experiment '../default': its runs go into a folder of this name, and no folder can have it; give a name "
        "without slashes and of at most 255 bytes, such as numerals."
    )


# --- refused -----------------------------------------------------------------------------------


def edit(home: Path) -> None:
    (home / "data/train/i/0.png").write_text("a better i")


def edit_and_track(home: Path) -> None:
    edit(home)
    track(home)


def stage_other(home: Path) -> None:
    (home / "other.txt").write_text("mine")
    git(home, "add", "other.txt")


def lose_cache_and_remote(home: Path) -> None:
    shutil.rmtree(home / ".dvc/cache")
    shutil.rmtree(home.parent / "store")


def make_by_a_stage(home: Path) -> None:
    stage = {"stages": {"clean": {"cmd": "cp -r data clean", "deps": ["data"], "outs": ["clean"]}}}
    (home / "dvc.yaml").write_text(json.dumps(stage))


@pytest.mark.parametrize(
    ("change", "options", "data", "named"),
    [
        pytest.param(edit, [], "data", "data: differs from data.dvc; run `dvc add data`", id="edited"),
        pytest.param(edit_and_track, [], "data", "data: its version is not committed", id="not committed"),
        pytest.param(
            lambda home: (home / "data/train/i/mine.png").write_text("new"), [], "data", "differs", id="image added"
        ),
        pytest.param(lose_cache_and_remote, [], "data", "could not be restored", id="not restorable"),
        pytest.param(
            lambda home: write(home / "images", DATA), [], "images", "run `dvc add images` in HOME", id="untracked"
        ),
        pytest.param(lambda home: None, [], "data/train", "only a part of data", id="part"),
        pytest.param(lambda home: None, [], ".", "one contains the other", id="repository"),
        pytest.param(lambda home: None, [], "data.dvc", "data.dvc: a file", id="file"),
        pytest.param(lambda home: None, [], "../outside", "not in a DVC repository", id="no repository"),
        pytest.param(make_by_a_stage, [], "clean", "has no version yet", id="stage"),
        pytest.param(stage_other, ["--commit"], "data", "other changes are staged (other.txt)", id="staged"),
        pytest.param(lambda home: None, ["--commit", "--tag", "v2"], "data", "the tag 'v2' exists", id="tag exists"),
        pytest.param(lambda home: None, ["--commit", "--tag", "v 3"], "data", "'v 3': not a name", id="bad tag"),
        pytest.param(lambda home: None, ["--commit", "--tag=-d"], "data", "'-d': not a name", id="tag like an option"),
        pytest.param(lambda home: None, ["--push", "stroe"], "data", "'stroe'", id="unknown remote"),
        pytest.param(
            lambda home: (home / ".dvcignore").write_text("*.csv\n"), [], "data", "data/manifest.csv", id="ignored"
        ),
        pytest.param(
            lambda home: leave_run(home, "20260101-000000-improvement", "succeeded"),
            [],
            "data",
            "runs/default: no run made a curated folder yet",
            id="no curated folder",
        ),
        pytest.param(
            lambda home: leave_run(home, "x", "succeeded"),
            ["--from-run", "x"],
            "data",
            "x: this run made no curated folder",
            id="not of that run",
        ),
        pytest.param(lambda home: None, ["--curated", "nowhere"], "data", "nowhere: no such folder", id="nowhere"),
        pytest.param(lambda home: None, ["--curated", "data"], "data", "data/manifest.csv", id="not curated"),
    ],
)
def test_refuses(
    place: Place, refused: Callable[..., str], change: Callable[[Path], Any], options: list[str], data: str, named: str
):
    change(place.home)
    assert named.replace("HOME", str(place.home)) in refused("--yes", *options, data=data)


def test_advice_for_what_cannot_be_restored_helps(place: Place, refused: Callable[..., str], run: Callable[..., str]):
    lose_cache_and_remote(place.home)
    assert "run `dvc add data`" in refused("--yes")
    dvc(place.home, "add", "data")
    run("--yes", "--commit")
    git(place.home, "checkout", "--quiet", "v2")
    dvc(place.home, "checkout")
    assert {name: (place.home / "data" / name).read_text() for name in DATA} == DATA


def test_refuses_where_git_knows_nobody(
    place: Place, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{name}_NAME")
        monkeypatch.delenv(f"GIT_{name}_EMAIL")
    git(place.home, "config", "user.useConfigOnly", "true")
    assert "git does not know who commits" in refused("--yes", "--commit")


def test_refuses_where_there_is_no_git(tmp_path: Path, place: Place, run: Callable[..., str]):
    from dvc.repo import Repo

    (tmp_path / "plain").mkdir()
    Repo.init(str(tmp_path / "plain"), no_scm=True).close()
    with pytest.raises(SystemExit, match="run `git init`"):
        run("--yes", data=tmp_path / "plain/data")
    assert not (tmp_path / "plain/data").exists()


def test_a_commit_that_a_hook_refuses_can_follow(place: Place, run: Callable[..., str]):
    hook = place.home / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho not today >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SystemExit, match=r"git commit failed in .+ \(not today\)"):
        run(*EVERYTHING)
    hook.unlink()
    run(*EVERYTHING)
    assert resolve_version(place.home / "data", "v3").version == place.version


def test_refuses_while_another_dvc_works_there(place: Place, refused: Callable[..., str]):
    from dvc.repo import Repo, lock_repo

    with Repo(str(place.home)) as other, lock_repo(other):
        assert "Unable to acquire lock" in refused("--yes")


@pytest.mark.parametrize("options", [["--tag", "v3"], ["-m", "x"], ["--curated", "x", "--from-run", "y"]])
def test_contradictions_are_usage_errors(place: Place, run: Callable[..., str], options: list[str]):
    with pytest.raises(SystemExit) as caught:
        run(*options)
    assert caught.value.code == 2


# --- a curated folder that is not as curate made it --------------------------------------------


def rewrite(old: str, new: str) -> Callable[[Path], None]:
    def change(made: Path) -> None:
        text = (made / "manifest.csv").read_text()
        assert old in text
        (made / "manifest.csv").write_text(text.replace(old, new))

    return change


def link_out(made: Path) -> None:
    (made / "train/i/0.png").unlink()
    (made / "train/i/0.png").symlink_to(made / "train/v/0.png")


def add_to_manifest(*names: str) -> Callable[[Path], None]:
    return lambda made: write_curated(made, [*CURATED, *(File(name, "x", "train/i/0.png", "i0") for name in names)])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda made: shutil.rmtree(made), "no such folder", id="gone"),
        pytest.param(lambda made: (made / "manifest.csv").unlink(), "manifest.csv: cannot be read", id="no manifest"),
        pytest.param(lambda made: (made / "train/i/0.png").write_text("0i"), "train/i/0.png: differs", id="changed"),
        pytest.param(lambda made: (made / "train/i/0.png").unlink(), "train/i/0.png: cannot be read", id="removed"),
        pytest.param(lambda made: (made / "train/i/9.png").write_text("9"), "i/9.png: curate did not", id="added"),
        pytest.param(link_out, "train/i/0.png: curate did not make it", id="link"),
        pytest.param(
            rewrite("filename,sha256", "file,sha256"), "manifest.csv: no column filename; name a folder", id="column"
        ),
        pytest.param(lambda made: write_curated(made, []), "lists no images", id="empty"),
        pytest.param(
            lambda made: (made / "manifest.csv").write_bytes(b"\xff"), "csv, line 1: not UTF-8;", id="no text"
        ),
        pytest.param(
            rewrite("train/i/1.png", "../1.png"), "is not a path like split/class/file", id="source elsewhere"
        ),
        pytest.param(add_to_manifest("train/i/1.png", "train/i/1.png"), "appears twice", id="twice"),
        pytest.param(
            add_to_manifest("manifest.csv.png"), "is not a path like split/class/file", id="beside the splits"
        ),
        pytest.param(
            lambda made: (made / "manifest.csv").write_text((made / "manifest.csv").read_text() + "train/i/8.png\n"),
            "line 11: 1 cells below a header of 8; name a folder",
            id="short row",
        ),
    ],
)
def test_refuses_a_curated_folder(place: Place, refused: Callable[..., str], change: Callable[[Path], Any], named: str):
    change(place.made)
    assert named in refused("--yes")


@pytest.mark.parametrize(
    "name",
    ["../../../../escaped.png", "train/../../x.png", "/tmp/x/y.png", "train//x.png", "train/i/.x.png", "a/i/x.png"],
)
def test_a_hostile_manifest_leads_nowhere(place: Place, refused: Callable[..., str], name: str):
    text = (place.made / "manifest.csv").read_text()
    (place.made / "manifest.csv").write_text(
        text + f'"{name}",{sha256("x")},train/i/0.png,{sha256("i0")},train/i/0.png,i,[],1\n'
    )
    assert "is not a path like split/class/file" in refused("--yes")


def test_what_a_file_browser_leaves_there_is_not_taken(place: Place, run: Callable[..., str]):
    (place.made / "train/.DS_Store").write_text("x")
    run("--yes")
    assert ".DS_Store" not in {path.name for path in (place.home / "data").rglob("*")}
    assert pointer((place.home / "data.dvc").read_text()) == place.version


# --- in Cloud Storage --------------------------------------------------------------------------


def test_from_a_bucket_to_a_bucket(place: Place, run: Callable[..., str], gcs: Gcs):
    settings = f"url = {gcs.uri}/dvc\nendpointurl = {gcs.url}\nallow_anonymous_login = true\n"
    (place.home / ".dvc/config.local").write_text(f"['remote \"cloud\"']\n{settings}")
    uri = gcs.upload(place.made, "runs/curate/1/data")
    output = run("--curated", uri, "--yes", "--commit", "--tag", "v3", "--push", "cloud")
    assert f"{CHANGES}\n" in output
    assert contents(place.home / "data") == adopted(place)
    version = resolve_version(place.home / "data", "v3", "cloud")
    assert version.version == place.version
    assert version.uri.startswith(f"{gcs.uri}/dvc/")


def test_the_next_turn_after_a_run_on_a_cluster_is_there(place: Place, run: Callable[..., str], gcs: Gcs):
    """The cluster reads what was pushed; of a run that was not started from here the options are not known."""
    uri = gcs.upload(place.made, "runs/improvement/run-1/curate/1/data")
    request = RunRequest("images", "lab", pipeline="improvement", data="data", params=("epochs=2",))
    keep_command(Path("runs/images/run-1"), Command(request, ClusterOptions({"host": "http://h"}, wait=True)))
    output = run("--curated", uri, "--experiment", "images", "--yes")
    assert output.endswith(
        f"    dvc push data\n    {place.submit} --config lab --experiment images --pipeline improvement --data data "
        "--param epochs=2 --host http://h --wait\n"
    )
    output = run("--curated", uri, "--yes", "--push")
    assert output.endswith(f"git commit\n    {place.submit} --pipeline improvement --data data\n")


def test_after_a_run_on_a_cluster_its_decisions_are_those_in_its_folder_here(
    place: Place, run: Callable[..., str], gcs: Gcs
):
    uri = gcs.upload(place.made, "runs/improvement/run-1/curate/1/data")
    for name in ("run-1", "run-2"):
        folder = Path("runs/images", name)
        folder.mkdir(parents=True)
        (folder / "decisions-earlier.csv").touch()
    output = run("--curated", uri, "--experiment", "images", "--yes", "--push")
    assert output.endswith(
        f"    {place.submit} --experiment images --pipeline improvement --data data --decisions "
        "runs/images/run-1/decisions-earlier.csv\n"
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(
            lambda gcs: gcs.bucket.blob("d/manifest.csv").delete(), "d/manifest.csv: not found", id="no manifest"
        ),
        pytest.param(lambda gcs: gcs.bucket.blob("d/val/v/0.png").delete(), "d/val/v/0.png: not found", id="missing"),
        pytest.param(
            lambda gcs: gcs.bucket.blob("d/val/v/0.png").upload_from_string("other"), "differs", id="replaced"
        ),
        pytest.param(
            lambda gcs: gcs.bucket.blob("d/manifest.csv").upload_from_string(
                f"{','.join(CuratedImage._fields)}\n../../x.png,{sha256('x')},train/i/0.png,0,train/i/0.png,i,[],1\n"
            ),
            "is not a path like split/class/file",
            id="hostile",
        ),
    ],
)
def test_refuses_a_folder_in_a_bucket(
    place: Place, refused: Callable[..., str], gcs: Gcs, change: Callable[[Gcs], Any], named: str
):
    uri = gcs.upload(place.made, "d")
    change(gcs)
    message = refused("--yes", "--curated", uri)
    assert named in message
    assert uri in message


# --- killed ------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
is_moment, number = eval("lambda event, what: " + sys.argv.pop(1)), int(sys.argv.pop(1))
sent = signal.Signals[sys.argv.pop(1)]

def watch(event, arguments):
    global number
    if is_moment(event, str(arguments)):
        number -= 1
        if number == 0:
            os.kill(os.getpid(), sent)

sys.addaudithook(watch)
import adopt
adopt.main()
"""


@pytest.mark.parametrize(
    ("moment", "number", "is_on_disk"),
    [
        pytest.param("event == 'open' and '/.partial.' in what and '.data/' in what", 3, "old", id="copying"),
        pytest.param("event == 'os.rename' and '/home/.partial.old.data' in what", 1, "old", id="before the exchange"),
        pytest.param("event == 'os.rename' and \"/home/data', -1\" in what", 1, "", id="in the exchange"),
        pytest.param("event == 'os.rename' and '/home/.partial.old.data' in what", 2, "new", id="after the exchange"),
        pytest.param("event == 'os.remove' and '0.png' in what", 1, "new", id="removing the old ones"),
        pytest.param("event == 'open' and '/home/data.dvc' in what and \"'w\" in what", 1, "new", id="dvc add"),
        pytest.param("event == 'subprocess.Popen' and \"'commit'\" in what", 1, "new", id="commit"),
        pytest.param("event == 'subprocess.Popen' and \"'tag'\" in what", 1, "new", id="tag"),
        pytest.param("event == 'os.rename' and '/store/' in what", 2, "new", id="push"),
    ],
)
def test_killed_it_leaves_the_old_or_the_new_and_completes(
    place: Place, run: Callable[..., str], moment: str, number: int, is_on_disk: str
):
    folders = {"old": contents(place.home / "data"), "new": adopted(place)}
    options = ["--data", "data", *EVERYTHING]
    command = [sys.executable, "-c", KILLED, moment, str(number), "SIGKILL", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, cwd=place.home, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert contents(place.home / "data") == folders.get(is_on_disk, {})

    run(*EVERYTHING)
    assert resolve_version(place.home / "data", "v3").version == place.version
    assert contents(place.home / "data") == folders["new"]
    assert git(place.home, "status", "--porcelain") == ""
    assert git(place.home, "log", "--format=%s").split("\n") == [f"Data version {place.version[:8]}: {CHANGES}", "v2"]
    assert not list(place.home.glob(".partial*"))


def test_a_signal_ends_it_after_the_old_images_are_gone(place: Place):
    moment = "event == 'os.remove' and '0.png' in what"
    command = [sys.executable, "-c", KILLED, moment, "1", "SIGTERM", "--data", "data", "--yes"]
    ended = subprocess.run(command, cwd=place.home, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, b"")
    assert contents(place.home / "data") == adopted(place)
    assert not list(place.home.glob(".partial*"))
