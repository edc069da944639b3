"""What is told of a stage that failed, is tried again, waits for long or was ended by somebody."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from components.shared.errors import STOPS
from tests.fakes.kfp_rules import Frame, Json, ended, pod_of, pod_status, progress, workflow_of
from tests.fakes.kfp_server import KUBE_PROXY, Fault, KfpServer, kubeconfig
from tests.fakes.webhook import open_webhook
from tests.pages import Page
from tests.pipelines.cluster.lab import (
    LOG,
    RUNNING,
    STAGES,
    TURN_FRAMES,
    Lab,
    Outcome,
    asked,
    begin_earlier,
    evaluation,
    finished,
    minutes_ago,
    together,
    until,
)

SENTENCE = "train/iv/0007.png is not a readable PNG; remove it."
# As the launcher of Kubeflow Pipelines leaves it, with what it says itself when the stage has ended.
FAILED = (
    f"{LOG}ingest: 7 of 9 images\n{STOPS}\n{SENTENCE}\n"
    "F1122 14:05:09.000000       1 main.go:57] failed to execute component: exit status 1\n"
    'time="2026-11-22T14:05:09.000Z" level=info msg="sub-process exited"\n'
)
TRACE = f"""{LOG}Traceback (most recent call last):
  File "training.py", line 2, in fit
    raise KeyError("x")
KeyError: 'x'
"""


def link(lab: Lab, run: Json) -> str:
    return f"{lab.server.url}/#/runs/details/{run['run_id']}"


def began(lab: Lab, name: str, state: str = "FAILED") -> Json:
    """A run that has ended, in which the first stage is in that state."""
    return lab.begin(name, [Frame("FAILED", {"ingest": state, **dict.fromkeys(STAGES[1:], "OMITTED")})])


def told(outcome: Outcome) -> list[str]:
    """The lines from that on which tells of the failure, up to the end of the run."""
    assert (outcome.returncode, outcome.stderr) == (1, "")
    lines = outcome.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if re.match(r"[\w-]+ failed", line))
    last = next(number for number, line in enumerate(lines) if re.match(r"failed after \d+ s", line))
    return lines[first:last]


def test_the_sentence_of_a_stage_is_told_wherever_its_failure_is(lab: Lab):
    """From its log in the bucket, which is that of its last attempt."""
    run = began(lab, "trial", "FAILED(1)")
    lab.leave(run, "ingest/executor-logs-0", content=TRACE)
    folder = lab.leave(run, "ingest/executor-logs-1", content=FAILED)["executor-logs-1"]
    with open_webhook() as webhook:
        outcome = lab.submit("--attach", "trial", "--notify", webhook.url)
        said = [f"trial: failed in ingest: {SENTENCE.rstrip('.')}, {link(lab, run)}"]
        assert webhook.texts == said
    assert told(outcome) == [f"ingest failed at attempt 2: {SENTENCE}", f"its log is at {folder} and {link(lab, run)}"]
    page = Page(lab.workplace / f"runs/default/{run['run_id']}/index.html").text
    assert f"ingest failed: {SENTENCE} (at attempt 2)" in " ".join(page.split())


def test_without_a_log_in_the_bucket_the_server_is_asked_for_that_of_the_pod(lab: Lab):
    ends = {"once": "FAILED", "again": "FAILED(1)"}
    runs = {name: began(lab, name, state) for name, state in ends.items()}
    part = TURN_FRAMES[3]
    runs["part"] = lab.begin("part", progress(TURN_FRAMES, failed=part)[-1:], pipeline="improvement")
    tasks = {"once": ("ingest", 0), "again": ("ingest", 1), "part": (part, 0)}
    for name, (task, attempt) in tasks.items():
        place = f"gs://b/runs/p/{runs[name]['run_id']}/{task.rpartition('/')[2]}/0123/examples"
        lab.server.logs[pod_of(runs[name], task, attempt)] = FAILED.replace("{}", json.dumps({"uri": place}))
    lab.server.logs[pod_of(runs["again"], "ingest", 0)] = TRACE
    outcomes = together(*(partial(lab.submit, "--attach", name) for name in tasks))
    words = ("ingest failed", "ingest failed at attempt 2", "before-train failed")
    for outcome, run, said in zip(outcomes, runs.values(), words, strict=True):
        assert told(outcome) == [f"{said}: {SENTENCE}", f"its log is at {link(lab, run)}"]


def test_what_an_earlier_attempt_said_is_not_taken_for_the_reason(lab: Lab):
    run = began(lab, "trial", "FAILED(1)")  # its second attempt was killed, so that its log was not kept
    lab.leave(run, "ingest/executor-logs-0", content=FAILED)
    assert told(lab.submit("--attach", "trial")) == [f"ingest failed at attempt 2; its log is at {link(lab, run)}"]
    outputs = json.dumps({"uri": f"gs://b/runs/p/{run['run_id']}/ingest/0123/examples"})
    lab.server.logs[pod_of(run, "ingest", 0)] = FAILED.replace("{}", outputs)
    assert told(lab.submit("--attach", "trial")) == [f"ingest failed at attempt 2; its log is at {link(lab, run)}"]
    lab.server.logs[pod_of(run, "ingest", 1)] = LOG.replace("{}", outputs) + "half a li\n"
    assert told(lab.submit("--attach", "trial")) == [
        "ingest failed at attempt 2: half a li",
        f"its log is at {link(lab, run)}",
    ]


def test_of_a_stage_without_a_sentence_the_last_lines_are_told_and_of_one_without_words_where_its_log_is(lab: Lab):
    traced, killed, silent = (began(lab, name) for name in ("traced", "killed", "silent"))
    places = [
        lab.leave(traced, "ingest/executor-logs-0", content=TRACE)["executor-logs-0"],
        lab.leave(killed, "ingest/executor-logs-0", content=f"{LOG}one line\nanother line\x1b[2J\n")["executor-logs-0"],
    ]
    lab.server.faults += [Fault("GET", "/logs/", 503), Fault("GET", "/logs/", body=b"<html>Log in</html>")]
    outcomes = together(*(partial(lab.submit, "--attach", name) for name in ("traced", "killed")))
    outcomes.append(lab.submit("--attach", "silent"))
    assert [told(outcome) for outcome in outcomes] == [
        [
            "ingest failed: unexpected, its log has the trace: KeyError: 'x'",
            f"its log is at {places[0]} and {link(lab, traced)}",
        ],
        ["ingest failed: one line", "another line", f"its log is at {places[1]} and {link(lab, killed)}"],
        [f"ingest failed; its log is at {link(lab, silent)}"],
    ]
    page = Page(lab.workplace / f"runs/default/{silent['run_id']}/index.html").text
    assert "ingest failed: its log is on the page that is named last." in " ".join(page.split())


@pytest.fixture
def kubernetes(lab: Lab, tmp_path: Path) -> Iterator[tuple[Lab, dict[str, str]]]:
    """The lab with a server to which a kubeconfig leads, and the environment that takes it."""
    with KfpServer() as server:
        path = kubeconfig(server, tmp_path / "kubeconfig")
        yield lab._replace(server=server), {"KFP_HOST": "", "KUBECONFIG": str(path)}


def find_pod(lab: Lab, run: Json, task: str = "ingest", attempt: int = 0) -> Json:
    """What Kubernetes has of the pod of an attempt."""
    return lab.server.kubernetes.get("Pod", pod_of(run, task, attempt))


NODE = "workflows.argoproj.io/node-name"  # an annotation
LATE = {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"}
EVICTED = {"reason": "Evicted", "message": "The node was low on resource: memory."}


def test_what_only_kubernetes_knows_of_a_failure_is_told_where_the_kubeconfig_leads_there(
    kubernetes: tuple[Lab, dict[str, str]],
):
    lab, environment = kubernetes
    runs = [began(lab, name) for name in ("too large", "moved", "too slow")]
    runs.append(began(lab, "by itself", "FAILED(1)"))
    place = lab.leave(runs[0], "ingest/executor-logs-0", content=f"{LOG}half a li\n")["executor-logs-0"]
    find_pod(lab, runs[0])["status"] = pod_status("Failed", main=ended("OOMKilled", 137), wait=ended("Error", 1))
    find_pod(lab, runs[1])["status"] = pod_status("Failed", main=ended("ContainerStatusUnknown", 137), **EVICTED)
    find_pod(lab, runs[2])["status"] = pod_status("Failed", main=ended("Error", 143), **LATE)
    last = find_pod(lab, runs[3], attempt=1)["metadata"]
    before = lab.server.kubernetes.put(  # the pod of the attempt before
        "Pod",
        pod_of(runs[3], "ingest"),
        labels=last["labels"],
        annotations={NODE: last["annotations"][NODE].replace("(1)", "(0)")},
        status=pod_status("Failed", main=ended("ContainerStatusUnknown", 137), **EVICTED),
    )
    before["metadata"]["creationTimestamp"] = "2026-11-22T14:05:00Z"
    lab.server.prefix = KUBE_PROXY
    outcomes = together(*(partial(lab.submit, "--attach", run["run_id"], **environment) for run in runs))
    links = [f"http://localhost:8080/#/runs/details/{run['run_id']}" for run in runs]
    assert [told(outcome) for outcome in outcomes] == [
        [
            f"ingest failed: {TOO_LARGE}",
            "half a li",
            f"its log is at {place} and {links[0]}",
        ],
        ["ingest failed: Evicted: The node was low on resource: memory", f"its log is at {links[1]}"],
        [f"ingest failed: {TOO_LATE}", f"its log is at {links[2]}"],
        [f"ingest failed at attempt 2; its log is at {links[3]}"],
    ]


TOO_LARGE = (
    "it needed more memory than it may have (OOMKilled); raise its `limits` in the config, or give it less to do at "
    "once"
)
TOO_LATE = "it took longer than its `timeout` (DeadlineExceeded); raise that in the config"


def test_of_a_pod_that_is_gone_the_workflow_says_why_it_was_ended_until_that_goes_too(
    kubernetes: tuple[Lab, dict[str, str]], tmp_path: Path
):
    lab, environment = kubernetes
    cluster = lab.server.kubernetes
    cluster.users["hers"] = "anna@example.com"
    cluster.rights["anna@example.com"] = {"kubeflow": {"services/proxy", "pods"}}
    hers = {**environment, "KUBECONFIG": str(kubeconfig(lab.server, tmp_path / "hers", token="hers"))}
    deleted = "its pod was deleted, perhaps with its node; start the run again, and what was done comes from the cache"
    messages = {
        "too slow": (LATE["message"], TOO_LATE),
        "too large": ("main: OOMKilled (exit code 137)", TOO_LARGE),
        "lost": ("pod deleted", deleted),
        "evicted": (EVICTED["message"], "The node was low on resource: memory"),
        "by itself": ("main: Error (exit code 1)", ""),
        "long ago": (LATE["message"], ""),
        "not hers": (LATE["message"], ""),
    }
    runs = {name: began(lab, name, "FAILED(1)") for name in messages}
    for name, run in runs.items():
        workflow, last = cluster.get("Workflow", workflow_of(run)), find_pod(lab, run, attempt=1)
        workflow["status"]["nodes"][pod_of(run, "ingest", 1)]["message"] = messages[name][0]
        cluster.delete(last)
        if name == "long ago":
            cluster.delete(workflow)
        if name == "evicted":  # the pod of the attempt before is still there
            before = {NODE: last["metadata"]["annotations"][NODE].replace("(1)", "(0)")}
            large = pod_status("Failed", main=ended("OOMKilled", 137))
            labels = last["metadata"]["labels"]
            cluster.put("Pod", pod_of(run, "ingest"), labels=labels, annotations=before, status=large)
    lab.server.prefix = KUBE_PROXY
    outcomes = together(
        *(
            partial(lab.submit, "--attach", run["run_id"], **(hers if name == "not hers" else environment))
            for name, run in runs.items()
        )
    )
    for (name, run), outcome in zip(runs.items(), outcomes, strict=True):
        link, said = f"http://localhost:8080/#/runs/details/{run['run_id']}", messages[name][1]
        expected = [f"ingest failed at attempt 2: {said}", f"its log is at {link}"]
        assert told(outcome) == (expected if said else [f"ingest failed at attempt 2; its log is at {link}"])


@pytest.mark.parametrize("way", ["--user-namespace", "kept by kfp"])
def test_the_pods_of_a_user_are_looked_for_in_the_namespace_of_that_user(lab: Lab, tmp_path: Path, way: str):
    options = ("--user-namespace", "team") if way == "--user-namespace" else ()
    if not options:
        (tmp_path / ".config/kfp").mkdir(parents=True)
        (tmp_path / ".config/kfp/context.json").write_text('{"namespace": "team"}')
    with KfpServer(multi_user=True, prefix=KUBE_PROXY, folder=tmp_path) as server:
        lab = lab._replace(server=server)
        path = kubeconfig(server, tmp_path / "kubeconfig")
        environment = {"KFP_HOST": "", "KUBECONFIG": str(path)}
        server.script = [Frame("FAILED", {"ingest": "FAILED", **dict.fromkeys(STAGES[1:], "OMITTED")})]
        lab.done("--data", "gs://images/numerals", *options, **environment)
        (run,) = lab.runs()
        pod = server.kubernetes.get("Pod", pod_of(run, "ingest"), "team")
        pod["status"] = pod_status("Failed", main=ended("ContainerStatusUnknown", 137), **EVICTED)
        outcome = lab.submit("--attach", run["run_id"], *options, **environment)
    assert told(outcome)[0] == "ingest failed: Evicted: The node was low on resource: memory"


WAITING = [Frame("RUNNING", {"ingest": "PENDING"})] * 60


def test_a_pod_that_waits_for_long_is_looked_into(kubernetes: tuple[Lab, dict[str, str]]):
    lab, environment = kubernetes
    runs = [lab.begin(name, WAITING) for name in ("no image", "no room", "nobody knows", "waits again")]
    again = runs.pop()
    began, lost = (minutes_ago(number) for number in (2, 0))
    for run in (*runs, again):
        begin_earlier(run, began)
    for node in again["run_details"]["task_details"]:  # its pod was lost a moment ago
        states = [{"update_time": began, "state": "RUNNING"}, {"update_time": lost, "state": "PENDING"}]
        node["state_history"] += states if node["state"] == "PENDING" else []
    image = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling "registry.example/ingest:1"'}}
    room = {"reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}
    unscheduled = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", **room}]}
    find_pod(lab, runs[0])["status"] = pod_status("Pending", main=image, wait={"running": {"startedAt": began}})
    find_pod(lab, runs[1])["status"] = unscheduled
    runs.append(lab.begin("no node", [Frame("RUNNING")] * 60))  # of which no task has begun
    start = {"start_time": began, "display_name": "root-driver", "state": "PENDING"}
    runs[3]["run_details"] = {"task_details": [start]}
    labels = {"pipeline/runid": runs[3]["run_id"]}
    lab.server.kubernetes.put(
        "Pod", "no-node", labels=labels, annotations={NODE: "no-node(0).root-driver"}, status=unscheduled
    )
    lab.server.prefix = KUBE_PROXY
    names = [run["run_id"] for run in (*runs, again)]
    outcomes = together(
        *(partial(lab.submit, "--attach", name, "--timeout", "0.05", **environment) for name in names),
    )
    said = [[line for line in outcome.stdout.splitlines() if " has waited " in line] for outcome in outcomes]
    assert [outcome.returncode for outcome in outcomes] == [124] * 5
    command = f"kubectl -n kubeflow describe pods -l pipeline/runid={runs[2]['run_id']}"
    assert said == [
        ['ingest has waited for more than a minute: ImagePullBackOff: Back-off pulling "registry.example/ingest:1"'],
        ["ingest has waited for more than a minute: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu"],
        [
            "ingest has waited for its image or for a room on a node for more than a minute; the end of what this "
            f"prints says why: {command}"
        ],
        ["the run has waited for more than a minute: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu"],
        [],
    ]
    assert not any("▶" in outcome.stdout for outcome in outcomes)


def leave_all(lab: Lab, run: Json) -> None:
    lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("4567.dir")))
    lab.leave(run, "ingest/examples", "validate/report", "transform/transform_graph", "train/report")


@pytest.mark.parametrize("way", ["a new attempt", "the same attempt"])
def test_a_pod_that_is_lost_in_any_stage_and_phase_is_told_and_the_run_goes_on(lab: Lab, way: str):
    """With retries Argo begins another attempt, without them the one that there is goes back."""
    again = (lambda number: f"({number})") if way == "a new attempt" else (lambda _: "")
    states = [
        "PENDING",  # lost while it waits for its image
        *(f"{state}{again(1)}" for state in ("PENDING", "RUNNING")),  # lost while it runs
        *(f"{state}{again(2)}" for state in ("PENDING", "RUNNING")),
    ]

    def script() -> Iterator[Frame]:
        yield from [Frame("PENDING")] * 2  # of which no waiting submit.py sees any
        done: dict[str, str] = {}
        for stage in STAGES:
            for state in states:
                yield Frame("RUNNING", {**done, stage: state})
            done[stage] = f"SUCCEEDED{again(2)}"
        leave_all(lab, lab.runs()[0])
        yield Frame("SUCCEEDED", {**done, "evaluate": states[-1]})
        yield Frame("SUCCEEDED", done)

    lab.begin("trial", script())
    printed = lab.done("--attach", "trial")
    shown = re.findall(r"^\S (\w+) +(\w+) *(?:[\d.]+ s)? *(attempt \d)?$", printed, re.M)
    if way == "a new attempt":
        expected = [("waiting", "attempt 2"), ("running", "attempt 2"), ("waiting", "attempt 3")]
        expected += [("running", "attempt 3"), ("succeeded", "attempt 3")]
    else:
        expected = [("running", ""), ("waiting", "attempt 2"), ("running", "attempt 2"), ("succeeded", "attempt 2")]
    assert shown == [(stage, *words) for stage in STAGES for words in expected]
    assert (lab.workplace / "results/metrics.json").is_file()
    assert "from the cache" not in printed


def test_a_new_attempt_belongs_to_the_task_whose_pod_was_lost_and_not_to_one_that_began_meanwhile(lab: Lab):
    going = {"before/before-train": "RUNNING"}
    both = {**going, "audit": "RUNNING"}
    lost = {**both, "before/before-train": "RUNNING(1)"}
    frames = [Frame("RUNNING", tasks) for tasks in (going, both, both, lost)]
    end = Frame("FAILED", {**lost, "audit": "SUCCEEDED", "before/before-train": "FAILED(1)"})
    lab.begin("trial", [*frames, end], pipeline="improvement")
    outcome = lab.submit("--attach", "trial")
    shown = re.findall(r"^\S ([\w-]+) +(\w+) *(?:[\d.]+ s)? *(attempt \d)?$", outcome.stdout, re.M)
    assert shown[-3:] == [
        ("before-train", "running", "attempt 2"),
        ("before-train", "failed", "attempt 2"),
        ("audit", "succeeded", ""),
    ]
    assert ("audit", "running", "") in shown
    assert told(outcome)[0].startswith("before-train failed at attempt 2; its log is at ")


def test_the_tasks_of_a_run_that_has_just_ended_are_waited_for(lab: Lab):
    done = dict.fromkeys(STAGES, "SUCCEEDED")
    omitted = dict.fromkeys(STAGES[2:], "OMITTED")
    late = lab.begin("late", [Frame("SUCCEEDED", {**done, "evaluate": "RUNNING"})] * 3 + [Frame("SUCCEEDED", done)])
    leave_all(lab, late)
    stale = {"ingest": "SUCCEEDED", "validate": "RUNNING"}
    failed = [Frame("FAILED", stale)] * 3 + [Frame("FAILED", {**stale, "validate": "FAILED", **omitted})]
    lab.begin("failed", failed)
    succeeded, outcome = together(partial(lab.submit, "--attach", "late"), partial(lab.submit, "--attach", "failed"))
    assert (succeeded.returncode, succeeded.stderr) == (0, "")
    shown = re.findall(r"^([▶✓✗]) (\w+) ", succeeded.stdout, re.M)
    assert shown[-2:] == [("▶", "evaluate"), ("✓", "evaluate")]
    assert [line[:2] for line in outcome.stdout.splitlines() if "validate  " in line] == ["▶ ", "✗ "]
    assert told(outcome)[0].startswith("validate failed; its log is at ")


def test_an_end_that_is_known_is_told_though_the_server_goes_away(lab: Lab):
    def script() -> Iterator[Frame]:
        yield from [Frame("RUNNING", {"ingest": "RUNNING"})] * 4
        lab.server.faults += [Fault("GET", RUNNING, 503)] * 5
        yield Frame("FAILED", {"ingest": "FAILED", "validate": "RUNNING"})

    run = lab.begin("trial", script())
    outcome = lab.submit("--attach", run["run_id"])
    assert told(outcome) == [f"ingest failed; its log is at {link(lab, run)}"]
    assert len(lab.server.faults) == 4


def test_a_run_of_which_only_a_driver_failed_has_ended_at_once(lab: Lab):
    run = lab.begin("trial", [Frame("FAILED")])
    times = dict.fromkeys(("start_time", "end_time"), "2026-11-22T14:05:00Z")
    run["run_details"] = {"task_details": [{"display_name": "ingest-driver", "state": "FAILED", **times}]}
    assert told(lab.submit("--attach", "trial")) == [f"ingest failed; its log is at {link(lab, run)}"]
    assert asked(lab.server, run) < 5


def test_a_stage_that_failed_before_the_run_was_ended_is_told_from_those_that_were_cut_off(lab: Lab):
    going = {"before/before-ingest": "SUCCEEDED", "audit": "FAILED", "before/before-train": "RUNNING"}
    run = lab.begin("trial", [Frame("RUNNING", going)], pipeline="improvement")
    waiting = lab.start("--attach", "trial")
    until(lambda: asked(lab.server, run) > 1)
    lab.done("--terminate", "trial")
    outcome = finished(waiting)
    assert (outcome.returncode, outcome.stderr) == (3, "")
    assert re.findall(r"^(\S+) failed", outcome.stdout, re.M) == ["audit"]
    assert re.search(r"^■ before-train +cancelled", outcome.stdout, re.M)
    assert re.search(r"^cancelled after \d+ s$", outcome.stdout, re.M)


def test_the_stage_that_failed_first_is_told_first_whatever_its_place_in_the_pipeline(lab: Lab):
    train, evaluate = "before/before-train", "before/before-evaluate"
    going = {train: "RUNNING", evaluate: "RUNNING", "audit": "RUNNING"}
    frames = [
        Frame("RUNNING", going),
        Frame("RUNNING", {**going, "audit": "FAILED"}),
        Frame("RUNNING", {**going, "audit": "FAILED", evaluate: "FAILED"}),
        Frame("FAILED", {**dict.fromkeys(TURN_FRAMES, "OMITTED"), **dict.fromkeys(going, "FAILED")}),
    ]
    run = lab.begin("trial", frames, pipeline="improvement")
    with open_webhook() as webhook:
        outcome = lab.submit("--attach", "trial", "--notify", webhook.url)
        assert webhook.texts == [f"trial: failed in audit, {link(lab, run)}"]
    assert told(outcome) == [
        f"{name} failed; its log is at {link(lab, run)}" for name in ("audit", "before-evaluate", "before-train")
    ]


def test_a_run_that_ends_by_itself_just_before_it_is_ended_is_not_said_to_be_ended(lab: Lab):
    running, ended = Frame("RUNNING", {"ingest": "RUNNING"}), Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))
    lab.begin("trial", [running, running, ended])
    lab.server.faults += [Fault("POST", ":terminate$", 400)]
    assert lab.submit("--terminate", "trial").stderr == "run trial: has ended already (succeeded).\n"
    lab.begin("other", [running])
    lab.done("--terminate", "other")
    assert lab.submit("--terminate", "other").stderr == "run other: has ended already (cancelled).\n"
