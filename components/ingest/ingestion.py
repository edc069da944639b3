"""Labelled image folders -> a folder of TFRecord shards with its manifest."""

from collections import Counter
from typing import Any

from components.examples import write_manifest
from components.files import UserError, new_directory
from components.ingest import folders
from components.ingest import shards as sharding
from components.ingest.shards import Written


def ingest_folders(
    data_uri: str,
    test_data_uri: str,
    data_version: str,
    classes: list[str],
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    workers: int,
    output: str,
) -> dict[str, Any]:
    """Writes the shards and `examples.json` to `output`, and returns the manifest (see components/examples.py).

    Raises:
        UserError: an option or the data is wrong; `on_bad_image="quarantine"` leaves bad images out instead.
    """
    if on_bad_image not in ("fail", "quarantine"):
        raise UserError(f"on_bad_image is '{on_bad_image}'; it must be fail or quarantine.")
    if shards < 1 or workers < 0:
        raise UserError(f"shards is {shards} and workers is {workers}; shards must be 1 or more, workers 0 or more.")
    images, names = folders.list_images(data_uri, test_data_uri, classes)
    _check_cap(images, max_images)
    labels = {name: label for label, name in enumerate(names)}
    with new_directory(output) as folder:
        plan = sharding.plan_shards(images, shards)
        written = sharding.write_shards(folder, plan, labels, max_pixels, workers)
        bad = sorted((image.filename, str(image.path), reason) for shard in written for image, reason in shard.bad)
        if bad and on_bad_image == "fail":
            raise UserError(_describe(bad))
        splits = _splits(written, names)
        for split, content in splits.items():
            if not content["images"]:
                raise UserError(f"the {split} split has no good image left; {_describe(bad)}")
        md5s = {name: md5 for shard in written for name, md5 in shard.md5s.items()}
        manifest = {
            "data_uri": data_uri,
            "test_data_uri": test_data_uri,
            "data_version": data_version or folders.data_version(data_uri, md5s),
            "classes": names,
            "splits": splits,
            "quarantined": [{"path": filename, "reason": reason} for filename, _, reason in bad],
        }
        write_manifest(folder, manifest)
    return manifest


def _check_cap(images: list[folders.ImageFile], max_images: int) -> None:
    counted = sum(image.split != "test" for image in images)
    if counted > max_images:
        raise UserError(
            f"train and val hold {counted:,} images; max_images allows {max_images:,}: remove {counted - max_images:,}."
        )


def _describe(bad: list[tuple[str, str, str]], shown: int = 20) -> str:
    lines = [f"{path}: {reason}" for _, path, reason in bad[:shown]]
    if len(bad) > shown:
        lines.append(f"... and {len(bad) - shown:,} more")
    count = "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"
    return "\n".join([f"{count}; mend or remove them, or set on_bad_image to quarantine to leave them out:", *lines])


def _splits(written: list[Written], names: list[str]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for result in written:
        split = splits.setdefault(result.shard.split, {"images": 0, "classes": dict.fromkeys(names, 0), "shards": []})
        split["images"] += len(result.images)
        for name, count in Counter(image.class_name for image in result.images).items():
            split["classes"][name] += count
        split["shards"].append({"name": result.shard.name, "images": len(result.images), "sha256": result.sha256})
    return splits
