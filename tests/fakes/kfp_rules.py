"""What the API server of Kubeflow Pipelines 2.x refuses, how it lists, and what it tells of a run: plain functions."""

import base64
import datetime
import json
import operator
import re
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

Json = dict[str, Any]

NEVER = "1970-01-01T00:00:00Z"  # when that ended which has not ended, as the real server writes it
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")

# What a list may be filtered and sorted by, beside its id.
KEYS = {"name", "display_name", "description", "created_at", "finished_at", "state", "status", "storage_state"}
OPERATIONS: dict[Any, Callable[[Any, Any], bool]] = {"EQUALS": operator.eq, "NOT_EQUALS": operator.ne}
OPERATIONS |= {"IS_SUBSTRING": operator.contains, "IN": lambda value, values: value in values["values"]}
OPERATIONS |= {number: OPERATIONS[name] for number, name in zip((1, 2, 9, 8), [*OPERATIONS], strict=True)}

INT64 = ("max_concurrency", "interval_second")  # a text or a number, as protobuf's JSON has it
PYTHON_TYPES: Json = {"str": str, "datetime": str, "int": int, "bool": bool}
PARAMETER_TYPES: Json = {"STRING": str, "BOOLEAN": bool, "LIST": list, "STRUCT": dict}
NUMBER = (int, float)


class Frame(NamedTuple):
    """What a poll sees: the state of the run, and of the tasks that have begun; in a part PART, the task PART/TASK.

    A part may be within another one, PART/PART/TASK.
    A task may also be CACHED, or OMITTED because one before it failed. A task that is PENDING waits for its image or a
    node; at its second attempt it is RUNNING(1), and so on.
    """

    state: str
    tasks: dict[str, str] = {}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def progress(tasks: list[str], failed: str = "", cached: tuple[str, ...] = (), exit_task: str = "") -> list[Frame]:
    """The frames of a run whose tasks come one after another, up to success or to the failure of one.

    The exit task comes last, whatever becomes of the others; only then the run has ended. The server knows that a
    moment before it knows how the last task ended.
    """
    frames, done, state = [Frame("PENDING")], dict[str, str](), "SUCCEEDED"
    for task in tasks:
        frames.append(Frame("RUNNING", {**done, task: "RUNNING"}))
        if task == failed:
            done, state = {**dict.fromkeys(tasks, "OMITTED"), **done, task: "FAILED"}, "FAILED"
            break
        done[task] = "CACHED" if task in cached else "SUCCEEDED"
    if exit_task:
        frames.append(Frame("RUNNING", {**done, exit_task: "RUNNING"}))
        done = {**done, exit_task: "SUCCEEDED"}
    return [*frames, Frame(state, frames[-1].tasks), Frame(state, done)]


def require(value: str | None, message: str) -> str:
    if not value:
        raise Refusal(400, message)
    return value


def check_model(data: Any, model: str, where: str) -> None:
    """Refuses what the models of kfp_server_api do not have: unknown fields, values of enums and wrong types."""
    import kfp_server_api.models

    if model.startswith("dict("):  # no request has a list
        for key, value in data.items():
            check_model(value, model[len("dict(str, ") : -1], f"{where}.{key}")
    elif model in PYTHON_TYPES:
        expected = (str, int) if where.endswith(INT64) else PYTHON_TYPES[model]
        if isinstance(data, bool) != (model == "bool") or not isinstance(data, expected):
            raise Refusal(400, f"{where}: {data!r} is not of type {model}")
    elif model != "object":
        kind = getattr(kfp_server_api.models, model)
        if not kind.openapi_types and data not in kind.allowable_values:
            raise Refusal(400, f"{where}: {data!r} is none of {kind.allowable_values}")
        types = {key: kind.openapi_types[field] for field, key in kind.attribute_map.items()}
        for key, value in (data or {}).items() if types else ():
            if key not in types:
                raise Refusal(400, f'{where}: unknown field "{key}"')
            check_model(value, types[key], f"{where}.{key}")


def parsed_specs(documents: list[Json]) -> list[Json]:
    """The pipeline's and perhaps the platform's, through protobuf, which leaves out fields of default value."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    messages = [pipeline_spec_pb2.PipelineSpec(), pipeline_spec_pb2.PlatformSpec()]
    try:
        specs = [json_format.ParseDict(pair[0], pair[1]) for pair in zip(documents, messages, strict=False)]
    except json_format.ParseError as error:
        raise Refusal(400, f"invalid v2 pipeline spec: {error}") from None
    if not specs or not specs[0].pipeline_info.name:
        raise Refusal(400, "invalid v2 pipeline spec: name is empty")
    return [json_format.MessageToDict(spec) for spec in specs]


def check_texts(content: Any, name: int = 128) -> None:
    """What the database of the real server holds: so many characters of a `name`, and none that takes four bytes.

    Of a run it says so when the run's workflow has begun, hence a 500.
    """
    for field, column, longest in (("display_name", "DisplayName", name), ("description", "Description", 255)):
        if isinstance(content, dict) and len(content.get(field) or "") > longest:
            raise Refusal(500, f"Internal error: Error 1406 (22001): Data too long for column '{column}' at row 1")
    check_collation(json.dumps(content, ensure_ascii=False))


def check_collation(text: str) -> None:
    """What the database compares and stores has no characters of four bytes."""
    if max(text, default="") > "\uffff":
        raise Refusal(500, "Internal error: Error 1267 (HY000): Illegal mix of collations for operation '='")


def is_cron(text: str) -> bool:
    """Whether robfig/cron reads it: seconds first; the day of the week may be missing, and items of a list be empty."""
    if re.fullmatch(r"@\w+( \w+)?", text):
        return True
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    fields = text.split()
    return len(fields) in (5, 6) and all(
        re.fullmatch(r"([*?]|\w+)(-\w+)?(/[1-9]\d*)?", part)
        and all(low <= int(number) <= high for number in re.findall(r"\b\d+\b", part.partition("/")[0]))
        for field, (low, high) in zip(fields, bounds, strict=False)
        for part in filter(None, field.split(","))
    )


def check_parameters(spec: Json, given: Json) -> None:
    """As the real server does when a run is created."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in declared.items():
        kind = parameter["parameterType"]
        if name not in given:
            if "defaultValue" not in parameter and not parameter.get("isOptional"):
                raise Refusal(400, f"parameter {name} is not optional, yet has neither default value nor user value")
        elif isinstance(given[name], bool) != (kind == "BOOLEAN") or not isinstance(
            given[name], PARAMETER_TYPES.get(kind, NUMBER)
        ):
            raise Refusal(400, f"input parameter {name} requires type {kind}, but the parameter value is not of it")
    if extra := given.keys() - declared.keys():
        raise Refusal(400, f"parameter(s) provided are not required by pipeline: {', '.join(sorted(extra))}")


def tasks_in_order(spec: Json, component: Json | None = None) -> list[str]:
    """The names of a pipeline's tasks; of a part that is a pipeline itself, those of its tasks, PART/TASK."""
    tasks, ordered = (component or spec["root"])["dag"]["tasks"], list[str]()
    while len(ordered) < len(tasks):
        ready = [name for name, task in tasks.items() if set(task.get("dependentTasks", [])) <= set(ordered)]
        ordered += sorted(set(ready) - set(ordered))
    names = []
    for name in ordered:
        part = spec["components"][tasks[name]["componentRef"]["name"]]
        names += [f"{name}/{inner}" for inner in tasks_in_order(spec, part)] if "dag" in part else [name]
    return names


def page_of(kind: str, name: str, items: list[Json], query: dict[str, str]) -> Json:
    token = json.loads(base64.b64decode(query["page_token"])) if query.get("page_token") else {}
    asked = {key: query[key] for key in ("sort_by", "filter") if query.get(key)}
    if token and asked and asked != token["asked"]:
        raise Refusal(400, "page token does not match the supplied sort by and/or filtering criteria")
    asked = token.get("asked", asked)
    items = _sorted(kind, _filtered(kind, items, asked.get("filter", "")), asked.get("sort_by", ""))
    start = token.get("start", 0)
    end = start + min(int(query.get("page_size") or 0) or 20, 200)
    page = {name: items[start:end], "total_size": len(items)}
    if end < len(items):
        page["next_page_token"] = base64.b64encode(json.dumps({"start": end, "asked": asked}).encode()).decode()
    return {key: value for key, value in page.items() if value}


def _filtered(kind: str, items: list[Json], text: str) -> list[Json]:
    check_collation(unquote_plus(text))
    # The real server decodes the filter once more than HTTP does: a plus sign in a name becomes a space.
    for predicate in json.loads(unquote_plus(text)).get("predicates", []) if text else []:
        values = [value for key, value in predicate.items() if re.fullmatch(r"[a-z]+(_v|V)alues?", key)]
        field, holds = _field(kind, predicate.get("key", "")), OPERATIONS.get(predicate.get("operation"))
        if not holds or len(values) != 1:
            raise Refusal(400, f"failed to parse valid filter from {text!r}")
        items = [item for item in items if holds(item.get(field, ""), values[0])]
    return items


def _sorted(kind: str, items: list[Json], sort_by: str) -> list[Json]:
    key, _, order = (sort_by or "created_at").lower().partition(" ")
    if order not in ("", "asc", "desc"):
        raise Refusal(400, f"Received invalid sort by format {sort_by!r}")
    field = _field(kind, key)
    return sorted(items, key=lambda item: (item.get(field, ""), item[f"{kind}_id"]), reverse=order == "desc")


def _field(kind: str, key: str) -> str:
    if key not in KEYS | {"id", f"{kind}_id"}:
        raise Refusal(400, f"Invalid field: {key!r} on listable type {kind}")
    return {"name": "display_name", "id": f"{kind}_id"}.get(key, key)


class _Node(NamedTuple):
    """One of the Argo workflow."""

    key: str  # of which its id is made
    name: str
    state: str
    task: str = ""  # of the Frame, that it belongs to


def _nodes(workflow: str, frame: Frame) -> Iterator[_Node]:
    """The nodes: per task a driver, the task with its only attempt, and its container with each attempt of that.

    A part of the pipeline has a driver and a node too; its tasks' names do not say that they are in it. What a task
    leaves for the cache is listed with the nodes, but has no name and no state.
    """
    yield _Node("", workflow, frame.state)
    yield _Node("root-driver", "root-driver", "SUCCEEDED")
    yield _Node("root", "root", frame.state)
    steps = [task.split("/") for task in frame.tasks]
    for part in dict.fromkeys("/".join(names[:end]) for names in steps for end in range(1, len(names))):
        states = {_split(state)[0] for task, state in frame.tasks.items() if task.startswith(f"{part}/")}
        name = part.rpartition("/")[2]
        yield _Node(f"{part}-driver", f"{name}-driver", "SUCCEEDED")
        yield _Node(part, name, next((state for state in ("FAILED", "RUNNING") if state in states), "SUCCEEDED"))
    for task, shown in frame.tasks.items():
        state, attempt = _split(shown)
        name = task.rpartition("/")[2]
        own = {"CACHED": "SUCCEEDED", "PENDING": "RUNNING"}.get(state, state)
        yield _Node(f"{task}-driver", f"{name}-driver", "OMITTED" if state == "OMITTED" else "SUCCEEDED", task)
        yield _Node(task, name, own, task)
        if state != "OMITTED":
            yield _Node(f"{task}(0)", f"{name}(0)", own, task)
            yield _Node(f"{task}.executor", "executor", "SKIPPED" if state == "CACHED" else own, task)
        if state not in ("OMITTED", "CACHED"):
            for lost in range(attempt):
                yield _Node(_attempt_key(task, lost), f"executor({lost})", "FAILED", task)
            yield _Node(_attempt_key(task, attempt), f"executor({attempt})", state, task)
        if state == "SUCCEEDED":
            yield _Node(f"{task}.cache", "", "", task)


def _split(state: str) -> tuple[str, int]:
    """The state of a task in a Frame without the number of its attempt, and that number."""
    word, _, attempt = state.rstrip(")").partition("(")
    return word, int(attempt or 0)


def _attempt_key(task: str, attempt: int) -> str:
    return f"{task}.executor({attempt})"


def workflow_of(run: Json) -> str:
    """The name of the run's workflow."""
    return f"{re.sub('[^a-z0-9]+', '-', run['display_name'].lower())}-{run['run_id'][:5]}"


def pod_of(run: Json, task: str, attempt: int = 0) -> str:
    """The name of the pod in which an attempt of a task ran, named as in a Frame."""
    return _id(workflow_of(run), _attempt_key(task, attempt))


def _id(workflow: str, key: str) -> str:
    return f"{workflow}-{zlib.crc32(key.encode())}" if key else workflow


def _after(nodes: list[_Node], number: int) -> list[_Node]:
    """The nodes that come after one: after a container all its attempts, of which only the last leads on."""
    node, rest = nodes[number], [other for other in nodes[number + 1 :] if other.name]
    attempts = [other for other in rest if other.task == node.task and other.name.startswith("executor(")]
    if node.name == "executor":
        return attempts or rest[:1]
    is_over = not node.name or (node.name.startswith("executor(") and attempts)
    return [] if is_over else rest[:1]


def task_details(run: Json, frame: Frame, now: str) -> list[Json]:
    """The nodes by their ids, which have no order that means something.

    As in the real server's answers a node has no error and no pod's name, but the names of those that come after it,
    and one that was omitted has no state. Of tasks that a frame is the first to have, one began after another, and
    so did their attempts.
    """
    before = {task["task_id"]: task for task in run.get("run_details", {}).get("task_details", [])}
    workflow = workflow_of(run)
    nodes = list(_nodes(workflow, frame))
    task_ids = [_task_id(run, node) for node in nodes]
    new = list(dict.fromkeys(node.task for node, task_id in zip(nodes, task_ids, strict=True) if task_id not in before))
    details = {}
    for number, (node, task_id) in enumerate(zip(nodes, task_ids, strict=True)):
        start = _earlier(now, 10 * (len(new) - 1 - new.index(node.task))) if node.task in new else now
        known = before.get(task_id, {"start_time": start, "end_time": NEVER, "state_history": []})
        shown, attempt = _split(frame.tasks.get(node.task, ""))
        was_lost = node.name.startswith("executor(") and node.name != f"executor({attempt})"
        is_at_once = task_id not in before and (shown == "CACHED" or was_lost)
        end = known["end_time"] if known["end_time"] != NEVER else known["start_time"] if is_at_once else now
        detail = {
            "run_id": run["run_id"],
            "task_id": task_id,
            "display_name": node.name,
            "create_time": run["created_at"],
            "start_time": known["start_time"],
            "end_time": end if node.state in ENDED or not node.state else NEVER,
            "state": node.state,
            "state_history": with_state(known.get("state_history", []), node.state, now),
            "child_tasks": [{"pod_name": _id(workflow, other.key)} for other in _after(nodes, number)],
        }
        if node.state == "OMITTED":
            detail = {key: value for key, value in detail.items() if "state" not in key}
        if not node.name:
            detail = {key: value for key, value in detail.items() if key.endswith(("_id", "_time"))}
        details[_id(workflow, node.key)] = detail
    return [details[node] for node in sorted(details)]


PHASES = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "CANCELED": "Failed", "CANCELING": "Running"}


def workflow_status(run: Json, frame: Frame) -> Json:
    """What Argo says of the workflow of a run: its phase, and its nodes by their ids."""
    details = {detail["task_id"]: detail for detail in run["run_details"]["task_details"]}
    workflow, nodes = workflow_of(run), {}
    for node in _nodes(workflow, frame):
        if not node.name:
            continue  # is none of Argo's
        detail, key = details[_task_id(run, node)], _id(workflow, node.key)
        is_pod = node.name.endswith("-driver") or node.name.startswith("executor(")
        nodes[key] = {
            "id": key,
            "name": _path(workflow, node.key),
            "displayName": node.name,
            "type": "Pod" if is_pod else "DAG" if node.name.endswith(")") or node.name == "root" else "Retry",
            "phase": PHASES.get(node.state, node.state.capitalize()),
            "startedAt": detail["start_time"],
            "finishedAt": None if detail["end_time"] == NEVER else detail["end_time"],
        }
        if node.state == "FAILED":
            was_lost = (
                node.name.startswith("executor(") and node.name != f"executor({_split(frame.tasks[node.task])[1]})"
            )
            said = "pod deleted" if was_lost else "main: Error (exit code 1)"
            nodes[key] |= {"message": said if is_pod else "child failed", "phase": "Error" if was_lost else "Failed"}
    return {"phase": PHASES.get(frame.state, frame.state.capitalize()), "nodes": nodes}


def _path(workflow: str, key: str) -> str:
    """The name of a node, with the number of the attempt of each that it is in; so is each tried again by default."""
    task, _, container = key.partition(".")
    outer = [workflow] if task.startswith("root") or not key else [workflow, "root"]
    *parts, last = [*outer, *filter(None, [*task.split("/"), container])]
    return ".".join([*(f"{part}(0)" for part in parts), last])


def workflow_pods(run: Json, nodes: Json) -> dict[str, Json]:
    """The fields of the pods of a workflow, by their names, by its nodes; a lost one is gone."""
    pods = {}
    for key, node in nodes.items():
        if node["type"] == "Pod" and node["phase"] in POD_STATUSES:
            annotations = {"workflows.argoproj.io/node-name": node["name"], "workflows.argoproj.io/node-id": key}
            containers = [{"name": name, "image": "registry.example/image:1"} for name in ("main", "wait")]
            pods[key] = {
                "labels": {"pipeline/runid": run["run_id"], "workflows.argoproj.io/workflow": workflow_of(run)},
                "annotations": annotations,
                "spec": {"containers": containers, "restartPolicy": "Never"},
                "status": POD_STATUSES[node["phase"]],
            }
    return pods


def pod_status(phase: str, *, main: Json, wait: Json | None = None, **fields: Any) -> Json:
    """What Kubernetes says of a pod of Argo, of the containers of which one is in the state `main`."""
    states = {"main": main, "wait": wait or main}
    containers = [
        {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "", "imageID": ""}
        for name, state in states.items()
    ]
    return {"phase": phase, "containerStatuses": containers, **fields}


def ended(reason: str, code: int) -> Json:
    """The state of a container that has ended."""
    return {"terminated": {"reason": reason, "exitCode": code}}


STARTING: Json = {"waiting": {"reason": "PodInitializing"}}
POD_STATUSES = {
    "Pending": pod_status("Pending", main=STARTING, conditions=[{"type": "PodScheduled", "status": "True"}]),
    "Running": pod_status("Running", main={"running": {"startedAt": NEVER}}),
    "Succeeded": pod_status("Succeeded", main=ended("Completed", 0)),
    "Failed": pod_status("Failed", main=ended("Error", 1), wait=ended("Completed", 0)),
}


def _task_id(run: Json, node: _Node) -> str:
    return str(uuid.uuid5(uuid.UUID(run["run_id"]), node.key))


def _earlier(moment: str, seconds: int) -> str:
    then = datetime.datetime.fromisoformat(moment) - datetime.timedelta(seconds=seconds)
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


def with_state(history: list[Json], state: str, now: str) -> list[Json]:
    return history if history and history[-1]["state"] == state else [*history, {"update_time": now, "state": state}]
