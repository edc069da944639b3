"""The stand-in for the API server of Kubeflow Pipelines, as the real kfp.Client sees it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kfp import compiler, dsl
from kfp.client import Client
from kfp_server_api import ApiException

from tests.fakes.kfp_rules import Frame, pod_of, progress
from tests.fakes.kfp_server import KUBE_PROXY, LAUNCHER, Fault, KfpServer, kubeconfig
from tests.fakes.kubernetes import ANONYMOUS, NAMESPACE

TASKS = ["first", "second"]


EMOJI = "\N{SLIGHTLY SMILING FACE}"  # a character of four bytes


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline of two tasks with parameters of three types, one of them required."""

    @dsl.container_component
    def first(text: str):
        return dsl.ContainerSpec(image="busybox", command=["echo", text])

    @dsl.container_component
    def second():
        return dsl.ContainerSpec(image="busybox", command=["true"])

    @dsl.pipeline(name="two-steps")
    def two_steps(text: str, rate: float = 0.5, names: list = ["a"]):  # noqa: B006
        second().after(first(text=text))

    path = str(tmp_path_factory.mktemp("package") / "pipeline.yaml")
    compiler.Compiler().compile(two_steps, path)
    return path


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer() as server:
        yield server


@pytest.fixture
def client(server: KfpServer) -> Client:
    return Client(host=server.url)


def start_run(client: Client, package: str, **options: Any) -> Any:
    experiment = client.create_experiment("images")
    options = {"job_name": "a run", "pipeline_package_path": package, "params": {"text": "x"}} | options
    return client.run_pipeline(experiment.experiment_id, **options)


def refused(status: int) -> Any:
    return pytest.raises(ApiException, match=rf"^\({status}\)")


def equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def test_an_upload_makes_a_version_of_the_same_name_and_a_second_one_is_refused(client: Client, package: str):
    pipeline = client.upload_pipeline(package, "training", description="of images")
    assert (pipeline.display_name, pipeline.description, pipeline.namespace) == ("training", "of images", None)
    assert client.get_pipeline_id("training") == pipeline.pipeline_id
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert version.display_name == "training"
    assert set(version.pipeline_spec["root"]["inputDefinitions"]["parameters"]) == {"text", "rate", "names"}

    second = client.upload_pipeline_version(package, "v2", pipeline_id=pipeline.pipeline_id)
    assert client.get_pipeline_version(pipeline.pipeline_id, second.pipeline_version_id).display_name == "v2"
    with refused(409):
        client.upload_pipeline(package, "training")
    with refused(409):
        client.upload_pipeline_version(package, "v2", pipeline_id=pipeline.pipeline_id)
    client.delete_pipeline_version(pipeline.pipeline_id, second.pipeline_version_id)
    assert client.list_pipeline_versions(pipeline.pipeline_id).total_size == 1


def test_an_upload_must_be_a_pipeline(client: Client, tmp_path: Path):
    package = tmp_path / "pipeline.yaml"
    package.write_text("pipelineInfo: {name: a}\nroots: {}\n")
    with refused(400) as refusal:
        client.upload_pipeline(str(package), "training")
    assert "roots" in json.loads(refusal.value.body)["error_message"]


def test_experiments_are_made_once(client: Client):
    made = client.create_experiment("images", description="of numerals")
    assert client.create_experiment("images").experiment_id == made.experiment_id
    names = [experiment.display_name for experiment in client.list_experiments().experiments]
    assert names == ["Default", "images"]
    with refused(409):
        client.experiments.experiment_service_create_experiment({"display_name": "images"})
    with refused(404) as refusal:
        client.get_experiment(experiment_id="lost")
    error = json.loads(refusal.value.body)
    assert error["code"] == 5
    assert error["error"] == error["message"] == error["details"][0]["message"]


def test_a_run_goes_on_with_each_poll(server: KfpServer, client: Client, package: str):
    run = start_run(client, package)
    assert (run.state, run.finished_at.year) == ("PENDING", 1970)
    assert run.run_details is None
    states = []
    for _ in range(5):
        run = client.get_run(run.run_id)
        tasks = run.run_details.task_details
        states.append((run.state, {task.display_name: task.state for task in tasks if task.display_name in TASKS}))
    done = ("SUCCEEDED", dict.fromkeys(TASKS, "SUCCEEDED"))
    assert states == [
        ("RUNNING", {"first": "RUNNING"}),
        ("RUNNING", {"first": "SUCCEEDED", "second": "RUNNING"}),
        ("SUCCEEDED", {"first": "SUCCEEDED", "second": "RUNNING"}),  # what it says of the run comes first
        *[done] * 2,
    ]
    assert [entry.state for entry in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert run.finished_at > run.created_at
    names = sorted(task.display_name for task in tasks if task.display_name)
    drivers = ["first-driver", "root", "root-driver", "second-driver"]
    workflow = f"a-run-{run.run_id[:5]}"
    containers = ["executor", "executor(0)"] * len(TASKS)
    assert names == sorted([*TASKS, *(f"{task}(0)" for task in TASKS), *drivers, *containers, workflow])
    assert [task.state for task in tasks if not task.display_name] == [None] * len(TASKS)  # kept for the cache
    assert all(task.end_time > task.start_time for task in tasks if task.display_name in TASKS)
    (first,) = [task for task in tasks if task.display_name == "first"]
    assert [entry.state for entry in first.state_history] == ["RUNNING", "SUCCEEDED"]


def test_a_task_may_fail_or_come_from_the_cache(server: KfpServer, client: Client, package: str):
    server.script = progress([*TASKS, "third"], failed="second", cached=("first",))
    run_id = start_run(client, package).run_id
    for _ in range(4):
        run = client.get_run(run_id)
    assert run.state == "FAILED"
    tasks = {task.display_name: task.state for task in run.run_details.task_details if task.display_name != "executor"}
    assert (tasks["first"], tasks["second"]) == ("SUCCEEDED", "FAILED")
    assert (tasks["third"], tasks["third-driver"]) == (None, None)
    executors = [task.state for task in run.run_details.task_details if task.display_name == "executor"]
    assert sorted(executors) == ["FAILED", "SKIPPED"]


def test_a_task_may_wait_for_its_pod_and_be_tried_again(server: KfpServer, client: Client, package: str):
    states = ["PENDING", "RUNNING", "PENDING(1)", "RUNNING(1)"]
    server.script = [Frame("RUNNING", {"first": state}) for state in states]
    server.script.append(Frame("FAILED", {"first": "FAILED(1)", "second": "OMITTED"}))
    run_id = start_run(client, package).run_id
    server.logs[pod_of(server.stored["run"][run_id], "first", 1)] = "what it said"
    seen = []
    for _ in states:
        nodes = client.get_run(run_id).run_details.task_details
        found = {node.display_name: node.state for node in nodes}
        seen.append(
            [found[name] for name in ("first", "first(0)", "executor", "executor(0)")] + [found.get("executor(1)")]
        )
    assert seen == [
        ["RUNNING", "RUNNING", "RUNNING", "RUNNING", None],
        ["RUNNING", "RUNNING", "RUNNING", "FAILED", "PENDING"],
        ["RUNNING", "RUNNING", "RUNNING", "FAILED", "RUNNING"],
        ["FAILED", "FAILED", "FAILED", "FAILED", "FAILED"],
    ]
    (container,) = [node for node in nodes if node.display_name == "executor"]
    pods = [child.pod_name for child in container.child_tasks]
    pool = urllib3.PoolManager()
    answers = [pool.request("GET", f"{server.url}/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log") for pod in pods]
    assert [(answer.status, answer.headers["Content-Type"]) for answer in answers] == [
        (500, "application/json"),
        (200, "text/plain"),
    ]
    assert answers[1].data == b"what it said"


@pytest.mark.parametrize("end", ["CANCELED", "FAILED"])
def test_a_terminated_run_ends(server: KfpServer, client: Client, package: str, end: str):
    server.script, server.terminated_as = [Frame("PENDING"), Frame("RUNNING", {"first": "RUNNING"})], end
    run_id = start_run(client, package).run_id
    assert [client.get_run(run_id).state for _ in range(3)] == ["RUNNING"] * 3
    client.terminate_run(run_id)
    assert [client.get_run(run_id).state for _ in range(3)] == ["CANCELING", end, end]
    tasks = {task.display_name: task.state for task in client.get_run(run_id).run_details.task_details}
    assert (tasks["first"], tasks["second"]) == ("FAILED", None)
    with refused(400):
        client.terminate_run(run_id)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"params": {}}, "text", id="a parameter is missing"),
        pytest.param({"params": {"text": "x", "txet": "y"}}, "txet", id="a parameter too many"),
        pytest.param({"params": {"text": 1}}, "text requires type STRING", id="no text"),
        pytest.param({"params": {"text": "x", "rate": True}}, "rate requires type NUMBER_DOUBLE", id="no number"),
        pytest.param({"params": {"text": "x", "names": {}}}, "names requires type LIST", id="no list"),
        pytest.param({"job_name": ""}, "run name is empty", id="no name"),
    ],
)
def test_a_run_is_refused_when_it_is_created(client: Client, package: str, changes: dict[str, Any], named: str):
    with refused(400) as refusal:
        start_run(client, package, **changes)
    assert named in json.loads(refusal.value.body)["error"]
    assert client.list_runs().runs is None


@pytest.mark.parametrize(("field", "longest"), [("job_name", 128), ("description", 255)])
def test_a_run_whose_texts_the_database_cannot_hold_is_an_error(
    server: KfpServer, client: Client, package: str, field: str, longest: int
):
    """The client of kfp has no description for a run, so its requests are made without it."""
    version_id = start_run(client, package).pipeline_version_reference
    assert version_id is None
    name = {"job_name": "display_name"}.get(field, field)
    body = {"display_name": "a run", **server.bodies("POST", "/runs")[0]}
    assert client.runs.run_service_create_run({**body, name: "x" * longest}).run_id
    with refused(500):
        client.runs.run_service_create_run({**body, name: "x" * (longest + 1)})
    with refused(500):
        client.runs.run_service_create_run({**body, name: EMOJI})
    assert client.list_runs().total_size == 2
    assert len(server.workflows) == 4  # those of the refused ones run all the same


def test_the_texts_of_a_pipeline_and_an_experiment_must_fit_too(client: Client, package: str):
    pipeline_id = client.upload_pipeline(package, "training").pipeline_id
    assert client.upload_pipeline_version(package, "x" * 127, pipeline_id=pipeline_id).pipeline_version_id
    for name in ("x" * 128, EMOJI):
        with refused(500):
            client.upload_pipeline_version(package, name, pipeline_id=pipeline_id)
    for name in ("x" * 129, EMOJI):
        with refused(500):
            client.create_experiment(name)
    assert client.list_pipeline_versions(pipeline_id).total_size == 2


def test_a_run_needs_what_it_refers_to(server: KfpServer, client: Client, package: str):
    ids = [client.upload_pipeline(package, name).pipeline_id for name in ("a", "b")]
    version_id = client.list_pipeline_versions(ids[0]).pipeline_versions[0].pipeline_version_id
    own = {"pipeline_package_path": None, "version_id": version_id}
    with refused(500):
        start_run(client, package, **own, pipeline_id=ids[1])
    with refused(404):
        client.run_pipeline("lost", "a run", package, {"text": "x"})
    run = start_run(client, package, **own, pipeline_id=ids[0], pipeline_root="gs://b/root", service_account="me")
    assert run.pipeline_version_reference.pipeline_version_id == version_id
    assert run.runtime_config.to_dict() == {"parameters": {"text": "x"}, "pipeline_root": "gs://b/root"}
    assert run.service_account == "me"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"namespace": "kubeflow"}, 'unknown field "namespace"', id="unknown"),
        pytest.param({"runtime_config": {"params": {}}}, 'unknown field "params"', id="unknown within"),
        pytest.param({"description": 1}, "V2beta1Run.description", id="type"),
        pytest.param({"state": "DONE"}, "DONE", id="enum"),
    ],
)
def test_fields_that_the_api_does_not_have_are_refused(client: Client, change: dict[str, Any], named: str):
    with refused(400) as refusal:
        client.runs.run_service_create_run({"display_name": "a run", **change})
    assert named in json.loads(refusal.value.body)["error"]


def test_lists_have_pages_filters_and_an_order(client: Client, package: str):
    for number in range(5):
        start_run(client, package, job_name=f"run {number}")
    page = client.list_runs(page_size=2, sort_by="created_at desc")
    assert [run.display_name for run in page.runs] == ["run 4", "run 3"]
    assert page.total_size == 5
    page = client.list_runs(page_size=4, sort_by="created_at desc", page_token=page.next_page_token)
    assert [run.display_name for run in page.runs] == ["run 2", "run 1", "run 0"]
    assert page.next_page_token is None

    assert [run.display_name for run in client.list_runs(filter=equals("name", "run 2")).runs] == ["run 2"]
    substring = '{"predicates": [{"operation": "IS_SUBSTRING", "key": "display_name", "string_value": "n 3"}]}'
    assert [run.display_name for run in client.list_runs(filter=substring).runs] == ["run 3"]
    assert client.list_runs(filter=equals("state", "FAILED")).runs is None
    with refused(400):
        client.list_runs(filter=equals("colour", "red"))
    with refused(400):
        client.list_runs(sort_by="colour")


def test_a_plus_sign_in_a_filter_is_lost_as_the_real_server_loses_it(client: Client, package: str):
    client.upload_pipeline(package, "a+b")
    assert client.get_pipeline_id("a+b") is None
    assert client.list_pipelines(filter=equals("name", "a+b").replace("+", "%2B")).total_size == 1


def test_in_single_user_mode_a_namespace_is_left_aside(client: Client):
    assert client.get_kfp_healthz().multi_user is False
    assert client.create_experiment("images", namespace="team").namespace is None
    assert client.list_experiments(namespace="other").total_size == 2


def test_in_multi_user_mode_a_namespace_is_needed(package: str):
    with KfpServer(multi_user=True) as server:
        client = Client(host=server.url, namespace="team")
        assert client.get_kfp_healthz().multi_user is True
        assert start_run(client, package).run_id
        assert client.get_experiment(experiment_name="images").namespace == "team"
        assert [client.list_runs(namespace=name).total_size for name in ("team", "other")] == [1, None]
        for call in (client.runs.run_service_list_runs, client.experiments.experiment_service_list_experiments):
            with refused(400):
                call()


def test_recurring_runs_are_made_paused_and_deleted(client: Client, package: str):
    experiment_id = client.create_experiment("images").experiment_id
    common = {"pipeline_package_path": package, "params": {"text": "x"}, "description": "nightly"}
    made = client.create_recurring_run(experiment_id, "nightly", **common, cron_expression="0 0 3 * * *")
    assert (made.status, made.max_concurrency, made.trigger.cron_schedule.cron) == ("ENABLED", "1", "0 0 3 * * *")
    client.disable_recurring_run(made.recurring_run_id)
    assert client.get_recurring_run(made.recurring_run_id).status == "DISABLED"
    client.enable_recurring_run(made.recurring_run_id)
    found = client.list_recurring_runs(experiment_id=experiment_id, filter=equals("display_name", "nightly"))
    assert [(run.description, run.status) for run in found.recurring_runs] == [("nightly", "ENABLED")]
    client.delete_recurring_run(made.recurring_run_id)
    assert client.list_recurring_runs().recurring_runs is None
    with refused(404):
        client.delete_recurring_run(made.recurring_run_id)
    for wrong in ({"cron_expression": "nightly"}, {"cron_expression": "0 3 * *"}, {"max_concurrency": 11}):
        with refused(400):
            client.create_recurring_run(experiment_id, "x", **common, **{"cron_expression": "@daily"} | wrong)


def test_a_token_is_asked_for_and_may_expire(server: KfpServer):
    server.token = "one"
    client = Client(host=server.url, existing_token="one")
    assert client.list_experiments().total_size == 1
    server.token = "two"
    with refused(401):
        client.list_experiments()


def test_tls_with_its_own_authority(tmp_path: Path):
    with KfpServer(folder=tmp_path) as server:
        client = Client(host=server.url, ssl_ca_cert=str(server.ca_file))
        assert client.list_experiments().total_size == 1
        with pytest.raises(urllib3.exceptions.MaxRetryError) as error:
            Client(host=server.url)
        assert isinstance(error.value.reason, urllib3.exceptions.SSLError)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error.value.reason)


def test_through_the_proxy_of_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kubernetes

    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        # With a token kfp's own client forgets the path of the proxy.
        path = kubeconfig(server, tmp_path / "kubeconfig", token="")
        server.kubernetes.rights[ANONYMOUS] = {NAMESPACE: {"services/proxy"}}
        monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        assert Client().list_experiments().total_size == 1
        client = Client(host=f"{server.url}/elsewhere", ssl_ca_cert=str(server.ca_file), namespace="team")
        with refused(404):
            client.list_experiments()


def test_faults_meet_one_request_each(server: KfpServer, client: Client, package: str):
    server.faults += [Fault("GET", "^/experiments", 503)] * 2 + [Fault("GET", "^/experiments", 403)]
    for status, body in ((503, "<html>"), (503, "<html>"), (403, '{"error"')):
        with refused(status) as refusal:
            client.list_experiments()
        assert refusal.value.body.startswith(body)
    assert client.list_experiments().total_size == 1

    server.faults.append(Fault("POST", "/upload$", cut="request"))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.upload_pipeline(package, "training")
    assert client.list_pipelines().pipelines is None
    assert client.upload_pipeline(package, "training").pipeline_id

    server.faults.append(Fault("POST", "/runs$", cut="answer"))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        start_run(client, package)
    assert client.list_runs().total_size == 1  # it was begun all the same

    server.faults.append(Fault("GET", "/runs$", seconds=0.3))
    start = time.monotonic()
    assert client.list_runs().total_size == 1
    assert time.monotonic() - start >= 0.3
    assert server.faults == []


def test_requests_are_kept(server: KfpServer, client: Client, package: str):
    client.upload_pipeline(package, "training")
    start_run(client, package)
    assert server.bodies("POST", "/pipelines/upload") == [Path(package).read_text(encoding="utf-8")]
    (run,) = server.bodies("POST", "/runs")
    assert run["runtime_config"] == {"parameters": {"text": "x"}}
    (upload,) = [request for request in server.requests if request.path == "/pipelines/upload"]
    assert upload.query == {"name": "training"}


def test_kubernetes_has_the_workflow_of_a_run_and_its_pods(server: KfpServer, client: Client, package: str):
    """A pod that was lost is gone, and the workflow says so; of a part of the pipeline the names lead to the task."""
    frames = [
        Frame("RUNNING", {"first": "RUNNING", "part/second": "PENDING"}),
        Frame("FAILED", {"first": "FAILED(1)", "part/second": "SUCCEEDED"}),
    ]
    server.script = frames
    run_id = start_run(client, package).run_id
    run = server.stored["run"][run_id]
    (workflow,) = server.kubernetes.list("Workflow", NAMESPACE, labels=f"pipeline/runid={run_id}")
    assert workflow["metadata"]["annotations"] == {"pipelines.kubeflow.org/run_name": "a run"}

    def list_pods() -> dict[str, str]:
        pods = server.kubernetes.list("Pod", NAMESPACE, labels=f"pipeline/runid={run_id}")
        names = {pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]: pod for pod in pods}
        return {name.partition(".")[2]: pod["status"]["phase"] for name, pod in names.items() if "executor" in name}

    assert list_pods() == {
        "root(0).first(0).executor(0)": "Running",
        "root(0).part(0).second(0).executor(0)": "Pending",
    }
    assert workflow["status"]["phase"] == "Running"
    client.get_run(run_id)
    assert list_pods() == {
        "root(0).first(0).executor(1)": "Failed",
        "root(0).part(0).second(0).executor(0)": "Succeeded",
    }
    nodes = workflow["status"]["nodes"]
    said = {attempt: nodes[pod_of(run, "first", attempt)] for attempt in (0, 1)}
    assert [(node["type"], node["phase"], node["message"]) for node in said.values()] == [
        ("Pod", "Error", "pod deleted"),
        ("Pod", "Failed", "main: Error (exit code 1)"),
    ]
    assert workflow["status"]["phase"] == "Failed"


def test_the_root_of_a_run_is_its_own_or_that_of_the_cluster_but_not_that_of_its_package(
    server: KfpServer, client: Client, package: str, tmp_path: Path
):
    content = Path(package).read_text(encoding="utf-8")
    with_root = tmp_path / "package.yaml"
    with_root.write_text(f"defaultPipelineRoot: gs://bucket/package\n{content}", encoding="utf-8")
    runs = [start_run(client, str(with_root), **options) for options in ({}, {"pipeline_root": "gs://bucket/own"})]
    plain, own = (server.stored["run"][run.run_id] for run in runs)
    assert server.find_root(own) == "gs://bucket/own"
    assert server.find_root(plain) == "minio://mlpipeline/v2/artifacts"
    server.kubernetes.put("ConfigMap", LAUNCHER, data={"defaultPipelineRoot": "gs://bucket/cluster"})
    assert (server.find_root(own), server.find_root(plain)) == ("gs://bucket/own", "gs://bucket/cluster")
