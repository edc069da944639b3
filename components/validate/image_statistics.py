"""One Beam pipeline over all splits: TFDV statistics, and the duplicates and blanks that TFDV cannot see."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import tensorflow_data_validation as tfdv
from apache_beam.pvalue import PCollection
from tfx_bsl.public import tfxio

from components.shared.beam import check_complete, make_pipeline, make_work_folder, open_local_copy, take
from components.shared.formats import examples as columns
from components.shared.formats.examples import ExampleSet, parse_example
from components.shared.formats.findings import Finding

# What statistics are about. Never the encoded image, and not its names, of which there is one per image.
FEATURES = (columns.LABEL, columns.CLASS, columns.FORMAT, columns.CHANNELS, *columns.SCALARS)


class ImageSummary(NamedTuple):
    """What the findings need to know of an image; without its bytes, so that little is shuffled."""

    split: str
    filename: str
    class_name: str
    sha256: str
    contrast: float  # standard deviation of the intensity, 0 .. 0.5


def compute_statistics(
    examples: ExampleSet, *, address: str, blank_contrast: float, beam_options: list[str], output: Path
) -> list[Finding]:
    """Writes the statistics of each split and looks for blank and duplicate images.

    Args:
        examples: The examples.
        address: Where the workers find them, a path or a URI.
        blank_contrast: An image with less contrast (standard deviation of intensity, 0 to 0.5) is blank.
        beam_options: Options of Apache Beam, each as --name=value.
        output: The folder that gets <split>.tfrecord, each with one DatasetFeatureStatisticsList.

    Returns:
        The blank images and the groups of duplicates, in any order.

    Raises:
        UserError: An option of Beam is wrong.
    """
    splits = list(examples.manifest.splits)
    with make_work_folder(beam_options, output) as work:
        with make_pipeline(beam_options) as pipeline:
            summaries = []
            for split in splits:
                print(f"validate: statistics of {split}", flush=True)
                records = (
                    pipeline
                    | f"{split} shards" >> beam.Create(examples.list_shard_paths(split, address))
                    | f"read {split}" >> beam.io.ReadAllFromTFRecord()
                )
                summaries.append(records | f"{split} images" >> beam.Map(_summarize, split=split))
                _write_statistics(records, split, f"{work}/{split}.tfrecord")
            _write_findings(summaries, blank_contrast, f"{work}/findings")
        for split in splits:
            take(f"{work}/{split}.tfrecord", output / f"{split}.tfrecord")
            statistics = tfdv.load_statistics(str(output / f"{split}.tfrecord"))
            check_complete(int(statistics.datasets[0].num_examples), examples.manifest.splits[split].images)
        with open_local_copy(f"{work}/findings") as path, path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def _write_statistics(records: PCollection[bytes], split: str, address: str) -> None:
    to_record_batches = tfxio.TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["validate"])
    options = tfdv.StatsOptions(feature_allowlist=list(FEATURES))
    _ = (
        records
        | f"{split} as record batches" >> to_record_batches.BeamSource()
        | f"{split} statistics" >> tfdv.GenerateStatistics(options)
        | f"write {split}" >> tfdv.WriteStatisticsToTFRecord(address)
    )


def _write_findings(summaries: list[PCollection[ImageSummary]], blank_contrast: float, address: str) -> None:
    images = summaries | "all images" >> beam.Flatten()
    blanks = images | "blanks" >> beam.FlatMap(_find_blank, blank_contrast)
    duplicates = (
        images
        | "by content" >> beam.GroupBy(lambda image: image.sha256)
        | "duplicates" >> beam.FlatMapTuple(_find_duplicates)
    )
    _ = (
        (blanks, duplicates)
        | "findings" >> beam.Flatten()
        | "as JSON" >> beam.Map(json.dumps)
        | "write findings" >> beam.io.WriteToText(address, shard_name_template="")
    )


def _summarize(record: bytes, split: str) -> ImageSummary:
    example = parse_example(record)
    return ImageSummary(split, example.filename, example.class_name, example.sha256, example.contrast)


def _find_blank(image: ImageSummary, threshold: float) -> Iterator[Finding]:
    if image.contrast < threshold:
        yield {"kind": "blank", "message": f"contrast {image.contrast:.3f}.", "images": [image.filename]}


def _find_duplicates(_: str, images: Iterable[ImageSummary]) -> Iterator[Finding]:
    group = sorted(images, key=lambda image: image.filename)
    if len(group) < 2:
        return
    if len({image.class_name for image in group}) > 1:
        kind = "duplicate_with_other_label"
    elif len({image.split for image in group}) > 1:
        kind = "duplicate_across_splits"
    else:
        kind = "duplicate_in_split"
    names = [image.filename for image in group]
    yield {"kind": kind, "message": f"{len(group)} files have the same bytes.", "images": names}
