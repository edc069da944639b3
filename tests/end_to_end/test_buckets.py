"""`submit.py --local --data gs://BUCKET/FOLDER`: what is cached, and what a change of the folder does."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import CLASSES, Folders, copy_project, run_python
from tests.fakes.gcs import Gcs

INGEST = ("--component", "ingest", "--param", f"classes={json.dumps(CLASSES).replace(' ', '')}")


def test_a_folder_in_a_bucket_is_ingested_again_when_it_has_changed(tiny: Folders, gcs: Gcs, tmp_path: Path):
    project = copy_project(tmp_path / "project")
    data, test = gcs.upload(tiny.data, "data"), gcs.upload(tiny.test, "test")
    runs = tmp_path / "runs/default"

    def ingest() -> dict[str, Any]:
        """The record of the task in a new run."""
        before = set(runs.glob("*"))
        options = ("--local", *INGEST, "--data", data, "--test-data", test)
        done = run_python(project / "submit.py", *options, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        (folder,) = set(runs.glob("*")) - before
        return json.loads((folder / "run.json").read_text())["stages"]["ingest"]

    first, again = ingest(), ingest()
    assert not first.get("made_by")
    assert again["made_by"] in [path.name for path in runs.iterdir()]
    assert again["parameters"] == first["parameters"]
    versions = [first["parameters"][name] for name in ("data_version", "test_data_version")]
    assert first["artifacts"]["examples"]["metadata"]["data_version"] == versions[0]

    picture = tiny.data / "train" / CLASSES[0] / "00.png"
    gcs.bucket.blob(f"test/{CLASSES[0]}/new.png").upload_from_filename(str(picture))
    changed = ingest()
    assert not changed.get("made_by")
    assert changed["parameters"]["data_version"] == versions[0]
    assert changed["parameters"]["test_data_version"] != versions[1]
