"""A labelled data set -> a folder of TFRecord shards with its manifest, in one Beam pipeline."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count, ToList

from components.ingest.layout import Layout, read_layout
from components.ingest.md5s import compute_version
from components.ingest.shards import OTHERS, BadFile, ShardSettings, WrittenShard, assign_shard, write_shard
from components.ingest.sources import File, Source
from components.shared.beam import make_pipeline, make_work_folder, open_local_copy, open_local_target, take
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats.examples import (
    ExamplesManifest,
    Quarantined,
    Shard,
    SplitInfo,
    name_shard,
    write_manifest,
)

Part = tuple[int, tuple[str, ...]]  # the position of its source in Layout.sources, and one of Source.split_listing
ClassKey = tuple[str, ...]  # split and class


def ingest_folders(
    data_uri: str,
    *,
    test_data_uri: str,
    data_version: str,
    ignored: Sequence[str] = (),
    classes: list[str],
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    beam_options: list[str],
    output: str,
) -> ExamplesManifest:
    """Writes the shards and `examples.json` to the folder `output`, which is whole or absent.

    The arguments are those of the component (component.py).

    Returns:
        The manifest, as written.

    Raises:
        UserError: An option or the data is wrong.
    """
    _check_options(on_bad_image, shards)
    layout = read_layout(data_uri, test_data_uri, classes, frozenset(ignored))
    version = _check_version(layout.data, data_version)
    with new_directory(output) as folder:
        with make_work_folder(beam_options, folder) as work:
            settings = _make_settings(layout, bool(version), max_pixels=max_pixels, shards=shards, work=work)
            written = _run(layout, settings, max_images=max_images, beam_options=beam_options)
            bad = _collect_bad(written, on_bad_image)
            version = version or _compute_version(written)
            splits = {
                split.name: _take_split(split.name, written, classes=layout.classes, folder=folder)
                for split in layout.splits
            }
        _check_splits(splits, bad)
        quarantined = [Quarantined(image.name, image.reason) for image in bad]
        manifest = ExamplesManifest(data_uri, test_data_uri, version, layout.classes, splits, quarantined)
        write_manifest(folder, manifest)
    return manifest


def _check_options(on_bad_image: str, shards: int) -> None:
    if on_bad_image not in ("fail", "quarantine"):
        raise UserError(f"on_bad_image is '{on_bad_image}'; it must be fail or quarantine.")
    if shards < 1:
        raise UserError(f"shards is {shards}; it must be 1 or more.")


def _check_version(data: Source, given: str) -> str:
    """The version of the data as far as it is known before its files are read; else empty."""
    if data.version and given not in ("", data.version):
        raise UserError(f"data_version is {given}, but data_uri names {data.version}; leave data_version empty.")
    return data.version or given


def _make_settings(layout: Layout, is_version_known: bool, *, max_pixels: int, shards: int, work: str) -> ShardSettings:
    versioned = () if is_version_known else tuple(s.name for s in layout.splits if s.source is layout.data)
    return ShardSettings(
        labels={name: label for label, name in enumerate(layout.classes)},
        max_pixels=max_pixels,
        shards=shards,
        versioned=versioned,
        work=work,
        sources={OTHERS: layout.data, **{split.name: split.source for split in layout.splits}},
    )


def _run(layout: Layout, settings: ShardSettings, *, max_images: int, beam_options: list[str]) -> list[WrittenShard]:
    """Lists the files, many folders at once, and writes the shards.

    Raises:
        UserError: A worker failed, or the data as listed is refused.
    """
    results = f"{settings.work}/results"
    parts = _list_parts(layout, bool(settings.versioned))
    addresses = {(split.name, name): split.join_address(name) for split in layout.splits for name in layout.classes}
    with make_pipeline(beam_options) as pipeline:
        listed = pipeline | "parts" >> beam.Create(parts) | "list" >> beam.FlatMap(_list_part, layout.sources)
        files = listed | "files" >> beam.Filter(lambda listed: isinstance(listed, File))
        failures = listed | "failures" >> beam.Filter(lambda listed: isinstance(listed, str))
        # The input of the writers, so that no image is read before all are listed and counted.
        refusal = (
            pipeline
            | "addresses" >> beam.Create([addresses])
            | "check"
            >> beam.Map(_check_listing, max_images, beam.pvalue.AsDict(_count(files)), beam.pvalue.AsList(failures))
        )
        written = (
            files
            | "by shard" >> beam.Map(lambda file, shards: (assign_shard(file, shards), file), settings.shards)
            | "shards" >> beam.GroupByKey()
            | "write" >> beam.FlatMap(write_shard, beam.pvalue.AsSingleton(refusal), settings)
        )
        refused = refusal | "refused" >> beam.Filter(bool)
        _ = (
            (written, refused)
            | "both" >> beam.Flatten()
            | "results" >> ToList()
            | "write results" >> beam.Map(_write_results, results)
        )
    return _read_results(results)


def _count(files: PCollection[File]) -> PCollection[tuple[ClassKey, int]]:
    """How many images each class of each split has."""
    counts: PCollection[tuple[ClassKey, int]] = (
        files
        | "images" >> beam.Filter(lambda file: file.is_image)
        | "classes" >> beam.Map(lambda file: tuple(file.name.split("/")[:2]))
        | "counts" >> Count.PerElement()
    )
    return counts


def _list_parts(layout: Layout, versioned: bool) -> list[Part]:
    """What to list: the class folders and, for the data version, what lies beside them."""
    parts = []
    for position, source in enumerate(layout.sources):
        splits = [split.folders for split in layout.splits if split.source is source]
        folders = [(*split, name) for split in splits for name in layout.classes]
        if versioned and source is layout.data:
            folders += [(), *splits]
        parts += [(position, part) for part in source.split_listing(folders)]
    return parts


def _list_part(part: Part, sources: list[Source]) -> Iterator[File | str]:
    """Yields the files of a part; if it cannot be listed, the reason."""
    position, folders = part
    try:
        yield from sources[position].list_files(folders)
    except UserError as error:
        yield str(error)


def _check_listing(
    addresses: dict[ClassKey, str], max_images: int, counts: dict[ClassKey, int], failures: list[str]
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


def _write_results(results: list[WrittenShard | str], address: str) -> None:
    content = [result if isinstance(result, str) else result.to_json() for result in results]
    with open_local_target(address) as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def _read_results(address: str) -> list[WrittenShard]:
    with open_local_copy(address) as path:
        content = json.loads(path.read_text(encoding="utf-8"))
    failures = [result for result in content if isinstance(result, str)]
    if failures:
        raise UserError(min(failures))
    return [WrittenShard.from_json(result) for result in content]


def _compute_version(written: list[WrittenShard]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for address in (shard.md5s for shard in written if shard.md5s):
            paths.append(Path(folder) / Path(address).name)
            take(address, paths[-1])
        return compute_version(paths)


def _take_split(split: str, written: list[WrittenShard], *, classes: list[str], folder: Path) -> SplitInfo:
    """Takes the shards of a split, numbered on without those that got no image, and counts."""
    filled = sorted((w for w in written if w.split == split and w.classes), key=lambda shard: shard.number)
    shards = []
    for index, shard in enumerate(filled):
        name = name_shard(split, index, len(filled))
        take(shard.address, folder / name)
        shards.append(Shard(name, sum(shard.classes.values()), shard.sha256))
    counts = sum((Counter(shard.classes) for shard in filled), Counter[str]())
    return SplitInfo(counts.total(), {name: counts[name] for name in classes}, shards)


def _collect_bad(written: list[WrittenShard], on_bad_image: str) -> list[BadFile]:
    bad = sorted(image for shard in written for image in shard.bad)
    if bad and on_bad_image == "fail":
        raise UserError(_describe(bad))
    return bad


def _check_splits(splits: dict[str, SplitInfo], bad: list[BadFile]) -> None:
    for split, content in splits.items():
        if not content.images:
            raise UserError(f"the {split} split has no good image left; {_describe(bad)}")


def _describe(bad: list[BadFile], shown: int = 20) -> str:
    lines = [f"{image.address}: {image.reason}" for image in bad[:shown]]
    if len(bad) > shown:
        lines.append(f"... and {len(bad) - shown:,} more")
    count = "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"
    return "\n".join([f"{count}; fix or remove them, or set on_bad_image to quarantine to leave them out:", *lines])
