"""A labelled data set -> a folder of TFRecord shards with its manifest, in one Beam pipeline."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.ingest import md5s
from components.ingest.layout import Layout, read_layout
from components.ingest.shards import Settings, shard_of, write_shard
from components.ingest.sources import File, Source
from components.shared.beam import local_copy, local_target, new_pipeline, take, work_folder
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats.examples import (
    ExamplesManifest,
    Quarantined,
    Shard,
    SplitInfo,
    shard_name,
    write_manifest,
)

Part = tuple[int, tuple[str, ...]]  # the position of its source in Layout.sources, and one of Source.parts


def ingest_folders(
    data_uri: str,
    test_data_uri: str,
    data_version: str,
    classes: list[str],
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    beam_options: list[str],
    output: str,
) -> ExamplesManifest:
    """Writes the shards and `examples.json` to `output`, and returns the manifest (see shared/formats/examples.py).

    Raises:
        UserError: an option or the data is wrong; `on_bad_image="quarantine"` leaves bad images out instead.
    """
    if on_bad_image not in ("fail", "quarantine"):
        raise UserError(f"on_bad_image is '{on_bad_image}'; it must be fail or quarantine.")
    if shards < 1:
        raise UserError(f"shards is {shards}; it must be 1 or more.")
    layout = read_layout(data_uri, test_data_uri, classes)
    version = _known_version(layout.data, data_version)
    versioned = () if version else tuple(split.name for split in layout.splits if split.source is layout.data)
    labels = {name: label for label, name in enumerate(layout.classes)}
    with new_directory(output) as folder:
        with work_folder(beam_options, folder) as work:
            written = _run(layout, Settings(labels, max_pixels, shards, versioned, work), max_images, beam_options)
            bad = sorted(image for result in written for image in result.get("bad", []))
            if bad and on_bad_image == "fail":
                raise UserError(_describe(bad))
            version = version or _version(written)
            splits = {split.name: _take_split(split.name, written, layout.classes, folder) for split in layout.splits}
        for split, content in splits.items():
            if not content.images:
                raise UserError(f"the {split} split has no good image left; {_describe(bad)}")
        manifest = ExamplesManifest(
            data_uri,
            test_data_uri,
            version,
            layout.classes,
            splits,
            [Quarantined(filename, reason) for filename, _, reason in bad],
        )
        write_manifest(folder, manifest)
    return manifest


def _known_version(data: Source, given: str) -> str:
    if data.version and given not in ("", data.version):
        raise UserError(f"data_version is {given}, but data_uri names {data.version}; leave data_version empty.")
    return data.version or given


def _run(layout: Layout, settings: Settings, max_images: int, beam_options: list[str]) -> list[dict[str, Any]]:
    """Lists the files, many folders at once, and writes the shards; returns what write_shard yields.

    Raises:
        UserError: a worker failed, or the data as listed is refused.
    """
    import apache_beam as beam

    addresses = {(split.name, name): split.address(name) for split in layout.splits for name in layout.classes}
    results = f"{settings.work}/results"
    with new_pipeline(beam_options) as pipeline:
        listed = (
            pipeline
            | "folders" >> beam.Create(_parts(layout, bool(settings.versioned)))  # spread over the workers
            | "list" >> beam.FlatMap(_list, layout.sources)
        )
        files = listed | "files" >> beam.Filter(lambda found: isinstance(found, File))
        failures = listed | "failures" >> beam.Filter(lambda found: isinstance(found, str))
        counts = (
            files
            | "images" >> beam.Filter(lambda file: file.is_image)
            | "classes" >> beam.Map(lambda file: tuple(file.name.split("/")[:2]))
            | "counts" >> beam.combiners.Count.PerElement()
        )
        # The input of the writers, so that no image is read before all are listed and counted.
        refusal = (
            pipeline
            | "addresses" >> beam.Create([addresses])
            | "check"
            >> beam.Map(_refusal, max_images, counts=beam.pvalue.AsDict(counts), failures=beam.pvalue.AsList(failures))
        )
        written = (
            files
            | "by shard" >> beam.Map(lambda file, shards: (shard_of(file, shards), file), settings.shards)
            | "shards" >> beam.GroupByKey()
            | "write" >> beam.FlatMap(write_shard, beam.pvalue.AsSingleton(refusal), settings)
        )
        refused = refusal | "refused" >> beam.FlatMap(lambda reason: [{"failure": reason}] if reason else [])
        _ = (
            (written, refused)
            | "both" >> beam.Flatten()
            | "results" >> beam.combiners.ToList()
            | "write results" >> beam.Map(_write_json, results)
        )
    with local_copy(results) as path:
        found = json.loads(path.read_text())
    for reason in sorted(result["failure"] for result in found if "failure" in result):
        raise UserError(reason)
    return found


def _parts(layout: Layout, versioned: bool) -> list[Part]:
    """What to list: the class folders and, for the data version, what lies beside them."""
    parts = []
    for position, source in enumerate(layout.sources):
        splits = [split.folders for split in layout.splits if split.source is source]
        folders = [(*split, name) for split in splits for name in layout.classes]
        if versioned and source is layout.data:
            folders += [(), *splits]
        parts += [(position, part) for part in source.parts(folders)]
    return parts


def _write_json(content: Any, address: str) -> None:
    with local_target(address) as path:
        path.write_text(json.dumps(content))


def _list(part: Part, sources: list[Source]) -> Iterator[Any]:
    """Yields the files of a part; if it cannot be listed, the reason."""
    position, folders = part
    try:
        yield from sources[position].files(folders)
    except UserError as error:
        yield str(error)


def _refusal(
    addresses: dict[tuple[str, str], str], max_images: int, counts: dict[tuple[str, str], int], failures: list[str]
) -> str:
    """Why the data as listed is refused, or nothing. `addresses` has every class of every split."""
    if failures:
        return min(failures)
    for split_and_class, address in addresses.items():
        if split_and_class not in counts:
            return f"{address}: no images in this folder; add some or remove the class everywhere."
    counted = sum(count for (split, _), count in counts.items() if split != "test")
    if counted > max_images:
        return (
            f"train and val hold {counted:,} images; max_images allows {max_images:,}: remove {counted - max_images:,}."
        )
    return ""


def _version(written: list[dict[str, Any]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for address in (result["md5s"] for result in written if result["md5s"]):
            paths.append(Path(folder) / Path(address).name)
            take(address, paths[-1])
        return md5s.data_version(paths)


def _take_split(split: str, written: list[dict[str, Any]], classes: list[str], folder: Path) -> SplitInfo:
    """Takes the shards of a split, numbered on without those that got no image, and counts."""
    results = [result for result in written if result["split"] == split and result["classes"]]
    counts = sum((Counter(result["classes"]) for result in results), Counter())
    shards = []
    for index, result in enumerate(sorted(results, key=lambda result: result["number"])):
        name = shard_name(split, index, len(results))
        take(result["address"], folder / name)
        shards.append(Shard(name, sum(result["classes"].values()), result["sha256"]))
    return SplitInfo(counts.total(), {name: counts[name] for name in classes}, shards)


def _describe(bad: list[list[str]], shown: int = 20) -> str:
    lines = [f"{address}: {reason}" for _, address, reason in bad[:shown]]
    if len(bad) > shown:
        lines.append(f"... and {len(bad) - shown:,} more")
    count = "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"
    return "\n".join([f"{count}; mend or remove them, or set on_bad_image to quarantine to leave them out:", *lines])
