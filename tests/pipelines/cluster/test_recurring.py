"""`submit.py --recurring NAME`: made, replaced, paused, resumed and deleted."""

from tests.fakes.kfp_rules import Json
from tests.fakes.kfp_server import Fault
from tests.pipelines.cluster.lab import Lab, together

NIGHTLY = ("--recurring", "nightly")
DATA = ("--data", "gs://images/numerals", "--experiment", "images")


def recurring(lab: Lab) -> dict[str, Json]:
    return {run["recurring_run_id"]: run for run in lab.server.stored["recurring_run"].values()}


def test_a_recurring_run_lives_by_its_name(lab: Lab):
    first, _ = together(
        lambda: lab.done(*DATA, *NIGHTLY, "--cron", "0 30 2 * * *", "--param", "epochs=3"),
        lambda: lab.done(*DATA, "--recurring", "weekly", "--cron", "0 0 4 * * 0"),
    )
    (made,) = [run for run in recurring(lab).values() if run["display_name"] == "nightly"]
    version = lab.server.stored["pipeline_version"][made["pipeline_version_reference"]["pipeline_version_id"]]
    assert first.splitlines() == [
        f"recurring run nightly of training, version {version['display_name']}: 0 30 2 * * *",
        "",
        "Next:",
        "  see how its runs go:",
        f"    {lab.program} --config lab --experiment images --list",
    ]
    (body,) = [body for body in lab.server.bodies("POST", "/recurringruns") if body["display_name"] == "nightly"]
    assert body["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert (body["mode"], body["no_catchup"], body["service_account"]) == ("ENABLE", True, "lab-runner")
    assert body["runtime_config"] == {
        "parameters": {"data_uri": "gs://images/numerals", "epochs": 3},
        "pipeline_root": lab.root,
    }
    assert "overridden: epochs=3" in body["description"]
    assert lab.server.stored["experiment"][body["experiment_id"]]["display_name"] == "images"
    assert lab.runs() == []  # the first one comes with the hour

    lab.server.faults.append(Fault("POST", "^/recurringruns$", cut="answer"))
    lab.done(*DATA, *NIGHTLY, "--cron", "0 0 3 * * *")
    assert lab.server.faults == []
    (other,) = [run for run in recurring(lab).values() if run["display_name"] == "nightly"]
    assert other["recurring_run_id"] != made["recurring_run_id"]
    assert other["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    changes = [(r.method, r.path) for r in lab.server.requests if "/recurringruns" in r.path and r.method != "GET"]
    assert changes[-2:] == [("POST", "/recurringruns"), ("DELETE", f"/recurringruns/{made['recurring_run_id']}")]

    for change, status in (("pause", "DISABLED"), ("resume", "ENABLED")):
        assert lab.done(*NIGHTLY, f"--{change}") == f"recurring run nightly: {change}d\n"
        assert recurring(lab)[other["recurring_run_id"]]["status"] == status
    assert lab.done(*NIGHTLY, "--delete") == "recurring run nightly: deleted\n"
    assert [run["display_name"] for run in recurring(lab).values()] == ["weekly"]
    lost = "--recurring nightly: there is no recurring run of that name; --cron makes one."
    assert lab.refused(*NIGHTLY, "--delete") == lost


def test_what_the_server_refuses_leaves_the_earlier_one(lab: Lab):
    lab.done(*DATA, *NIGHTLY, "--cron", "0 30 2 * * *")
    before = recurring(lab)
    lab.server.faults.append(Fault("POST", "^/recurringruns$", 400))
    outcome = lab.submit(*DATA, *NIGHTLY, "--cron", "0 30 2 * * *")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    again = "if it happens again, ask whoever runs the cluster."
    assert outcome.stderr == f"{lab.server.url}: answered 400: Refused on purpose; {again}\n"
    assert recurring(lab) == before


def test_times_that_cannot_be_are_refused_before_anything_is_uploaded(lab: Lab):
    for cron in ("0 30 2 * * *!", "0 0 0 31 2 *"):
        assert lab.refused(*DATA, *NIGHTLY, "--cron", cron).startswith(f"--cron '{cron}': ")
    assert lab.server.requests == []
