"""What DVC ignores, asked of DVC for a run, leaves the files and the version that DVC itself gives a folder."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest.opening import open_source
from components.ingest.pairs import merge_pairs, write_pairs
from components.ingest.sources import Part, Source
from components.shared.formats.dvc_manifest import compute_version
from pipelines.data.ignored import list_ignored

NAMES = st.sampled_from(["a.png", "b.png", "b.txt", ".DS_Store", "._a.png", "b c.png", "[a].png", "#a.png", "Ä.png"])
FOLDERS = st.sampled_from(
    ["", "train", "train/i", "train/v", "val/i", "train/.cache", "train/i/raw", "train/i/raw/deep", ".git", "val/.hg"]
)
PARTS = st.sampled_from(
    ["a.png", "*.png", "*.txt", "._*", ".*", "raw", "data", "train", "i", "**", "*", "[ab].png", "?.png", "b c.png"]
    + ["\\#a.png", "\\[a].png", "Ä.png", "v", "deep"]
)
PATTERNS = st.one_of(
    st.builds(
        lambda sign, start, parts, end: f"{sign}{start}{'/'.join(parts)}{end}",
        st.sampled_from(["", "", "!"]),
        st.sampled_from(["", "", "/", "**/"]),
        st.lists(PARTS, min_size=1, max_size=3),
        st.sampled_from(["", "", "/", "/**"]),
    ),
    st.sampled_from(["# a comment", "", "   ", "*.txt   "]),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository inside of a folder of git."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("ignored")
    subprocess.run(["git", "init", "-q", root], check=True)
    Repo.init(str(root)).close()
    return root


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.sets(st.tuples(FOLDERS, NAMES), min_size=1, max_size=20),
    patterns=st.lists(PATTERNS, max_size=6),
    is_nested=st.booleans(),
)
def test_run_takes_the_files_that_dvc_takes(
    root: Path, files: set[tuple[str, str]], patterns: list[str], is_nested: bool
) -> None:
    data = root / "images/data"
    shutil.rmtree(data.parent, ignore_errors=True)
    for split in ("train/i", "val/i"):
        (data / split).mkdir(parents=True)
    for folder, name in files:
        (data / folder).mkdir(parents=True, exist_ok=True)
        (data / folder / name).write_text(f"{folder}/{name}")
    (root / ".dvcignore").write_text("*.txt\n" if is_nested else "\n".join(patterns))
    if is_nested:
        (data.parent / ".dvcignore").write_text("\n".join(patterns))
    assert list_files(data) == list_files_of_dvc(root, data)


def list_files(data: Path) -> tuple[str, list[str]]:
    """The version and the files that ingest finds."""
    source = open_source(str(data), ignored=frozenset(list_ignored(data)))
    parts = [Part(())]
    for split in list_visible_folders(source):
        parts.append(Part((split,)))
        parts += [Part((split, name), split, name) for name in list_visible_folders(source, split)]
    with source.open_reader() as reader:
        md5s = [(file.name, reader.hash(file)) for file in source.list_files(parts)]
    write_pairs(md5s, data.parent.parent / "md5s")
    return compute_version(merge_pairs([data.parent.parent / "md5s"])), sorted(name for name, md5 in md5s if md5)


def list_visible_folders(source: Source, *folders: str) -> list[str]:
    """Those that are splits or classes; what is hidden is found with the files of the folder around it."""
    children = source.list_children(*folders) or []
    return [child.name for child in children if child.is_folder and not child.name.startswith(".")]


def list_files_of_dvc(root: Path, data: Path) -> tuple[str, list[str]]:
    """As `dvc add` would."""
    from dvc.fs import localfs
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build

    with Repo(str(root)) as repo:
        _, _, tree = build(repo.cache.local, str(data), localfs, "md5", ignore=repo.dvcignore, dry_run=True)
    names = sorted("/".join(key) for key, _, _ in tree)
    for key, _, hash_info in tree:
        assert hashlib.md5(data.joinpath(*key).read_bytes()).hexdigest() == hash_info.value
    return tree.hash_info.value, names
