"""Any layout that people have: class folders alone, other names of splits, folders below classes, tables."""

import contextlib
import hashlib
import io
import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pyarrow import parquet

from components.ingest.division import Inspected, Shares, check_shares, divide
from components.ingest.folders import Folder
from components.ingest.ingestion import ingest_data
from components.ingest.pairs import merge_pairs, write_pairs
from components.ingest.table import read_table
from components.shared.duplicates import fingerprint
from components.shared.errors import UserError
from components.shared.formats.dvc_manifest import compute_version
from components.shared.formats.examples import ExamplesManifest, open_examples, read_paths
from components.shared.formats.names import is_passed_over, sort_classes
from tests.components.ingest.test_sources import push
from tests.conftest import BEAM, contents
from tests.fakes.gcs import Gcs
from tests.mutations import mutated_table, read_or_refuse, torn

NAMES = ["python3", "a 'b' \"c\"", "zwölf", "e\u0301te\u0301"]


def ingest(data: Path | str, output: Path, **changed: Any) -> ExamplesManifest:
    options: dict[str, Any] = {
        "test_data_uri": "",
        "data_version": "",
        "classes": [],
        "on_bad_image": "fail",
        "max_images": 10_000,
        "max_pixels": 1_000_000,
        "shards": 2,
        "beam_options": BEAM,
    }
    return ingest_data(str(data), **{**options, **changed}, output=str(output))


def refuse(data: Path | str, tmp_path: Path, **changed: Any) -> str:
    with pytest.raises(UserError) as caught:
        ingest(data, tmp_path / "refused" / "examples", **changed)
    assert not (tmp_path / "refused" / "examples").exists()
    return str(caught.value)


def draw(seed: int, file_format: str = "PNG") -> bytes:
    """Blocks of color, which differ much from seed to seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((5, 5, 1), np.uint8))).save(buffer, file_format, lossless=True)
    return buffer.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_classes(root: Path, names: list[str], images: int = 12) -> Path:
    return write(
        root,
        {f"{name}/{n}.png": draw(100 * place + n) for place, name in enumerate(names) for n in range(images)},
    )


def shards(examples: Path) -> dict[str, bytes | None]:
    return {name: data for name, data in contents(examples).items() if name.endswith(".tfrecord")}


def version_of(data: Path, names: list[str] | None = None) -> str:
    paths = [data / name for name in names] if names else [path for path in data.rglob("*") if path.is_file()]
    pairs = [(path.relative_to(data).as_posix(), hashlib.md5(path.read_bytes()).hexdigest()) for path in paths]
    write_pairs(pairs, data.parent / "pairs")
    return compute_version(merge_pairs([data.parent / "pairs"]))


# --- without splits ----------------------------------------------------------------------------


def test_class_folders_alone_are_divided(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", NAMES)
    manifest = ingest(data, tmp_path / "examples")
    assert manifest.classes == ["a 'b' \"c\"", "python3", "zwölf", "e\u0301te\u0301"]
    assert manifest.data_version == version_of(data)
    assert list(manifest.splits) == ["train", "val"]
    assert sum(content.images for content in manifest.splits.values()) == 48
    assert all(0 < count < 12 for content in manifest.splits.values() for count in content.classes.values())
    paths = read_paths(tmp_path / "examples")
    examples = open_examples(tmp_path / "examples")
    for split in manifest.splits:
        for example in examples.read(split):
            assert paths[example.filename] == example.filename.removeprefix(f"{split}/")
            assert (data / paths[example.filename]).read_bytes() == example.encoded
    assert manifest.made_split is not None
    assert (manifest.made_split.seed, manifest.made_split.val_share, manifest.made_split.duplicates) == (0, 0.2, [])


def test_same_picture_is_on_one_side_and_those_of_train_are_left_out(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["a", "b"], images=20)
    ingest(data, tmp_path / "before")
    before = read_paths(tmp_path / "before")
    picture = Image.open(data / next(path for name, path in before.items() if name.startswith("val/a/")))
    twin = next(path for name, path in before.items() if name.startswith("val/a/"))
    for number in range(9):  # the same picture with other bytes, on both sides by chance
        picture.save(data / f"a/again-{number}.png", compress_level=number)
    manifest = ingest(data, tmp_path / "after")
    after = read_paths(tmp_path / "after")
    assert {name: path for name, path in after.items() if "again" not in path} == before
    assert manifest.made_split is not None
    left_out = manifest.made_split.duplicates
    assert 0 < len(left_out) < 9
    assert {entry.path for entry in left_out} | {path for path in after.values() if "again" in path} == {
        f"a/again-{number}.png" for number in range(9)
    }
    assert all(name.startswith("val/") for name, path in after.items() if "again" in path)
    kept = min([twin, *(path for path in after.values() if "again" in path)])
    assert {entry.reason for entry in left_out} == {f"left out of train: the same picture is in val, as {kept}"}
    assert manifest.data_version == version_of(data)


def test_a_picture_with_two_labels_is_kept_with_both_and_measures_nothing(tmp_path: Path) -> None:
    """Either may be the right one: what was left out, neither the audit nor a person would see."""
    data = write_classes(tmp_path / "data", ["a", "b"], images=20)
    ingest(data, tmp_path / "before")
    before = read_paths(tmp_path / "before")
    twin = next(path for name, path in before.items() if name.startswith("val/a/"))
    picture = Image.open(data / twin)
    for number in range(9):  # the same picture with other bytes, on both sides by chance
        picture.save(data / f"b/again-{number}.png", compress_level=number)
    manifest = ingest(data, tmp_path / "after")
    after = read_paths(tmp_path / "after")
    contested = {twin, *(f"b/again-{number}.png" for number in range(9))}
    assert {name.partition("/")[0] for name, path in after.items() if path in contested} == {"train"}
    assert {name: path for name, path in after.items() if path not in contested} == {
        name: path for name, path in before.items() if path != twin
    }
    assert len(after) == 49
    assert manifest.made_split is not None
    assert manifest.made_split.duplicates == []


def test_a_guideline_may_lie_beside_the_class_folders_and_other_files_may_not(tmp_path: Path) -> None:
    data = write(write_classes(tmp_path / "data", ["a", "b"]), {"labels.md": b"# a\n\nFirst.\n"})
    manifest = ingest(data, tmp_path / "examples")
    assert (tmp_path / "examples/labels.md").read_bytes() == b"# a\n\nFirst.\n"
    assert (manifest.classes, manifest.data_version) == (["a", "b"], version_of(data))
    renamed = "remove it, or let its name begin with README, as that of a file which is none of the images."
    moved = "move it into one of them or remove it."
    for name, advice in {"labels.txt": renamed, "notes.md": renamed, "1.png": moved, "scan": moved}.items():
        write(data, {name: b""})
        assert refuse(data, tmp_path) == f"{data}/{name}: lies beside the class folders; {advice}"
        (data / name).unlink()
    write(data, {"README notes.md": b""})
    assert ingest(data, tmp_path / "passed over").classes == ["a", "b"]


@cache
def inspect(number: int, name: str) -> Inspected:
    seen = fingerprint(np.asarray(Image.open(io.BytesIO(draw(number)))))
    return Inspected(f"{name}/{number}.png", name, hashlib.sha256(str(number).encode()).hexdigest(), seen)


@given(
    st.sets(st.integers(0, 500), min_size=40, max_size=80),
    st.sets(st.integers(0, 500), max_size=60),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.2]),
)
def test_image_never_changes_sides(kept: set[int], others: set[int], seed: int, test: float) -> None:
    shares = Shares(0.25, test, seed)
    always = {1000, 1001, 1002, 1003, 1005, 1007}
    one, other = (
        divide([inspect(number, "ab"[number % 2]) for number in numbers], shares, "pictures")
        for numbers in (kept | always, kept | others | always)
    )
    if not one.filled:
        assert one.splits.items() <= other.splits.items()


def test_shares_are_about_those_asked_for() -> None:
    images = [inspect(number, "abcd"[number % 4]) for number in range(800)]
    division = divide(images, Shares(0.2, 0.1, 5), "pictures")
    counts = Counter((image.class_name, division.splits[image.name]) for image in images)
    for name in "abcd":
        assert 25 <= counts[name, "val"] <= 55
        assert 10 <= counts[name, "test"] <= 32
    assert division.filled == []
    again = divide(images, Shares(0.2, 0.1, 6), "pictures")
    assert again.splits != division.splits


def test_class_that_chance_leaves_empty_gets_the_nearest_image() -> None:
    division = divide([inspect(number, f"{number % 60}") for number in range(180)], Shares(0.2, 0.0, 0), "pictures")
    counts = Counter((name.partition("/")[0], split) for name, split in division.splits.items())
    assert all(counts[f"{name}", split] for name in range(60) for split in ("train", "val"))
    assert len(division.filled) > 10
    assert all(name.startswith(("val/", "train/")) for name in division.filled)


def test_class_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["a", "b"])
    write(data, {"c/1.png": draw(7), "c/2.png": draw(7)})
    assert refuse(data, tmp_path) == (
        "the class c has 1 different image, but train and val need one each; add images of it, or remove the class."
    )


def test_train_alone_gives_val_a_part(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data/train", ["a", "b"])
    write_classes(tmp_path / "data/testing", ["a", "b"], images=2)
    manifest = ingest(data.parent, tmp_path / "examples", shares=Shares(0.3, 0.5, 0))
    assert manifest.splits["train"].images + manifest.splits["val"].images == 24
    assert manifest.splits["test"].images == 4
    assert manifest.splits["val"].images > 2
    assert manifest.made_split
    assert (manifest.made_split.val_share, manifest.made_split.test_share) == (0.3, 0), "the share of test is not used"


def test_images_that_become_test_do_not_count_against_the_limit(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["a", "b"])
    ingest(data, tmp_path / "examples", shares=Shares(0.2, 0.5, 0), max_images=12)
    assert refuse(data, tmp_path, shares=Shares(0.2, 0.5, 0), max_images=11) == (
        "train and val would get 12 images; max_images allows 11: remove 1."
    )


def test_the_same_ink_elsewhere_is_another_picture_if_content_says_so(tmp_path: Path) -> None:
    """Lines whose place on the page is their class: left out as ink, kept as pictures."""
    data = tmp_path / "data"
    for number in range(24):
        page = Image.new("L", (60, 60), 255)
        ImageDraw.Draw(page).line((4 + number, 5, 30 + number, 30), fill=0, width=2)
        (data / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        page.save(data / "ab"[number % 2] / f"{number}.png")
    manifest = ingest(data, tmp_path / "examples", content="pictures")
    assert manifest.made_split
    assert manifest.made_split.duplicates == []
    assert refuse(data, tmp_path) == (
        "24 of 24 images look like another one saved again or moved, such as a/0.png and a/10.png, more than"
        " collections have, and those of train that look like one of val would be left out; look at them, and set"
        " content to pictures if they are different pictures, or to ink if they are the same."
    )
    assert "has no image left of the class" in refuse(data, tmp_path, content="ink")
    assert refuse(data, tmp_path, content="drawings") == ("content is 'drawings'; it must be auto, ink or pictures.")


def test_near_duplicates_at_a_rate_that_no_collection_has_need_a_word(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["a", "b"], images=20)
    paths = sorted(data.rglob("*.png"))
    for path in paths[:5]:
        Image.open(path).save(path.with_name(f"{path.stem}-again.png"), compress_level=0)
    assert ingest(data, tmp_path / "few").made_split
    Image.open(paths[5]).save(paths[5].with_name("5-again.png"), compress_level=0)
    assert refuse(data, tmp_path) == (
        "12 of 46 images look like another one saved again or moved, such as a/0-again.png and a/0.png, more than"
        " collections have, and those of train that look like one of val would be left out; look at them, and if they"
        " are different pictures, divide them yourself into train/ and val/ or by a column split; if they are the same,"
        " set content to pictures."
    )
    assert ingest(data, tmp_path / "many", content="pictures").made_split


def test_exact_copies_are_no_near_duplicates(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["a", "b"], images=20)
    for path in sorted(data.rglob("*.png")):
        shutil.copy(path, path.with_name(f"{path.stem}-copy.png"))
    assert sum(content.images for content in ingest(data, tmp_path / "examples").splits.values()) == 80


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (Shares(0.0), "val_share is 0; it must be above 0 and below 1."),
        (Shares(0.2, -1.0), "test_share is -1; it must be 0 or more and below 1."),
        (Shares(0.5, 0.5), "val_share and test_share are 1 together; leave a share for train."),
    ],
)
def test_share_that_is_none_is_refused(shares: Shares, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_shares(shares)
    assert str(caught.value) == message


def test_one_class_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"images/a/1.png": draw(1), "images/b/1.png": draw(2)})
    assert refuse(data, tmp_path) == (
        f"{data}: images is its only class, but a model needs two to tell apart; name the folder that has a folder for"
        " each class."
    )


def test_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", ["train", "bus"])
    assert ingest(data, tmp_path / "examples").classes == ["bus", "train"]


# --- names -------------------------------------------------------------------------------------


def test_other_names_of_splits_give_the_same_examples(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_classes(tmp_path / "data" / split, ["a", "b"], images=4)
    ingest(tmp_path / "data", tmp_path / "examples")
    for names in (("Training", "valid", "testing"), ("TRAIN", "validation", "test"), ("train", "dev", "test")):
        other = tmp_path / "-".join(names)
        for split, name in zip(("train", "val", "test"), names, strict=True):
            shutil.copytree(tmp_path / "data" / split, other / name)
        ingest(other, tmp_path / f"{other.name}-examples")
        assert shards(tmp_path / f"{other.name}-examples") == shards(tmp_path / "examples")
        paths = read_paths(tmp_path / f"{other.name}-examples")
        assert paths["val/a/1.png"] == f"{names[1]}/a/1.png"


def test_folders_below_a_class_become_part_of_the_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_classes(data / "train", ["a", "b"], images=3)
    write_classes(data / "val", ["a", "b"], images=2)
    long = "x" * 120
    write(
        data,
        {
            "train/a/2021/May/1.png": draw(51),
            "train/a/.trash/1.png": b"",
            f"val/b/{long}/{long}/of a long name/1.png": draw(52),
        },
    )
    manifest = ingest(data, tmp_path / "examples")
    assert manifest.data_version == version_of(data)
    shortened = hashlib.sha256(f"{long}/{long}/of a long name/1.png".encode()).hexdigest()[:16]
    assert read_paths(tmp_path / "examples") == {
        "train/a/2021__May__1.png": "train/a/2021/May/1.png",
        f"val/b/{shortened}__1.png": f"val/b/{long}/{long}/of a long name/1.png",
    }
    write(data, {"train/a/2021__May__1.png": draw(53)})
    sentence = refuse(data, tmp_path)
    assert f"{data}/train/a/2021/May/1.png" in sentence
    assert sentence.endswith("both are train/a/2021__May__1.png when folders become part of a file's name; rename one.")


LAYOUTS: dict[str, Callable[[Path], Any]] = {
    "class folders alone": lambda root: write_classes(root, NAMES),
    "train alone": lambda root: write_classes(root / "Training", ["a", "b"]),
    "valid": lambda root: [write_classes(root / split, ["a", "b"], images=4) for split in ("train", "valid")],
    "dev": lambda root: [write_classes(root / split, ["a", "b"], images=4) for split in ("TRAIN", "dev", "testing")],
    "folders below classes": lambda root: write(
        root, {f"{split}/{name}/2021/{n}/1.png": draw(n) for split in ("train", "val") for name in "ab" for n in (1, 2)}
    ),
    "folders below classes alone": lambda root: write(
        root, {f"{name}/2021/{n}/1.png": draw(100 * place + n) for place, name in enumerate("ab") for n in range(12)}
    ),
}


@pytest.mark.parametrize("lay_out", LAYOUTS.values(), ids=LAYOUTS)
def test_layout_gives_the_same_in_a_bucket_and_as_a_version(
    lay_out: Callable[[Path], Any], gcs: Gcs, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lay_out(data)
    manifest = ingest(data, tmp_path / "examples")
    version = push(data, tmp_path / "repo", str(tmp_path / "remote"))
    assert version.version == manifest.data_version
    for name, uri in (("bucket", gcs.upload(data, "some/where")), ("pushed", version.uri)):
        there = ingest(uri, tmp_path / name)
        assert (there.data_version, there.classes) == (manifest.data_version, manifest.classes)
        assert (there.splits, there.made_split) == (manifest.splits, manifest.made_split)
        assert shards(tmp_path / name) == shards(tmp_path / "examples")
        assert read_paths(tmp_path / name) == read_paths(tmp_path / "examples")


def test_classes_are_in_the_order_of_people() -> None:
    assert sort_classes(["10", "9", "1"]) == ["1", "9", "10"]
    assert sort_classes(["b 10", "B 2", "a", "2"]) == ["2", "a", "B 2", "b 10"]
    numerals = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]
    assert sort_classes(sorted(numerals)) == numerals
    assert sort_classes(["x", "ix", "c"]) == ["c", "ix", "x"]


def test_what_everybody_knows_is_passed_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_classes(data / "train", ["a", "b"], images=3)
    write_classes(data / "val", ["a", "b"], images=2)
    ingest(data, tmp_path / "plain")
    junk = ["Thumbs.db", ".DS_Store", "._1.png", "desktop.ini", "README", "ReadMe.txt", "__MACOSX/a/1.png"]
    for folder in ("", "train/", "train/a/", "val/b/"):
        write(data, {f"{folder}{name}": b"junk" for name in junk})
    manifest = ingest(data, tmp_path / "examples")
    assert shards(tmp_path / "examples") == shards(tmp_path / "plain")
    assert manifest.data_version == version_of(data)
    write(data, {"train/a/notes.txt": b"other"})
    assert f"{data}/train/a/notes.txt: not a PNG, JPEG, BMP, GIF, WebP or TIFF image" in refuse(data, tmp_path)
    assert not is_passed_over("readme.png", is_folder=False)


def test_junk_of_the_test_data_is_no_part_of_the_version(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_classes(data / "train", ["a", "b"], images=3)
    write_classes(data / "val", ["a", "b"], images=2)
    test = write_classes(tmp_path / "test", ["a", "b"], images=2)
    write(test, {"a/.DS_Store": b"junk", "a/Thumbs.db": b"junk"})
    assert ingest(data, tmp_path / "examples", test_data_uri=str(test)).data_version == version_of(data)


def test_missing_class_is_named_with_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_classes(data / "train", ["a", "b", "c"], images=2)
    write_classes(data / "valid", ["a"], images=2)
    assert refuse(data, tmp_path) == (
        f"{data}/valid/b: no such folder, nor of 1 other class, but {data}/train/b has images of it; every split "
        "needs each class, so add images of it here, or remove it there."
    )


# --- tables ------------------------------------------------------------------------------------


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    header = list(rows[0])
    lines = [",".join(header), *(",".join(json.dumps(str(row[name])) for name in header) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder with images and no table yet."""
    return write(tmp_path / "listed", {f"images/{n % 3}/{n}.png": draw(n) for n in range(30)})


def rows_of(folder: Path, **more: str) -> list[dict[str, Any]]:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return [{"path": path, "label": int(path.split("/")[1]) + 9, **more} for path in paths]


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_table_is_a_data_set(name: str, listed: Path, tmp_path: Path) -> None:
    write_table(listed / name, rows_of(listed))
    manifest = ingest(listed / name, tmp_path / "examples")
    assert manifest.classes == ["9", "10", "11"]
    assert manifest.data_version == version_of(listed)
    paths = read_paths(tmp_path / "examples")
    assert sorted(paths.values()) == sorted(row["path"] for row in rows_of(listed))
    assert {name.rpartition("/")[2]: path for name, path in paths.items()}["images__1__1.png"] == "images/1/1.png"


def test_guideline_lies_beside_a_table_and_is_part_of_its_version(listed: Path, gcs: Gcs, tmp_path: Path) -> None:
    table = write_table(listed / "labels.csv", rows_of(listed))
    version = ingest(table, tmp_path / "without").data_version
    (listed / "labels.md").write_text("# 1\n\nOne.\n")
    manifest = ingest(table, tmp_path / "with")
    assert manifest.data_version != version
    assert contents(tmp_path / "with")["labels.md"] == b"# 1\n\nOne.\n"
    assert ingest(f"{gcs.upload(listed)}/labels.csv", tmp_path / "bucket").data_version == manifest.data_version
    assert contents(tmp_path / "bucket")["labels.md"] == b"# 1\n\nOne.\n"


def test_table_may_name_the_splits(listed: Path, tmp_path: Path) -> None:
    rows = rows_of(listed)
    for number, row in enumerate(rows):
        row["split"] = ("training", "dev", "test")[number % 3]
    manifest = ingest(write_table(listed / "t.csv", rows), tmp_path / "examples")
    assert manifest.made_split is None
    assert {name: content.images for name, content in manifest.splits.items()} == {"train": 10, "val": 10, "test": 10}


def test_table_in_a_bucket_and_as_a_version_gives_the_same(listed: Path, gcs: Gcs, tmp_path: Path) -> None:
    write_table(listed / "labels.csv", rows_of(listed))
    manifest = ingest(listed / "labels.csv", tmp_path / "examples")
    uri = gcs.upload(listed, "a")
    assert ingest(f"{uri}/labels.csv", tmp_path / "bucket").data_version == manifest.data_version
    assert shards(tmp_path / "bucket") == shards(tmp_path / "examples")
    version = push(listed, tmp_path / "repo", str(tmp_path / "remote"))
    pushed = ingest(f"{version.uri}/labels.csv", tmp_path / "pushed")
    assert pushed.data_version == version.version == manifest.data_version
    assert shards(tmp_path / "pushed") == shards(tmp_path / "examples")
    addresses = [{**row, "path": f"{uri}/{row['path']}"} for row in rows_of(listed)[:20]] + rows_of(listed)[20:]
    manifest = ingest(write_table(listed / "mixed.csv", addresses), tmp_path / "mixed")
    assert sum(content.images for content in manifest.splits.values()) == 30


def test_paths_of_a_table_in_a_folder_of_a_version_are_relative_to_that_folder(tmp_path: Path) -> None:
    """Another picture of the same name lies above."""
    data = write(tmp_path / "data", {f"lists/{n}.png": draw(n) for n in range(20)} | {"1.png": draw(99)})
    table = write_table(data / "lists/labels.csv", [{"path": f"{n}.png", "label": "ab"[n % 2]} for n in range(20)])
    ingest(table, tmp_path / "examples")
    version = push(data, tmp_path / "repo", str(tmp_path / "remote"))
    ingest(f"{version.uri}/lists/labels.csv", tmp_path / "pushed")
    images = [
        {example.sha256 for split in ("train", "val") for example in open_examples(tmp_path / name).read(split)}
        for name in ("examples", "pushed")
    ]
    assert images[0] == images[1] == {hashlib.sha256(draw(n)).hexdigest() for n in range(20)}


BAD_ROWS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "no label": (lambda rows: [row.pop("label") for row in rows], ": no column label; a table of images has"),
    "path that leads out": (lambda rows: rows[0].update(path="../x.png"), ", line 2: ../x.png leaves the folder of"),
    "whole path": (lambda rows: rows[0].update(path="/etc/x.png"), ", line 2: /etc/x.png leaves the folder of the"),
    "empty label": (lambda rows: rows[1].update(label=" "), ", line 3: label is ' '; fill in text or a whole number."),
    "label that is no class": (lambda rows: rows[0].update(label="a/b"), ", line 2: 'a/b' is no name of a class"),
    "twice": (lambda rows: rows.append(dict(rows[0])), ", line 32: images/0/0.png is in line 2 already; leave one"),
    "label of what is passed over": (
        lambda rows: rows[0].update(label="__MACOSX"),
        ", line 2: '__MACOSX' is no name of",
    ),
    "no split": (
        lambda rows: [row.update(split="trn") for row in rows],
        ", line 2: split is 'trn'; write train, val or test.",
    ),
    "no image": (lambda rows: rows[0].update(path="images/x.png"), "images/x.png: no such file"),
    "another address": (
        lambda rows: rows[0].update(path="http://x/y.png"),
        ", line 2: http://x/y.png is an address that ingest cannot read; give paths or gs:// addresses.",
    ),
    "split by another name": (
        lambda rows: [row.update({" Split": "train"}) for row in rows],
        ": the column ' Split' must be called split; rename it.",
    ),
    "label in capitals": (
        lambda rows: [row.update({"Label": row.pop("label")}) for row in rows],
        ": the column 'Label' must be called label; rename it.",
    ),
    "splits in another column": (
        lambda rows: [row.update(subset=("train", "Valid")[number % 2]) for number, row in enumerate(rows)],
        ": the column 'subset' has splits; call it split, or leave it out.",
    ),
    "empty split": (
        lambda rows: [row.update(split="train" if number else "") for number, row in enumerate(rows)],
        ", line 2: split is empty; write train, val or test, or leave the column out.",
    ),
    "hidden": (lambda rows: rows[0].update(path=".images/x.png"), ", line 2: .images/x.png is hidden"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_named(spoil: Callable[[Any], Any], reason: str, listed: Path, tmp_path: Path) -> None:
    rows = rows_of(listed)
    spoil(rows)
    assert reason in refuse(write_table(listed / "labels.csv", rows), tmp_path)


def test_row_without_a_file_can_be_quarantined(listed: Path, tmp_path: Path) -> None:
    table = write_table(listed / "labels.csv", [*rows_of(listed), {"path": "images/x.png", "label": 9}])
    manifest = ingest(table, tmp_path / "examples", on_bad_image="quarantine")
    assert [(entry.path, entry.reason) for entry in manifest.quarantined] == [("images/x.png", "no such file")]
    assert manifest.data_version == version_of(listed), "DVC has no version of what is not there"


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_column_that_only_sounds_like_splits_is_left_out(listed: Path, tmp_path: Path, name: str) -> None:
    rows = [
        {**row, "Set": ("train", "2021")[number % 2], "Fold": number % 3} for number, row in enumerate(rows_of(listed))
    ]
    manifest = ingest(write_table(listed / name, rows), tmp_path / "sets")
    assert sum(content.images for content in manifest.splits.values()) == 30
    splits = ("train", "val", "test")
    rows = [{**row, "Subset": "train", "split": splits[number // 3 % 3]} for number, row in enumerate(rows_of(listed))]
    manifest = ingest(write_table(listed / name, rows), tmp_path / "both")
    assert {name: content.images for name, content in manifest.splits.items()} == {"train": 12, "val": 9, "test": 9}


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_splits_in_another_column_are_named(listed: Path, tmp_path: Path, name: str) -> None:
    rows = [
        {**row, "Subset": ("train", "Valid", "")[number % 3]} for number, row in enumerate(rows_of(listed))
    ]  # some cells are empty
    assert refuse(write_table(listed / name, rows), tmp_path) == (
        f"{listed}/{name}: the column 'Subset' has splits; call it split, or leave it out."
    )


def test_column_that_is_there_twice_is_refused(listed: Path, tmp_path: Path) -> None:
    (listed / "labels.csv").write_text("path,label,split,split\nimages/0/0.png,a,train,val\n")
    assert refuse(listed / "labels.csv", tmp_path) == (
        f"{listed}/labels.csv: the column split appears twice; leave one."
    )


class Payload:
    """What runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_parquet_of_a_stranger_runs_nothing(listed: Path, tmp_path: Path) -> None:
    names = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    names[b"ARROW:extension:metadata"] = pickle.dumps(Payload(tmp_path / "has run"))
    fields = [pa.field("path", pa.string()), pa.field("label", pa.string()), pa.field("more", pa.binary(), True, names)]
    columns = [[row[name] for row in rows_of(listed)] for name in ("path", "label")]
    texts = [pa.array([str(value) for value in column]) for column in columns]
    table = pa.Table.from_arrays([*texts, pa.array([b""] * len(texts[0]))], schema=pa.schema(fields))
    parquet.write_table(table, listed / "labels.parquet")
    with contextlib.suppress(UserError):
        ingest(listed / "labels.parquet", tmp_path / "examples")
    assert not (tmp_path / "has run").exists()


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array([b"\xff"] * 30).view(pa.string()), id="no UTF-8"),
        pytest.param(pa.array([2**62] * 30).cast(pa.timestamp("us")), id="date of the far future"),
        pytest.param(pa.array([0] * 30, pa.timestamp("us", tz="Foo/Bar")), id="time zone that is none"),
    ],
)
def test_parquet_with_what_python_cannot_hold_is_refused(listed: Path, tmp_path: Path, column: Any) -> None:
    paths = pa.array([row["path"] for row in rows_of(listed)])
    parquet.write_table(pa.table({"path": paths, "label": column}), listed / "labels.parquet")
    assert f"{listed}/labels.parquet: cannot be read as Parquet (" in refuse(listed / "labels.parquet", tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_table_with_a_mistake_anywhere_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    rows = [{"path": "a.png", "label": "i", "split": "train"}, {"path": "b.png", "label": "v", "split": "val"}]
    content = write_table(tmp_path / name, rows).read_bytes()
    mistaken = torn(content) | mutated_table(content.decode()) if name.endswith("csv") else torn(content)
    read_or_refuse(
        lambda path: list(read_table(Folder(str(path.parent)), path.name)), tmp_path / name, data.draw(mistaken)
    )


def test_bad_parquet_is_named(listed: Path, tmp_path: Path) -> None:
    (listed / "labels.parquet").write_text("text")
    assert f"{listed}/labels.parquet: cannot be read as Parquet (" in refuse(listed / "labels.parquet", tmp_path)
    rows = [{**row, "label": 0.5} for row in rows_of(listed)]
    write_table(listed / "labels.parquet", rows)
    assert refuse(listed / "labels.parquet", tmp_path) == (
        f"{listed}/labels.parquet, row 1: label is 0.5; fill in text or a whole number."
    )


def test_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refuse(tmp_path / "x.csv", tmp_path) == (
        f"{tmp_path}/x.csv: no such file; data_uri names a folder of images, or a table of them."
    )


def test_folder_of_a_table_asks_for_the_table(listed: Path, tmp_path: Path) -> None:
    write_table(listed / "labels.csv", rows_of(listed))
    assert refuse(listed, tmp_path) == (
        f"{listed}/labels.csv: lies beside the class folders; remove it, or let its name begin with README, as that of"
        " a file which is none of the images; if it is the table of the images, name it in place of the folder."
    )


def test_table_cannot_make_an_image_pose_as_an_augmented_one(listed: Path, tmp_path: Path) -> None:
    """Its path is that of a test image, but the table says that it is of train, where audit and curate leave it out."""
    write(listed, {"test/x.augmented-3.png": draw(77)})
    rows = [{"path": f"images/{n % 3}/{n}.png", "label": n % 3, "split": ("train", "val")[n % 2]} for n in range(30)]
    rows.append({"path": "test/x.augmented-3.png", "label": 0, "split": "train"})
    write_table(listed / "labels.csv", rows)
    assert "has the name of an image that curate made" in refuse(listed / "labels.csv", tmp_path)


def test_folder_of_one_class_is_told_from_that_of_all(tmp_path: Path) -> None:
    write(tmp_path / "cats", {"1.png": draw(1)})
    assert refuse(tmp_path / "cats", tmp_path) == (
        f"{tmp_path}/cats: holds files where a folder for each class must be; if it is the folder of one class,"
        " name the folder that contains it."
    )


# --- formats -----------------------------------------------------------------------------------


def test_webp_and_tiff_are_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split, file_format in (("train", "WEBP"), ("val", "TIFF")):
        write(
            data / split, {f"{name}/{n}.{file_format.lower()}": draw(n, file_format) for name in "ab" for n in (1, 2)}
        )
    ingest(data, tmp_path / "examples")
    for split in ("train", "val"):
        for example in open_examples(tmp_path / "examples").read(split):
            number = int(example.filename.rpartition("/")[2].partition(".")[0])
            stored, drawn = Image.open(io.BytesIO(example.encoded)), Image.open(io.BytesIO(draw(number)))
            assert (stored.format, stored.tobytes()) == ("PNG", drawn.tobytes())
