import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from kfp.dsl import Dataset, Markdown
from PIL import Image

from components.ingest.component import ingest as ingest_step
from components.ingest.image import read_image
from components.ingest.ingestion import ingest_data
from components.ingest.shards import count_shards
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS, ExamplesManifest, ImageExample, open_examples, parse_example
from components.shared.formats.manifest import write_manifest
from tests.conftest import BEAM, CLASSES, IMAGES, ROOT, Folders, contents, ends_soon, run_killed
from tests.rows import make_augmented

MAX_PIXELS = 1_000_000


def make_arguments(folders: Folders, output: Path, **changed: Any) -> dict[str, Any]:
    arguments = {
        "data_uri": str(folders.data),
        "test_data_uri": str(folders.test),
        "data_version": "",
        "test_data_version": "",
        "ignored": [],
        "classes": [],
        "on_bad_image": "fail",
        "max_images": 10_000,
        "max_pixels": MAX_PIXELS,
        "shards": 2,
        "beam_options": BEAM,
    }
    assert changed.keys() <= arguments.keys()
    return {**arguments, **changed, "output": str(output)}


def ingest(folders: Folders, output: Path, **changed: Any) -> ExamplesManifest:
    return ingest_data(**make_arguments(folders, output, **changed))


def image_files(folders: Folders) -> dict[str, Path]:
    """Every image that is not hidden, by the name that the examples carry."""
    found = {}
    for root, prefix in ((folders.data, ""), (folders.test, "test/")):
        for path in root.rglob("*.*"):
            if path.is_file() and not path.name.startswith("."):
                found[prefix + path.relative_to(root).as_posix()] = path
    return found


def stored(output: Path, split: str) -> list[ImageExample]:
    return list(open_examples(output).read(split))


def read_manifest(output: Path) -> ExamplesManifest:
    return open_examples(output).manifest


def read_shard(path: Path) -> list[ImageExample]:
    import tensorflow as tf

    return [parse_example(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]


# --- what is written ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plain") / "examples"
    ingest(tiny, output)
    return output


def test_manifest_counts_what_the_folders_hold(tiny: Folders, plain: Path) -> None:
    manifest = read_manifest(plain)
    assert manifest.classes == CLASSES
    assert manifest.quarantined == []
    assert list(manifest.splits) == ["train", "val", "test"]
    for split, content in manifest.splits.items():
        folder = tiny.test if split == "test" else tiny.data / split
        assert content.classes == {name: len(list((folder / name).iterdir())) for name in CLASSES}
        assert content.images == sum(content.classes.values()) == len(CLASSES) * IMAGES[split]
        assert [shard.images for shard in content.shards] == [
            len(read_shard(plain / shard.name)) for shard in content.shards
        ]


def test_every_image_is_there_once_with_its_label_and_hash(tiny: Folders, plain: Path) -> None:
    expected, actual = {}, Counter()
    for filename, path in image_files(tiny).items():
        data = path.read_bytes()
        name = path.parent.name
        expected[filename] = (name, CLASSES.index(name), hashlib.sha256(data).hexdigest(), data)
    for split in SPLITS:
        for example in stored(plain, split):
            filename = example.filename
            actual[filename] += 1
            assert filename.startswith(f"{split}/")
            name, label, sha256, data = expected[filename]
            assert example.class_name == name
            assert example.label == label
            assert example.sha256 == sha256
            assert example.encoded == data
    assert actual == Counter(expected.keys())


def test_examples_hold_the_features_of_their_image(tiny: Folders, plain: Path) -> None:
    files = image_files(tiny)
    for example in stored(plain, "val"):
        data = files[example.filename].read_bytes()
        expected = read_image(example.filename, data, label=example.label, max_pixels=MAX_PIXELS)._asdict()
        for name, value in example._asdict().items():
            wanted = expected[name]
            assert value == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), name


def test_classes_are_mixed_within_each_shard(tiny: Folders, plain: Path) -> None:
    names = [example.class_name for example in stored(plain, "train")]
    changes = sum(before != after for before, after in zip(names, names[1:], strict=False))
    assert changes > 2 * (len(CLASSES) - 1), "sorted by class there are as many changes as classes, less one"
    for shard in read_manifest(plain).splits["train"].shards:
        found = {example.class_name for example in read_shard(plain / shard.name)}
        assert found == set(CLASSES)


def test_whole_pngs_need_no_tensorflow(tiny: Folders, plain: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from components.ingest.ingestion import ingest_data\n"
        f"ingest_data(**{make_arguments(tiny, tmp_path / 'examples')!r}); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert contents(tmp_path / "examples") == contents(plain)


RUNNERS = {
    "the same again": BEAM,
    "threads": [*BEAM, "--direct_num_workers=3", "--direct_running_mode=multi_threading"],
    "the runner of small data": ["--runner=BundleBasedDirectRunner"],
}


@pytest.mark.parametrize("options", RUNNERS.values(), ids=RUNNERS)
def test_bytes_do_not_depend_on_the_runner(options: list[str], tiny: Folders, plain: Path, tmp_path: Path) -> None:
    ingest(tiny, tmp_path / "again", beam_options=options)
    assert contents(tmp_path / "again") == contents(plain)


def test_workers_elsewhere_write_the_same(elsewhere: list[str], tiny: Folders, plain: Path, tmp_path: Path) -> None:
    ingest(tiny, tmp_path / "outputs" / "again", beam_options=elsewhere)
    assert contents(tmp_path / "outputs" / "again") == contents(plain)
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_temporary_location_may_be_given_without_workers_elsewhere(tiny: Folders, plain: Path, tmp_path: Path) -> None:
    ingest(tiny, tmp_path / "again", beam_options=[*BEAM, f"--temp_location={tmp_path / 'shared'}"])
    assert contents(tmp_path / "again") == contents(plain)
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


@pytest.mark.parametrize("shards", [1, 3, 1000])
def test_number_of_shards(shards: int, tiny: Folders, tmp_path: Path) -> None:
    manifest = ingest(tiny, tmp_path / "examples", shards=shards)
    for split, content in manifest.splits.items():
        names, sizes = zip(*((shard.name, shard.images) for shard in content.shards), strict=True)
        count = len(names)
        assert list(names) == [f"{split}-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]
        assert 0 not in sizes
        assert sum(sizes) == content.images
        assert min(shards, content.images) / 2 < count <= shards, "the images are spread"
    assert {path.name for path in (tmp_path / "examples").iterdir()} == {
        "examples.json",
        *(shard.name for content in manifest.splits.values() for shard in content.shards),
    }


def test_four_shards_unless_one_would_be_too_large(
    tiny: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = ingest(tiny, tmp_path / "four", shards=4)
    assert ingest(tiny, tmp_path / "small", shards=0) == four
    assert contents(tmp_path / "small") == contents(tmp_path / "four")
    sizes = [(tmp_path / "four" / shard.name).stat().st_size for shard in four.shards]
    most = max(sizes) // 3
    monkeypatch.setattr("components.ingest.shards.MOST_BYTES", most)
    large = ingest(tiny, tmp_path / "large", shards=0)
    threads = ["--runner=FnApiRunner", "--direct_running_mode=multi_threading", "--direct_num_workers=4"]
    ingest(tiny, tmp_path / "again", shards=0, beam_options=threads)
    assert contents(tmp_path / "again") == contents(tmp_path / "large")
    assert large.data_version == four.data_version
    assert len(large.splits["train"].shards) > 2 * len(four.splits["train"].shards) == 8
    framing = 16  # bytes that a TFRecord file has around each record
    for shard in large.shards:
        size = (tmp_path / "large" / shard.name).stat().st_size - framing * shard.images
        assert size <= most or shard.images == 1
    for split in SPLITS:
        names, more = ([e.filename for e in stored(tmp_path / name, split)] for name in ("four", "large"))
        assert names == more


@pytest.mark.parametrize(
    ("given", "images", "expected"), [(0, 10, 4), (0, 400_000, 4), (0, 400_001, 5), (0, 10**6, 10), (7, 10**6, 7)]
)
def test_very_many_images_are_written_by_more_workers(given: int, images: int, expected: int) -> None:
    assert count_shards(given, images) == expected


def test_order_of_the_images_does_not_depend_on_the_shards(tiny: Folders, plain: Path, tmp_path: Path) -> None:
    ingest(tiny, tmp_path / "examples", shards=7)
    for split in SPLITS:
        names, more = ([e.filename for e in stored(folder, split)] for folder in (plain, tmp_path / "examples"))
        assert names == more
        assert names != sorted(names)


@pytest.mark.parametrize("classes", [100, 101])
def test_metadata_has_figures_of_at_most_100_classes(classes: int, tmp_path: Path) -> None:
    picture = whole_picture()
    for number in range(classes):
        for split in ("train", "val"):
            write(tmp_path / f"data/{split}/class-{number}/0.png", picture)
    examples = Dataset(uri=str(tmp_path / "examples"))
    division = (0.2, 0.0, 0, "auto")
    limits = ("fail", 10_000, MAX_PIXELS)
    summary = Markdown(uri=str(tmp_path / "summary"))
    ingest_step(str(tmp_path / "data"), "", "1.dir", "", [], [], *division, *limits, 1, BEAM, examples, summary)
    counts = {f"class-{number}": 1 for number in range(classes)}
    assert read_manifest(tmp_path / "examples").splits["train"].classes == counts
    figures = {"data_version": "1.dir", "quarantined": 0, "train_images": classes, "val_images": classes}
    assert examples.metadata == (
        {**figures, "train_classes": counts, "val_classes": counts} if classes <= 100 else figures
    )


def whole_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def test_given_classes_set_the_order_of_the_labels(tiny: Folders, tmp_path: Path) -> None:
    order = CLASSES[::-1]
    assert ingest(tiny, tmp_path / "examples", classes=order).classes == order
    labels = {(example.class_name, example.label) for example in stored(tmp_path / "examples", "test")}
    assert labels == {(name, label) for label, name in enumerate(order)}


def test_hidden_files_are_not_images(own: Folders, plain: Path, tmp_path: Path) -> None:
    for folder in (own.data, own.data / "train", own.data / "train" / CLASSES[0], own.test, own.test / CLASSES[0]):
        (folder / ".DS_Store").write_bytes(b"\0\1")
    (own.data / ".cache").mkdir()
    manifest = ingest(own, tmp_path / "examples")
    assert manifest.splits == read_manifest(plain).splits


def test_split_without_test_data(tiny: Folders, plain: Path, tmp_path: Path) -> None:
    splits = ingest(tiny, tmp_path / "examples", test_data_uri="").splits
    expected = read_manifest(plain).splits
    assert splits == {split: expected[split] for split in ("train", "val")}


def test_test_split_may_lie_inside_the_data(own: Folders, plain: Path, tmp_path: Path) -> None:
    shutil.move(own.test, own.data / "test")
    splits = ingest(own, tmp_path / "examples", test_data_uri="").splits
    assert splits == read_manifest(plain).splits


def test_link_inside_the_data_set_is_an_image(own: Folders, tmp_path: Path) -> None:
    original = own.data / "train" / CLASSES[1] / "00.png"
    link = own.data / "val" / CLASSES[0] / "link.png"
    link.symlink_to(os.path.relpath(original, link.parent))
    ingest(own, tmp_path / "examples")
    found = {example.filename: example for example in stored(tmp_path / "examples", "val")}
    example = found[f"val/{CLASSES[0]}/link.png"]
    assert example.encoded == original.read_bytes()
    assert example.class_name == CLASSES[0]


# --- the data version --------------------------------------------------------------------------


def test_data_version_is_the_one_of_dvc(own: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    folder = own.data / "train" / CLASSES[0]
    (folder / ".DS_Store").write_bytes(b"hidden")
    (own.data / "notes.txt").write_text("beside the splits")
    (folder / "00.png").rename(folder / "Zwölf & one.png")
    (folder / "link.png").symlink_to("01.png")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    Repo.init(str(tmp_path)).add(str(own.data))
    expected = yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"]
    assert ingest(own, tmp_path / "examples").data_version == expected
    (own.data / "notes.txt").write_text("changed")
    assert ingest(own, tmp_path / "examples").data_version != expected


@pytest.fixture
def tracked(own: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A DVC repository around the images, whose cache has them; they are tracked."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    repo = Repo.init(str(tmp_path))
    repo.add(str(own.data))
    return repo


def read_pointer(root: Path) -> str:
    return str(yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"])


@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink", "reflink,symlink"])
@pytest.mark.parametrize("layout", ["DVC 3", "DVC 2"])
def test_what_dvc_checked_out_is_read_whatever_its_links(
    kind: str, layout: str, own: Folders, plain: Path, tracked: Repo, tmp_path: Path
) -> None:
    if layout == "DVC 2":
        shutil.move(tmp_path / ".dvc/cache/files/md5", tmp_path / ".dvc/moved")
        shutil.rmtree(tmp_path / ".dvc/cache")
        shutil.move(tmp_path / ".dvc/moved", tmp_path / ".dvc/cache")
        text = (tmp_path / "data.dvc").read_text()
        (tmp_path / "data.dvc").write_text(text.replace("  hash: md5\n", ""))
    with tracked.config.edit("local") as config:
        config["cache"]["type"] = kind
    Repo(str(tmp_path)).checkout(relink=True, force=True)
    assert any(path.is_symlink() for path in own.data.rglob("*.png")) == ("symlink" in kind)
    assert ingest(own, tmp_path / "examples").data_version == read_pointer(tmp_path)
    assert shards(tmp_path / "examples") == shards(plain)


def test_picture_that_was_edited_through_its_link_is_named(own: Folders, tracked: Repo, tmp_path: Path) -> None:
    with tracked.config.edit("local") as config:
        config["cache"]["type"] = "symlink"
    Repo(str(tmp_path)).checkout(relink=True, force=True)
    path = own.data / "train/i/00.png"
    path.chmod(0o644)
    md5 = "".join(path.resolve().parts[-2:])
    path.write_bytes((own.data / "train/i/01.png").read_bytes())
    with pytest.raises(UserError) as caught:
        ingest(own, tmp_path / "examples")
    assert str(caught.value) == (
        f"{path}: differs from its md5, {md5}; upload or push it again, or run `dvc checkout` if it is a link to "
        "DVC's cache."
    )


def test_repositories_are_no_part_of_the_data(own: Folders, plain: Path, tracked: Repo, tmp_path: Path) -> None:
    for folder in (own.data, own.data / "train", own.data / "train/i"):
        for name in (".git", ".hg"):
            (folder / name / "objects").mkdir(parents=True)
            (folder / name / "objects/0.png").write_text("history")
    (own.data / "val/.git").write_text("gitdir: ../../.git/modules/data\n")
    assert not tracked.status()
    assert ingest(own, tmp_path / "examples").data_version == read_pointer(tmp_path)
    assert shards(tmp_path / "examples") == shards(plain)


def test_what_is_ignored_is_no_part_of_the_data(own: Folders, plain: Path, tmp_path: Path) -> None:
    expected = version_of(own.data)
    ignored = ["notes.txt", ".cache", "train/raw", "train/i/rules.txt", "val/i/.tmp", "test/i/a.png"]
    (own.data / "notes.txt").touch()
    (own.data / "train/i/rules.txt").write_text("no picture")
    for folder in (own.data / ".cache", own.data / "train/raw", own.data / "val/i/.tmp"):
        folder.mkdir()
        (folder / "a.png").touch()
    (own.test / "i/a.png").touch()
    assert ingest(own, tmp_path / "examples", ignored=ignored).data_version == expected
    assert shards(tmp_path / "examples") == shards(plain)
    for left in ignored:
        with pytest.raises(UserError, match=re.escape(left.partition("/")[2])) if left in NAMED else nullcontext():
            others = [name for name in ignored if name != left]
            assert ingest(own, tmp_path / "again", ignored=others).data_version != expected


# What would be taken for an image or a class if it were not ignored.
NAMED = ("train/raw", "train/i/rules.txt", "test/i/a.png")


def shards(examples: Path) -> dict[str, bytes | None]:
    return {name: data for name, data in contents(examples).items() if name != "examples.json"}


def version_of(folder: Path) -> str:
    """In the form of DVC, which the test above checks."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}
        for path in paths
    ]
    manifest = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]))
    return f"{hashlib.md5(manifest.encode()).hexdigest()}.dir"


def test_given_data_version_is_passed_on(tiny: Folders, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(tiny, tmp_path / "examples", data_version="0123.dir")
    assert manifest == replace(read_manifest(plain), data_version="0123.dir")


# --- bad input: each is named, and nothing is written ------------------------------------------


def remove(path: Path) -> Path:
    shutil.rmtree(path)
    return path


def empty(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def misnamed(path: Path) -> str:
    os.rename(path, os.fsencode(path.parent) + b"/\xff.png")
    return f"{path.parent}/\\udcff.png"


def outside(folders: Folders) -> Path:
    """An image that is not part of the data set."""
    path = folders.data.parent / "outside" / "00.png"
    path.parent.mkdir()
    return shutil.copy(folders.data / "train/i/00.png", path)


def whole(folders: Folders) -> bytes:
    return (folders.data / "train/i/00.png").read_bytes()


def bomb() -> bytes:
    data = bytearray(b"BM" + bytes(52))  # a BMP of 54 bytes that claims 60,000 x 60,000 pixels
    data[10], data[14], data[26], data[28] = 54, 40, 1, 24
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    return bytes(data)


BAD_IMAGES: dict[str, tuple[Callable[[Folders], Path], str]] = {
    "not an image": (
        lambda f: write(f.data / "train/i/a.png", b"text"),
        "not a PNG, JPEG, BMP, GIF, WebP",
    ),
    "truncated": (lambda f: write(f.data / "val/v/a.png", whole(f)[:-50]), "damaged"),
    "empty": (lambda f: write(f.test / "x/a.png", b""), "the file is empty"),
    "bomb": (lambda f: write(f.data / "train/x/a.bmp", bomb()), "a decompression bomb"),
    "too large to be read": (lambda f: write(f.data / "train/x/a.bmp", bomb() + bytes(9 * MAX_PIXELS)), "larger than"),
    "link that leaves the folder": (lambda f: link(f.data / "train/i/a.png", outside(f)), "a link that leaves"),
    "link from the test folder to the data": (
        lambda f: link(f.test / "i/a.png", f.data / "train/i/00.png"),
        "a link that leaves",
    ),
    "link to nothing": (lambda f: link(f.data / "train/i/a.png", Path("nothing")), "cannot be read"),
    "link to itself": (lambda f: link(f.data / "train/i/a.png", Path("a.png")), "cannot be read"),
    "link to a folder among the images": (
        lambda f: link(f.data / "train/i/a", f.data / "train/v"),
        "a link to a folder; put the images themselves there",
    ),
    "pipe": (lambda f: pipe(f.data / "train/i/a.png"), "not a regular file"),
    "link to a device": (lambda f: link(f.data / "train/i/a.png", Path("/dev/zero")), "a link that leaves"),
}
BAD_FOLDERS: dict[str, tuple[Callable[[Folders], Path | str], str]] = {
    "no data": (lambda f: remove(f.data), "no such folder"),
    "no test data": (lambda f: remove(f.test), "no such folder"),
    "no train split": (lambda f: remove(f.data / "train"), "no such folder"),
    "no splits and no classes": (lambda f: remove(f.data / "val") and remove(f.data / "train").parent, "no images"),
    "split without classes": (lambda f: empty(f.data / "val"), "no images"),
    "test data without classes": (lambda f: empty(f.test), "no images"),
    "class without images": (lambda f: empty(f.data / "val/v"), "no images"),
    "class missing in one split": (lambda f: remove(f.data / "val/v"), "every split needs each class"),
    "class missing in test": (lambda f: remove(f.test / "x"), "every split needs each class"),
    "class in one split only": (
        lambda f: f.data / "val/iii" if write(f.data / "train/iii/a.png", whole(f)) else Path(),
        "every split needs each class",
    ),
    "link to a class folder": (lambda f: link(f.data / "train/iii", outside(f).parent), "is a link"),
    "link to a split": (
        lambda f: link(remove(f.data / "val"), shutil.copytree(f.data / "train", f.test.parent / "away")),
        "is a link",
    ),
    "file beside the class folders": (lambda f: write(f.data / "train/a.png", whole(f)), "beside the class folders"),
    "unknown split": (lambda f: write(f.data / "extra/i/a.png", b"").parents[1], "not a split"),
    "split of two names": (lambda f: write(f.data / "Valid/i/a.png", b"").parents[1], "both are val; make one of them"),
    "two test splits": (lambda f: shutil.copytree(f.test, f.data / "test"), "has a test split already"),
    "name that is not UTF-8": (lambda f: misnamed(f.data / "train/i/00.png"), "not UTF-8"),
}


@pytest.mark.parametrize(("spoil", "reason"), {**BAD_IMAGES, **BAD_FOLDERS}.values(), ids=[*BAD_IMAGES, *BAD_FOLDERS])
def test_bad_input_is_named_and_leaves_nothing(
    spoil: Callable[[Folders], Path | str], reason: str, own: Folders, tmp_path: Path
) -> None:
    path = spoil(own)
    (tmp_path / "outputs").mkdir()
    with pytest.raises(UserError, match=reason) as caught:
        ingest(own, tmp_path / "outputs" / "examples")
    assert str(path) in str(caught.value)
    assert contents(tmp_path / "outputs") == {}


def test_all_bad_images_are_named_at_once(own: Folders, tmp_path: Path) -> None:
    paths = [write(own.data / split / name / "a.png", b"") for split in ("train", "val") for name in CLASSES]
    with pytest.raises(UserError, match=f"{len(paths)} bad images") as caught:
        ingest(own, tmp_path / "examples")
    assert all(f"{path}: the file is empty" in str(caught.value) for path in paths)


def test_unknown_class_is_named(tiny: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ingest(tiny, tmp_path / "examples", classes=["i", "v"])
    assert str(caught.value) == (
        f"{tiny.data / 'train/x'}: not one of the classes i, v; rename it, or list it as well, in --param "
        "classes=[...] or as `classes` of ingest in pipelines/config; an empty list takes what the data has."
    )


@pytest.mark.parametrize("name", [0.0, True, None])
def test_class_that_is_no_text_is_refused(name: object, tiny: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ingest(tiny, tmp_path / "examples", classes=["i", name])
    assert str(caught.value) == f"classes holds {name}, which is no text; put class names in quotes."


def test_a_whole_data_set_is_no_test_split(own: Folders, tmp_path: Path) -> None:
    for classes in (CLASSES, []):
        with pytest.raises(UserError) as caught:
            ingest(Folders(own.data, own.data), tmp_path / "examples", classes=classes)
        assert str(caught.value) == (
            f"{own.data}: holds train, val, where class folders must be; give one of these folders as test data."
        )


def test_class_without_folder_is_named(tiny: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder") as caught:
        ingest(tiny, tmp_path / "examples", classes=[*CLASSES, "xl"])
    assert str(tiny.data / "train/xl") in str(caught.value)


def test_cap_counts_train_and_val(tiny: Folders, tmp_path: Path) -> None:
    held = len(CLASSES) * (IMAGES["train"] + IMAGES["val"])
    ingest(tiny, tmp_path / "examples", max_images=held)
    with pytest.raises(UserError, match=f"hold {held} images; max_images allows {held - 1}: remove 1"):
        ingest(tiny, tmp_path / "more", max_images=held - 1)
    assert os.listdir(tmp_path) == ["examples"]


def test_max_pixels_names_the_largest_image(tiny: Folders, tmp_path: Path) -> None:
    sizes = {path: Image.open(path).width * Image.open(path).height for path in image_files(tiny).values()}
    largest = max(sizes, key=sizes.__getitem__)
    with pytest.raises(UserError, match="1 bad image;") as caught:
        ingest(tiny, tmp_path / "examples", max_pixels=sizes[largest] - 1)
    assert f"{largest}: " in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"on_bad_image": "ignore"}, "on_bad_image is 'ignore'; it must be fail or quarantine"),
        ({"shards": -1}, r"^shards is -1; it must be 1 or more, or 0 to let their size decide\.$"),
        ({"beam_options": ["--runner=NoSuchRunner"]}, "beam_options: --runner=NoSuchRunner is none of those"),
        ({"classes": ["i", "v", "v", "x"]}, "each name may appear only once"),
    ],
)
def test_wrong_option_is_refused(option: dict[str, Any], message: str, tiny: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        ingest(tiny, tmp_path / "examples", **option)
    assert contents(tmp_path) == {}


# --- quarantine --------------------------------------------------------------------------------


def test_quarantine_leaves_bad_images_out_and_lists_them(own: Folders, plain: Path, tmp_path: Path) -> None:
    bad = {"train/i/a.png": b"", "train/x/b.png": b"text", "val/v/c.png": whole(own)[:-50]}
    for filename, data in bad.items():
        write(own.data / filename, data)
    manifest = ingest(own, tmp_path / "examples", on_bad_image="quarantine", data_version="1.dir")
    assert manifest == read_manifest(tmp_path / "examples")
    assert [entry.path for entry in manifest.quarantined] == sorted(bad)
    reasons = [entry.reason for entry in manifest.quarantined]
    assert [reason.split()[0] for reason in reasons] == ["the", "not", "damaged"]
    for split, content in read_manifest(plain).splits.items():
        assert manifest.splits[split].classes == content.classes
        assert manifest.splits[split].images == content.images
        names = {example.filename for example in stored(tmp_path / "examples", split)}
        assert names == {example.filename for example in stored(plain, split)}


def test_quarantine_does_not_change_the_data_version(own: Folders, tmp_path: Path) -> None:
    write(own.data / "train/i/a.png", b"")
    outside_link = link(own.data / "train/i/b.png", outside(own))
    expected = version_of(own.data)
    manifest = ingest(own, tmp_path / "examples", on_bad_image="quarantine")
    assert [entry.path for entry in manifest.quarantined] == ["train/i/a.png", "train/i/b.png"]
    assert outside_link.is_symlink()
    assert manifest.data_version == expected


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_without_a_good_image_stops_quarantine(split: str, own: Folders, tmp_path: Path) -> None:
    folder = own.test / "x" if split == "test" else own.data / split / "x"
    paths = sorted(folder.iterdir())
    for path in paths:
        path.write_bytes(b"")
    write(own.data / "train/i/a.png", b"")
    with pytest.raises(UserError) as caught:
        ingest(own, tmp_path / "examples", on_bad_image="quarantine")
    assert str(caught.value).splitlines() == [
        f"{split}/x has no good image left; fix them or add others, or remove the class everywhere:",
        *(f"{path}: the file is empty" for path in paths),
    ]
    assert not (tmp_path / "examples").exists()


# --- what would be left out, or taken for something else, in silence ---------------------------


def refusal(folders: Folders, output: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        ingest(folders, output, **options)
    assert not output.exists()
    return str(caught.value)


@pytest.mark.parametrize("name", [".net", ".idealism", ".Trash1", ".gitarre"])
def test_hidden_class_folder_is_named(name: str, own: Folders, tmp_path: Path) -> None:
    (own.data / "train/x").rename(own.data / "train" / name)
    assert refusal(own, tmp_path / "examples") == (
        f"{own.data}/train/{name}: a folder whose name begins with a dot is hidden, and so no class; rename it or move"
        " it out of the data set."
    )


def test_hidden_folders_of_systems_and_tools_are_no_classes(own: Folders, plain: Path, tmp_path: Path) -> None:
    """Beside the class folders, and beside the splits, whatever lies in them."""
    systems = [".Trashes", ".Trash-1000", ".Spotlight-V100", ".fseventsd", ".TemporaryItems", ".DocumentRevisions-V100"]
    tools = [".idea", ".vscode", ".ipynb_checkpoints", ".git", ".github", ".venv"]
    for name in [*systems, ".AppleDouble", "._x", *tools]:
        for folder in (own.data, own.data / "train", own.test):
            write(folder / name / "a-checkpoint.png", whole(own))
            write(folder / name / "a/b.png", b"")
    assert ingest(own, tmp_path / "examples").splits == read_manifest(plain).splits


def test_two_spellings_of_a_class_are_named(own: Folders, tmp_path: Path) -> None:
    for folder, name in ((own.data / "train", "caf\u00e9"), (own.data / "val", "cafe\u0301"), (own.test, "caf\u00e9")):
        (folder / "x").rename(folder / name)
    assert refusal(own, tmp_path / "examples") == (
        f"{own.data}/train/caf\u00e9 and {own.data}/val/cafe\u0301: two spellings of one name, 'caf\\xe9' and"
        " 'cafe\\u0301', since Unicode has several for letters with accents; rename one as the other is."
    )


POSES = "has the name of an image that curate made, which audit and curate leave out; rename it,"


def test_image_with_the_name_of_an_augmented_one_needs_the_manifest(own: Folders, tmp_path: Path) -> None:
    path = write(own.data / "train/i/a.augmented-3.png", whole(own))
    assert refusal(own, tmp_path / "examples") == (
        f"{path}: {POSES} or put back the manifest.csv of the curated folder."
    )
    made = make_augmented("train/i/a.augmented-3.png", whole(own))
    write_manifest(own.data, [made, made._replace(filename="train/i/a.augmented-4.png", seed=None)])
    assert "train/i/a.augmented-3.png" in {e.filename for e in taken(own, tmp_path / "curated")}
    other = write(own.data / "train/i/a.augmented-4.png", whole(own))
    assert refusal(own, tmp_path / "examples") == (
        f"{other}: {POSES} since {own.data}/manifest.csv does not list it as one."
    )


def test_damaged_manifest_is_named_when_an_augmented_image_needs_it(own: Folders, tmp_path: Path) -> None:
    path = write(own.data / "train/i/a.augmented-3.png", whole(own))
    write_manifest(own.data, [make_augmented("train/i/a.augmented-3.png", whole(own))._replace(sha256="none")])
    assert refusal(own, tmp_path / "examples") == (
        f"{path}: {POSES} or repair the manifest, which is broken ({own.data}/manifest.csv, line 2: sha256: is 'none',"
        f" but should match pattern '^[0-9a-f]{{64}}$'; run curate again)."
    )


def test_image_put_in_the_place_of_an_augmented_one_is_named(own: Folders, tmp_path: Path) -> None:
    """Audit and curate would leave it out without a word."""
    write_manifest(own.data, [make_augmented("train/i/a.augmented-3.png", b"what curate wrote")])
    path = write(own.data / "train/i/a.augmented-3.png", whole(own))
    assert refusal(own, tmp_path / "examples").splitlines()[1:] == [
        f"{path}: not the image that curate made under this name, by the sha256 in manifest.csv, and audit and curate"
        " would leave it out; rename it"
    ]


def test_augmented_image_is_known_in_other_folders_and_other_spellings(own: Folders, tmp_path: Path) -> None:
    """Of a split by one of its other names; and macOS takes letters with accents apart."""
    composed, apart = "train/i/caf\u00e9.augmented-3.png", "train/i/cafe\u0301.augmented-3.png"
    write_manifest(own.data, [make_augmented(composed, whole(own))])
    write(own.data / apart, whole(own))
    (own.data / "train").rename(own.data / "training")
    assert apart in {example.filename for example in taken(own, tmp_path / "examples")}


def test_two_spellings_of_an_augmented_image_are_two_images(own: Folders, tmp_path: Path) -> None:
    names = ["train/i/caf\u00e9.augmented-1.png", "train/i/cafe\u0301.augmented-1.png"]
    other = (own.data / "train/i/00.png").read_bytes()
    write_manifest(
        own.data, [make_augmented(name, data) for name, data in zip(names, (whole(own), other), strict=True)]
    )
    for name, data in zip(names, (whole(own), other), strict=True):
        write(own.data / name, data)
    assert {*names} <= {example.filename for example in taken(own, tmp_path / "examples")}


def test_augmented_images_are_not_divided(own: Folders, tmp_path: Path) -> None:
    write_manifest(own.data, [make_augmented("train/i/a.augmented-3.png", whole(own))])
    path = write(own.data / "train/i/a.augmented-3.png", whole(own))
    shutil.rmtree(own.data / "val")
    assert refusal(own, tmp_path / "examples") == (
        f"{path}: has the name of an image that curate made, and those are not divided into splits; put back the splits"
        " of the curated folder, or rename it."
    )


def test_test_images_may_have_any_name(own: Folders, tmp_path: Path) -> None:
    """Curate makes none there, so that nothing is left out; also where the split has another of its names."""
    write(own.test / "i/a.augmented-3.png", whole(own))
    shutil.move(own.test, own.data / "testing")
    ingest(Folders(own.data, own.data / "testing"), tmp_path / "examples", test_data_uri="")
    assert "test/i/a.augmented-3.png" in {example.filename for example in stored(tmp_path / "examples", "test")}


def taken(folders: Folders, output: Path) -> list[ImageExample]:
    ingest(folders, output)
    return stored(output, "train")


def test_own_names_are_not_those_of_augmented_images(own: Folders, tmp_path: Path) -> None:
    names = {"train/i/a.augmented-by-me.png", "train/i/a.augmented-3.jpg", "train/i/a.augmented-3.png.png"}
    for name in names:
        write(own.data / name, whole(own))
    assert names <= {example.filename for example in taken(own, tmp_path / "examples")}


NAME_ADVICE = "has a control character, a line break, a backslash or more than 255 bytes; rename it"


@pytest.mark.parametrize("character", ["\r", "\n", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\\"])
def test_name_with_a_control_character_is_named(character: str, own: Folders, tmp_path: Path) -> None:
    path = write(own.data / f"train/i/a{character}b.png", whole(own))
    said = f"{ascii(str(path))}: its name {NAME_ADVICE}"
    assert refusal(own, tmp_path / "examples").splitlines()[1:] == [said]


def test_class_with_a_control_character_is_named(own: Folders, tmp_path: Path) -> None:
    (own.data / "train/x").rename(own.data / "train/x\r")
    assert refusal(own, tmp_path / "examples") == (f"'{own.data}/train/x\\r': the name {NAME_ADVICE}.")


# --- permissions -------------------------------------------------------------------------------


@pytest.fixture
def reachable() -> Iterator[Folders]:
    """A small data set that every user may read; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for split in ("data/train", "data/val", "test"):
            (root / split / "i").mkdir(parents=True)
            Image.new("L", (4, 4)).save(root / split / "i" / "00.png")
        yield Folders(root / "data", root / "test")


@contextmanager
def unreadable(path: Path, left: int = 0) -> Iterator[None]:
    mode = stat.S_IMODE(path.stat().st_mode)
    user = os.geteuid()
    path.chmod(left)
    if user == 0:  # root reads everything
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


def refused_unreadable(closed: Path, folders: Folders, left: int = 0, **options: Any) -> str:
    """The sentence of an ingest that has no permissions on `closed` but those that are left."""
    output = folders.data.parent / "outputs"
    output.mkdir()
    output.chmod(0o777)
    with unreadable(closed, left), pytest.raises(UserError) as caught:
        ingest(folders, output / "examples", **options)
    assert contents(output) == {}
    return str(caught.value)


@pytest.mark.parametrize("folder", ["data", "data/train", "data/train/i", "data/.hidden", "data/val/i/folder"])
def test_unreadable_folder_is_named(folder: str, plain: Path, reachable: Folders) -> None:
    path = reachable.data.parent / folder
    path.mkdir(exist_ok=True)
    sentence = refused_unreadable(path, reachable)
    assert sentence == f"{path}: cannot be read (Permission denied); allow the user of this run to read it."


def test_unreadable_image_is_a_bad_image(plain: Path, reachable: Folders) -> None:
    path = reachable.data / "train/i/00.png"
    sentence = refused_unreadable(path, reachable, data_version="1.dir")
    assert f"{path}: cannot be read (Permission denied)" in sentence.splitlines()


@pytest.mark.parametrize("name", ["train/i", "train/i/folder", ".hidden"])
def test_folder_that_may_be_listed_and_not_entered_gives_no_version(name: str, reachable: Folders) -> None:
    """What lies in it cannot be read, and is named; it is not left out of the version."""
    folder = reachable.data / name
    folder.mkdir(exist_ok=True)
    Image.new("L", (4, 4)).save(folder / "01.png")
    output = reachable.data.parent / "outputs"
    output.mkdir(mode=0o777)
    output.chmod(0o777)
    with unreadable(folder, left=0o444), pytest.raises(UserError) as caught:
        ingest(reachable, output / "examples", on_bad_image="quarantine")
    assert re.fullmatch(rf"{folder}/0[01].png: cannot be read \(Permission denied\), so .*", str(caught.value))
    assert contents(output) == {}


def test_pipe_that_took_the_place_of_a_listed_image_is_named(tmp_path: Path) -> None:
    from components.ingest.folders import Folder
    from components.ingest.sources import BadImage, File

    os.mkfifo(tmp_path / "a.png")
    file = File("train/i/a.png", str(tmp_path / "a.png"))
    with Folder(str(tmp_path)).open_reader() as reader:
        with pytest.raises(BadImage, match=r"cannot be read \(not a regular file\)"):
            reader.read(file, 100)
        assert reader.hash(file) == ""


@pytest.mark.parametrize("name", ["train/i/00.png", ".hidden"])
def test_data_with_an_unreadable_file_has_no_version(name: str, plain: Path, reachable: Folders) -> None:
    path = reachable.data / name
    path.touch()
    sentence = refused_unreadable(path, reachable)
    assert sentence.startswith(f"{path}: cannot be read (Permission denied), so the data has no version")


def test_folder_that_cannot_be_entered_leaves_the_data_without_a_version(plain: Path, reachable: Folders) -> None:
    path = reachable.data / "train/i"
    sentence = refused_unreadable(path, reachable, left=0o444, on_bad_image="quarantine")
    assert sentence == (
        f"{path}/00.png: cannot be read (Permission denied), so the data has no version; make it readable or give"
        " data_version."
    )


# --- killed ------------------------------------------------------------------------------------

EIGHT_SHARDS = """
from components.ingest.ingestion import ingest_data
data, test, output = sys.argv[1:]
ingest_data(
    data, test_data_uri=test, data_version="", classes=[], on_bad_image="fail", max_images=10_000,
    max_pixels=1_000_000, shards=8, beam_options=["--runner=FnApiRunner"], output=output,
)
"""


def test_killed_ingest_leaves_no_process_and_runs_again(tiny: Folders, tmp_path: Path) -> None:
    output = tmp_path / "killed" / "examples"
    group = run_killed(EIGHT_SHARDS, "ingest: train shard", tiny.data, tiny.test, output)
    (left,) = os.listdir(output.parent)
    assert re.fullmatch(r"\.partial\.[0-9a-f]{16}\.examples", left), "it was killed in mid-write"
    assert ends_soon(group), "a worker outlived the run that was killed"

    ingest(tiny, output, shards=8)
    ingest(tiny, tmp_path / "clean" / "examples", shards=8)
    assert contents(output.parent) == contents(tmp_path / "clean")
