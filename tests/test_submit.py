"""What submit.py refuses before anything runs: one sentence, exit code 1, no run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.errors import cut
from tests.conftest import ROOT, run_python

PARAMETERS = (
    "data_uri",
    "test_data_uri",
    "data_version",
    "on_bad_image",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder to work in, with an empty folder for --data, which no refusal comes to read."""
    for name in ("images", "python3/images", "{{$}}"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def refused(workplace: Path, *options: str) -> str:
    """The one line with which submit.py refuses to run; nothing is made or changed."""
    before = {path: path.read_bytes() if path.is_file() else None for path in workplace.rglob("*")}
    result = run_python(ROOT / "submit.py", "--local", *options, cwd=workplace)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"[^\n]+\n", result.stderr), result.stderr
    assert {path: path.read_bytes() if path.is_file() else None for path in workplace.rglob("*")} == before
    return result.stderr


def leave_run(
    workplace: Path, state: str, content: str | None = None, name: str = "20260101-000000-training", **facts: str
) -> None:
    """An earlier run of which only ingest left an artifact."""
    run = workplace / "runs/default" / name
    run.mkdir(parents=True)
    examples = {"uri": str(run / "artifacts/ingest/examples"), "metadata": {}}
    ingest = {
        "stage": "ingest",
        "state": "succeeded",
        "seconds": 1.0,
        "parameters": {},
        "inputs": {},
        "artifacts": {"examples": examples},
    }
    summary = {
        "run": run.name,
        "pipeline": "training",
        "state": state,
        "started": "2026-01-01T00:00:00+00:00",
        "arguments": {},
        "seconds": 1.0,
        "stages": {"ingest": ingest},
        "artifacts": {"examples": examples["uri"]},
        **facts,
    }
    (run / "run.json").write_text(json.dumps(summary) if content is None else content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sha256,filename,decision,new_label\na,train/i/0.png,keep,\nb,train/i/1.png,delete,\n", "line 3: the decision "
         "'delete' is unknown; write keep, relabel, drop, skip, or nothing."),
        ("sha256,filename,decision,new_label\na,train/i/0.png,relabel,\n", "line 2: relabel, but new_label is empty; "
         "write the right class there."),
        ("path,kind\na,b\n", "line 1: no column sha256, filename, decision; give decisions.csv of review.html, "
         "issues.csv with the columns decision and decided_label filled in, or a table with the columns filename and "
         "label."),
        ("path,label\ntrain/i/0.png,iix\n", "line 2: the class 'iix' is unknown; the classes are i, v."),
        ('{"classes": null, "labels": {"train/i/0": "iix"}}', "the label of train/i/0: the class 'iix' is unknown; the "
         "classes are i, v."),
        ('[{"id": 1, "data": {"filename": "a"}, "predictions": []}]', "task 1: annotations: is missing; export the "
         "project from Label Studio as JSON."),
        ("sha256,filename,decision,new_label\na,train/i/0.png,relabel,iix\n", "line 2: the class 'iix' is unknown; the "
         "classes are i, v."),
    ],
)  # fmt: skip
def test_decisions_that_cannot_be_read_are_refused_before_anything_runs(workplace: Path, text: str, said: str) -> None:
    (workplace / "mine.csv").write_text(text)
    for name in ("i", "v"):
        (workplace / "images/train" / name).mkdir(parents=True)
        (workplace / "images/train" / name / "0.png").touch()
    options = ("--data", "images", "--pipeline", "improvement", "--decisions", "mine.csv")
    assert refused(workplace, *options) == f"mine.csv, {said}\n"


def test_runs_among_the_images_are_refused(workplace: Path) -> None:
    said = "runs/default: lies among the images of .; give --runs a folder outside of them.\n"
    assert refused(workplace, "--data", ".") == said
    assert refused(workplace, "--component", "ingest", "--data", "images", "--test-data", ".") == said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param("--data images --param epohcs=2", ["'epohcs'", "Did you mean epochs?", *PARAMETERS], id="unknown"),
        pytest.param("--data images --param ep", ["--param ep: must be NAME=VALUE.", *PARAMETERS], id="no name"),
        *(
            pytest.param(f"--data images --param {param}", [f"--param {param}: {said}.\n"], id=f"wrong value, {param}")
            for param, said in {
                "epochs": "has no value; give it as --param epochs=VALUE",
                "classes": 'has no value; give it as --param \'classes=["a", "b"]\'',
                "epochs=many": "not of type Integer",
                "epochs=2.5": "not of type Integer",
                "learning_rate=": "not of type Float",
                "classes=[1": "not of type JsonArray (Expecting ',' delimiter: line 1 column 3 (char 2)); give it as "
                '--param \'classes=["a", "b"]\'',
            }.items()
        ),
        pytest.param(
            "--data images --param augment_to=0",
            ["--param augment_to: belongs to the pipeline improvement, not to training; add --pipeline improvement.\n"],
            id="of another pipeline",
        ),
        pytest.param(
            "--component ingest --data images --param epochs=2", ["'epochs'", "max_images"], id="of other stage"
        ),
        pytest.param("", ["data_uri", "--data"], id="no data"),
        pytest.param("--data nowhere", ["nowhere: no such folder", "--data"], id="data not there"),
        pytest.param(
            "--data images --test-data nowhere", ["nowhere: no such folder", "--test-data"], id="test not there"
        ),
        pytest.param("--data images --pipeline impr", ["'impr'", "improvement", "training"], id="unknown pipeline"),
        pytest.param(
            "--data images --pipeline improvement --decisions lost.csv",
            ["lost.csv: no such file", "--decisions"],
            id="decisions not there",
        ),
        pytest.param(
            "--component notify", ["'notify'", "curate, evaluate, ingest, judge, train"], id="stage that follows others"
        ),
        pytest.param("--component trian", ["'trian'", "Did you mean train?", "evaluate"], id="unknown stage"),
        pytest.param("--data images --config lcoal", ["lcoal", "local", "sample"], id="unknown configuration"),
        pytest.param("--component train", ["runs/default", "run the pipeline first"], id="no earlier run"),
        pytest.param(
            "--pipeline comparison --before lost", ["lost: no such run in runs/default;"], id="no run to compare"
        ),
        pytest.param(
            "--component train --from-run lost", ["lost: no such run in runs/default;"], id="that run not there"
        ),
        pytest.param("--data python3/images", ["python3/images", "python3"], id="data path that kfp garbles"),
        pytest.param("--data images --runs python3/runs", ["python3/runs"], id="runs path that kfp garbles"),
        pytest.param("--data images --experiment python3.11", ["runs/python3.11"], id="experiment that kfp garbles"),
        pytest.param(
            "--data images --experiment {{$}}",
            ["runs/{{$}}: kfp.local cannot handle paths and names that contain '{{$'; move or rename it.\n"],
            id="experiment that kfp replaces",
        ),
        *(
            pytest.param(
                f"--data images --experiment={name}",
                [
                    f"--experiment {cut(repr(name))}: its runs go into a folder of this name, and no folder can have "
                    "it; give a name without slashes and of at most 255 bytes, such as numerals.\n"
                ],
                id=f"experiment {cut(name)}",
            )
            for name in ("..", ".", "../../out", "/out", "a/b", "a/", "a\\b", "x" * 256, "ü" * 128)
        ),
        *(
            pytest.param(
                options,
                [f"{path}: Beam and TensorFlow take a path with {character} for a pattern; use a folder without it, "],
                id=f"path with {character}",
            )
            for options, path, character in (
                ("--data images --experiment [wip]", "runs/[wip]", "["),
                ("--data images --experiment wip]", "runs/wip]", "]"),
                ("--data images --runs a*b", "a*b/default", "*"),
                ("--component ingest --data images --runs what?", "what?/default", "?"),
            )
        ),
        pytest.param(
            "--data images --param learning_rate=nan",
            ["--param learning_rate=nan: learning_rate is nan; it must be a finite number.\n"],
            id="nan",
        ),
        pytest.param(
            "--data images --param epochs=0",
            ["--param epochs=0: epochs is 0; it must be 1 or more.\n"],
            id="out of range",
        ),
        pytest.param(
            "--data images --param epochs=1 --param epochs=2",
            ["--param epochs: is there twice, with 1 and 2; leave one.\n"],
            id="twice",
        ),
        pytest.param(
            "--data images --param data_uri=x",
            ["--param data_uri: --data, --test-data and --rev set it; name the images by these.\n"],
            id="two data",
        ),
        pytest.param(
            "--data images --pipeline improvement --param augment_to=20000",
            ["--param augment_to=20000: augment_to is 20000; it must be from -1 to max_images, 10000.\n"],
            id="out of a range that another parameter gives",
        ),
        pytest.param(
            "--data images --param seed=4294967290 --param seeds=9",
            ["--param seed=4294967290: seed is 4294967290; it must be from 0 to 4294967196.\n"],
            id="seed after which too few follow",
        ),
        pytest.param(
            "--data images --pipeline improvement --param seed=3000000000",
            ["--param seed=3000000000: seed is 3000000000; it must be from 0 to 2147483647.\n"],
            id="out of the range of a later stage",
        ),
        pytest.param(
            "--component ingest --data images --param classes=[0,1]",
            ["--param classes=[0,1]: classes holds 0, which is a number; put text in quotes.\n"],
            id="number as a class",
        ),
        pytest.param(
            '--component ingest --data images --param classes=["i","v","i"]',
            ["""--param classes=["i","v","i"]: classes holds 'i' twice; leave one.\n"""],
            id="class that is there twice",
        ),
        pytest.param(
            '--component ingest --data images --param classes=["python3.11"]',
            ["python3.11: kfp.local cannot handle paths and names that contain 'python3'; move or rename it.\n"],
            id="class that kfp garbles",
        ),
        pytest.param(
            "--data images --test-data {{$}}",
            ["{{$}}'; Kubeflow Pipelines replaces what begins with {{$, so rename it.\n"],
            id="path that kfp replaces",
        ),
    ],
)
def test_refuses_in_one_sentence_and_makes_no_run(workplace: Path, options: str, named: list[str]):
    message = refused(workplace, *options.split())
    assert [word for word in named if word not in message] == []


@pytest.mark.parametrize("pipeline", ["training", "improvement"])
def test_a_class_of_the_configuration_that_kfp_garbles_is_refused(pipeline: str, project: Path, workplace: Path):
    (project / "pipelines/config/mine.yaml").write_text(
        "stages: {ingest: {parameters: {classes: [python3, java]}}}", encoding="utf-8"
    )
    asked = ["--local", "--config", "mine", "--data", "images", "--pipeline", pipeline]
    result = run_python(project / "submit.py", *asked, cwd=workplace)
    sentence = "python3: kfp.local cannot handle paths and names that contain 'python3'; move or rename it.\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", sentence)


@pytest.mark.parametrize("chosen", [[], ["--from-run", "20260101-000000-training"]], ids=["latest", "named"])
def test_refuses_a_stage_whose_artifacts_the_earlier_run_lacks(workplace: Path, chosen: list[str]):
    leave_run(workplace, "succeeded")
    message = refused(workplace, "--component", "train", *chosen)
    assert "20260101-000000-training" in message
    assert "'transformed_examples'" in message


def test_refuses_artifacts_in_a_folder_that_is_taken_for_a_pattern(workplace: Path):
    leave_run(workplace, "succeeded", name="20260101-000000-[v2]")
    message = refused(workplace, "--component", "validate")
    path = workplace / "runs/default/20260101-000000-[v2]/artifacts/ingest/examples"
    assert message.startswith(f"{path}: Beam and TensorFlow take a path with [ for a pattern; ")


def test_latest_run_is_a_successful_one(workplace: Path):
    leave_run(workplace, "failed")
    assert "no run succeeded yet" in refused(workplace, "--component", "validate")


def test_latest_run_is_the_one_that_was_started_last(workplace: Path):
    """When summer time ends, the local time in its name comes before that of the run before."""
    leave_run(workplace, "succeeded", name="20261025-025500-training", started="2026-10-25T00:55:00+00:00")
    leave_run(workplace, "succeeded", name="20261025-020500-training", started="2026-10-25T01:05:00+00:00")
    assert "20261025-020500-training" in refused(workplace, "--component", "train")


@pytest.mark.parametrize("content", ["{", "[]", '{"run": "20260101-000000-training", "state": "succeeded"}'])
def test_refuses_a_run_whose_summary_is_damaged(workplace: Path, content: str):
    leave_run(workplace, "succeeded", content=content)
    refusal = refused(workplace, "--component", "validate", "--from-run", "20260101-000000-training")
    assert refusal.startswith("runs/default/20260101-000000-training/run.json: ")
    assert refusal.endswith("; delete or move that run, or name another.\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "images", "--rev", ""], "--rev is empty; give it a value or leave it out"),
        (["--data", "images", "--config", ""], "--config is empty; give it a value or leave it out"),
        (
            ["--data", "images", "--from-run", "x"],
            "--from-run goes with --component and without --data, or with --before",
        ),
        (
            ["--component", "ingest", "--data", "images", "--from-run", "x"],
            "--from-run goes with --component and without",
        ),
        (["--data", "images", "--pipeline", "improvement", "--turns", "0"], "--turns is 0; it must be 1 or more.\n"),
        (["--data", "images", "--turns", "two"], "argument --turns: invalid int value: 'two'.\n"),
        *(
            (
                ["--data", "images", "--turns", "2", *options],
                "--turns goes with --pipeline improvement, which is one turn of the loop.\n",
            )
            for options in ([], ["--pipeline", "training"], ["--component", "ingest"])
        ),
        (
            ["--pipeline", "improvement", "--turns", "2"],
            "--turns goes with --data, the images of the first turn.\n",
        ),
        (["--prune", "--turns", "2"], "--turns is for starting a run.\n"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(workplace: Path, options: list[str], sentence: str):
    result = run_python(ROOT / "submit.py", "--local", *options, cwd=workplace)
    assert result.returncode == 2
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


# What a locale without UTF-8 is for Python where none is installed.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_that_is_not_utf_8_keeps_names_as_they_are(workplace: Path):
    """The paths that submit.py hands on, and what the terminal gets."""
    folder = workplace / "größer"
    folder.mkdir()
    command = [sys.executable, ROOT / "submit.py", "--local", "--data", folder, "--param", "model={{$"]
    environment = {**os.environ, **ASCII}
    done = subprocess.run([*command, "--param", "epochs=0"], env=environment, cwd=workplace, capture_output=True)
    assert done.stderr.decode("ascii").startswith("--param model={{$: model is '{{$'; Kubeflow")
    done = subprocess.run(
        [*command[:-2], "--test-data", "größe{{$"], env=environment, cwd=workplace, capture_output=True
    )
    assert (
        done.stderr == b"gr\\xf6\\xdfe{{$: no such folder; --data and --test-data name folders or a table of images.\n"
    )


def test_turns_on_a_cluster_are_taken_one_by_one(workplace: Path):
    options = ["--pipeline", "improvement", "--data", "images", "--turns", "2"]
    result = run_python(ROOT / "submit.py", *options, cwd=workplace)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "--turns goes with --local; on a cluster, take the next turn by running the improvement again, with --data and "
        "the address of the folder `data` that curate has written.\n"
    )
