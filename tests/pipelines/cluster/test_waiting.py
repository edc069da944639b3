"""`submit.py --wait` and `--attach`: what is shown, what it goes through, how it ends, and what it fetches."""

import csv
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import yaml

from components.shared.formats.changes import Change, write_changes
from components.shared.formats.decisions import SavedDecision, read_saved_decisions, write_decisions
from components.shared.formats.examples import ExamplesManifest, Shard, SplitInfo
from components.shared.formats.issues import write_issues
from components.shared.formats.manifest import CuratedImage, write_manifest
from pipelines.submission.commands import Command, keep_command
from pipelines.submission.request import ClusterOptions, RunRequest
from tests.fakes.kfp_rules import Frame, Json, progress
from tests.fakes.kfp_server import KUBE_PROXY, Fault, KfpServer, kubeconfig
from tests.pages import Page
from tests.pipelines.cluster.lab import (
    STAGES,
    TURN,
    TURN_FRAMES,
    Lab,
    asked,
    comparison,
    evaluation,
    finished,
    together,
    until,
)
from tests.rows import make_issue

OWN_FILES = ("index.html", "command.json")  # of the folder of a run
HISTORY = "epoch,accuracy,loss,val_accuracy,val_loss\n1,0.5,2,0.25,2.5\n"
RUNNING = Frame("RUNNING", {"ingest": "RUNNING"})


def leave_results(lab: Lab, run: Json, data_version: str) -> Json:
    """What train and evaluate write in the run; evaluate at its second attempt. Returns evaluate's figures."""
    lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("an attempt before")))
    lab.leave(run, "train/history", content=HISTORY)
    figures = evaluation(data_version)
    lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(figures))
    return figures


def check_results(folder: Path, figures: Json) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["data_version"], metrics["settings"]) == (figures["data_version"], figures["settings"])
    for split in ("val", "test"):
        for name in ("images", "accuracy", "macro_f1", "log_loss"):
            assert metrics[split][name] == figures[split][name]
    assert (folder / "plots/training.csv").read_text() == HISTORY
    with (folder / "plots/confusion/val.csv").open() as rows:
        pairs = Counter((row["label"], row["prediction"]) for row in csv.DictReader(rows))
    assert pairs == {("i", "i"): 1, ("v", "v"): 1, ("x", "v"): 1, ("x", "x"): 1}


def describe_examples(data_version: str) -> str:
    """The content of ingest's examples.json."""
    shard = Shard("train-00000-of-00001.tfrecord", 1, "0" * 64)
    splits = {name: SplitInfo(1, {"i": 1}, [shard]) for name in ("train", "val")}
    return json.dumps(asdict(ExamplesManifest("/data", "", data_version, ["i"], splits, [])))


def going_on(finish: threading.Event, last: Frame) -> Iterator[Frame]:
    while not finish.is_set():
        yield RUNNING
    yield last


def test_wait_shows_each_stage_and_fetches_the_results(lab: Lab):
    figures: list[Json] = []

    def script() -> Iterator[Frame]:
        yield Frame("PENDING")
        yield Frame("RUNNING", {"ingest": "CACHED"})
        yield Frame("RUNNING", {"ingest": "CACHED", "validate": "RUNNING"})
        done = {"ingest": "CACHED", "validate": "SUCCEEDED"}
        yield Frame("RUNNING", {**done, "transform": "PENDING"})
        yield Frame("RUNNING", {**done, "transform": "RUNNING", "train": "PENDING"})
        figures.append(leave_results(lab, lab.runs()[0], "4567.dir"))
        lab.leave(lab.runs()[0], "validate/statistics", "transform/transform_graph")
        yield Frame("SUCCEEDED", {**dict.fromkeys(STAGES, "SUCCEEDED"), "ingest": "CACHED"})

    lab.server.script = script()
    printed = lab.done("--data", "gs://images/numerals", "--wait")
    lines = printed.splitlines()
    assert lines[0] == f"started {lab.runs()[0]['display_name']}"
    shown = [match.groups() for line in lines[2:] if (match := re.match(r"\S (\w+) +(\w+)", line))]
    assert shown[:3] == [("ingest", "succeeded"), ("validate", "running"), ("validate", "succeeded")]
    assert set(shown[3:]) == {("transform", "running"), *((stage, "succeeded") for stage in STAGES[2:])}
    assert re.search(r"^succeeded after \d+ s$", printed, re.M)
    assert "data version 4567.dir" in printed
    assert re.search(r"│ val +│ +4 │ +0\.750 │", printed)
    assert lines[-9:] == [
        "results in results/",
        "from the cache: ingest",
        "no artifacts found, so no reports of: ingest",
        "",
        "Next:",
        "  look at its pages:",
        f"    runs/default/{lab.runs()[0]['run_id']}/index.html",
        "  audit the images and try the next version:",
        f"    {lab.program} --config lab --pipeline improvement --data gs://images/numerals --wait",
    ]
    check_results(lab.workplace / "results", figures[0])


def test_what_came_from_the_cache_is_fetched_from_the_run_that_made_it(lab: Lab):
    done = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
    first = lab.begin("first", done, "others")
    lab.leave(first, "ingest/examples", "validate/report", "train/report")
    lab.leave(first, "train/history", content=HISTORY)
    cached = dict.fromkeys(("ingest", "validate", "train"), "CACHED")
    again = lab.begin("again", [Frame("SUCCEEDED", {**dict.fromkeys(STAGES, "SUCCEEDED"), **cached})])
    figures = evaluation("0123.dir")
    lab.leave(again, "transform/transform_graph", "evaluate/report")
    lab.leave(again, "evaluate/evaluation/evaluation.json", content=json.dumps(figures))
    printed = lab.done("--attach", "again").splitlines()
    reports = lab.workplace / f"runs/default/{again['run_id']}"
    assert printed[-6:] == [
        f"reports in {reports.relative_to(lab.workplace)}/: evaluate.html, train.html, validate.html",
        "from the cache: ingest, validate, train",
        "",
        "Next:",
        "  look at its pages:",
        f"    {reports.relative_to(lab.workplace)}/index.html",
    ]
    page = Page(reports / "index.html")
    assert page.values("href") == [
        "validate.html",
        "train.html",
        "evaluate.html",
        f"{lab.server.url}/#/runs/details/{again['run_id']}",
    ]
    assert re.search(r"started [\d-]+ [\d:]+ UTC, succeeded after [\d,]+ s", page.text)
    assert all(said in page.text for said in ("again", "default", "0123.dir", "0.750"))
    assert "command" not in page.text  # somebody else has started it
    (reports / "index.html").unlink()
    written = {path.name: path.read_text() for path in reports.iterdir()}
    assert written == {f"{stage}.html": f"{stage}/report" for stage in ("evaluate", "train", "validate")}
    check_results(lab.workplace / "results", figures)


def test_wait_on_an_improvement_shows_what_changed_and_fetches_the_reports(lab: Lab):
    """Of before the ingestion comes from KFP's cache."""
    figures: list[Json] = []
    write_issues(
        lab.workplace / "doubted.csv",
        [make_issue(filename="val/i/0.png", split="val", kinds=("label",), action="relabel", new_label="v")],
    )
    issues = (lab.workplace / "doubted.csv").read_text(encoding="utf-8")

    def script() -> Iterator[Frame]:
        frames = progress(TURN_FRAMES, cached=("before/before-ingest",))
        for task, frame in zip(TURN, frames[1:], strict=False):
            yield frame
            part, _, stage = task.rpartition("-")
            run = lab.runs()[0]
            if stage in ("validate", "train", "evaluate", "yardstick", "audit", "curate", "compare"):
                lab.leave(run, f"{task}/report", content=f"report of {task}")
            if stage == "transform":
                lab.leave(run, f"{task}/examples")
            if task == "after-ingest":
                lab.leave(run, f"{task}/examples/examples.json", content=describe_examples("after.dir"))
            if stage == "audit":
                lab.leave(run, "audit/review", content="review")
                lab.leave(run, "audit/issues", content=issues)
            if stage == "curate":
                lab.leave(run, "curate/data/manifest.csv", content="filename")
                lab.leave(run, "curate/changes", content=",".join(Change._fields) + "\n")
                lab.leave(run, "curate/disputed", content="")  # which asks nobody, and so is no page
            if stage == "train":
                lab.leave(run, f"{task}/history", content=HISTORY if part == "after" else "epoch\n")
            if stage in ("evaluate", "yardstick"):
                figures.append(evaluation(f"{part}.dir"))
                lab.leave(run, f"{task}/evaluation/evaluation.json", content=json.dumps(figures[-1]))
            if stage == "compare":
                lab.leave(run, "compare/comparison/comparison.json", content=json.dumps(comparison()))
        yield frames[-1]

    lab.server.script = script()
    printed = lab.done("--pipeline", "improvement", "--data", "gs://images/numerals", "--wait")
    shown = [
        match.groups() for line in printed.splitlines() if (match := re.match(r"\S ([\w-]+) +(\w+) +[\d.]+ s", line))
    ]
    assert [task for task, state in shown if state == "succeeded"] == TURN
    assert {state for _, state in shown} == {"running", "succeeded"}
    assert "data version after.dir" in printed
    assert re.search(r"│ val +│ +4 │ +0\.500 │ +0\.750 │ +\+0\.250 │ -0\.125…\+0\.500 │ +0\.031 │ +0\.625 │", printed)
    assert re.search(r"│ test +│ +4 │.*│ +│\n", printed)
    differences = "1 relabelled, 2 moved, 3 dropped, 4 added, 5 altered, 6,000 augmented"
    assert f"\nimages: {differences}\n" in printed
    check_results(lab.workplace / "results", figures[1])
    (run,) = lab.runs()
    folder = lab.workplace / f"runs/default/{run['run_id']}"
    links = Page(folder / "index.html").values("href")[:-1]
    reports = {path.name: path.read_text() for path in folder.iterdir() if path.name not in OWN_FILES}
    assert sorted(links) == sorted(reports)
    assert links[:4] == ["before-validate.html", "before-train.html", "before-evaluate.html", "audit.html"]
    reporting = ("validate", "train", "evaluate")
    assert reports == {
        **{f"{part}-{s}.html": f"report of {part}-{s}" for part in ("before", "after") for s in reporting},
        **{f"{task}.html": f"report of {task}" for task in ("audit", "curate", "yardstick", "compare")},
        "review.html": "review",
        "issues.csv": issues,
    }
    doubt = (
        "Labels of val that the audit doubts and nobody has decided about: 1 of 1. As far as they are wrong, so are the"
        " figures on val."
    )
    assert f"\n{doubt}\n" in printed
    assert doubt in Page(folder / "index.html").text
    said = printed[printed.index("from the cache") :].splitlines()
    assert said[:2] == ["from the cache: before-ingest", "no artifacts found, so no reports of: before-ingest"]
    turn = f"{lab.program} --config lab --pipeline improvement --data gs://images/numerals"
    assert said[5:-1] == [
        f"    runs/default/{run['run_id']}/index.html",
        "  decide on the doubted images; the page saves decisions.csv:",
        f"    runs/default/{run['run_id']}/review.html",
        "  move decisions.csv here, and run again with it:",
        f"    {turn} --decisions decisions.csv --wait",
        "  the comparison shows no gain beyond the choice of images (+0.250 on val, 95 %: -0.125…+0.500); to keep the"
        " new images all the same:",
    ]
    adopt = re.escape(lab.program.replace("submit.py", "adopt.py"))
    assert re.fullmatch(rf" +{adopt} --data data --new --curated gs://\S+/curate/\S+/data", said[-1])
    page = Page(folder / "index.html").text
    assert f"{turn} --wait" in page
    assert "after.dir" in page


def test_wait_on_a_comparison_of_two_runs_shows_what_changed_and_keeps_the_results(lab: Lab):
    done = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
    runs = [lab.begin(name, done, "images") for name in ("version 1", "version 2")]
    outputs = ("ingest/examples", "evaluate/evaluation", "evaluate/predictions", "train/model")
    before, after = (lab.leave(run, *outputs) for run in runs)

    def script() -> Iterator[Frame]:
        run = lab.runs()[-1]
        lab.leave(run, "yardstick/report", "yardstick/evaluation", "compare/report")
        lab.leave(run, "compare/comparison/comparison.json", content=json.dumps(comparison()))
        yield Frame("SUCCEEDED", dict.fromkeys(["yardstick", "compare"], "SUCCEEDED"))

    lab.server.script = script()
    options = ("--pipeline", "comparison", "--before", "version 1", "--from-run", "version 2")
    printed = lab.done(*options, "--experiment", "images", "--wait")
    assert lab.runs()[-1]["runtime_config"]["parameters"] == {
        "examples_uri": before["examples"],
        "before_evaluation_uri": before["evaluation"],
        "before_predictions_uri": before["predictions"],
        "model_uri": after["model"],
        "after_evaluation_uri": after["evaluation"],
        "after_predictions_uri": after["predictions"],
    }
    assert {"from run: version 2", "before: version 1"} <= set(lab.runs()[-1]["description"].splitlines())
    assert re.search(r"│ val +│ +4 │ +0\.500 │ +0\.750 │ +\+0\.250 │", printed)
    assert re.search(r": compare\.html, yardstick\.html$", printed, re.MULTILINE)
    assert not (lab.workplace / "results").exists()
    refused = lab.refused("--component", "evaluate", "--experiment", "images")
    name = lab.runs()[-1]["display_name"]
    assert refused == f"run {name}: compared two other runs; name one of these, by --from-run or --before."


def test_a_version_is_compared_with_the_one_that_an_improvement_began_with(lab: Lab):
    outputs = ("ingest/examples", "evaluate/evaluation", "evaluate/predictions", "train/model")
    both = [f"{part}-{output}" for part in ("before", "after") for output in outputs]
    done = [Frame("SUCCEEDED", dict.fromkeys(TURN_FRAMES, "SUCCEEDED"))]
    first, second = (lab.begin(name, done, "images", pipeline="improvement") for name in ("turn 1", "turn 2"))
    began, last = lab.leave(first, *both[:4]), lab.leave(second, *both)
    lab.leave(first, *both[4:])
    lab.server.script = [Frame("SUCCEEDED", dict.fromkeys(["yardstick", "compare"], "SUCCEEDED"))]
    lab.done("--pipeline", "comparison", "--before", "turn 1:before", "--from-run", "turn 2", "--experiment", "images")
    assert lab.runs()[-1]["runtime_config"]["parameters"] == {
        "examples_uri": began["examples"],
        "before_evaluation_uri": began["evaluation"],
        "before_predictions_uri": began["predictions"],
        "model_uri": last["model"],
        "after_evaluation_uri": last["evaluation"],
        "after_predictions_uri": last["predictions"],
    }
    assert {"from run: turn 2", "before: turn 1:before"} <= set(lab.runs()[-1]["description"].splitlines())


def test_what_the_policy_leaves_to_people_has_its_page_and_leads_to_the_review(lab: Lab):
    """The decisions, and the run with them, from the folder that DVC tracks there."""
    run = lab.begin("stopped", progress(TURN_FRAMES, failed="curate"), "images", pipeline="improvement")
    folder = lab.workplace / "runs/images" / run["run_id"]
    asked = RunRequest("images", "lab", pipeline="improvement", data="my data", params=("epochs=2",))
    keep_command(folder, Command(asked, ClusterOptions({"host": lab.server.url})))
    lab.leave(run, "before-ingest/examples/examples.json", content=describe_examples("before.dir"))
    lab.leave(run, "before-train/report", "audit/report", "audit/review", "audit/issues")
    lab.leave(run, "curate/report")  # of an attempt that failed
    outcome = lab.submit("--attach", "stopped", "--experiment", "images")
    assert (outcome.returncode, outcome.stderr) == (1, "")
    said = outcome.stdout[outcome.stdout.index("curate failed") :].splitlines()
    assert said[1].startswith("failed after ")
    shown = f"runs/images/{run['run_id']}"
    assert said[2:] == [
        f"reports in {shown}/: audit.html, before-train.html, issues.csv, review.html",
        "",
        "Next:",
        "  look at its pages:",
        f"    {shown}/index.html",
        "  decide on the doubted images; the page saves decisions.csv:",
        f"    {shown}/review.html",
        "  move decisions.csv here, and run again with it:",
        f"    {lab.program} --config lab --experiment images --pipeline improvement --data 'my data' "
        f"--decisions decisions.csv --param epochs=2 --host {lab.server.url}",
    ]
    page = Page(folder / "index.html")
    reports = ["before-train.html", "audit.html", "review.html", "issues.csv"]
    assert page.values("href") == [*reports, f"{lab.server.url}/#/runs/details/{run['run_id']}"]
    text = " ".join(page.text.split())
    assert re.search(r"UTC, failed after \d+ s .*curate failed: its log is on the page that is named last", text)
    assert "before.dir" in text
    assert not (lab.workplace / "results").exists()


def test_what_people_decided_is_kept_for_the_next_turn(lab: Lab, tmp_path: Path):
    """A turn on a cluster leads to the next one by the address of its curated folder and this file."""
    sha256 = "a" * 64
    write_changes(
        tmp_path / "changes.csv",
        [Change("train/i/0.png", sha256, "i", "train/v/0.png", "v", "relabelled", "person", "")],
    )
    write_manifest(tmp_path, [CuratedImage("train/v/0.png", sha256, "train/i/0.png", sha256, "x", "v", [], None)])
    decision = SavedDecision(sha256, "train/i/0.png", "i", "relabel", "v", "")
    write_decisions(lab.workplace / "decisions.csv", [decision])

    def script() -> Iterator[Frame]:
        run = lab.runs()[-1]
        lab.leave(run, "after-evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("after.dir")))
        lab.leave(run, "curate/changes", content=(tmp_path / "changes.csv").read_text())
        lab.leave(run, "curate/data/manifest.csv", content=(tmp_path / "manifest.csv").read_text())
        yield Frame("SUCCEEDED", dict.fromkeys(TURN_FRAMES, "SUCCEEDED"))

    lab.server.script = script()
    lab.done("--pipeline", "improvement", "--data", "gs://images/numerals", "--decisions", "decisions.csv", "--wait")
    kept = lab.workplace / f"runs/default/{lab.runs()[-1]['run_id']}/decisions-earlier.csv"
    assert read_saved_decisions(kept) == [SavedDecision(sha256, "train/v/0.png", "v", "keep", "", "")]


def test_what_people_disagree_about_has_its_page_and_is_asked_again(lab: Lab):
    run = lab.begin("disputed", progress(TURN_FRAMES, failed="after/after-train"), "images", pipeline="improvement")
    folder = lab.workplace / "runs/images" / run["run_id"]
    asked = RunRequest("images", "lab", pipeline="improvement", data="my data", decisions=("anna.csv", "ben.csv"))
    keep_command(folder, Command(asked, ClusterOptions({"host": lab.server.url})))
    lab.leave(run, "audit/review", "curate/disputed", "curate/data/manifest.csv")
    outcome = lab.submit("--attach", "disputed")
    assert (outcome.returncode, outcome.stderr) == (1, "")
    shown = f"runs/images/{run['run_id']}"
    said = outcome.stdout[outcome.stdout.index(f"reports in {shown}/") :].splitlines()
    assert said[0] == f"reports in {shown}/: disputed.html, review.html"
    assert said[5:] == [
        "  decide on the images that people disagree about; the page saves decisions-settled.csv:",
        f"    {shown}/disputed.html",
        "  move decisions-settled.csv here, and run again with it:",
        f"    {lab.program} --config lab --experiment images --pipeline improvement --data 'my data' --decisions "
        f"anna.csv --decisions ben.csv --decisions decisions-settled.csv --host {lab.server.url}",
    ]
    page = Page(folder / "index.html")
    assert page.values("href")[:2] == ["review.html", "disputed.html"]
    assert "decide on the images that people disagree about" in page.text


def test_a_run_that_was_cancelled_is_that_also_where_its_bucket_is_gone(lab: Lab):
    run = lab.begin("trial", [Frame("CANCELED", {"ingest": "SUCCEEDED"})])
    run["runtime_config"]["pipeline_root"] = "gs://no-such-bucket/runs"
    outcome = lab.submit("--attach", "trial")
    assert (outcome.returncode, outcome.stderr) == (3, "")
    said = outcome.stdout.splitlines()[-1]
    assert said.startswith("no page of this run, because what it made cannot be fetched: gs://no-such-bucket/runs/")
    assert said.endswith("check pipeline_root in the config.")
    assert list(lab.workplace.iterdir()) == []


def test_a_page_compares_with_the_run_before_of_its_experiment(lab: Lab):
    done = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
    runs = {}
    for name, experiment in (
        ("first", "images"),
        ("before", "images"),
        ("elsewhere", "others"),
        ("lost", "images"),
        ("now", "images"),
        ("later", "images"),
    ):
        runs[name] = lab.begin(name, done, experiment, seed=len(runs))  # so that none takes another's from the cache
        lab.leave(runs[name], *(f"{stage}/report" for stage in STAGES))
        if name != "lost":
            content = json.dumps(evaluation(f"{name}.dir"))
            lab.leave(runs[name], "evaluate/evaluation/evaluation.json", content=content)
        lab.done("--list", "--experiment", experiment)  # the time of the server goes on
    failed = lab.begin("failed", [Frame("FAILED", {"ingest": "FAILED"})], "images")
    attach = ("--experiment", "images", "--attach")
    lab.done(*attach, "now")
    folder = lab.workplace / "runs/images"
    page = Page(folder / runs["now"]["run_id"] / "index.html")
    assert page.values("href")[0] == f"{lab.server.url}/#/runs/details/{runs['before']['run_id']}"
    text = " ".join(page.text.split())
    assert "val 0.750 0.750 +0.000" in text
    assert "The run before is before , on another data version, before.dir :" in text
    lab.done(*attach, "before")
    lab.done(*attach, "now")
    page = Page(folder / runs["now"]["run_id"] / "index.html")
    assert page.values("href")[0] == f"../{runs['before']['run_id']}/index.html"
    assert lab.submit(*attach, failed["run_id"]).returncode == 1
    assert "run before" not in Page(folder / failed["run_id"] / "index.html").text


def test_a_failure_in_a_part_of_the_pipeline_is_told_from_that_in_another(lab: Lab):
    tasks = ("before-train", "after-train", "yardstick")
    for task in tasks:
        failed = TURN_FRAMES[TURN.index(task)]
        lab.begin(task, progress(TURN_FRAMES, failed=failed), pipeline="improvement")
    outcomes = together(*(partial(lab.submit, "--attach", task) for task in tasks))
    for outcome, task in zip(outcomes, tasks, strict=True):
        said = re.findall(r"^(\S+) failed; its log is at", outcome.stdout, re.M)
        assert (outcome.returncode, said) == (1, [task])


def test_a_terminal_shows_a_live_table(lab: Lab):
    """FORCE_COLOR makes rich take the pipe for a terminal."""
    pending, running, *failed = progress(["train"], failed="train")
    lab.begin("trial", [pending] * 3 + [running] * 2 + failed, single="train")
    outcome = lab.submit("--attach", "trial", FORCE_COLOR="1", TERM="xterm-256color")
    assert outcome.returncode == 1
    assert "\x1b[" in outcome.stdout
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", outcome.stdout)
    states = [match[1] for line in re.split(r"[\r\n]+", plain) if (match := re.match(r"\S train +(\w+)", line))]
    assert [state for state, before in zip(states, ["", *states], strict=False) if state != before] == [
        "waiting",
        "running",
        "failed",
    ]
    assert "ingest" not in plain  # it is a run of one stage
    assert "train failed; its log is at" in plain


def test_every_end_has_its_code_by_id_name_or_latest(lab: Lab):
    failed = lab.begin("first try", progress(STAGES, failed="train")[-1:], "images")
    done = dict.fromkeys(STAGES, "SUCCEEDED")
    one = lab.begin("alone", [Frame("SUCCEEDED", {"train": "SUCCEEDED"})], single="train")
    lab.leave(one, "train/model")
    cached = lab.begin("no results", [Frame("SUCCEEDED", {**done, "evaluate": "CACHED"})], "images")
    lab.begin("first try", [Frame("CANCELED", {"ingest": "SUCCEEDED"})], "others")  # the newest of that name
    lab.begin("third", [Frame("SKIPPED")], "images")
    ends = together(
        lambda: lab.submit("--attach", failed["run_id"]),
        lambda: lab.submit("--attach", "first try"),
        lambda: lab.submit("--attach", "latest", "--experiment", "images"),
        lambda: lab.submit("--attach", "alone"),
        lambda: lab.submit("--attach", "no results"),
    )
    by_id, by_name, latest, alone, empty = ends
    assert [end.returncode for end in ends] == [1, 3, 1, 0, 1]
    assert [end.stderr for end in ends[:4]] == [""] * 4
    log = f"train failed; its log is at {lab.server.url}/#/runs/details/{failed['run_id']}"
    shown = [end.stdout.partition("\nNext:")[0].splitlines() for end in ends[:4]]
    assert shown[0][-2] == log
    assert [said[-1].partition(" ")[0] for said in shown] == ["failed", "cancelled", "skipped", "succeeded"]
    assert all(re.fullmatch(r"\w+ after \d+ s", said[-1]) for said in shown)
    assert re.fullmatch(rf"{lab.root}/training/{cached['run_id']}: no evaluation; .* --no-cache\.\n", empty.stderr)
    assert [path.name for path in lab.workplace.iterdir()] == ["runs"]  # of none of them results
    for end, page in (
        (by_id, f"runs/images/{failed['run_id']}/index.html"),  # where the pages of its own experiment are
        (alone, f"runs/default/{one['run_id']}/index.html"),
    ):
        assert end.stdout.endswith(f"\nNext:\n  look at its pages:\n    {page}\n")
        assert (lab.workplace / page).is_file()


def test_a_success_of_which_the_server_tells_no_stages_is_not_said_to_be_of_the_cache(lab: Lab):
    run = lab.begin("trial", [Frame("SUCCEEDED")])
    outcome = lab.submit("--attach", "trial")
    assert outcome.returncode == 1
    assert outcome.stderr == (
        f"{lab.root}/training/{run['run_id']}: no evaluation; it is not there, and the server does not say whether the "
        "stage ran or came from the cache. Run again with --no-cache.\n"
    )


def test_a_run_whose_pipeline_was_deleted_is_waited_for_without_its_stages(lab: Lab):
    done, running = Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED")), Frame("RUNNING", {"ingest": "RUNNING"})
    good = lab.begin("good", [running, done])
    bad = lab.begin("bad", [running, *progress(STAGES, failed="train")[-1:]])
    lab.server.stored["pipeline_version"].clear()
    attached, failed, single = together(
        lambda: lab.submit("--attach", "good"),
        lambda: lab.submit("--attach", "bad"),
        lambda: lab.refused("--component", "evaluate", "--from-run", good["run_id"]),
    )
    waiting = "waiting for {}, whose stages cannot be shown: its pipeline was deleted"
    deleted = (
        "run {}: somebody has deleted its pipeline, or the version of it that was run, so nobody knows its stages any "
        "more; choose another run, or start it again."
    )
    assert (attached.returncode, attached.stderr) == (1, deleted.format("good") + "\n")
    assert re.fullmatch(rf"{waiting.format('good')}\nsucceeded after \d+ s\n", attached.stdout)
    assert (failed.returncode, failed.stderr) == (1, "")
    no_page = "no page of this run, because what it made cannot be fetched: "
    assert re.fullmatch(
        rf"{waiting.format('bad')}\nfailed after \d+ s\n{no_page}{re.escape(deleted.format('bad'))}\n", failed.stdout
    )
    assert single == deleted.format("good")
    assert lab.server.stored["run"].keys() == {good["run_id"], bad["run_id"]}


def test_a_run_of_which_only_the_pipeline_is_named_is_one_sentence(lab: Lab):
    run = lab.begin("trial", [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))])
    run["pipeline_version_reference"].pop("pipeline_version_id")
    assert lab.refused("--attach", run["run_id"]) == (
        "run trial: the server does not say which version of which pipeline it ran."
    )


@pytest.mark.parametrize("end", ["CANCELED", "FAILED"])
def test_a_run_that_is_terminated_ends_as_cancelled_for_who_waits(lab: Lab, end: str):
    lab.server.terminated_as = end  # FAILED: what the server says when it repeats Argo
    run = lab.begin("trial", [RUNNING])
    waiting = lab.start("--attach", "trial")
    until(lambda: asked(lab.server, run) > 1)
    assert lab.done("--terminate", "trial").splitlines() == [
        "terminating trial",
        "",
        "Next:",
        "  see it end, and fetch the pages of what has succeeded:",
        f"    {lab.program} --config lab --attach {run['run_id']}",
    ]
    outcome = finished(waiting)
    assert (outcome.returncode, outcome.stderr) == (3, "")
    assert re.search(r"^cancelled after \d+ s$", outcome.stdout, re.M)
    again = lab.submit("--attach", "trial")
    assert (again.returncode, again.stderr) == (3, "")
    for said in (outcome.stdout, again.stdout):
        shown = re.findall(r"^\S (\w+) +(\w+) ", said, re.M)
        assert shown == [("ingest", "running"), ("ingest", "cancelled")][-len(shown) :]
        assert "failed" not in said
    page = Page(lab.workplace / f"runs/default/{run['run_id']}/index.html").text
    assert "cancelled after" in page
    assert "failed" not in page
    assert lab.refused("--terminate", "trial") == "run trial: has ended already (cancelled)."


def test_of_tasks_that_began_at_once_nobody_says_whose_container_waits(lab: Lab):
    begun = {**dict.fromkeys(TURN, "SUCCEEDED"), "after/after-evaluate": "RUNNING", "yardstick": "PENDING"}
    run = lab.begin("trial", [Frame("RUNNING", begun)], pipeline="improvement")
    lab.submit("--list")  # which the server needs, to be at its frame
    nodes = run["run_details"]["task_details"]
    both = [node for node in nodes if node.get("state") in ("RUNNING", "PENDING")]
    for node in both:
        node["start_time"] = max(node["start_time"] for node in both)
    said = lab.submit("--attach", "trial", "--timeout", "0.2").stdout.splitlines()
    told = [line.split()[:3] for line in said if "after-evaluate" in line or "yardstick" in line]
    assert told == [["▶", "after-evaluate", "running"], ["▶", "yardstick", "running"]]


def test_a_wait_past_its_limit_and_ctrl_c_leave_the_run_alone(lab: Lab):
    limited, stopped = lab.begin("one", [RUNNING]), lab.begin("two", [RUNNING])
    interrupted = lab.start("--attach", "two")
    until(lambda: asked(lab.server, stopped) > 2)
    outcome = lab.submit("--attach", "one", "--timeout", "0.03")
    interrupted.send_signal(signal.SIGINT)
    again = f"To keep waiting: {lab.program} --config lab --attach"
    assert (outcome.returncode, outcome.stderr) == (124, "")
    said = outcome.stdout.splitlines()[-1]
    assert said == f"not finished after 0.03 minutes; the run continues. {again} {limited['run_id']}"
    outcome = finished(interrupted)
    assert (outcome.returncode, outcome.stderr) == (130, "")
    assert outcome.stdout.splitlines()[-1] == f"the run continues. {again} {stopped['run_id']}"
    assert [run["state"] for run in lab.runs()] == ["RUNNING", "RUNNING"]
    assert [request.path for request in lab.server.requests if request.path.endswith(":terminate")] == []


def test_a_wait_that_a_machine_ends_says_that_the_run_continues(lab: Lab):
    run = lab.begin("trial", [RUNNING])
    process = lab.start("--attach", "trial")
    until(lambda: asked(lab.server, run) > 1)
    process.send_signal(signal.SIGTERM)
    outcome = finished(process)
    assert (outcome.returncode, outcome.stderr) == (143, "")
    attach = f"{lab.program} --config lab --attach {run['run_id']}"
    assert outcome.stdout.splitlines()[-1] == f"the run continues. To keep waiting: {attach}"


@pytest.mark.parametrize("way", ["token file", "kubeconfig"])
def test_wait_goes_through_lost_answers_and_expired_tokens(lab: Lab, way: str, tmp_path: Path):
    """A kubeconfig gets its tokens from a command, as that of a GKE cluster does."""
    token = tmp_path / "token"
    token.write_text("one\n")
    environment = {"KFP_TOKEN_FILE": str(token)}
    with KfpServer(prefix=KUBE_PROXY if way == "kubeconfig" else "") as server:
        if way == "kubeconfig":
            environment = {"KFP_HOST": "", "KUBECONFIG": str(with_command(server, tmp_path / "kubeconfig", token))}
        lab = lab._replace(server=server)
        finish = threading.Event()
        server.prefix, prefix = "", server.prefix  # the run is begun without a proxy
        run = lab.begin("trial", going_on(finish, Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))))
        server.prefix = prefix
        accept(server, "one")
        figures = leave_results(lab, run, "89ab.dir")
        waiting = lab.start("--attach", run["run_id"], **environment)
        path = f"/runs/{run['run_id']}$"
        until(lambda: asked(server, run) > 1)
        if way == "token file":
            token.unlink()  # it is replaced, and somebody asks in between
            time.sleep(2)
            token.write_text("one\n")
        server.faults += [Fault("GET", path, 503), Fault("GET", path, cut="answer"), Fault("GET", path, cut="request")]
        until(lambda: not server.faults)
        accept(server, "two")
        before = len(server.requests) + len(server.kubernetes.requests)
        until(lambda: len(server.requests) + len(server.kubernetes.requests) > before + 1)  # refused
        token.write_text("two\n")
        finish.set()
        outcome = finished(waiting)
        assert (outcome.returncode, outcome.stderr) == (0, "")
        check_results(lab.workplace / "results", figures)


def accept(server: KfpServer, token: str) -> None:
    """From now on the server takes this token alone; that of a kubeconfig goes no further than to Kubernetes."""
    if server.prefix:
        server.kubernetes.users = {token: "admin"}
    else:
        server.token = token


def with_command(server: KfpServer, path: Path, token: Path) -> Path:
    """A kubeconfig whose user is the bearer of what the file has."""
    credential = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential"}
    answer = json.dumps({**credential, "status": {"token": "TOKEN"}})
    script = f"printf '%s' '{answer}' | sed \"s/TOKEN/$(cat '{token}')/\""
    content = yaml.safe_load(kubeconfig(server, path).read_text())
    version = {"apiVersion": credential["apiVersion"], "interactiveMode": "Never"}
    content["users"][0]["user"] = {"exec": {**version, "command": "sh", "args": ["-c", script]}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_list_shows_the_newest_first(lab: Lab):
    lab.begin("first", [Frame("SUCCEEDED")], "images")
    lab.begin("second", [Frame("PENDING")], "images")
    lab.begin("third [b]", [Frame("FAILED")], "images")
    lab.begin("elsewhere", [Frame("RUNNING")], "others")
    images, none = together(
        lambda: lab.done("--list", "--experiment", "images"), lambda: lab.done("--list", "--experiment", "new")
    )
    rows = [re.split(r" *│ *", line.strip("│ ")) for line in images.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows] == [["third [b]", "failed"], ["second", "waiting"], ["first", "succeeded"]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", row[2]) for row in rows)
    assert images.startswith("experiment images\n")
    assert images.endswith(f"    {lab.program} --config lab --experiment images --attach latest\n")
    assert none == "experiment new: no runs yet\n"
    assert [experiment["display_name"] for experiment in lab.server.stored["experiment"].values()].count("new") == 0


def test_a_run_that_is_not_there(lab: Lab):
    lab.begin("elsewhere", [RUNNING], "others")
    unknown = "01234567-89ab-cdef-0123-456789abcdef"
    messages = together(
        lambda: lab.refused("--attach", unknown),
        lambda: lab.refused("--attach", "lost"),
        lambda: lab.refused("--attach", "latest"),
        lambda: lab.refused("--terminate", "lost"),
    )
    assert messages[0] == f"run {unknown}: there is no such run; --list shows the newest."
    assert messages[1] == messages[3] == "run lost: there is no run of that name; --list shows the newest."
    assert messages[2] == "run latest: there is none in experiment default; --list shows the newest."
