"""The schema of the examples, and what in their statistics does not fit it."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies, AnomalyInfo
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from components.shared.cloud_storage import open_local_copy
from components.shared.errors import UserError
from components.shared.formats import examples as columns
from components.shared.formats.examples import ExampleSet, ImageExample
from components.shared.formats.findings import Finding
from components.shared.formats.schema import read_schema
from components.validate.image_statistics import FEATURES

UNSEEN_FEATURES = (columns.ENCODED, columns.FILENAME, columns.SHA256)  # part of the schema, not of the statistics
MOST_VALUES = 10_000  # texts that a feature may have, such as classes; by default TFDV gives up after 100
COMPARISONS = (AnomalyInfo.COMPARATOR_L_INFTY_HIGH, AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH)
DEGREES_OF_FREEDOM = 19  # of TFDV's histograms, see _expect_divergence
MOST_DIVERGENCE = (
    0.9  # bits; two distributions that share nothing have 1, which is a finding however few the images are
)

Statistics = dict[str, DatasetFeatureStatisticsList]  # by split


def load_statistics(folder: Path, splits: list[str]) -> Statistics:
    """Loads the statistics that image_statistics.py wrote to the folder."""
    return {split: tfdv.load_statistics(str(folder / f"{split}.tfrecord")) for split in splits}


def read_curated_schema(uri: str) -> Schema:
    """Reads the schema that people curate.

    Args:
        uri: A path or gs://BUCKET/OBJECT.

    Raises:
        UserError: The file is not there, is not a schema, or leaves features out.
    """
    with open_local_copy(uri) as path:
        schema = read_schema(path, "correct that, or leave the schema out to infer one", shown=uri)
    missing = {*FEATURES, *UNSEEN_FEATURES} - {feature.name for feature in schema.feature}
    if missing:
        raise UserError(f"{uri}: the features {', '.join(sorted(missing))} are missing; add them.")
    return schema


def infer_schema(statistics: Statistics) -> Schema:
    """Infers a schema with TFDV that every split fits, and adds the features that the statistics leave out.

    Where the splits differ is for compare_splits to say; a data set is not at odds with what was inferred from it.
    """
    schema: Schema = tfdv.infer_schema(
        statistics["train"], infer_feature_shape=True, max_string_domain_size=MOST_VALUES
    )
    for split, split_statistics in statistics.items():
        if split != "train":
            schema = tfdv.update_schema(schema, split_statistics, max_string_domain_size=MOST_VALUES)
    for name in UNSEEN_FEATURES:
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    return _sort(schema)


def _sort(schema: Schema) -> Schema:
    """The schema in an order that does not depend on Beam's workers, and in which people find what they look for."""
    ordered = Schema()
    ordered.CopyFrom(schema)
    del ordered.feature[:], ordered.string_domain[:]
    ordered.feature.extend(sorted(schema.feature, key=lambda feature: feature.name))
    for domain in sorted(schema.string_domain, key=lambda domain: domain.name):
        ordered.string_domain.add(name=domain.name, value=sorted(domain.value))
    return ordered


def find_anomalies(statistics: Statistics, schema: Schema, examples: ExampleSet) -> list[Finding]:
    """Checks the classes, and each split, against the schema.

    Args:
        statistics: Those of each split.
        schema: What the examples must look like.
        examples: Read again for the images that do not fit, and their values.

    Returns:
        A finding for the classes, if they are others; and one per split and feature, with the images whose value is
        outside the feature's domain.
    """
    features = {feature.name: feature for feature in schema.feature}
    findings = _compare_classes(features[columns.CLASS], schema, examples.manifest.classes)
    # A label is the position of its class, so that it says nothing more.
    told = (columns.CLASS, columns.LABEL) if findings else (columns.CLASS,)
    for split, split_statistics in statistics.items():
        anomalies = tfdv.validate_statistics(split_statistics, _drop_unseen(schema))
        misfits: dict[str, list[str]] = {}
        for name, message in _list_reasons(anomalies, comparisons=False):
            misfits.setdefault(name, []).append(message)
        for name, messages in misfits.items():
            if name in told:
                continue
            outside = _find_outside(features[name], schema, examples.read(split)) if name in features else {}
            what = _describe_outside(features[name], schema, list(outside.values())) if outside else " ".join(messages)
            findings.append({"kind": "schema", "message": f"{split}: {name} {what}", "images": sorted(outside)})
    return findings


def _compare_classes(feature: Feature, schema: Schema, classes: list[str]) -> list[Finding]:
    """A finding if the classes are not those of the schema; a schema without a domain takes any."""
    allowed = _list_values(feature, schema)
    if allowed is None:
        return []
    lacking = [name for name in allowed if name not in classes]
    new = [name for name in classes if name not in allowed]
    parts = [f"{_list_some(new)} {'is' if len(new) == 1 else 'are'} not in the schema"] if new else []
    parts += (
        [f"{_list_some(lacking)} of the schema {'has' if len(lacking) == 1 else 'have'} no images"] if lacking else []
    )
    number = "class" if len(new or lacking) == 1 else "classes"
    message = f"the {number} {', and '.join(parts)}"
    return [{"kind": "schema", "message": message, "images": []}] if parts else []


def _list_some(names: list[str], shown: int = 10) -> str:
    more = [f"{len(names) - shown:,} more"] if len(names) > shown else []
    named = [*names[:shown], *more]
    return " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]


def _describe_outside(feature: Feature, schema: Schema, values: list[Any]) -> str:
    """How the values of the images that do not fit differ from what the schema allows."""
    if (allowed := _list_values(feature, schema)) is not None:
        return f"is {_list_some(sorted(set(values)))}, where the schema has {_list_some(allowed)}"
    domain = getattr(feature, str(feature.WhichOneof("domain_info")))
    lowest, highest = min(values), max(values)
    found = f"is {lowest:.6g}" if lowest == highest else f"is from {lowest:.6g} to {highest:.6g}"
    has_both = domain.HasField("min") and domain.HasField("max")
    if has_both:
        bounds = f"{domain.min:.6g} to {domain.max:.6g}"
    else:
        bounds = f"{domain.min:.6g} or more" if domain.HasField("min") else f"{domain.max:.6g} or less"
    return f"{found}, where the schema has {bounds}"


def compare_splits(
    statistics: Statistics, schema: Schema, *, label_threshold: float, scalar_threshold: float
) -> list[Finding]:
    """Compares the distributions of train with those of val and test.

    The kinds have TFDV's names: train against val is `skew`, train against test is `drift`.

    Args:
        statistics: Those of each split.
        schema: The features to compare.
        label_threshold: The largest L-infinity distance of the labels that is no finding, 0 to 1, beyond the one that
            two samples of the same distribution have: in few images that is large.
        scalar_threshold: The largest Jensen-Shannon divergence of a scalar that is no finding, 0 to 1, likewise.

    Returns:
        A finding per feature that is distributed differently in another split.
    """
    findings: list[Finding] = []
    for kind, split, role in (("skew", "val", "serving_statistics"), ("drift", "test", "previous_statistics")):
        if split in statistics:
            pair = (statistics["train"], statistics[split])
            compared, by_chance = _drop_unseen(schema), _expect_divergence(*pair)
            for feature in compared.feature:
                comparator = getattr(feature, f"{kind}_comparator")
                if feature.name == columns.CLASS:
                    comparator.infinity_norm.threshold = min(label_threshold + _expect_distance(*pair), 1.0)
                elif feature.name in columns.SCALARS:
                    threshold = min(scalar_threshold + by_chance, max(scalar_threshold, MOST_DIVERGENCE))
                    comparator.jensen_shannon_divergence.threshold = threshold
            anomalies = tfdv.validate_statistics(statistics["train"], compared, **{role: statistics[split]})
            for name, message in _list_reasons(anomalies, comparisons=True):
                most = label_threshold if name == columns.CLASS else scalar_threshold
                allowed = rf"\g<0> ({most:g} and what chance allows for this many images)"
                explained = re.sub(r"the threshold [\d.e+-]*\d", allowed, _name_splits(message, split)).rstrip(".")
                said = f"train against {split}: {name}: {explained}."
                findings.append({"kind": kind, "message": said, "images": []})
    return findings


def _name_splits(message: str, split: str) -> str:
    """The description of a comparison with the names of the splits, where TFDV speaks of serving or of earlier data."""
    for pair in ("training and serving", "current and previous"):
        message = message.replace(pair, f"train and {split}")
    return message.replace("Linfty", "L-infinity")


def _expect_divergence(*samples: DatasetFeatureStatisticsList) -> float:
    """The Jensen-Shannon divergence, in bits, to expect of the histograms of two samples of one distribution.

    It has the mean of chi-squared (Grosse et al., Physical Review E 65, 2002). TFDV compares two histograms of ten
    buckets by the buckets of both, so there are about 19 degrees of freedom; for 12 to 300 images against 1,000 of the
    same normal and gamma distributions, the median that TFDV finds is within a fifth of it.
    """
    inverses = sum(1 / sample.datasets[0].num_examples for sample in samples)
    return float(DEGREES_OF_FREEDOM / (8 * math.log(2)) * inverses)


def _expect_distance(*samples: DatasetFeatureStatisticsList) -> float:
    """The L-infinity distance of the labels that two samples of one distribution rarely have.

    That is two standard errors of the difference between the shares of the most frequent class (binomial).
    """
    features = {feature.path.step[0]: feature for feature in samples[0].datasets[0].features}
    buckets = features[columns.CLASS].string_stats.rank_histogram.buckets
    share = max(bucket.sample_count for bucket in buckets) / samples[0].datasets[0].num_examples
    inverses = sum(1 / sample.datasets[0].num_examples for sample in samples)
    return float(2 * math.sqrt(share * (1 - share) * inverses))


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


def _find_outside(feature: Feature, schema: Schema, examples: Iterable[ImageExample]) -> dict[str, Any]:
    """The value of each image where that is not in the domain of the feature, by the name of the image."""
    position = columns.FEATURES.index(feature.name)
    return {
        example.filename: example[position]
        for example in examples
        if not _is_in_domain(example[position], feature, schema)
    }


def _list_values(feature: Feature, schema: Schema) -> list[str] | None:
    """The texts that the feature may be; None if the schema does not say."""
    kind = feature.WhichOneof("domain_info")
    if kind == "domain":
        return next((list(domain.value) for domain in schema.string_domain if domain.name == feature.domain), [])
    return list(feature.string_domain.value) if kind == "string_domain" else None


def _is_in_domain(value: Any, feature: Feature, schema: Schema) -> bool:
    """Whether the value is one that the feature may have; any value is, if the schema names no domain."""
    kind = feature.WhichOneof("domain_info")
    if kind in ("int_domain", "float_domain"):
        domain = getattr(feature, kind)
        too_low = domain.HasField("min") and value < domain.min
        return not too_low and not (domain.HasField("max") and value > domain.max)
    allowed = _list_values(feature, schema)
    return allowed is None or value in allowed
