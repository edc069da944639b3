"""A stand-in for the API server of Kubeflow Pipelines 2.x: /apis/v2beta1 over HTTP, on loopback.

It follows backend/src/apiserver of kubeflow/pipelines where a client can tell the difference: what it refuses and how,
what its answers leave out, and the tasks it lists (kfp_rules.py). Beside that, faults are made on purpose.
"""

import contextlib
import datetime
import email
import ipaddress
import itertools
import json
import re
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.fakes.kfp_rules import (
    ENDED,
    NEVER,
    Frame,
    Json,
    Refusal,
    check_model,
    check_parameters,
    check_texts,
    is_cron,
    page_of,
    parsed_specs,
    progress,
    require,
    task_details,
    tasks_in_order,
    with_state,
    workflow_of,
    workflow_pods,
    workflow_status,
)
from tests.fakes.kubernetes import ADMIN, NAMESPACE, Kubernetes

API = "/apis/v2beta1"
LOGS = "/apis/v1alpha1/runs"  # no newer version has an address for them
KUBE_PROXY = f"/api/v1/namespaces/{NAMESPACE}/services/ml-pipeline:http/proxy"
KUBERNETES = re.compile(r"/(api|apis|openapi|version)\b")  # what Kubernetes itself answers
COLLECTIONS = {"pipelines": "pipeline", "experiments": "experiment", "runs": "run", "recurringruns": "recurring_run"}
GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13}
LAUNCHER = "kfp-launcher"  # the ConfigMap with the root of the runs that have none of their own
WORKFLOW_DEFAULTS = """spec:
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
RUN_NAME = "pipelines.kubeflow.org/run_name"  # an annotation
HTML = b"<html><head><title>Error</title></head><body>The upstream server is unavailable.</body></html>"


class Fault(NamedTuple):
    """What happens to one request instead of what should, or besides."""

    method: str
    path: str  # an expression, searched in the path below /apis/v2beta1
    status: int = 0  # the answer: a proxy's page if it is 5xx
    body: bytes | None = None  # the answer to send instead of the right one
    headers: tuple[tuple[str, str], ...] = ()  # more of them
    done: bool = False  # what was asked for is done all the same
    away: float = 0  # seconds: before the answer the server ends, and comes back after these
    cut: str = ""  # "request": the connection ends in the middle of the body; "answer": of the answer, when all is done
    seconds: float = 0  # before the answer
    meeting: threading.Barrier | None = None  # before the answer, for others that have asked too


class Request(NamedTuple):
    method: str
    path: str  # below /apis/v2beta1
    query: dict[str, str]
    body: Any  # JSON; the text of an uploaded file; or None


ROUTES: list[tuple[str, re.Pattern[str], str, str]] = []


def route(method: str, path: str, model: str = "") -> Callable[[Any], Any]:
    """The decorated method answers this request; `model` is that of the request's body."""

    def register(function: Any) -> Any:
        ROUTES.append((method, re.compile(re.sub(r"{\w+}", "([^/:]+)", path)), model, function.__name__))
        return function

    return register


class KfpServer:
    """The server and all it knows; a test may read and change any of it.

    As a context manager it answers at `url`; given a `folder` by TLS, with a certificate that `ca_file` there vouches
    for; given a `prefix` below that path, as behind a proxy.
    """

    def __init__(self, multi_user: bool = False, prefix: str = "", folder: Path | None = None) -> None:
        self.multi_user = multi_user
        self.prefix = prefix
        self.token: str | None = None  # the bearer token that every request needs
        # With users: the namespaces in which each may do all. A proxy in front knows some by what stands in a header.
        self.users: dict[str, set[str]] = {}
        self.logins: dict[str, str] = {}
        self.kubernetes = Kubernetes()  # with the workflow and the pods of each run, and settings as they are published
        self.kubernetes.put("ConfigMap", "workflow-controller-configmap", data={"workflowDefaults": WORKFLOW_DEFAULTS})
        self.kubernetes.put("ConfigMap", LAUNCHER, data={"defaultPipelineRoot": ""})
        self.kubernetes.put("Node", "node", spec={}, status={"allocatable": {"cpu": "8", "memory": "32Gi"}})
        self.faults: list[Fault] = []  # each meets the first request that fits, and only that
        self.requests: list[Request] = []
        self.script: list[Frame] | None = None  # of the runs to come, a frame per get; None: each task succeeds
        self.terminated_as = "FAILED"  # what Argo says, which 2.17 repeats; CANCELED with others
        self.stored: dict[str, dict[str, Json]] = {k: {} for k in [*COLLECTIONS.values(), "pipeline_version"]}
        self.specs: dict[str, Json] = {}  # the pipeline specs by the id of their version, and of each run
        self.scripts: dict[str, Iterator[Frame]] = {}  # by the id of the run
        self.shown: dict[str, Frame] = {}  # the last one of each, likewise
        self.logs: dict[str, str] = {}  # by the name of the pod, while it or its archive is there
        self._clock = itertools.count(int(time.time()) - 60)  # a second per event: the order is never in doubt
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.stand_in = self  # type: ignore[attr-defined]
        self.ca_file = folder / "ca.pem" if folder else None
        if self.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_new_certificate(self.ca_file))
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        if not multi_user:
            self._new("experiment", display_name="Default", storage_state="AVAILABLE")

    @property
    def url(self) -> str:
        return f"http{'s' if self.ca_file else ''}://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "KfpServer":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def go_away(self, seconds: float) -> None:
        """Ends, and comes back on the same port after some time."""
        port = self._http.server_port
        self._http.shutdown()
        self._http.server_close()

        def come_back() -> None:
            time.sleep(seconds)
            self._http = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
            self._http.stand_in = self  # type: ignore[attr-defined]
            self._http.serve_forever(0.02)

        threading.Thread(target=come_back, daemon=True).start()

    def check_user(self, request: Request, headers: Any) -> None:
        """Refuses whom it does not know, and who may not do this in the namespace that it is about."""
        known = (
            headers.get("kubeflow-userid"),
            *map(self.logins.get, (headers.get("Authorization"), headers.get("Cookie"))),
        )
        user = next(filter(None, known), None)
        if not user:
            raise Refusal(401, "Request header error: there is no user identity header.")
        collection, _, key = request.path.strip("/").partition("/")
        body = request.body if isinstance(request.body, dict) else {}
        named = {
            **request.query,
            **body,
            **self.stored.get(COLLECTIONS.get(collection, ""), {}).get(key.partition(":")[0], {}),
        }
        namespace = self._namespace(named)
        if namespace and namespace not in self.users.get(user, ()):
            verb = {"GET": "get" if key else "list", "POST": key.partition(":")[2] or "create"}.get(
                request.method, "delete"
            )
            attributes = (
                f"Namespace:{namespace},Verb:{verb},Group:pipelines.kubeflow.org,Version:v1beta1,Resource:{collection}"
            )
            raise Refusal(
                403,
                f"Failed to authorize with API: PermissionDenied: User '{user}' is not authorized with reason:  "
                f"(request: &ResourceAttributes{{{attributes},Subresource:,Name:,}}): Unauthorized access",
            )

    @property
    def workflows(self) -> list[str]:
        """The names of the runs and recurring runs that Kubernetes was told of, stored or not."""
        told = [each for each in self.kubernetes.objects if each["kind"] in ("Workflow", "ScheduledWorkflow")]
        return [each["metadata"]["annotations"][RUN_NAME] for each in told]

    def find_root(self, run: Json) -> str:
        """Below what the outputs of a run lie; the root in its package is nothing to the server."""
        own = run.get("runtime_config", {}).get("pipeline_root")
        settings = self.kubernetes.list(
            "ConfigMap", self._namespace(run) or NAMESPACE, fields=f"metadata.name={LAUNCHER}"
        )
        default = settings[0]["data"].get("defaultPipelineRoot") if settings else ""
        return own or default or "minio://mlpipeline/v2/artifacts"

    def bodies(self, method: str, path: str) -> list[Any]:
        """The bodies of the requests to exactly that path below /apis/v2beta1, first to last."""
        return [request.body for request in self.requests if (request.method, request.path) == (method, path)]

    def answer(self, request: Request) -> Any:
        for method, pattern, model, name in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                if model:
                    check_model(request.body, model, model)
                with self.lock:
                    return getattr(self, name)(request, *map(unquote, match.groups()))
        raise Refusal(404, "Not Found")

    def trigger(self, recurring: Json) -> Json:
        """The run that a recurring run makes when its time has come, named as Kubernetes names it."""
        name = re.sub("[^a-z0-9]", "", recurring["display_name"].lower())
        kept = ("pipeline_version_reference", "runtime_config", "experiment_id", "service_account")
        body = {key: recurring[key] for key in kept} | {"display_name": f"{name}x7k2p-1-3098215023"}
        return self.answer(Request("POST", "/runs", {}, body))

    @route("GET", "/healthz")
    def healthz(self, _: Request) -> Json:
        return {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": self.multi_user}

    @route("GET", "/pipelines/{id}/versions")
    def list_versions(self, request: Request, pipeline_id: str) -> Json:
        versions = self.stored["pipeline_version"].values()
        owned = [version for version in versions if version["pipeline_id"] == pipeline_id]
        return page_of("pipeline_version", "pipeline_versions", owned, request.query)

    @route("GET", "/pipelines/{id}/versions/{version}")
    def get_version(self, _: Request, pipeline_id: str, version_id: str) -> Json:
        version = self._get("pipeline_version", version_id)
        if version["pipeline_id"] != pipeline_id:
            raise Refusal(404, f"PipelineVersion {version_id} not found.")
        return version

    @route("DELETE", "/pipelines/{id}/versions/{version}")
    def delete_version(self, request: Request, pipeline_id: str, version_id: str) -> Json:
        self.get_version(request, pipeline_id, version_id)
        del self.stored["pipeline_version"][version_id]
        return {}

    @route("GET", "/{collection}")
    def list_stored(self, request: Request, collection: str) -> Json:
        kind, query = self._kind(collection), request.query
        items = list(self.stored[kind].values())
        if experiment_id := query.get("experiment_id"):
            self._get("experiment", experiment_id)
            items = [item for item in items if item["experiment_id"] == experiment_id]
        elif self.multi_user:
            namespace = query.get("namespace", "")
            if kind != "pipeline":  # of which those without a namespace are everyone's
                require(namespace, "Resource cannot have an empty namespace in multi-user mode")
            items = [item for item in items if self._namespace(item) == namespace]
        return page_of(kind, {"recurring_run": "recurringRuns"}.get(kind, collection), items, query)

    @route("GET", "/{collection}/{id}")
    def get_stored(self, _: Request, collection: str, key: str) -> Json:
        item = self._get(self._kind(collection), key)
        if collection == "runs":
            self._advance(item)
        return item

    @route("POST", "/pipelines", "V2beta1Pipeline")
    def create_pipeline(self, request: Request) -> Json:
        name = request.body.get("display_name") or request.body.get("name")
        return self._new_pipeline(name, request.body)

    @route("POST", "/pipelines/upload")
    def upload_pipeline(self, request: Request) -> Json:
        specs, name = _uploaded(request)
        pipeline = self._new_pipeline(name, request.query)
        self._new_version(pipeline["pipeline_id"], name, request.query, specs)
        return pipeline

    @route("POST", "/pipelines/upload_version")
    def upload_version(self, request: Request) -> Json:
        specs, name = _uploaded(request)
        if request.query.get("pipelineid") not in self.stored["pipeline"]:
            raise Refusal(400, "Failed to create a pipeline version")
        return self._new_version(request.query["pipelineid"], name, request.query, specs)

    @route("POST", "/experiments", "V2beta1Experiment")
    def create_experiment(self, request: Request) -> Json:
        name = require(request.body.get("display_name"), "Experiment name is empty")
        namespace = request.body.get("namespace") if self.multi_user else ""  # any is taken, and left aside
        if self.multi_user:
            require(namespace, "An experiment cannot have an empty namespace in multi-user mode")
        description = request.body.get("description")
        self._refuse_second("experiment", name, namespace=namespace)
        own = {"display_name": name, "description": description, "namespace": namespace}
        return self._new("experiment", **own, storage_state="AVAILABLE", last_run_created_at=NEVER)

    @route("POST", "/runs", "V2beta1Run")
    def create_run(self, request: Request) -> Json:
        spec, fields = self._submission(request.body)
        run_id = str(uuid.uuid4())
        self._tell_kubernetes("Workflow", workflow_of({**fields, "run_id": run_id}), fields, run_id)
        check_texts(request.body)
        run = self._new("run", run_id, **fields, storage_state="AVAILABLE", state="PENDING", finished_at=NEVER)
        run["state_history"] = [{"update_time": run["created_at"], "state": "PENDING"}]
        run["scheduled_at"] = run["created_at"]
        self.specs[run["run_id"]] = spec
        self.scripts[run["run_id"]] = iter(self.script or progress(tasks_in_order(spec)))
        self._advance(run)
        return run

    @route("POST", "/runs/{id}:terminate")
    def terminate_run(self, _: Request, run_id: str) -> Json:
        run = self._get("run", run_id)
        if run["state"] not in ("PENDING", "RUNNING", "PAUSED"):
            raise Refusal(400, f"Failed to terminate a run {run_id}. Row not found")
        run["state"] = "CANCELING"
        going = self.shown[run_id].tasks
        cut = {task: state if state in (*ENDED, "CACHED") else "FAILED" for task, state in going.items()}
        ended = {**dict.fromkeys(tasks_in_order(self.specs[run_id]), "OMITTED"), **cut} if cut else {}
        self.scripts[run_id] = iter([Frame("CANCELING", going), Frame(self.terminated_as, ended)])
        return {}

    @route("GET", "/logs/{id}/nodes/{pod}/log")
    def read_log(self, _: Request, run_id: str, pod: str) -> str:
        self._get("run", run_id)
        if pod not in self.logs:
            raise Refusal(500, f'Failed to read the log: pods "{pod}" not found')
        return self.logs[pod]

    @route("POST", "/recurringruns", "V2beta1RecurringRun")
    def create_recurring_run(self, request: Request) -> Json:
        body = request.body
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise Refusal(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron")
        if cron is not None and not is_cron(cron):
            raise Refusal(
                400, f"Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: {cron}"
            )
        _, fields = self._submission(body)
        self._tell_kubernetes("ScheduledWorkflow", f"scheduled-{uuid.uuid4().hex[:5]}", fields)
        check_texts(body)
        fields |= {key: body.get(key) for key in ("trigger", "no_catchup", "mode")}
        fields["namespace"] = self._namespace(fields) or NAMESPACE  # where the scheduled workflow is
        status = {"ENABLE": "ENABLED"}.get(body.get("mode"), "DISABLED")
        return self._new("recurring_run", **fields, max_concurrency=str(body["max_concurrency"]), status=status)

    @route("POST", "/recurringruns/{id}:{action}")
    def switch_recurring_run(self, _: Request, key: str, action: str) -> Json:
        if action not in ("enable", "disable"):
            raise Refusal(404, "Not Found")
        self._get("recurring_run", key).update(mode=action.upper(), status=f"{action.upper()}D")
        return {}

    @route("DELETE", "/recurringruns/{id}")
    def delete_recurring_run(self, _: Request, key: str) -> Json:
        self._get("recurring_run", key)
        del self.stored["recurring_run"][key]
        return {}

    def _now(self) -> str:
        return datetime.datetime.fromtimestamp(next(self._clock), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _kind(self, collection: str) -> str:
        if collection not in COLLECTIONS:
            raise Refusal(404, "Not Found")
        return COLLECTIONS[collection]

    def _get(self, kind: str, key: str) -> Json:
        if key not in self.stored[kind]:
            raise Refusal(404, f"{kind.title().replace('_', '')} {key} not found.")
        return self.stored[kind][key]

    def _tell_kubernetes(self, kind: str, name: str, fields: Json, run_id: str = "") -> None:
        labels = {"pipeline/runid": run_id} if run_id else {}
        annotations = {RUN_NAME: fields["display_name"]}
        namespace = self._namespace(fields) or NAMESPACE
        self.kubernetes.put(kind, name, namespace=namespace, labels=labels, annotations=annotations)

    def _new(self, kind: str, key: str = "", **fields: Any) -> Json:
        """Stores it without its empty fields, which answers leave out."""
        own = {name: value for name, value in fields.items() if value not in (None, "", False, {}, [])}
        check_texts(own, 127 if kind == "pipeline_version" else 128)
        key = key or str(uuid.uuid4())
        self.stored[kind][key] = {f"{kind}_id": key, **own, "created_at": self._now()}
        return self.stored[kind][key]

    def _new_pipeline(self, name: str | None, fields: Json) -> Json:
        require(name, "pipeline's name cannot be empty")
        namespace = fields.get("namespace", "") if self.multi_user else ""
        self._refuse_second("pipeline", name, namespace=namespace)
        return self._new("pipeline", display_name=name, description=fields.get("description"), namespace=namespace)

    def _new_version(self, pipeline_id: str, name: str | None, fields: Json, specs: list[Json]) -> Json:
        require(name, "pipeline version's name cannot be empty")
        self._refuse_second("pipeline_version", name, pipeline_id=pipeline_id)
        spec = specs[0] if len(specs) == 1 else {"pipeline_spec": specs[0], "platform_spec": specs[1]}
        own = {"pipeline_id": pipeline_id, "display_name": name, "description": fields.get("description")}
        version = self._new("pipeline_version", **own, pipeline_spec=spec)
        self.specs[version["pipeline_version_id"]] = specs[0]
        return version

    def _refuse_second(self, kind: str, name: str | None, **owner: str | None) -> None:
        for other in self.stored[kind].values():
            if other["display_name"] == name and all(other.get(key, "") == value for key, value in owner.items()):
                raise Refusal(409, f"Failed to create a {kind}: the name {name} already exists")

    def _namespace(self, item: Json) -> str:
        """Its own, or that of its experiment."""
        return self.stored["experiment"].get(item.get("experiment_id", ""), item).get("namespace", "")

    def _submission(self, body: Json) -> tuple[Json, Json]:
        """The pipeline spec of a run or recurring run to be created, and its fields in the answer."""
        require(body.get("display_name"), "The run name is empty. Please specify a valid name")
        if self.multi_user:
            require(body.get("experiment_id"), "Experiment id can not be empty in multi-user mode")
        default = next(iter(self.stored["experiment"]), "")
        experiment = self._get("experiment", body.get("experiment_id") or default)
        namespace = experiment.get("namespace", "")
        if body.get("namespace") not in (None, "", namespace):
            raise Refusal(400, f"Experiment belongs to namespace '{namespace}' instead of '{body['namespace']}'")
        spec, source = self._source(body)
        config = {key: value for key, value in body.get("runtime_config", {}).items() if value}
        check_parameters(spec, config.get("parameters", {}))
        experiment["last_run_created_at"] = self._now()
        fields = {key: body.get(key) for key in ("display_name", "description")}
        fields |= {"experiment_id": experiment["experiment_id"], "runtime_config": config, **source}
        return spec, {**fields, "service_account": body.get("service_account") or "pipeline-runner"}

    def _source(self, body: Json) -> tuple[Json, Json]:
        """The pipeline spec, brought along or stored, and where the answer says that it comes from."""
        reference = body.get("pipeline_version_reference")
        if not reference:
            given = body.get("pipeline_spec", {})
            documents = [given["pipeline_spec"], given["platform_spec"]] if "platform_spec" in given else [given]
            return parsed_specs(documents)[0], {"pipeline_spec": given}
        version = self.stored["pipeline_version"].get(reference.get("pipeline_version_id"), {})
        if version.get("pipeline_id", "") != reference.get("pipeline_id"):
            raise Refusal(500, "Failed to create a run due to error fetching manifest")  # not 404: so the real one
        return self.specs[version["pipeline_version_id"]], {"pipeline_version_reference": reference}

    def _advance(self, run: Json) -> None:
        """The next frame of the run's script; the last one stays."""
        frame = next(self.scripts[run["run_id"]], None)
        if frame is None:
            return
        self.shown[run["run_id"]] = frame
        now = self._now()
        run["state_history"] = with_state(run["state_history"], frame.state, now)
        run["state"] = frame.state
        run["finished_at"] = now if frame.state in ENDED else NEVER
        if frame.tasks:
            run["run_details"] = {"task_details": task_details(run, frame, now)}
            self._advance_workflow(run, frame)

    def _advance_workflow(self, run: Json, frame: Frame) -> None:
        """What Kubernetes has of the run: its workflow, and the pods of that."""
        name, namespace = workflow_of(run), self._namespace(run) or NAMESPACE
        workflow = self.kubernetes.get("Workflow", name, namespace)
        before = workflow.get("status", {}).get("nodes", {})
        workflow["status"] = workflow_status(run, frame)
        pods = workflow_pods(run, workflow["status"]["nodes"])
        for key, node in workflow["status"]["nodes"].items():
            if key in pods and before.get(key, {}).get("phase") != node["phase"]:
                self.kubernetes.put("Pod", key, namespace=namespace, **pods[key])
        gone = [
            pod for pod in self.kubernetes.list("Pod", namespace) if pod["metadata"]["name"] in before.keys() - pods
        ]
        self.kubernetes.delete(*gone)


def _uploaded(request: Request) -> tuple[list[Json], str | None]:
    if not isinstance(request.body, str):
        raise Refusal(400, "Failed to read pipeline from file")
    try:
        documents = [document for document in yaml.safe_load_all(request.body) if document]
    except yaml.YAMLError:
        raise Refusal(400, "Failed to create a pipeline and a pipeline version: not YAML") from None
    return parsed_specs(documents), request.query.get("display_name") or request.query.get("name")


def kubeconfig(server: KfpServer, path: Path, *, token: str = ADMIN, context: str = "test") -> Path:
    """Writes a kubeconfig of a cluster in which the server is that of Kubeflow Pipelines; its prefix is KUBE_PROXY."""
    cluster = {"server": server.url} | ({"certificate-authority": str(server.ca_file)} if server.ca_file else {})
    parts = {"cluster": cluster, "user": {"token": token}, "context": {"cluster": context, "user": context}}
    content = {f"{kind}s": [{"name": context, kind: part}] for kind, part in parts.items()}
    path.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": context, **content}), encoding="utf-8"
    )
    return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server: KfpServer = self.server.stand_in  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        address = url.path.replace("//", "/")  # //: so kfp.Client asks a kubeconfig's cluster
        prefix, found, path = address.replace(LOGS, f"{API}/logs").partition(API)
        fault = self._fault(server, path)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length // 2 if fault.cut == "request" else length)
        if fault.cut == "request":
            return self._hang_up()
        request = Request(self.command, path, dict(parse_qsl(url.query)), self._content(body))
        if refused := self._ask_kubernetes(server, address, request, is_passed_on=prefix == server.prefix):
            return self._send(*refused, fault)
        server.requests.append(request)
        if not found or prefix != server.prefix:
            fault = Fault("", "", status=404)
        if fault.done:
            self._answer(server, request, 0)
        if fault.body is None:
            status, answer = self._answer(server, request, fault.status)
        else:
            status, answer = fault.status or 200, fault.body
        if fault.away:
            server.go_away(fault.away)
            fault = fault._replace(headers=(*fault.headers, ("Connection", "close")))
        time.sleep(fault.seconds)
        if fault.meeting:
            with contextlib.suppress(threading.BrokenBarrierError):  # the test sees that it is broken
                fault.meeting.wait()
        return self._send(status, answer, fault)

    do_POST = do_DELETE = do_GET

    def _ask_kubernetes(
        self, server: KfpServer, address: str, request: Request, *, is_passed_on: bool
    ) -> tuple[int, bytes] | None:
        """What Kubernetes says; None if the request is for Kubeflow Pipelines, and may go there."""
        who = self.headers.get("Authorization")
        if server.prefix == KUBE_PROXY and is_passed_on:
            return server.kubernetes.check_proxy(request.method, address, who)
        if not KUBERNETES.match(address) or (is_passed_on and request.path):
            return None
        with server.lock:
            return server.kubernetes.answer(request.method, address, request.query, who)

    def _fault(self, server: KfpServer, path: str) -> Fault:
        with server.lock:  # or two requests at the same moment might meet one fault
            for fault in server.faults:
                if fault.method == self.command and re.search(fault.path, path):
                    server.faults.remove(fault)
                    return fault
        return Fault("", "")

    def _content(self, body: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/"):
            return json.loads(body) if body else None
        message: Any = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts = {part.get_param("name", header="Content-Disposition"): part for part in message.get_payload()}
        return parts["uploadfile"].get_payload(decode=True).decode() if "uploadfile" in parts else None

    def _answer(self, server: KfpServer, request: Request, status: int) -> tuple[int, bytes]:
        try:
            if server.token is not None and self.headers.get("Authorization") != f"Bearer {server.token}":
                raise Refusal(401, "Request header error: there is no valid bearer token.")
            if server.users and request.path != "/healthz":
                server.check_user(request, self.headers)
            if status >= 500:
                return status, HTML
            if status:
                raise Refusal(status, "Not Found" if status == 404 else "Refused on purpose.")
            answer = server.answer(request)
            return 200, (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        except Refusal as refusal:
            message, code = str(refusal), GRPC_CODES.get(refusal.status, 2)
            detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}
            error: Json = {"error": message, "code": code, "message": message, "details": [detail]}
            if "/upload" in request.path or "/logs/" in request.path:
                error = {"error_message": message, "error_details": message}
            return refusal.status, json.dumps(error).encode()

    def _send(self, status: int, answer: bytes, fault: Fault) -> None:
        cut = fault.cut == "answer"
        self.send_response(status)
        for name, value in fault.headers:
            self.send_header(name, value)
        kind = "application/json" if answer[:1] in (b"{", b"[") else "text/plain"
        self.send_header("Content-Type", "text/html" if answer == HTML else kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if cut else answer)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def _new_certificate(path: Path) -> Path:
    """Writes a certificate for 127.0.0.1, signed by itself, to `path`; returns that of a copy with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    chain = path.with_name("server.pem")
    chain.write_bytes(secret + path.read_bytes())
    return chain
