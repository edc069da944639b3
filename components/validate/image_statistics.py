"""One Beam pipeline over all splits: TFDV statistics, and the duplicates and blanks that TFDV cannot see."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from components.shared.beam import local_copy, new_pipeline, take, work_folder
from components.shared.formats import examples

# What statistics are about. Never the encoded image, and not its names, of which there is one per image.
FEATURES = (examples.LABEL, examples.CLASS, examples.FORMAT, examples.CHANNELS, *examples.SCALARS)


def compute(
    folder: str, manifest: dict[str, Any], blank_contrast: float, beam_options: list[str], output: Path
) -> list[dict[str, Any]]:
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
            for split in manifest["splits"]:
                print(f"validate: statistics of {split}", flush=True)
                paths = examples.shard_paths(folder, manifest, split)
                records = (
                    pipeline
                    | f"{split} shards" >> beam.Create(paths)
                    | f"read {split}" >> beam.io.ReadAllFromTFRecord()
                )
                images.append(records | f"{split} images" >> beam.Map(_image_row, split=split))
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
                | "by content" >> beam.GroupBy(lambda row: row["sha256"])
                | "duplicates" >> beam.FlatMapTuple(_duplicates)
            )
            _ = (
                (blanks, duplicates)
                | "findings" >> beam.Flatten()
                | "as JSON" >> beam.Map(json.dumps)
                | "write findings" >> beam.io.WriteToText(f"{work}/findings", shard_name_template="")
            )
        for split in manifest["splits"]:
            take(f"{work}/{split}.tfrecord", output / f"{split}.tfrecord")
        with local_copy(f"{work}/findings") as path, path.open() as lines:
            return [json.loads(line) for line in lines]


def _image_row(record: bytes, split: str) -> dict[str, Any]:
    import tensorflow as tf

    example = tf.train.Example.FromString(record)
    return {
        "split": split,
        "filename": examples.text(example, examples.FILENAME),
        "class": examples.text(example, examples.CLASS),
        "sha256": examples.text(example, examples.SHA256),
        "contrast": example.features.feature[examples.CONTRAST].float_list.value[0],
    }


def _blank(row: dict[str, Any], threshold: float) -> Iterator[dict[str, Any]]:
    if row["contrast"] < threshold:
        yield {"kind": "blank", "message": f"contrast {row['contrast']:.3f}.", "images": [row["filename"]]}


def _duplicates(_: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    group = sorted(rows, key=lambda row: row["filename"])
    if len(group) < 2:
        return
    splits, classes = ({row[key] for row in group} for key in ("split", "class"))
    if len(classes) > 1:
        kind = "duplicate_with_other_label"
    elif len(splits) > 1:
        kind = "duplicate_across_splits"
    else:
        kind = "duplicate_in_split"
    yield {
        "kind": kind,
        "message": f"{len(group)} files, the same bytes.",
        "images": [row["filename"] for row in group],
    }
