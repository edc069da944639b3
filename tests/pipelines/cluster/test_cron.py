"""The times of a recurring run, as the server reads them."""

import pytest

from components.shared.errors import UserError
from pipelines.cluster.cron import check_cron
from tests.fakes.kfp_rules import is_cron

FORM = "six fields, seconds first, such as '0 30 2 * * *' for 2:30 every night."


@pytest.mark.parametrize(
    "cron",
    [
        "0 30 2 * * *",
        "*/10 * * * * ?",
        "0 0 4 * * 0",
        "0 0 4 * * SUN",
        "0 0 0 1,15 * mon-fri",
        "0 0 0 1,,2 * *",
        "0 0-30/5 8-18 * jan-mar,dec 1-5",
        "0 5/15 * * * *",
        "0 0 0 29 2 *",
        "0 0 0 31 2 mon",  # or each Monday
    ],
)
def test_what_the_server_takes_is_taken(cron: str):
    check_cron(cron)
    assert is_cron(cron)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 3 * * *", "needs " + FORM),
        ("@daily", "needs " + FORM),
        ("0 60 2 * * *", "'60' is none of the minutes, 0 to 59; " + FORM),
        ("0 0 24 * * *", "'24' is none of the hours, 0 to 23; " + FORM),
        ("0 0 0 0 * *", "'0' is none of the days of the month, 1 to 31; " + FORM),
        ("0 0 0 1 13 *", "'13' is none of the months, 1 to 12 or jan to dec; " + FORM),
        ("0 0 0 * * 7", "'7' is none of the days of the week, 0 to 6 or sun to sat; " + FORM),
        ("0 0 0 * * sunday", "'sunday' is none of the days of the week, 0 to 6 or sun to sat; " + FORM),
        ("0 0 -1 * * *", "'' is none of the hours, 0 to 23; " + FORM),
        ("0 0 8-6 * * *", "'8-6' is no span of hours; " + FORM),
        ("0 0 8- * * *", "'8-' is no span of hours; " + FORM),
        ("0 */0 * * * *", "'*/0' has no step of 1 or more behind its slash; " + FORM),
        ("0 */ * * * *", "'*/' has no step of 1 or more behind its slash; " + FORM),
        ("0 , * * * *", "',' names no minutes; " + FORM),
        ("0 0 0 30 2 *", "no month that it names has such a day, so the run would never start."),
        ("0 0 0 31 4,6,9,11 ?", "no month that it names has such a day, so the run would never start."),
    ],
)
def test_what_cannot_be_is_refused(cron: str, said: str):
    with pytest.raises(UserError) as raised:
        check_cron(cron)
    assert str(raised.value) == f"--cron '{cron}': {said}"
