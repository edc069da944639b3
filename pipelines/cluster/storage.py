"""What runs on a cluster leave in Cloud Storage."""

from typing import NamedTuple

from components.shared.cloud_storage import list_objects
from pipelines.compiler.packages import Task


class Artifact(NamedTuple):
    """What a task of a run wrote."""

    task: str  # its name without that of its part of the pipeline, which nothing in the bucket tells
    output: str
    uri: str


def find_artifacts(*folders: str) -> list[Artifact]:
    """What runs wrote, oldest first, so that of several attempts the last one counts.

    KFP's driver puts an output at <root>/<pipeline>/<run>/<task>/<id of the attempt>/<output>; each folder is the part
    up to the run.

    Raises:
        UserError: the bucket cannot be listed.
    """
    found = []
    for folder in folders:
        for item in list_objects(folder, if_missing="check pipeline_root in the config"):
            task, *attempt = item.name.split("/")[:3]
            if len(attempt) == 2:
                uri = f"{folder.rstrip('/')}/{task}/{'/'.join(attempt)}"
                found.append((item.updated, Artifact(task, attempt[1], uri)))
    return list(dict.fromkeys(artifact for _, artifact in sorted(found)))


def by_task(artifacts: list[Artifact], tasks: list[Task]) -> dict[tuple[str, str], str]:
    """The URIs by the full name of a task, and its output.

    Parts of a pipeline that have tasks of the same name come one after another: what is there after a later part has
    begun belongs to that.
    """
    parts = list(dict.fromkeys(task.name.partition("/")[0] for task in tasks))
    found, reached = {}, 0
    for artifact in artifacts:
        places = {parts.index(task.name.partition("/")[0]): task for task in tasks if task.base_name == artifact.task}
        if places:
            place = min((place for place in places if place >= reached), default=max(places))
            reached = max(reached, place)
            found[places[place].name, artifact.output] = artifact.uri
    return found
