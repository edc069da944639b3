"""One Beam pipeline over all splits: TFDV statistics, and the duplicates and blanks that TFDV cannot see."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from components.shared.beam import local_copy, new_pipeline, take, work_folder
from components.shared.formats import examples
from components.shared.formats.examples import ExamplesManifest, parse_example
from components.shared.formats.findings import Finding

# What statistics are about. Never the encoded image, and not its names, of which there is one per image.
FEATURES = (examples.LABEL, examples.CLASS, examples.FORMAT, examples.CHANNELS, *examples.SCALARS)


def compute(
    folder: str, manifest: ExamplesManifest, blank_contrast: float, beam_options: list[str], output: Path
) -> list[Finding]:
    """Writes `<split>.tfrecord` with a DatasetFeatureStatisticsList to `output`; returns findings about images.

    `folder` is where the workers find the examples, a path or a URI.
    """
    import apache_beam as beam
    import tensorflow_data_validation as tfdv
    from tfx_bsl.public import tfxio

    to_record_batches = tfxio.TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["validate"])
    options = tfdv.StatsOptions(feature_allowlist=list(FEATURES))
    with work_folder(beam_options, output) as work:
        with new_pipeline(beam_options) as pipeline:
            images = []
            for split in manifest.splits:
                print(f"validate: statistics of {split}", flush=True)
                paths = [f"{folder}/{shard.name}" for shard in manifest.splits[split].shards]
                records = (
                    pipeline
                    | f"{split} shards" >> beam.Create(paths)
                    | f"read {split}" >> beam.io.ReadAllFromTFRecord()
                )
                images.append(records | f"{split} images" >> beam.Map(_describe, split=split))
                _ = (
                    records
                    | f"{split} as record batches" >> to_record_batches.BeamSource()
                    | f"{split} statistics" >> tfdv.GenerateStatistics(options)
                    | f"write {split}" >> tfdv.WriteStatisticsToTFRecord(f"{work}/{split}.tfrecord")
                )
            rows = images | "all images" >> beam.Flatten()
            blanks = rows | "blanks" >> beam.FlatMap(_blank, threshold=blank_contrast)
            duplicates = (
                rows
                | "by content" >> beam.GroupBy(lambda image: image.sha256)
                | "duplicates" >> beam.FlatMapTuple(_duplicates)
            )
            _ = (
                (blanks, duplicates)
                | "findings" >> beam.Flatten()
                | "as JSON" >> beam.Map(json.dumps)
                | "write findings" >> beam.io.WriteToText(f"{work}/findings", shard_name_template="")
            )
        for split in manifest.splits:
            take(f"{work}/{split}.tfrecord", output / f"{split}.tfrecord")
        with local_copy(f"{work}/findings") as path, path.open() as lines:
            return [json.loads(line) for line in lines]


class _Image(NamedTuple):
    """What the findings need of an image; without its bytes, so that little is shuffled."""

    split: str
    filename: str
    class_name: str
    sha256: str
    contrast: float


def _describe(record: bytes, split: str) -> _Image:
    example = parse_example(record)
    return _Image(split, example.filename, example.class_name, example.sha256, example.contrast)


def _blank(image: _Image, threshold: float) -> Iterator[Finding]:
    if image.contrast < threshold:
        yield {"kind": "blank", "message": f"contrast {image.contrast:.3f}.", "images": [image.filename]}


def _duplicates(_: str, images: Iterable[_Image]) -> Iterator[Finding]:
    group = sorted(images, key=lambda image: image.filename)
    if len(group) < 2:
        return
    splits, classes = {image.split for image in group}, {image.class_name for image in group}
    if len(classes) > 1:
        kind = "duplicate_with_other_label"
    elif len(splits) > 1:
        kind = "duplicate_across_splits"
    else:
        kind = "duplicate_in_split"
    yield {
        "kind": kind,
        "message": f"{len(group)} files, the same bytes.",
        "images": [image.filename for image in group],
    }
