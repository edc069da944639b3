"""The commands that `submit.py` prints do what it says when they are typed as they stand."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.fakes.kfp_rules import STARTING, Frame, pod_of, pod_status, progress
from tests.fakes.kfp_server import KUBE_PROXY, RUN_NAME, Fault, KfpServer, kubeconfig
from tests.pipelines.cluster.lab import (
    STAGES,
    TURN_FRAMES,
    Lab,
    asked,
    begin_earlier,
    comparison,
    evaluation,
    finished,
    minutes_ago,
    until,
)

RUNS_FOR_EVER = [Frame("RUNNING", {"ingest": "RUNNING"})]
DATA_FLAG = "--data gs://images/numerals"
DATA = (*DATA_FLAG.split(), "--experiment", "my images", "--runs", "my runs")
NIGHTLY = ("--recurring", "nightly", "--cron", "0 30 2 * * *")


def commands(printed: str) -> list[str]:
    """The commands below Next, and the one that stands in a line."""
    return [words for _, words in re.findall(r"^(    |.*To keep waiting: )(python .*)$", printed, re.M)]


def type_in(lab: Lab, command: str) -> subprocess.CompletedProcess[str]:
    """Types a command into a shell that knows of no endpoint but what the command names."""
    line = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
    return subprocess.run(
        line, shell=True, cwd=lab.workplace, env=lab.environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture
def remote(lab: Lab, tmp_path: Path) -> tuple[str | Path, ...]:
    """The flags of a connection that needs them all."""
    token, header = tmp_path / "my token", tmp_path / "my header"
    token.write_text("0123456789abcdef-secret")
    header.write_text("kubeflow-userid: anna@example.com\n")
    lab.server.token, lab.server.multi_user = "0123456789abcdef-secret", True
    lab.server.users = {"anna@example.com": {"team"}}
    flags = ("--host", lab.server.url, "--user-namespace", "team", "--token-file", token, "--header-file", header)
    return (*flags, "--ui", "https://ui.example")


def test_each_command_that_is_printed_works_as_it_stands(lab: Lab, remote: tuple[str | Path, ...]):
    lab.server.script = RUNS_FOR_EVER
    started = lab.done(*DATA, *remote, KFP_HOST="")
    (run,) = lab.runs()
    listed = lab.done("--list", "--experiment", "my images", "--runs", "my runs", *remote, KFP_HOST="")
    recurring = lab.done(*DATA, *NIGHTLY, *remote, KFP_HOST="")
    late = lab.submit("--attach", run["run_id"], "--timeout", "0.02", *DATA[2:], *remote, KFP_HOST="").stdout
    process = lab.start("--attach", run["run_id"], *DATA[2:], *remote, KFP_HOST="")
    before = asked(lab.server, run)
    until(lambda: asked(lab.server, run) >= before + 3)  # it waits
    process.send_signal(signal.SIGINT)
    stopped = finished(process).stdout
    checked = lab.done("--check", *DATA, *remote, KFP_HOST="")
    flags = shlex.join(map(str, remote))
    project = f"{lab.program} --config lab --experiment 'my images' --runs 'my runs'"
    wait, again = f"{project} {flags} --attach {run['run_id']}", f"{project} {DATA_FLAG} {flags} --wait"
    assert commands(started) == commands(late) == commands(stopped) == [wait]
    assert commands(listed) == [f"{project} {flags} --attach latest"]
    assert commands(recurring) == [f"{project} {flags} --list"]
    assert commands(checked) == [again]

    shown = type_in(lab, commands(recurring)[0])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run["display_name"] in shown.stdout

    terminated = lab.done("--terminate", run["run_id"], *DATA[2:], *remote, KFP_HOST="")
    assert commands(terminated) == [wait]
    for command in (wait, *commands(listed)):
        outcome = type_in(lab, command)
        assert (outcome.returncode, outcome.stderr) == (3, ""), (command, outcome)

    lab.server.script = progress(STAGES, failed="ingest")
    for number in (2, 3):
        outcome = type_in(lab, again)
        assert (outcome.returncode, outcome.stderr) == (1, ""), outcome
        assert commands(outcome.stdout) == [again]
        assert len(lab.runs()) == number


def test_what_comes_next_after_a_success_works_as_it_stands(lab: Lab, remote: tuple[str | Path, ...]):
    """After a training the turn of the loop, and after that the same with what somebody has decided."""

    def succeed(tasks: list[str], outputs: dict[str, str]) -> Iterator[Frame]:
        yield Frame("RUNNING", {tasks[0]: "RUNNING"})
        for output, content in outputs.items():
            lab.leave(lab.runs()[-1], output, content=content)
        yield Frame("SUCCEEDED", dict.fromkeys(tasks, "SUCCEEDED"))

    flags = shlex.join(map(str, remote))
    project = f"{lab.program} --config lab --experiment 'my images' --runs 'my runs'"
    figures = json.dumps(evaluation("0123.dir"))
    lab.server.script = succeed(STAGES, {"evaluate/evaluation/evaluation.json": figures})
    printed = lab.done(*DATA, *remote, "--wait", KFP_HOST="")
    turn = f"{project} --pipeline improvement {DATA_FLAG} {flags} --wait"
    assert commands(printed) == [turn]

    outputs = {f"{task}/evaluation/evaluation.json": figures for task in ("after-evaluate", "yardstick")}
    outputs |= {"compare/comparison/comparison.json": json.dumps(comparison())}
    lab.server.script = succeed(
        TURN_FRAMES, {**outputs, "audit/review": "review", "curate/data/manifest.csv": "filename"}
    )
    outcome = type_in(lab, turn)
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome
    again, adopt = commands(outcome.stdout)
    assert again == turn.replace(f" {flags}", f" --decisions decisions.csv {flags}")
    adoption = f"{lab.program.replace('submit.py', 'adopt.py')} --data data --new --experiment 'my images'"
    assert adopt.startswith(f"{adoption} --runs 'my runs' --curated {lab.root}/improvement/{lab.runs()[-1]['run_id']}/")

    decided = "sha256,filename,label,decision,new_label,decided_at"
    (lab.workplace / "decisions.csv").write_text(f"{decided}\n{'0' * 64},train/i/a.png,i,keep,,\n")
    lab.server.script = progress(TURN_FRAMES, failed="curate")[-1:]
    outcome = type_in(lab, again)
    assert (outcome.returncode, outcome.stderr) == (1, ""), outcome
    assert commands(outcome.stdout) == [again]
    assert list(lab.runs()[-1]["runtime_config"]["parameters"]["decisions_uris"]) == ["decisions"]
    assert len(lab.runs()) == 3


def test_kubernetes_404_is_none_of_kubeflow_pipelines(lab: Lab, tmp_path: Path):
    """A cluster without Kubeflow Pipelines has no run, but that is not what is wrong."""
    run = "01234567-89ab-cdef-0123-456789abcdef"
    with KfpServer(folder=tmp_path) as other:  # which does not answer where a kubeconfig looks for it
        path = kubeconfig(other, tmp_path / "kubeconfig")
        for options in (("--attach", run), ("--terminate", run), ("--list",)):
            assert lab.refused(*options, "--namespace", "pipes", KFP_HOST="", KUBECONFIG=str(path)) == (
                'the kubeconfig\'s cluster: not found (404): services "ml-pipeline" not found; Kubeflow Pipelines is '
                "not in its namespace pipes; name another with --namespace or --kube-context, or its address with "
                "--host."
            )
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        path = kubeconfig(server, tmp_path / "kubeconfig")
        said = lab.refused("--attach", run, KFP_HOST="", KUBECONFIG=str(path))
    assert said == f"run {run}: there is no such run; --list shows the newest."


needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="there is no kubectl; kubernetes.io/docs/tasks/tools says where to get it"
)


def run_kubectl(lab: Lab, command: str, path: Path) -> str:
    """What a command of kubectl prints, with the kubeconfig at that path."""
    environment = {**lab.environment, "KUBECONFIG": str(path)}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@needs_kubectl
def test_kubectl_shows_and_ends_what_is_perhaps_there(lab: Lab, tmp_path: Path):
    data = ("--data", "gs://images/numerals", "--kube-context", "the context")
    kinds = {"runs": ("Workflow", ()), "recurringruns": ("ScheduledWorkflow", NIGHTLY)}
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        path = kubeconfig(server, tmp_path / "kubeconfig", context="the context")
        lab = lab._replace(server=server)
        for collection, (kind, options) in kinds.items():
            server.faults = [Fault("POST", f"^/{collection}$", 500)]
            said = lab.submit(*data, *options, KFP_HOST="", KUBECONFIG=str(path)).stderr
            name = server.bodies("POST", f"/{collection}")[-1]["display_name"]
            server.kubernetes.put(kind, "training-x7k2p", annotations={RUN_NAME: name})
            server.kubernetes.put(kind, "training-others", namespace="others", annotations={RUN_NAME: name})
            show, end = re.findall(r"`(kubectl [^`]+)`", said)
            heading, *shown = run_kubectl(lab, show, path).splitlines()
            if kind == "Workflow":
                assert (heading.split(), [row.split() for row in shown]) == (
                    ["NAME", "RUN"],
                    [["training-x7k2p", name]],
                )
            else:
                assert [row.split()[0] for row in (heading, *shown)] == ["NAME", "training-x7k2p"]
            run_kubectl(lab, end.replace(" NAME", " training-x7k2p"), path)
            assert [each["metadata"]["name"] for each in server.kubernetes.list(kind)] == ["training-others"]


@needs_kubectl
def test_kubectl_tells_why_a_stage_waits(lab: Lab, tmp_path: Path):
    """Given an address, submit.py cannot tell which kubeconfig belongs to the cluster."""
    with KfpServer(folder=tmp_path) as server:
        lab = lab._replace(server=server)
        environment = {"KFP_CA_FILE": str(server.ca_file)}
        run, other = (lab.begin(name, [Frame("RUNNING", {"ingest": "PENDING"})] * 20) for name in ("trial", "other"))
        begin_earlier(run, minutes_ago(2))
        image = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling "registry.example/ingest:1"'}}
        server.kubernetes.get("Pod", pod_of(run, "ingest"))["status"] = pod_status("Pending", main=image, wait=STARTING)
        said = lab.submit("--attach", "trial", "--timeout", "0.02", **environment).stdout
        (command,) = re.findall(r"the end of what this prints says why: (.*)", said)
        shown = run_kubectl(lab, command, kubeconfig(server, tmp_path / "kubeconfig"))
    assert re.findall(r"^ +Reason: +(ImagePullBackOff)$", shown, re.M) == ["ImagePullBackOff"]
    names = re.findall(r"^Name: +(\S+)$", shown, re.M)
    assert pod_of(run, "ingest") in names
    assert pod_of(other, "ingest") not in names
