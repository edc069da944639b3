"""The schema of the examples, and what in their statistics does not fit it."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies, AnomalyInfo
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from components.shared.errors import UserError
from components.shared.formats import examples as columns
from components.shared.formats.examples import ExampleSet, ImageExample
from components.shared.formats.findings import Finding
from components.shared.formats.schema import read_schema
from components.validate.image_statistics import FEATURES

UNSEEN_FEATURES = (columns.ENCODED, columns.FILENAME, columns.SHA256)  # part of the schema, not of the statistics
COMPARISONS = (AnomalyInfo.COMPARATOR_L_INFTY_HIGH, AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH)

Statistics = dict[str, DatasetFeatureStatisticsList]  # by split


def load_statistics(folder: Path, splits: list[str]) -> Statistics:
    """Loads the statistics that image_statistics.py wrote to the folder."""
    return {split: tfdv.load_statistics(str(folder / f"{split}.tfrecord")) for split in splits}


def read_curated_schema(path: Path) -> Schema:
    """Reads the schema that people curate.

    Raises:
        UserError: The file is not a schema, or leaves features out.
    """
    schema = read_schema(path, "fix that line, or remove the file to infer a schema")
    missing = {*FEATURES, *UNSEEN_FEATURES} - {feature.name for feature in schema.feature}
    if missing:
        raise UserError(f"{path}: the features {', '.join(sorted(missing))} are missing; add them.")
    return schema


def infer_schema(statistics: Statistics) -> Schema:
    """Infers a schema from train with TFDV, and adds the features that the statistics leave out."""
    schema: Schema = tfdv.infer_schema(statistics["train"], infer_feature_shape=True)
    for name in UNSEEN_FEATURES:
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    return schema


def find_anomalies(statistics: Statistics, schema: Schema, examples: ExampleSet) -> list[Finding]:
    """Checks each split against the schema.

    Args:
        statistics: Those of each split.
        schema: What the examples must look like.
        examples: Read again for the names of the images that do not fit.

    Returns:
        A finding per anomaly, with the images whose value is outside the feature's domain.
    """
    features = {feature.name: feature for feature in schema.feature}
    findings: list[Finding] = []
    for split, split_statistics in statistics.items():
        anomalies = tfdv.validate_statistics(split_statistics, _drop_unseen(schema))
        for name, message in _list_reasons(anomalies, comparisons=False):
            outside = _find_outside(features[name], schema, examples.read(split)) if name in features else []
            findings.append({"kind": "schema", "message": f"{split}: {name}: {message}", "images": outside})
    return findings


def compare_splits(
    statistics: Statistics, schema: Schema, *, label_threshold: float, scalar_threshold: float
) -> list[Finding]:
    """Compares the distributions of train with those of val and test.

    TFDV's words are kept: train against val is `skew`, train against test is `drift`.

    Args:
        statistics: Those of each split.
        schema: The features to compare.
        label_threshold: The largest L-infinity distance of the labels that is no finding, 0 to 1.
        scalar_threshold: The largest Jensen-Shannon divergence of a scalar that is no finding, 0 to 1.

    Returns:
        A finding per feature that is distributed differently in another split.
    """
    compared = _drop_unseen(schema)
    for feature in compared.feature:
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            if feature.name == columns.CLASS:
                comparator.infinity_norm.threshold = label_threshold
            elif feature.name in columns.SCALARS:
                comparator.jensen_shannon_divergence.threshold = scalar_threshold
    findings: list[Finding] = []
    for kind, split, role in (("skew", "val", "serving_statistics"), ("drift", "test", "previous_statistics")):
        if split in statistics:
            anomalies = tfdv.validate_statistics(statistics["train"], compared, **{role: statistics[split]})
            for name, message in _list_reasons(anomalies, comparisons=True):
                findings.append({"kind": kind, "message": f"train against {split}: {name}: {message}", "images": []})
    return findings


def _drop_unseen(schema: Schema) -> Schema:
    """A copy of the schema with the features that are in the statistics."""
    seen = Schema()
    seen.CopyFrom(schema)
    for feature in schema.feature:
        if feature.name in UNSEEN_FEATURES:
            seen.feature.remove(feature)
    return seen


def _list_reasons(anomalies: Anomalies, *, comparisons: bool) -> list[tuple[str, str]]:
    """Feature and description of each anomaly that comes, or does not come, from comparing two splits."""
    return [
        (name, reason.description)
        for name, info in sorted(anomalies.anomaly_info.items())
        for reason in info.reason
        if (reason.type in COMPARISONS) == comparisons
    ]


def _find_outside(feature: Feature, schema: Schema, examples: Iterable[ImageExample]) -> list[str]:
    """The names of the images whose value of the feature is not in its domain."""
    position = columns.FEATURES.index(feature.name)
    return sorted(example.filename for example in examples if not _is_in_domain(example[position], feature, schema))


def _is_in_domain(value: object, feature: Feature, schema: Schema) -> bool:
    """Whether the value is one that the feature may have; any value is, if the schema names no domain."""
    kind = feature.WhichOneof("domain_info")
    if kind in ("int_domain", "float_domain"):
        domain = getattr(feature, kind)
        too_low = domain.HasField("min") and value < domain.min
        return not too_low and not (domain.HasField("max") and value > domain.max)
    if kind == "domain":
        return any(domain.name == feature.domain and value in domain.value for domain in schema.string_domain)
    return kind != "string_domain" or value in feature.string_domain.value
