"""The schema of the examples, and what in their statistics does not fit it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import examples
from components.files import UserError
from components.validate.image_statistics import FEATURES

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

UNSEEN_FEATURES = (examples.ENCODED, examples.FILENAME, examples.SHA256)  # part of the schema, not of the statistics


def detect(
    statistics: Path, curated: Path, label_threshold: float, scalar_threshold: float
) -> tuple["Schema", list[dict[str, Any]]]:
    """The schema (the curated one if that file exists, else inferred from train), and a finding per anomaly.

    TFDV calls a difference between train and val `skew`, and one between train and test `drift`: the L-infinity
    distance of the label distributions, the Jensen-Shannon divergence of the scalars.
    """
    import tensorflow_data_validation as tfdv

    loaded = {path.stem: tfdv.load_statistics(str(path)) for path in sorted(statistics.glob("*.tfrecord"))}
    schema = _read_schema(curated) if curated.exists() else _infer_schema(loaded["train"])
    seen = _seen_part(schema)
    found = []
    for split, split_statistics in loaded.items():
        anomalies = tfdv.validate_statistics(split_statistics, seen)
        found += [{**finding, "kind": "schema"} for finding in _findings(anomalies, split)]
    _set_comparators(seen, label_threshold, scalar_threshold)
    for kind, split, role in (("skew", "val", "serving_statistics"), ("drift", "test", "previous_statistics")):
        if split in loaded:
            compared = tfdv.validate_statistics(loaded["train"], seen, **{role: loaded[split]})
            found += [{**finding, "kind": kind} for finding in _findings(compared, f"train against {split}", comparison=True)]
    return schema, found


def write_schema(schema: "Schema", path: Path) -> None:
    import tensorflow_data_validation as tfdv

    tfdv.write_schema_text(schema, str(path))


def _read_schema(path: Path) -> "Schema":
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


def _infer_schema(train_statistics: Any) -> "Schema":
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = tfdv.infer_schema(train_statistics, infer_feature_shape=True)
    for name in UNSEEN_FEATURES:
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    return schema


def _seen_part(schema: "Schema") -> "Schema":
    seen = type(schema)()
    seen.CopyFrom(schema)
    for feature in list(seen.feature):
        if feature.name in UNSEEN_FEATURES:
            seen.feature.remove(feature)
    return seen


def _set_comparators(schema: "Schema", label_threshold: float, scalar_threshold: float) -> None:
    for feature in schema.feature:
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            if feature.name == examples.CLASS:
                comparator.infinity_norm.threshold = label_threshold
            elif feature.name in examples.SCALARS:
                comparator.jensen_shannon_divergence.threshold = scalar_threshold


def _findings(anomalies: Any, where: str, comparison: bool = False) -> list[dict[str, Any]]:
    from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo

    comparisons = {
        value for name, value in AnomalyInfo.Type.items() if "COMPARATOR" in name and name.endswith(("HIGH", "HIGH_NUM"))
    }
    return [
        {"message": f"{where}: {name}: {reason.description}", "images": []}
        for name, info in sorted(anomalies.anomaly_info.items())
        for reason in info.reason
        if (reason.type in comparisons) == comparison
    ]
