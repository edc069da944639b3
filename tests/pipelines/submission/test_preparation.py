"""The steps that a run on this machine and one on a cluster share, tried with a place that is neither."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError, cut
from components.shared.formats.label_studio import make_choice
from pipelines.compiler.config import Config, load_config
from pipelines.compiler.stages import Stages
from pipelines.data.dvc_version import DataVersion
from pipelines.submission.arguments import EarlierRun
from pipelines.submission.images import list_classes
from pipelines.submission.preparation import PreparedRun, prepare
from pipelines.submission.request import RunRequest
from tests.conftest import ROOT

VERSIONED = "c49130228043e342473ee9ddddfbb7f7.dir"
RUNS = {
    "one": EarlierRun("1", "one", {"examples": "/1/examples", "evaluation": "/1/evaluation"}, {}, {}),
    "two": EarlierRun(
        "2",
        "two",
        {"transformed_examples": "/2/new", "transform_graph": "/2/graph"},
        {"epochs": 7, "batch_size": 4},
        {"transformed_examples": "/2/taken"},
    ),
    "audited": EarlierRun(
        "3", "audited", {name: f"/3/{name}" for name in ("examples", "issues", "predictions")}, {}, {}
    ),
}


class Place:
    """Where a data set that is called versioned has a version."""

    def __init__(self, *, knows_content: bool = False, repeats: bool = False) -> None:
        self.knows_content, self.repeats = knows_content, repeats

    def locate_folder(self, folder: Path, rev: str | None) -> DataVersion:
        return DataVersion(f"/here/{folder}/{rev}", VERSIONED if folder.name == "versioned" else "")

    def locate_file(self, file: Path, kind: str) -> str:
        return f"/here/{kind}/{file.name}"

    def find_run(self, name: str, stages: Stages, stage: str | None) -> EarlierRun:
        return RUNS[name]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("local")


def prepared(config: Config, **asked: Any) -> PreparedRun:
    return prepare(RunRequest(experiment="default", config="local", **asked), config, Place())


def cached(run: PreparedRun) -> set[str]:
    return {stage for stage in run.stages.contracts if run.stages.config.get_stage(stage).caching}


@pytest.mark.parametrize("pipeline", ["training", "improvement"])
def test_classes_and_shares_are_parameters_of_the_pipelines(config: Config, pipeline: str):
    params = ('classes=["b", "a"]', "val_share=0.3", "split_seed=2")
    arguments = prepared(config, data="others", pipeline=pipeline, params=params).arguments
    assert (arguments["classes"], arguments["val_share"], arguments["split_seed"]) == (["b", "a"], 0.3, 2)


def test_data_becomes_the_parameters_of_the_pipeline(config: Config):
    run = prepared(config, data="versioned", rev="v1", test_data="others", params=("epochs=3",))
    assert run.name == run.pipeline.name == "training"
    assert run.arguments == {
        "data_uri": "/here/versioned/v1",
        "data_version": VERSIONED,
        "test_data_uri": "/here/others/None",
        "epochs": 3,
    }
    assert run.versions == [VERSIONED, "/here/others/None"]


@pytest.mark.parametrize(
    ("asked", "without"),
    [
        pytest.param({"data": "versioned"}, set(), id="a version"),
        pytest.param({"data": "folder"}, {"ingest"}, id="an address that tells no version"),
        pytest.param({"data": "versioned", "test_data": "folder"}, {"ingest"}, id="such a test split"),
    ],
)
def test_ingest_looks_for_itself_at_data_without_a_version(config: Config, asked: dict[str, str], without: set[str]):
    run = prepared(config, **asked)
    assert run.stages.contracts.keys() - cached(run) == without
    assert cached(prepared(config, **asked, no_cache=True)) == set()
    here = prepare(RunRequest(experiment="default", config="local", **asked), config, Place(knows_content=True))
    assert cached(here) == run.stages.contracts.keys()


def test_a_stage_repeats_what_it_did_with_what_it_took(config: Config):
    run = prepared(config, component="train", from_run="two", params=("epochs=9",))
    assert run.pipeline.name == "single-train"
    assert run.arguments == {
        "epochs": 9,
        "batch_size": 4,
        "transformed_examples_uri": "/2/taken",
        "transform_graph_uri": "/2/graph",
        "from_run": "2",
    }
    assert run.earlier == {"from run": RUNS["two"]}


def test_ingest_on_other_data_goes_on_from_no_run(config: Config):
    run = prepared(config, component="ingest", data="folder")
    assert (run.arguments, run.earlier) == ({"data_uri": "/here/folder/None"}, {})


def test_ingest_that_is_repeated_asks_again_what_is_ignored(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("images", "tests"):
        (tmp_path / name).mkdir()
    taken = {"data_uri": f"{tmp_path}/images", "test_data_uri": f"{tmp_path}/tests", "ignored": ["old.png"]}
    monkeypatch.setitem(RUNS, "three", EarlierRun("3", "three", {}, taken, {}))
    monkeypatch.setattr(Place, "locate_folder", lambda _, folder, rev: DataVersion(str(folder), "", ("a.png",)))
    arguments = prepared(config, component="ingest", from_run="three").arguments
    assert arguments == {**taken, "ignored": ["a.png", "test/a.png"], "from_run": "3"}
    monkeypatch.setattr(Place, "locate_folder", lambda _, folder, rev: DataVersion(str(folder), ""))
    assert prepared(config, component="ingest", from_run="three").arguments["ignored"] == []


def test_parameter_that_a_stage_has_and_the_pipeline_has_not_is_told_where_to_set_it(config: Config):
    with pytest.raises(UserError) as refused:
        prepared(config, data="others", pipeline="improvement", params=("folds=3",))
    assert str(refused.value) == (
        "--param folds: improvement leaves it to audit; set it in the config, as `folds` in `parameters` of `audit` in "
        "`stages`, or in components/audit/component.yaml."
    )


def test_parameters_that_are_too_long_for_a_command_are_refused(config: Config):
    text = json.dumps([f"{number:0200}" for number in range(600)])
    with pytest.raises(UserError) as refused:
        prepared(config, data="others", params=(f"classes={text}",))
    assert str(refused.value) == (
        f"--param classes={cut(text)}: classes has 122,400 characters as JSON, but all parameters of a stage may have "
        "100,000 together; shorten it."
    )


def test_decisions_are_those_that_the_place_can_read(config: Config, tmp_path: Path):
    (tmp_path / "decisions.csv").write_text("sha256,filename,label,decision,new_label\n")
    for name in ("decisions-anna.csv", "ben.csv"):
        (tmp_path / name).write_text("sha256,filename,label,decision,new_label\n")
    files = tuple(str(tmp_path / name) for name in ("decisions.csv", "decisions-anna.csv", "ben.csv"))
    asked: dict[str, Any] = {"pipeline": "improvement", "data": "folder"}
    for count in (1, 3):
        run = prepared(config, decisions=files[:count], **asked)
        named = {"decisions": "decisions.csv", "anna": "decisions-anna.csv", "ben": "ben.csv"}
        located = {name: f"/here/decisions/{file}" for name, file in list(named.items())[:count]}
        assert run.arguments == {"data_uri": "/here/folder/None", "decisions_uris": located}
    run = prepared(config, decisions=files, params=("deciding_reviewer=anna", "disagreement=unanimity"), **asked)
    assert (run.arguments["deciding_reviewer"], run.arguments["disagreement"]) == ("anna", "unanimity")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/anna.csv").write_text("sha256,filename,label,decision,new_label\n")
    for refused, message in (
        ({"params": ("deciding_reviewer=anne",)}, "the deciding_reviewer 'anne' does not exist. Did you mean anna?"),
        ({"params": ("disagreement=dice",)}, "--param disagreement=dice: disagreement is 'dice'; it must be majority"),
        (
            {"decisions": (*files, f"{tmp_path}/other/anna.csv")},
            f"{files[1]} and {tmp_path}/other/anna.csv: both are named after the reviewer anna; name each file after",
        ),
    ):
        with pytest.raises(UserError) as raised:
            prepared(config, **{"decisions": files, **asked, **refused})
        assert str(raised.value).startswith(message)
    # One person disagrees with nobody, and a configuration may name who decides.
    prepared(config, decisions=files[:1], params=("deciding_reviewer=bob",), **asked)
    # Nor do they disagree with what was decided in earlier turns, whose deciding reviewer may not decide now.
    earlier = tmp_path / "decisions-earlier.csv"
    earlier.write_text("sha256,filename,label,decision,new_label\n")
    prepared(config, decisions=(str(earlier), files[0]), params=("deciding_reviewer=bob",), **asked)


def make_tasks(*annotators: int) -> str:
    """What Label Studio exports if these people dropped an image."""
    result = [make_choice("drop")]
    annotations = [{"id": 1, "completed_by": annotator, "result": result} for annotator in annotators]
    return json.dumps([{"id": 1, "data": {"filename": "train/i/1.png"}, "annotations": annotations}])


def test_decisions_of_other_tools_are_checked_before_the_run(config: Config, tmp_path: Path):
    for folder in ("train/i", "val/i"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    files = {
        "decisions-team.json": make_tasks(1, 2),
        "labels.json": json.dumps({"classes": ["i", "drop"], "labels": {"train/i/1": 1}}),
        "anna.csv": "filename,label\ntrain/i/1.png,i\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    asked: dict[str, Any] = {"pipeline": "improvement", "data": str(tmp_path / "data")}
    decisions = tuple(str(tmp_path / name) for name in files)
    run = prepared(config, decisions=decisions, params=("deciding_reviewer=team-2",), **asked)
    located = {"team": "decisions-team.json", "labels": "labels.json", "anna": "anna.csv"}
    assert run.arguments["decisions_uris"] == {name: f"/here/decisions/{file}" for name, file in located.items()}
    (tmp_path / "other.json").write_text(json.dumps({"labels": {"train/i/1": ["i", "v"]}}))
    (tmp_path / "decisions-team-2.csv").write_text("filename,label\ntrain/i/1.png,i\n")
    for refused, message in (
        (
            {"decisions": (decisions[0], str(tmp_path / "decisions-team-2.csv"))},
            f"{decisions[0]}: has decisions of team-2, whom {tmp_path}/decisions-team-2.csv is named after; rename",
        ),
        (
            {"params": ("deciding_reviewer=team",)},
            "the deciding_reviewer 'team' does not exist. Did you mean team-2? There are: anna, labels, team-1, team-2",
        ),
        (
            {"decisions": (str(tmp_path / "other.json"),)},
            f"{tmp_path}/other.json, the label of train/i/1: has 2 labels; give the image one label, and",
        ),
        (
            {"decisions": (str(tmp_path / "none.json"),)},
            f"{tmp_path}/none.json: no such file; --decisions names what the",
        ),
    ):
        with pytest.raises(UserError) as raised:
            prepared(config, **{"decisions": decisions, **asked, **refused})
        assert str(raised.value).startswith(message)
    # Who decided in a file that is not here is not known before the run.
    there = ("gs://bucket/team.json", decisions[2])
    prepared(config, decisions=there, params=("deciding_reviewer=team-7",), **asked)
    with pytest.raises(UserError, match="the deciding_reviewer 'team-7' does not exist"):
        prepared(
            config, decisions=("gs://bucket/team.csv", decisions[2]), params=("deciding_reviewer=team-7",), **asked
        )


def test_schema_is_that_of_the_command_or_else_of_the_config(config: Config, tmp_path: Path):
    own = tmp_path / "own.pbtxt"
    own.touch()
    competition = load_config("competition")
    data = {"data_uri": "/here/folder/None"}
    for asked in ({}, {"pipeline": "improvement"}):
        run = prepared(competition, data="folder", **asked)
        assert run.arguments == data | {"curated_schema_uri": "/here/schemas/competition.pbtxt"}
        run = prepared(competition, data="folder", schema=str(own), **asked)
        assert run.arguments == data | {"curated_schema_uri": "/here/schemas/own.pbtxt"}
        assert prepared(config, data="folder", **asked).arguments == data, "by default it is inferred"
    away = competition.model_copy(update={"schema_file": "gs://images/schema.pbtxt"})
    run = prepared(away, data="folder")
    assert run.arguments == data
    inputs = run.pipeline.component_spec.inputs
    assert inputs
    assert inputs["curated_schema_uri"].default == "gs://images/schema.pbtxt"


def test_schema_that_is_not_there_is_named(config: Config):
    lost = config.model_copy(update={"schema_file": "lost.pbtxt"})
    with pytest.raises(UserError) as raised:
        prepared(lost, data="folder")
    assert str(raised.value) == f"{ROOT}/lost.pbtxt: no such file; `schema` in {config.path} names it."
    with pytest.raises(UserError) as raised:
        prepared(lost, data="folder", schema="gone.pbtxt")
    assert str(raised.value) == "gone.pbtxt: no such file; --schema names a schema.pbtxt that a run has inferred."


def test_an_address_in_cloud_storage_is_the_same_everywhere(config: Config):
    uris = {"data": "gs://images/data", "test_data": f"gs://images/dvc/files/md5/{VERSIONED[:2]}/{VERSIONED[2:]}"}
    decisions = ("gs://images/decisions.csv", "gs://images/a/decisions-anna.csv")
    asked = RunRequest("default", "local", pipeline="improvement", decisions=decisions, **uris)
    run = prepare(asked, config, Place(repeats=True))
    located = dict(zip(("decisions", "anna"), decisions, strict=True))
    named = {f"{name}_uri": uri for name, uri in uris.items()} | {"test_data_version": VERSIONED}
    assert run.arguments == {**named, "decisions_uris": located}
    assert run.versions == ["gs://images/data", VERSIONED]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gs://images//data", "gs://images/data"),
        ("gs://images/data//", "gs://images/data"),
        ("gs://images/", "gs://images"),
        ("gs://images//data.csv", "gs://images/data.csv"),
        ("gs://images/data.csv//", "gs://images/data.csv/"),  # a folder
    ],
)
def test_slashes_that_mean_nothing_make_no_other_address(config: Config, typed: str, meant: str):
    """By which the cache would take the same images for others."""
    asked = RunRequest("default", "local", data=typed, test_data=typed)
    assert prepare(asked, config, Place(repeats=True)).arguments == {"data_uri": meant, "test_data_uri": meant}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"component": "trian", "data": "folder"}, "the component 'trian' does not exist. Did you mean train?"),
        ({"pipeline": "impr", "data": "folder"}, "the pipeline 'impr' does not exist."),
        ({}, "data_uri: no value; give it with --data"),
        ({"data": "s3://b/x"}, "s3://b/x: the images are read from folders and from Cloud Storage; give gs://BUCKET/"),
        ({"component": "train", "from_run": "one"}, "run one has no artifact 'transformed_examples'"),
        ({"pipeline": "comparison", "before": "one", "from_run": "two"}, "run one has no artifact 'predictions'"),
    ],
)
def test_what_is_missing_is_named(config: Config, asked: dict[str, str], message: str):
    with pytest.raises(UserError) as raised:
        prepared(config, **asked)
    assert str(raised.value).startswith(message)


def test_classes_are_known_before_a_run(tmp_path: Path):
    def list_here(name: str) -> list[str]:
        return list_classes(str(tmp_path / name), "", rev=None)

    assert list_here("none") == []
    for name in ("10/x.png", "2/more/x.png", "2/notes.txt", ".hidden/x.png", "__MACOSX/x.png"):
        for parent in ("undivided", "divided/train"):
            (tmp_path / parent / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / parent / name).touch()
    (tmp_path / "undivided/readme").touch()
    (tmp_path / "divided/Valid/b").mkdir(parents=True)
    (tmp_path / "divided/Valid/b/x.png").touch()
    assert list_here("undivided") == ["2", "10"]
    assert list_here("divided") == ["2", "10", "b"]
    (tmp_path / "divided/extra").mkdir()
    (tmp_path / "divided/extra/x.png").touch()  # ingest says what is wrong there
    assert list_here("divided") == []
    (tmp_path / "images.csv").write_text("path,label\na.png,v\nb.png,ii\n")
    assert list_here("images.csv") == ["ii", "v"]


RELABEL = f"sha256,filename,label,decision,new_label\n{'0' * 64},train/i/0.png,i,relabel,v\n"


def test_decisions_of_a_stage_alone_give_classes_that_the_run_knows_best(config: Config, tmp_path: Path):
    (tmp_path / "decisions.csv").write_text(RELABEL)
    file = str(tmp_path / "decisions.csv")
    run = prepared(config, component="curate", from_run="audited", decisions=(file,))
    assert run.arguments["decisions_uris"] == {"decisions": "/here/decisions/decisions.csv"}


def test_decisions_give_classes_of_the_version_that_the_run_is_on(config: Config, tmp_path: Path):
    (tmp_path / "decisions.csv").write_text(RELABEL)
    asked = {"pipeline": "improvement", "decisions": (str(tmp_path / "decisions.csv"),)}
    for name in ("i", "ii"):
        (tmp_path / "images/train" / name).mkdir(parents=True)
        (tmp_path / "images/train" / name / "0.png").touch()
    with pytest.raises(UserError, match="the class 'v' is unknown; the classes are i, ii"):
        prepared(config, data=str(tmp_path / "images"), **asked)
    manifest = tmp_path / "version"
    manifest.write_text(json.dumps([{"md5": "0" * 32, "relpath": f"train/{name}/0.png"} for name in ("i", "v")]))
    place = Place()
    place.locate_folder = lambda folder, rev: DataVersion(str(manifest), VERSIONED)  # type: ignore[method-assign]
    request = RunRequest("default", "local", data=str(tmp_path / "images"), rev="v1", **asked)
    assert prepare(request, config, place).arguments["data_uri"] == str(manifest)
