"""The schema of the examples, and what in their statistics does not fit it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import UserError
from components.shared.formats import examples
from components.shared.formats.examples import ExampleSet, ImageExample
from components.shared.formats.findings import Finding
from components.validate.image_statistics import FEATURES

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

UNSEEN_FEATURES = (examples.ENCODED, examples.FILENAME, examples.SHA256)  # part of the schema, not of the statistics

Statistics = dict[str, "DatasetFeatureStatisticsList"]  # by split


def load_statistics(folder: Path, splits: list[str]) -> Statistics:
    import tensorflow_data_validation as tfdv

    return {split: tfdv.load_statistics(str(folder / f"{split}.tfrecord")) for split in splits}


def read_schema(path: Path) -> "Schema":
    """The curated schema.

    Raises:
        UserError: the file is not a schema, or leaves features out.
    """
    import tensorflow_data_validation as tfdv
    from google.protobuf.text_format import ParseError

    try:
        schema = tfdv.load_schema_text(str(path))
    except ParseError as error:
        raise UserError(f"{path}: not a schema ({error}); mend that line, or remove the file to infer one.") from None
    missing = {*FEATURES, *UNSEEN_FEATURES} - {feature.name for feature in schema.feature}
    if missing:
        raise UserError(f"{path}: the features {', '.join(sorted(missing))} are missing; add them.")
    return schema


def infer_schema(statistics: Statistics) -> "Schema":
    """What TFDV infers from the train split, with the features that the statistics leave out."""
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = tfdv.infer_schema(statistics["train"], infer_feature_shape=True)
    for name in UNSEEN_FEATURES:
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    return schema


def schema_findings(statistics: Statistics, schema: "Schema", images: ExampleSet) -> list[Finding]:
    """A finding per anomaly of each split's statistics, with the images that lie outside the feature's domain."""
    import tensorflow_data_validation as tfdv

    features = {feature.name: feature for feature in schema.feature}
    found: list[Finding] = []
    for split, split_statistics in statistics.items():
        anomalies = tfdv.validate_statistics(split_statistics, _seen_part(schema))
        for name, message in _reasons(anomalies, comparisons=False):
            outside = _outside(features[name], schema, images.read(split)) if name in features else []
            found.append({"kind": "schema", "message": f"{split}: {name}: {message}", "images": outside})
    return found


def comparison_findings(
    statistics: Statistics, schema: "Schema", label_threshold: float, scalar_threshold: float
) -> list[Finding]:
    """A finding per feature that train and another split have in different distributions.

    Measured are the L-infinity distance of the labels and the Jensen-Shannon divergence of the scalars. TFDV's words
    are kept: train against val is `skew`, train against test is `drift`.
    """
    import tensorflow_data_validation as tfdv

    compared = _seen_part(schema)
    for feature in compared.feature:
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            if feature.name == examples.CLASS:
                comparator.infinity_norm.threshold = label_threshold
            elif feature.name in examples.SCALARS:
                comparator.jensen_shannon_divergence.threshold = scalar_threshold
    found: list[Finding] = []
    for kind, split, role in (("skew", "val", "serving_statistics"), ("drift", "test", "previous_statistics")):
        if split in statistics:
            anomalies = tfdv.validate_statistics(statistics["train"], compared, **{role: statistics[split]})
            for name, message in _reasons(anomalies, comparisons=True):
                found.append({"kind": kind, "message": f"train against {split}: {name}: {message}", "images": []})
    return found


def write_schema(schema: "Schema", path: Path) -> None:
    import tensorflow_data_validation as tfdv

    tfdv.write_schema_text(schema, str(path))


def _seen_part(schema: "Schema") -> "Schema":
    seen = type(schema)()
    seen.CopyFrom(schema)
    for feature in schema.feature:
        if feature.name in UNSEEN_FEATURES:
            seen.feature.remove(feature)
    return seen


def _reasons(anomalies: "Anomalies", comparisons: bool) -> list[tuple[str, str]]:
    """Feature and description of each anomaly that is, or is not, one of comparing two splits."""
    from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo

    kinds = (AnomalyInfo.COMPARATOR_L_INFTY_HIGH, AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH)
    return [
        (name, reason.description)
        for name, info in sorted(anomalies.anomaly_info.items())
        for reason in info.reason
        if (reason.type in kinds) == comparisons
    ]


def _outside(feature: "Feature", schema: "Schema", images: Iterable[ImageExample]) -> list[str]:
    """Those of the images whose value of the feature is not in its domain."""
    named = {domain.name: domain for domain in schema.string_domain}
    kind = feature.WhichOneof("domain_info")
    found = []
    for image in images:
        value = image[examples.FEATURES.index(feature.name)]
        if kind in ("int_domain", "float_domain"):
            domain = getattr(feature, kind)
            low, high = domain.HasField("min"), domain.HasField("max")
            outside = (low and value < domain.min) or (high and value > domain.max)
        elif kind in ("domain", "string_domain"):
            domain = named[feature.domain] if kind == "domain" else feature.string_domain
            outside = value not in domain.value
        else:
            outside = False
        if outside:
            found.append(image.filename)
    return sorted(found)
