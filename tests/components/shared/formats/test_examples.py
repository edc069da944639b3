import json
import shutil
from pathlib import Path

import pytest

from components.shared.errors import UserError
from components.shared.formats import examples as ex


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    return shutil.copytree(examples, tmp_path / "examples")


def test_whole_folder_gives_its_manifest(examples: Path) -> None:
    manifest = ex.read_manifest(examples)
    assert manifest == json.loads((examples / "examples.json").read_text())
    listed = {Path(path).name for split in manifest["splits"] for path in ex.shard_paths(examples, manifest, split)}
    assert listed == {path.name for path in examples.glob("*.tfrecord")}


@pytest.mark.parametrize("manifest", [None, b"", b'{"classes": ['], ids=["missing", "empty", "cut"])
def test_unreadable_manifest_is_named(folder: Path, manifest: bytes | None) -> None:
    (folder / "examples.json").unlink()
    if manifest is not None:
        (folder / "examples.json").write_bytes(manifest)
    with pytest.raises(UserError, match="cannot be read") as caught:
        ex.read_manifest(folder)
    assert str(folder / "examples.json") in str(caught.value)


def test_missing_shard_is_named(folder: Path) -> None:
    for shard in sorted(folder.glob("*.tfrecord")):
        hidden = shard.rename(folder / "hidden")
        with pytest.raises(UserError, match="missing") as caught:
            ex.read_manifest(folder)
        assert str(shard) in str(caught.value)
        hidden.rename(shard)
    ex.read_manifest(folder)


@pytest.mark.parametrize("position", [0, 0.5, 1], ids=["first byte", "middle", "last byte"])
def test_changed_byte_in_a_shard_is_named(folder: Path, position: float) -> None:
    for shard in sorted(folder.glob("*.tfrecord")):
        whole = shard.read_bytes()
        changed = bytearray(whole)
        changed[int(position * (len(whole) - 1))] ^= 1
        shard.write_bytes(changed)
        with pytest.raises(UserError, match="differs from its checksum") as caught:
            ex.read_manifest(folder)
        assert str(shard) in str(caught.value)
        shard.write_bytes(whole)
    ex.read_manifest(folder)


def test_examples_come_in_the_order_of_the_shards(examples: Path) -> None:
    paths = ex.shard_paths(examples, ex.read_manifest(examples), "train")
    assert len(paths) > 1
    names = [[ex.text(example, ex.FILENAME) for example in ex.read_examples([path])] for path in paths]
    assert all(names)
    assert [ex.text(example, ex.FILENAME) for example in ex.read_examples(paths)] == sum(names, [])
