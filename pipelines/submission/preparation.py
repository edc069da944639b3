"""From a request to a pipeline with its arguments: the steps that a run on this machine and one on a cluster share.

What to run, on what data, from which earlier runs, with what values. Where the two differ, in finding data and earlier
runs, they are a `Target`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kfp.dsl.base_component import BaseComponent

from components.shared.cloud_storage import is_address, parse_address
from components.shared.errors import UserError
from components.shared.formats.decisions import check_deciding_reviewer, check_decisions, name_reviewer
from components.shared.formats.dvc_manifest import read_version
from components.shared.formats.image_table import is_table_name
from pipelines.compiler.config import Config
from pipelines.compiler.packages import build, choose_package
from pipelines.compiler.stages import Stages
from pipelines.data.bucket_version import find_version
from pipelines.data.dvc_version import DataVersion
from pipelines.submission.arguments import EarlierRun, address_artifacts, check_arguments, repeat_stage
from pipelines.submission.images import list_classes
from pipelines.submission.request import RunRequest

VERSIONS = {"data_uri": "data_version", "test_data_uri": "test_data_version"}  # the parameter that has that of each
# The parameters that tell ingest where the images are, and which of the files there are none.
DATA = (*VERSIONS, *VERSIONS.values(), "ignored")
BEGINNING = ":before"  # after the name of an improvement: the version that it began with, and not the one that it made
# The parameters of the pipeline `comparison`, without _uri, and the artifacts of the earlier and of the later run.
BEFORE = {"examples": "examples", "before_evaluation": "evaluation", "before_predictions": "predictions"}
AFTER = {"model": "model", "after_evaluation": "evaluation", "after_predictions": "predictions"}


class Target(Protocol):
    """Where runs take place: this machine, or a cluster."""

    knows_content: bool  # whether its cache knows files by their content, and not by their address alone
    repeats: bool  # whether the run is one of many, each of which reads what lies at an address then

    def locate_folder(self, folder: Path, rev: str | None) -> DataVersion:
        """The address at which ingest finds a data set there, and its version if that is known before the run."""

    def locate_file(self, file: Path, kind: str) -> str:
        """The address at which a stage finds a file of a person there; `kind` is decisions or schemas."""

    def find_run(self, name: str, stages: Stages, stage: str | None) -> EarlierRun:
        """The earlier run of that name; `stage` is the one to repeat."""

    def find_beginning(self, name: str) -> EarlierRun:
        """The improvement of that name, with what it made of the version that it began with."""


class LocatedData(NamedTuple):
    """The data of a run."""

    arguments: dict[str, Any]  # of the pipeline
    versions: list[str]  # of the data, or addresses where the versions are not known


class PreparedRun(NamedTuple):
    """What is to be run."""

    name: str  # of the pipeline, or of the stage that runs alone
    stages: Stages
    pipeline: BaseComponent
    arguments: dict[str, Any]
    versions: list[str]  # of the data, or addresses where the versions are not known
    earlier: dict[str, EarlierRun]  # by its role: before, from run


def prepare(request: RunRequest, config: Config, target: Target) -> PreparedRun:
    """Builds the pipeline that is asked for, and finds the value of each parameter.

    Raises:
        UserError: something that is asked for does not exist, does not fit, or is missing.
    """
    data = locate_data(request, target)
    stages = Stages(config)
    name = choose_package(request.pipeline, request.component, stages)
    if data.arguments and request.component not in (None, "ingest"):
        raise UserError(f"--data is for pipelines and ingest; {name} takes the artifacts of an earlier run.")
    earlier = _find_earlier_runs(request, stages, target)
    arguments = {**_go_on_from(request, stages, earlier), **data.arguments}
    if request.component == "ingest" and not request.data:
        arguments |= _look_again(arguments, request, target)
    stages = Stages(_choose_caching(request, config, target, arguments))
    pipeline = build(name, stages)
    people: dict[str, list[str]] = {}
    if request.decisions:
        files = name_reviewers(request.decisions)
        people = _check_decisions(files, _list_classes(request, data))
        arguments["decisions_uris"] = {
            reviewer: locate_file(file, "decisions", target) for reviewer, file in files.items()
        }
    if schema := choose_schema(request, config):
        arguments["curated_schema_uri"] = locate_file(schema, "schemas", target)
    for param in request.params:
        if (parameter := param.partition("=")[0]) in DATA:
            raise UserError(f"--param {parameter}: --data, --test-data and --rev set it; name the images by these.")
    arguments = check_arguments(pipeline, arguments, params=request.params, stages=stages)
    _check_deciding_reviewer(arguments, people)
    return PreparedRun(name, stages, pipeline, arguments, data.versions, earlier)


def locate_data(request: RunRequest, target: Target) -> LocatedData:
    """Where ingest finds the data that are asked for.

    Raises:
        UserError: it cannot find them there.
    """
    arguments: dict[str, Any] = {}
    versions: list[str] = []
    ignored: list[str] = []
    if request.data:
        located = _locate(request.data, request.rev, target)
        arguments["data_uri"] = located.uri
        if located.version:
            arguments["data_version"] = located.version
        versions.append(located.version or located.uri)
        ignored += located.ignored
    if request.test_data:
        located = _locate(request.test_data, None, target)
        arguments["test_data_uri"] = located.uri
        if located.version:
            arguments["test_data_version"] = located.version
        versions.append(located.version or located.uri)
        ignored += [f"test/{name}" for name in located.ignored]
    if ignored:
        arguments["ignored"] = ignored
    return LocatedData(arguments, versions)


def _locate(data: str, rev: str | None, target: Target) -> DataVersion:
    """An address in Cloud Storage is the same everywhere; which version is there, its listing tells."""
    if not is_address(data):
        if "://" in data:
            raise UserError(
                f"{data}: the images are read from folders and from Cloud Storage; give gs://BUCKET/FOLDER."
            )
        return target.locate_folder(Path(data), rev)
    uri = str(parse_address(data))  # without the slashes that mean nothing, for the cache takes it as it is
    if data.endswith("/") and is_table_name(uri):
        uri += "/"  # which tells a folder of this name from a table
    if target.repeats or read_version(uri):
        return DataVersion(uri, read_version(uri))
    return find_version(uri)


def _list_classes(request: RunRequest, data: LocatedData) -> list[str]:
    """The classes that decisions may give; none where these are not known before the run."""
    if not request.data or is_address(request.data):
        return []
    return list_classes(request.data, data.arguments["data_uri"], rev=request.rev)


def _look_again(arguments: dict[str, Any], request: RunRequest, target: Target) -> dict[str, Any]:
    """The arguments of the data for an ingest that is repeated: what is in folders and buckets may have changed."""

    def find_place(name: str) -> str | None:
        uri = str(arguments.get(name, ""))
        return uri if uri and (is_address(uri) or Path(uri).is_dir()) else None

    again = replace(request, data=find_place("data_uri"), test_data=find_place("test_data_uri"))
    if not (again.data or again.test_data):
        return {}
    looked = locate_data(again, target).arguments
    old = {version: "" for uri, version in VERSIONS.items() if uri in looked and version in arguments}
    return {"ignored": [], **old, **looked}


def name_reviewers(files: Iterable[str]) -> dict[str, str]:
    """Each file of --decisions by the name of the person who decided.

    Raises:
        UserError: two files are named after the same person.
    """
    named: dict[str, str] = {}
    for file in files:
        reviewer = name_reviewer(file)
        if reviewer in named:
            raise UserError(
                f"{named[reviewer]} and {file}: both are named after the reviewer {reviewer}; name each file after the"
                " person who decided, such as decisions-anna.csv."
            )
        named[reviewer] = file
    return named


def _check_decisions(files: Mapping[str, str], classes: list[str]) -> dict[str, list[str]]:
    """Checks the files of people's decisions that are here.

    Args:
        files: Each by the name of the person after whom it is named.
        classes: The names that a decision may give, if they are known.

    Returns:
        The names of the people who decided in each of them.

    Raises:
        UserError: there is no such file, or it is broken.
    """
    for file in files.values():
        check_file(file, "--decisions names what the review saved, or what another tool exported")
    people = {
        reviewer: check_decisions(file, classes, reviewer=reviewer)
        for reviewer, file in files.items()
        if not is_address(file)
    }
    for reviewer, names in people.items():
        for name in names:
            if name != reviewer and name in files:
                raise UserError(
                    f"{files[reviewer]}: has decisions of {name}, whom {files[name]} is named after; rename that one."
                )
    return people


def _check_deciding_reviewer(arguments: Mapping[str, Any], people: Mapping[str, list[str]]) -> None:
    """Checks the name if all people are known; a JSON file elsewhere may name several, whom curate knows.

    Raises:
        UserError: nobody of that name decided.
    """
    uris = arguments.get("decisions_uris", {})
    if all(reviewer in people or not uri.endswith(".json") for reviewer, uri in uris.items()):
        reviewers = [name for reviewer in uris for name in people.get(reviewer, [reviewer])]
        check_deciding_reviewer(arguments.get("deciding_reviewer", ""), reviewers)


def choose_schema(request: RunRequest, config: Config) -> str:
    """The file or address of the schema that the images must fit; empty if the run needs none.

    The config's schema applies to whole pipelines that read images; an address there has already become the parameter's
    default. A stage that is repeated keeps the schema that it had.

    Raises:
        UserError: There is no such file.
    """
    if request.schema:
        check_file(request.schema, "--schema names a schema.pbtxt that a run has inferred")
        return request.schema
    if not config.schema_path or request.component or request.before:
        return ""
    check_schema(config)
    return str(config.schema_path)


def check_schema(config: Config) -> None:
    """Checks that the schema that a configuration names is there, if it names one.

    Raises:
        UserError: It is not.
    """
    if config.schema_path:
        check_file(str(config.schema_path), f"`schema` in {config.path} names it")


def check_file(file: str, advice: str) -> None:
    """Checks that a file is there; an address in Cloud Storage is left to the stage.

    Raises:
        UserError: It is not; `advice` says what it should have been.
    """
    if not is_address(file) and not Path(file).is_file():
        raise UserError(f"{file}: no such file; {advice}.")


def locate_file(file: str, kind: str, target: Target) -> str:
    """Where a stage finds a file of a person: an address in Cloud Storage is the same everywhere."""
    return file if is_address(file) else target.locate_file(Path(file), kind)


def _choose_caching(request: RunRequest, config: Config, target: Target, arguments: Mapping[str, Any]) -> Config:
    """A cache that knows data by their address alone must not have what ingest made of one without a version."""
    if request.no_cache:
        return config.disable_cache()
    is_versioned = all(arguments.get(version) for uri, version in VERSIONS.items() if arguments.get(uri))
    return config if is_versioned or target.knows_content else config.disable_cache("ingest")


def _find_earlier_runs(request: RunRequest, stages: Stages, target: Target) -> dict[str, EarlierRun]:
    runs = {}
    if request.before:
        name = request.before.removesuffix(BEGINNING)
        is_whole = name == request.before
        runs["before"] = target.find_run(name, stages, None) if is_whole else target.find_beginning(name)
    if request.before or (request.component and not (request.component == "ingest" and request.data)):
        runs["from run"] = target.find_run(request.from_run, stages, request.component)
    if request.before and runs["before"].id == runs["from run"].id:
        raise UserError(f"--before and --from-run are the same run, {runs['before'].name}; name two.")
    return runs


def _go_on_from(request: RunRequest, stages: Stages, earlier: dict[str, EarlierRun]) -> dict[str, Any]:
    """The arguments that the earlier runs give."""
    if request.component and earlier:
        return repeat_stage(stages.contracts[request.component], earlier["from run"])
    if request.before:
        return address_artifacts(BEFORE, earlier["before"]) | address_artifacts(AFTER, earlier["from run"])
    return {}
