"""`submit.py` on a cluster starts runs: what the server is told, what is used again, and what a bad line does."""

import hashlib
import re
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_python
from tests.fakes.kfp_rules import Json
from tests.fakes.kfp_server import Fault, KfpServer
from tests.pipelines.cluster.lab import STAGES, Lab, cached_stages, packages, together, version_of

DATA = ("--data", "gs://images/numerals")


def described(run: Json) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in run["description"].splitlines())


def stored(server: KfpServer, kind: str) -> list[str]:
    return [item["display_name"] for item in server.stored[kind].values()]


def test_a_run_is_what_was_asked_for_and_the_version_is_used_again(lab: Lab):
    given = ("--experiment", "images", "--param", "epochs=3", "--param", "learning_rate=0.01")
    printed = lab.done(*DATA, "--test-data", "gs://images/test", *given)
    (run,) = lab.runs()
    assert printed.splitlines() == [
        f"started {run['display_name']}",
        f"{lab.server.url}/#/runs/details/{run['run_id']}",
        "",
        "Next:",
        "  wait for it, then fetch its results:",
        f"    {lab.program} --config lab --experiment images --attach {run['run_id']}",
    ]
    version, test_version = version_of("numerals"), version_of("test")
    assert re.fullmatch(rf"training-{version[:8]}-{lab.commit}-\d{{8}}-\d{{6}}-\w+", run["display_name"])
    assert described(run) == {
        "data": f"{version}, {test_version}",
        "code": lab.commit,
        "config": "lab",
        "overridden": "epochs=3, learning_rate=0.01",
    }
    (body,) = lab.server.bodies("POST", "/runs")
    (uploaded,) = [v for v in lab.server.stored["pipeline_version"].values() if v["display_name"] != "training"]
    assert body == {
        "display_name": run["display_name"],
        "description": run["description"],
        "experiment_id": run["experiment_id"],
        "pipeline_version_reference": {key: uploaded[key] for key in ("pipeline_id", "pipeline_version_id")},
        "runtime_config": {
            "parameters": {
                "data_uri": "gs://images/numerals",
                "data_version": version,
                "test_data_uri": "gs://images/test",
                "test_data_version": test_version,
                "epochs": 3,
                "learning_rate": 0.01,
            },
            "pipeline_root": lab.root,
        },
        "service_account": "lab-runner",
    }
    assert lab.server.stored["experiment"][run["experiment_id"]]["display_name"] == "images"
    assert stored(lab.server, "pipeline") == ["training"]
    assert re.fullmatch(r"[0-9a-f]{16}", uploaded["display_name"])
    (spec,) = packages(lab.server).values()
    images = {name: each["container"]["image"] for name, each in spec["deploymentSpec"]["executors"].items()}
    assert images == {f"exec-{stage}": lab.find_image(stage) for stage in STAGES}
    assert cached_stages(spec) == set(STAGES) - {"evaluate"}

    lab.configure("longer", defaults={"timeout": 60})
    together(
        lambda: lab.done(*DATA, "--experiment", "images", "--param", "seed=9"),
        lambda: lab.done(*DATA, "--experiment", "images", "--no-cache"),
        lambda: lab.done(*DATA, "--experiment", "others", "--config", "longer"),
    )
    versions = lab.server.stored["pipeline_version"]
    used = {
        (described(run)["config"], described(run)["overridden"]): versions[
            run["pipeline_version_reference"]["pipeline_version_id"]
        ]["display_name"]
        for run in lab.runs()[1:]
    }
    assert used.pop(("lab", "seed=9")) == uploaded["display_name"]
    assert len({uploaded["display_name"], *used.values()}) == 3
    assert packages(lab.server).keys() == {uploaded["display_name"], *used.values()}
    assert cached_stages(packages(lab.server)[used["lab", "nothing"]]) == set()
    assert stored(lab.server, "pipeline") == ["training"]
    assert stored(lab.server, "experiment") == ["Default", "images", "others"]


def test_names_and_descriptions_fit_the_database_of_the_server(lab: Lab):
    """Of a description that is too long it says so only after it has begun the run."""
    project = shutil.copytree(lab.project, lab.workplace.parent / "long")
    text = (project / "pipelines/training.py").read_text(encoding="utf-8")
    (project / "pipelines/long.py").write_text(text.replace('name=part or "training"', f'name="{"t" * 120}"'))
    name = "/".join(["t" * 150] * 2)
    lab.gcs.bucket.blob(name).upload_from_string("feature {}\n")
    long = ("--pipeline", "long", "--param", f"curated_schema_uri={lab.gcs.uri}/{name}")
    lab._replace(project=project).done(*DATA, *long)
    (run,) = lab.runs()
    assert re.fullmatch(r"t{100,}-\d{8}-\d{6}-\w{4}", run["display_name"])
    assert (len(run["display_name"]), len(run["description"])) == (128, 255)
    assert run["description"].startswith(f"data: {version_of('numerals')}\n")
    assert run["description"].endswith("…")


def test_a_schema_goes_to_the_bucket(lab: Lab):
    (lab.workplace / "own.pbtxt").write_text("feature {}\n")
    lab.done(*DATA, "--schema", "own.pbtxt")
    digest = hashlib.sha256(b"feature {}\n").hexdigest()
    (parameters,) = [run["runtime_config"]["parameters"] for run in lab.runs()]
    assert parameters["curated_schema_uri"] == f"{lab.root}/schemas/{digest}.pbtxt"
    assert lab.gcs.bucket.blob(f"runs/schemas/{digest}.pbtxt").download_as_bytes() == b"feature {}\n"


def test_an_improvement_takes_decisions_that_go_to_the_bucket(lab: Lab):
    (lab.workplace / "decisions.csv").write_text("sha256,filename,label,decision,new_label,decided_at\n")
    chosen = ("--pipeline", "improvement", *DATA)
    (lab.workplace / "anna.csv").write_text("sha256;filename;label;decision;new_label\n")
    in_bucket = f"{lab.gcs.uri}/decisions.csv"
    lab.gcs.bucket.blob("decisions.csv").upload_from_filename(str(lab.workplace / "decisions.csv"))
    for files in (["decisions.csv"], [in_bucket, "anna.csv"]):
        lab.done(*chosen, *(word for file in files for word in ("--decisions", file)))
    one, several = [run["runtime_config"]["parameters"] for run in lab.runs()]
    digest = hashlib.sha256((lab.workplace / "decisions.csv").read_bytes()).hexdigest()
    annas = hashlib.sha256((lab.workplace / "anna.csv").read_bytes()).hexdigest()
    assert one == {
        "data_uri": "gs://images/numerals",
        "data_version": version_of("numerals"),
        "decisions_uris": {"decisions": f"{lab.root}/decisions/{digest}.csv"},
    }
    assert several["decisions_uris"] == {
        "decisions": in_bucket,
        "anna": f"{lab.root}/decisions/{annas}.csv",
    }
    for name, file in ((digest, "decisions.csv"), (annas, "anna.csv")):
        uploaded = lab.gcs.bucket.blob(f"runs/decisions/{name}.csv").download_as_bytes()
        assert uploaded == (lab.workplace / file).read_bytes()
    assert stored(lab.server, "pipeline") == ["improvement"]
    assert lab.runs()[0]["display_name"].startswith("improvement-")
    (spec,) = packages(lab.server).values()
    for part in ("before", "after"):
        dag = spec["components"][f"comp-{part}"]["dag"]["tasks"]
        assert {name for name, task in dag.items() if not task["cachingOptions"]} == {f"{part}-evaluate"}


def test_two_at_the_same_moment_share_the_pipeline_and_start_a_run_each(lab: Lab):
    meeting = threading.Barrier(2, timeout=25)  # a client gives up after 30 seconds
    lab.server.faults += [Fault("GET", "^/pipelines$", meeting=meeting)] * 2  # both learn that there is none
    together(*(lambda seed=seed: lab.done(*DATA, "--param", f"seed={seed}") for seed in (1, 2)))
    assert not meeting.broken
    assert sorted(run["runtime_config"]["parameters"]["seed"] for run in lab.runs()) == [1, 2]
    assert len({run["display_name"] for run in lab.runs()}) == 2
    assert stored(lab.server, "pipeline") == ["training"]
    assert len(lab.server.stored["pipeline_version"]) == 2  # one has the pipeline's name, as every upload makes it


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault("GET", "^/pipelines$", 401), Fault("GET", "^/experiments$", 401)], id="401"),
        pytest.param([Fault("GET", "^/pipelines$", 503)] * 2, id="503 twice"),
        *(
            pytest.param(
                [
                    Fault("POST", "/upload$", cut=cut),
                    Fault("POST", "/upload_version$", cut=cut),
                    Fault("POST", "/experiments$", cut=cut),
                    *([Fault("POST", "/runs$", cut=cut)] if cut == "answer" else []),  # else nobody knows
                ],
                id=f"cut in the {cut}",
            )
            for cut in ("request", "answer")
        ),
    ],
)
def test_what_passes_is_tried_again_and_nothing_is_made_twice(lab: Lab, faults: list[Fault]):
    lab.server.faults += faults
    printed = lab.done(*DATA, "--experiment", "images")
    assert lab.server.faults == []
    (run,) = lab.runs()
    assert run["run_id"] in printed
    assert stored(lab.server, "pipeline") == ["training"]
    assert len(lab.server.stored["pipeline_version"]) == 2
    assert stored(lab.server, "experiment") == ["Default", "images"]


def test_only_images_that_are_named_for_ever_are_taken(lab: Lab):
    """An image is named by what it is made of, committed or not; --force takes any."""
    lab.configure("newest", tag="latest")
    pinned = lab.configure("pinned", tag="v1.2")
    changed = lab._replace(project=shutil.copytree(lab.project, lab.workplace.parent / "changed"))
    (changed.project / "components/train/training.py").open("a").write("# more\n")
    bare = lab._replace(project=shutil.copytree(lab.project, lab.workplace.parent / "bare"))
    shutil.rmtree(bare.project / ".git")
    without = lab._replace(project=shutil.copytree(lab.project, lab.workplace.parent / "without"))
    shutil.rmtree(without.project / "containers/evaluate")
    refusals = together(lambda: lab.refused(*DATA, "--config", "newest"), lambda: without.refused(*DATA))
    for message, image in zip(refusals, ("evaluate:latest", "evaluate"), strict=True):
        assert message == (
            f"{lab.registry.host}/pipelines/{image}: has no tag that stands for one version of the code, which "
            "Kubeflow Pipelines' cache needs; name another tag in the config, component.yaml or --tag (without one, an "
            "image that `make images` can build gets its own), or insist with --force."
        )
    assert lab.server.stored["pipeline"] == {}

    lab.done(*DATA)
    together(
        lambda: lab.done(*DATA, "--config", "newest", "--force"),
        lambda: changed.done(*DATA),
        lambda: bare.done(*DATA, "--config", pinned),
    )
    assert {(described(run).get("images"), described(run).get("code")) for run in lab.runs()} == {
        (None, lab.commit),
        ("latest", lab.commit),
        (None, f"{lab.commit}-dirty"),
        ("v1.2", None),
    }
    images = [
        {name: each["container"]["image"] for name, each in spec["deploymentSpec"]["executors"].items()}
        for spec in packages(lab.server).values()
    ]
    committed = {f"exec-{stage}": lab.find_image(stage) for stage in STAGES}
    assert committed in images
    assert {**committed, "exec-train": changed.find_image("train")} in images
    assert changed.find_image("train") != lab.find_image("train")


MISTAKES: list[tuple[tuple[str, ...], list[str]]] = [
    ((), ["data_uri: no value", "--data"]),
    ((*DATA, "--param", "epohcs=3"), ["'epohcs' does not exist", "Did you mean epochs?"]),
    ((*DATA, "--param", "epochs=many"), ["--param epochs=many: not of type Integer"]),
    ((*DATA, "--pipeline", "improve"), ["the pipeline 'improve' does not exist. Did you mean improvement?"]),
    ((*DATA, "--pipeline", "improvement", "--decisions", "lost.csv"), ["lost.csv: no such file; --decisions"]),
    ((*DATA, "--component", "trian"), ["'trian' does not exist. Did you mean train?"]),
    ((*DATA, "--config", "lba"), ["lba.yaml: no such configuration", "lab"]),
    (("--data", "."), [".: not in a DVC repository", "dvc add"]),
    (
        (*DATA, "--config", "gke"),
        ["gke.yaml: still has BUCKET, REGION, PROJECT in place of your names; put them there as docs/gke.md says, or"],
    ),
    (
        ("--check", "--config", "gke"),
        ["gke.yaml: still has BUCKET, REGION, PROJECT in place of your names; put them there as docs/gke.md says, or"],
    ),
    (
        (*DATA, "--config", "vertex"),
        [
            "vertex.yaml: is for Vertex AI Pipelines, which has no API of Kubeflow Pipelines; compile the packages "
            "with compile.py --config vertex, and start them as docs/vertex.md says."
        ],
    ),
    (
        (*DATA, "--config", "sample"),
        ["sample.yaml: has no registry and no pipeline_root, so it is for this machine; add --local, or choose the"],
    ),
    ((*DATA, "--experiment", "a+b"), ["--experiment 'a+b'", "without + and %"]),
    *(
        (
            (*options, "--experiment", name),
            ["its runs go into a folder of this name, and no folder can have it; give a"],
        )
        for options, name in ((DATA, ".."), (("--list",), "a/b"), (("--attach", "latest"), "ü" * 128))
    ),
    ((*DATA, "--experiment", "a" * 129), ["must not be longer than 128 characters"]),
    (("--component", "train"), ["run latest: there is none in experiment default"]),
    (("--component", "train", "--from-run", "lost"), ["run lost: there is no run of that name"]),
    (("--pipeline", "comparison", "--before", "lost"), ["run lost: there is no run of that name"]),
    (
        (*DATA, "--recurring", "nightly", "--cron", "0 3 * * *"),
        ["--cron '0 3 * * *': needs six fields, seconds first", "0 30 2 * * *"],
    ),
    (
        (*DATA, "--recurring", "nightly", "--cron", "0 61 2 * * *"),
        ["--cron '0 61 2 * * *': '61' is none of the minutes, 0 to 59; six fields, seconds first, such as"],
    ),
]


def test_a_mistake_is_one_sentence_and_makes_nothing(lab: Lab):
    messages = together(*(partial(lab.refused, *options) for options, _ in MISTAKES))
    missing = [(message, words) for message, (_, named) in zip(messages, MISTAKES, strict=True) for words in named]
    assert [words for message, words in missing if words not in message] == []


def test_a_refusal_of_the_server_is_one_sentence(lab: Lab):
    lab.server.faults.append(Fault("POST", "/upload$", 403))
    outcome = lab.submit(*DATA)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert re.fullmatch(rf"{lab.server.url}: not allowed \(403\): Refused on purpose[^\n]+\n", outcome.stderr)
    assert (lab.server.stored["pipeline"], lab.runs()) == ({}, [])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--local --wait", "--wait is for a cluster; leave out --local"),
        ("--local --list", "--list is for a cluster"),
        ("--runner docker", "--runner goes with --local"),
        ("--recurring nightly", "--recurring NAME goes with --cron, --pause"),
        ("--pause", "--recurring NAME goes with"),
        ("--recurring nightly --pause --resume", "not allowed with argument"),
        ("--list --attach latest", "not allowed with argument"),
        ("--timeout 5", "--timeout goes with --wait or --attach"),
        ("--wait --timeout soon", "invalid minutes value: 'soon'"),
        ("--wait --timeout 0", "invalid minutes value: '0'"),
        ("--list --pipeline training", "--pipeline is for starting a run"),
        ("--pipeline training --component train", "leave out one"),
        (
            "--component train --schema s.pbtxt",
            "--schema goes with --pipeline training or improvement, or --component validate",
        ),
        ("--decisions d.csv", "--decisions goes with --pipeline improvement or --component curate"),
        ("--pipeline comparison", "--pipeline comparison goes with --before RUN"),
        ("--before a --data images", "--pipeline comparison goes with --before RUN"),
        ("--pipeline comparison --before a --data images", "--data is for a run on images"),
        ("--list --wait", "--wait is for starting a run"),
        ("--attach latest --param epochs=1", "--param is for starting a run"),
        ("--rev v1", "--rev goes with --data"),
        ("--data gs://images/x --rev v1", "--rev goes with a folder tracked by DVC"),
    ],
)
def test_options_that_contradict_each_other_end_with_2(options: str, named: str, tmp_path: Path):
    outcome = run_python(ROOT / "submit.py", *options.split(), cwd=tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert named in outcome.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
