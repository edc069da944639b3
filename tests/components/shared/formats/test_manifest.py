import csv
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.manifest import FILE, CuratedImage, is_image_path, read_manifest, write_manifest

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda name: not name.startswith("."))
PATHS = st.builds(
    lambda split, *names: "/".join([split, *names]), st.sampled_from(["train", "val", "test"]), NAMES, NAMES
)
VALUES = st.floats(allow_nan=False) | st.text(max_size=4) | st.lists(st.floats(-1, 1), max_size=2)
OPERATIONS = st.lists(
    st.builds(
        lambda name, parameters: {**parameters, "operation": name},
        st.sampled_from(["crop", "affine"]),
        st.dictionaries(st.text(max_size=4), VALUES, max_size=2),
    ),
    max_size=3,
)
IMAGE = CuratedImage(
    "train/i/0.png", "0" * 64, "train/v/0.png", "b" * 64, "v/0.png", "i", [{"operation": "crop"}], None
)
SHA256S = st.text("0af", min_size=64, max_size=64)
IMAGES = st.builds(
    CuratedImage, PATHS, SHA256S, PATHS, SHA256S, PATHS, NAMES, OPERATIONS, st.none() | st.integers(0, 2**31)
)


@given(st.lists(IMAGES, min_size=1, max_size=4, unique_by=lambda image: image.filename))
def test_what_is_written_is_read(images: list[CuratedImage]) -> None:
    with TemporaryDirectory() as folder:
        write_manifest(Path(folder), iter(images))
        assert read_manifest(Path(folder)) == images


def test_file_is_as_people_read_it(tmp_path: Path) -> None:
    write_manifest(tmp_path, [IMAGE, IMAGE._replace(operations=[], seed=3)])
    assert (tmp_path / FILE).read_bytes().decode() == (
        "filename,sha256,source_filename,source_sha256,source_path,label,operations,seed\r\n"
        f'train/i/0.png,{"0" * 64},train/v/0.png,{"b" * 64},v/0.png,i,"[{{""operation"": ""crop""}}]",\r\n'
        f"train/i/0.png,{'0' * 64},train/v/0.png,{'b' * 64},v/0.png,i,[],3\r\n"
    )


def refuse(folder: Path, shown: str = "") -> str:
    with pytest.raises(UserError) as caught:
        read_manifest(folder, shown)
    message = str(caught.value)
    assert message.startswith(f"{shown or folder}/{FILE}")
    assert message.endswith("run curate again.") or message.endswith("name a folder that curate made.")
    return message


@pytest.mark.parametrize(
    ("column", "cell", "sentence"),
    [
        ("filename", "../x.png", "filename: is '../x.png', which is not a path like split/class/file;"),
        ("filename", "manifest.csv", "filename: is 'manifest.csv', which is not a path like split/class/file;"),
        ("source_filename", "/etc/x/y.png", "source_filename: is '/etc/x/y.png', which is not a path like"),
        ("filename", "train/v/1.png", "'train/v/1.png' appears twice"),
        ("sha256", "", "sha256: is '', but should match pattern '^[0-9a-f]{64}$'"),
        ("operations", "", "operations: is not JSON (EOF while parsing a value at line 1 column 0)"),
        ("operations", '[{"operation": "cr', "operations: is not JSON (EOF while parsing a string"),
        ("operations", "[" * 100_000, "operations: is not JSON (recursion limit exceeded"),
        ("operations", "3", "operations: is 3, but should be a valid list"),
        ("operations", "[3]", "operations.0: is 3, but should be a valid dictionary"),
        ("operations", "[{}]", "operations.0: has no name as `operation`"),
        ("seed", "one", "seed: is 'one', but should be a valid integer"),
        ("seed", "1" * 5_000, "seed: Unable to parse input string as an integer, exceeded maximum size"),
    ],
)
def test_broken_cells_are_refused(tmp_path: Path, column: str, cell: str, sentence: str) -> None:
    write_manifest(tmp_path, [IMAGE._replace(filename="train/v/1.png"), IMAGE])
    with (tmp_path / FILE).open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    rows[1][column] = cell
    with (tmp_path / FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, CuratedImage._fields)
        writer.writeheader()
        writer.writerows(rows)
    for shown in ("", "gs://bucket/folder"):
        assert f"{FILE}, line 3: {sentence}" in refuse(tmp_path, shown)


@pytest.mark.parametrize("column", CuratedImage._fields)
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    (tmp_path / FILE).write_text(",".join(name for name in CuratedImage._fields if name != column) + "\n")
    assert refuse(tmp_path).endswith(f"{FILE}: no column {column}; name a folder that curate made.")


def test_manifest_that_is_missing_empty_or_torn_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refuse(tmp_path)
    assert "cannot be read (No such file or directory)" in refuse(tmp_path, "gs://bucket/folder")
    write_manifest(tmp_path, [])
    assert "lists no images" in refuse(tmp_path)
    write_manifest(tmp_path, [IMAGE])
    whole = (tmp_path / FILE).read_bytes()
    for length in range(len(whole) - 2):
        (tmp_path / FILE).write_bytes(whole[:length])
        refuse(tmp_path)


@pytest.mark.parametrize("name", ["train/i/0.png", "val/a b/ö.jpg", "test/$v$/x.augmented-1.png", "train/i/a..png"])
def test_path_of_an_image(name: str) -> None:
    assert is_image_path(name)


@pytest.mark.parametrize(
    "name",
    ["", "train/i", "train/i/", "train//x.png", "train/i/.x.png", "train/../x.png", "a/i/x.png", "/train/i/x.png"]
    + ["train/i/x/y.png", "train/i/x\n.png", "train/i\\..\\/x.png", "../train/i/x.png", "Train/i/x.png"]
    + [f"train/i/{'y' * 252}.png", f"train/{'ö' * 128}/x.png"],
)
def test_other_paths(name: str) -> None:
    assert not is_image_path(name)


@given(st.text(max_size=30) | st.lists(st.sampled_from(["train", "..", ".", "", "/", "x"])).map("/".join))
def test_paths_of_images_stay_below_their_folder(name: str) -> None:
    if is_image_path(name):
        folder = Path("/somewhere/data")
        path = Path(os.path.normpath(folder / name))
        assert path.is_relative_to(folder)
        assert len(path.relative_to(folder).parts) == 3
