"""`submit.py --data`: a version of a folder that DVC tracks, read from the DVC remote, or a folder in a bucket."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gcs import Gcs
from tests.fakes.kfp_rules import Frame, Json
from tests.pipelines.cluster.lab import (
    PICTURES,
    STAGES,
    Lab,
    cached_stages,
    commit,
    git,
    packages,
    together,
    version_of,
)

DONE = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, bucket: Gcs) -> Iterator[Path]:
    """A repository with three versions of its folder data: v1 and v2 are in the bucket, v3 is not."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("data") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(root.parent / "dvc"))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        root.mkdir()
        git(root, "init", "--quiet", "--initial-branch=main")
        with Repo.init(str(root)):
            settings = f"endpointurl = {bucket.url}\n    allow_anonymous_login = true"
            remotes = f"['remote \"gcs\"']\n    url = {bucket.uri}/dvc\n    {settings}\n['remote \"folder\"']\n"
            (root / ".dvc/config").write_text(f"[core]\n    remote = folder\n{remotes}    url = ../store\n")
        for tag in ("v1", "v2", "v3"):
            (root / "data/train/i").mkdir(parents=True, exist_ok=True)
            (root / f"data/train/i/{tag}.png").write_text(tag)
            with Repo(str(root)) as repo:
                repo.add(str(root / "data"))
                for remote in ("gcs", "folder") if tag != "v3" else ():
                    repo.push(remote=remote)
            commit(root, tag)
            git(root, "tag", tag)
        yield root


def parameters(lab: Lab) -> Json:
    """Those of the newest run."""
    return lab.runs()[-1]["runtime_config"]["parameters"]


def test_a_folder_in_the_bucket_has_the_version_of_its_content(lab: Lab):
    """Two runs on the same images have equal arguments, so that Kubeflow Pipelines may take ingest from its cache."""
    data, test = f"{lab.root}/numerals", f"{lab.root}/test"
    for name, content in PICTURES.items():
        lab.gcs.bucket.blob(f"runs/{name}").upload_from_string(content)
    asked = ("--data", data, "--test-data", test)
    for _ in range(2):
        lab.done(*asked)
    first, second = lab.runs()
    assert first["runtime_config"] == second["runtime_config"]
    assert first["pipeline_version_reference"] == second["pipeline_version_reference"]
    assert parameters(lab) == {
        "data_uri": data,
        "data_version": version_of("numerals"),
        "test_data_uri": test,
        "test_data_version": version_of("test"),
    }
    (spec,) = packages(lab.server).values()
    assert cached_stages(spec) == set(STAGES) - {"evaluate"}
    ingest = spec["root"]["dag"]["tasks"]["ingest"]["inputs"]["parameters"]
    for name in parameters(lab):
        assert ingest[name] == {"componentInputParameter": name}

    awkward = f"{lab.gcs.uri}//runs/numerals//"  # the same folder, with the slashes of somebody's variables
    lab.done("--data", awkward, "--test-data", f"{test}/")
    assert parameters(lab) == first["runtime_config"]["parameters"]

    checked = lab.submit("--check", *asked).stdout
    assert re.search(rf"^✓ data +{version_of('numerals')}, {version_of('test')}$", checked, re.M)

    lab.gcs.bucket.blob("runs/test/i/0.png").upload_from_string("another picture")
    lab.done(*asked)
    assert parameters(lab)["data_version"] == version_of("numerals")
    assert parameters(lab)["test_data_version"] not in ("", version_of("test"))

    # Ingest alone looks again, as it does for a folder on this machine.
    run = lab.begin("earlier", DONE, data_uri=data, data_version="0123.dir", test_data_uri=test)
    lab.server.script = DONE
    lab.done("--component", "ingest", "--from-run", run["run_id"])
    again = {name: parameters(lab)[name] for name in ("data_uri", "data_version", "test_data_uri")}
    assert again == {"data_uri": data, "data_version": version_of("numerals"), "test_data_uri": test}
    repeated = [spec for spec in packages(lab.server).values() if spec["pipelineInfo"]["name"] == "single-ingest"]
    assert [cached_stages(spec) for spec in repeated] == [{"ingest"}]


def test_a_folder_without_a_version_is_read_each_time(lab: Lab):
    """The objects of a recurring run are those that are there when it comes; those of a table may be anywhere."""
    lab.done("--data", "gs://images/numerals", "--recurring", "nightly", "--cron", "0 30 2 * * *")
    (made,) = lab.server.stored["recurring_run"].values()
    assert made["runtime_config"]["parameters"] == {"data_uri": "gs://images/numerals"}
    lab.done("--data", "gs://images/photos.dir", "--recurring", "weekly", "--cron", "0 30 2 * * 1")
    lab.gcs.client.bucket("images").blob("numerals.csv").upload_from_string("path,label\n")
    table = lab.done("--data", "gs://images/numerals.csv")
    assert table.splitlines()[0] == (
        "gs://images/numerals.csv: the images of a table may lie anywhere. So the data have no version before the run, "
        "and ingest is not taken from the cache."
    )
    assert parameters(lab) == {"data_uri": "gs://images/numerals.csv"}
    for spec in packages(lab.server).values():
        assert cached_stages(spec) == set(STAGES) - {"ingest", "evaluate"}


def test_a_place_in_the_bucket_where_nothing_lies_starts_no_run(lab: Lab):
    lost = "nothing lies there in Cloud Storage; give the address of a folder of images."
    assert lab.refused("--data", "gs://images/lost") == f"gs://images/lost: {lost}"
    test = lab.refused("--data", "gs://images/numerals", "--test-data", "gs://images/lost")
    assert test == f"gs://images/lost: {lost}"
    named = "nothing lies there in Cloud Storage; name images that are there by --data."
    version = f"gs://images/files/md5/01/{'2' * 30}.dir"
    assert lab.refused("--data", version) == f"{version}: {named}"
    table = lab.submit("--data", "gs://images/lost.csv")
    assert (table.returncode, table.stderr) == (1, f"gs://images/lost.csv: {named}\n")
    said = "the images are read from folders and from Cloud Storage; give gs://BUCKET/FOLDER."
    assert lab.refused("--data", "s3://images/numerals") == f"s3://images/numerals: {said}"
    assert lab.refused("--data", "gs://images/numerals", "--test-data", "http://x/y") == f"http://x/y: {said}"
    assert lab.refused("--data", "gs://images/numerals/i/0.png") == (
        "gs://images/numerals/i/0.png: is an object and no folder; give the address of a folder of images."
    )
    impossible = lab.refused("--data", "gs://Images/numerals")
    assert impossible.startswith("gs://Images/numerals: no bucket has the name Images, since names of buckets have ")
    assert lab.runs() == []


def version(home: Path, rev: str) -> str:
    found = re.search(r"md5: (\w+\.dir)", git(home, "show", f"{rev}:data.dvc"))
    assert found
    return found[1]


def test_a_version_is_named_to_the_cluster_by_its_manifest_in_the_bucket(lab: Lab, home: Path):
    lab.configure("versions", dvc_remote="gcs")
    data = ("--data", home / "data", "--config", "versions")
    printed = together(*(lambda rev=rev: lab.done(*data, "--rev", rev) for rev in ("v1", "v2")))
    assert [said.splitlines()[0] for said in printed] == [  # without a time, which is another on each cluster
        f"Trains on about {images} images, 100 epochs." for images in (1, 2)
    ]
    runs = {run["runtime_config"]["parameters"]["data_version"]: run for run in lab.runs()}
    assert len(runs) == 2
    for rev, images in (("v1", 1), ("v2", 2)):
        md5 = version(home, rev)
        run = runs[md5]
        path = f"dvc/files/md5/{md5[:2]}/{md5[2:]}"
        assert run["runtime_config"]["parameters"]["data_uri"] == f"{lab.gcs.uri}/{path}"
        assert len(json.loads(lab.gcs.bucket.blob(path).download_as_text())) == images
        assert run["display_name"].startswith(f"training-{md5[:8]}-{lab.commit}-")
        assert {f"data: {md5}", f"revision: {rev}", "overridden: nothing"} <= set(run["description"].splitlines())

    (spec,) = packages(lab.server).values()
    assert cached_stages(spec) == set(STAGES) - {"evaluate"}

    pushed, checked, not_pushed, of_a_folder, unknown = together(
        lambda: lab.submit("--check", *data, "--rev", "v2"),
        lambda: lab.submit("--check", *data),
        lambda: lab.refused(*data),
        lambda: lab.refused(*data[:2], "--rev", "v2"),
        lambda: lab.refused(*data, "--rev", "v9"),
    )
    assert re.search(rf"^✓ data +{version(home, 'v2')}$", pushed.stdout, re.M)
    assert re.search(rf"^✗ data +{re.escape(not_pushed)}$", checked.stdout, re.M)
    assert f"version {version(home, 'v3')} is not in the DVC remote 'gcs' ({lab.gcs.uri}/dvc)" in not_pushed
    assert f"run `dvc push -r gcs data` in {home}." in not_pushed
    assert re.search(
        r"its DVC remote is a folder of this machine \(.*/store/.*\), which no cluster can read", of_a_folder
    )
    assert "set `dvc_remote` in the config to a gs:// remote, and dvc push there" in of_a_folder
    assert f"'v9': no such tag, branch or commit in {home}" in unknown

    git(home, "checkout", "--quiet", "v2", "data.dvc")
    (home / "data/train/i/v3.png").unlink()
    commit(home, "v2 again")
    assert lab.done(*data, "--test-data", home / "data").startswith("Trains on about 2 images, 100 epochs.\n")
    given = parameters(lab)
    assert given["data_version"] == given["test_data_version"] == version(home, "v2")
    assert given["test_data_uri"] == given["data_uri"]
    (home / "data/train/i/v1.png").write_text("changed")
    assert "differs from data.dvc" in lab.refused(*data)
