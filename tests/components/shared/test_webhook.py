"""Messages to a webhook: what arrives, what is refused, and that its address stays secret."""

import time
from collections.abc import Iterator

import pytest

from components.shared import webhook as module
from components.shared.errors import UserError
from components.shared.webhook import check_webhook, describe_end, send
from tests.fakes.gcs import unanswered_port
from tests.fakes.webhook import PATH, Webhook, open_webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with open_webhook() as webhook:
        yield webhook


def refusal(address: str) -> str:
    with pytest.raises(UserError) as error:
        send(address, "a line")
    sentence = str(error.value)
    assert "hush" not in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"state": "succeeded"}, "nightly: succeeded"),
        (
            {"state": "succeeded", "link": "https://kfp/#/runs/details/1"},
            "nightly: succeeded, https://kfp/#/runs/details/1",
        ),
        ({"state": "failed", "failed": "before-train"}, "nightly: failed in before-train"),
        ({"state": "failed", "failed": "train", "link": "https://kfp/1"}, "nightly: failed in train, https://kfp/1"),
        (
            {
                "state": "failed",
                "failed": "train",
                "reason": "a/b.png is no image.\nRemove it.",
                "link": "https://kfp/1",
            },
            "nightly: failed in train: a/b.png is no image. Remove it, https://kfp/1",
        ),
        ({"state": "failed", "failed": "train", "reason": "x" * 999}, f"nightly: failed in train: {'x' * 299}…"),
    ],
)
def test_the_end_of_a_run_is_one_line(given: dict[str, str], line: str):
    assert describe_end("nightly", **given) == line


def test_a_name_cannot_make_two_lines_of_it():
    assert describe_end("a\nb\x1b[1m", "succeeded") == "a\ufffdb\ufffd[1m: succeeded"


def test_the_line_arrives_as_slack_takes_it(webhook: Webhook):
    send(webhook.url, "numérals: succeeded, https://kfp/#/runs/details/1?a=1")
    assert webhook.texts == ["numérals: succeeded, https://kfp/#/runs/details/1?a=1"]


def test_a_name_cannot_call_everybody(webhook: Webhook):
    send(webhook.url, "<!channel> & <@U024>: failed")
    assert webhook.texts == ["&lt;!channel&gt; &amp; &lt;@U024&gt;: failed"]


def test_any_success_will_do(webhook: Webhook):
    webhook.status = 204
    send(webhook.url, "a line")
    assert webhook.texts == ["a line"]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 429, 500, 503])
def test_a_refusal_is_told_by_its_number(webhook: Webhook, status: int):
    webhook.status = status
    assert refusal(webhook.url) == f"127.0.0.1: the webhook answered {status}, so nobody was told; check its address."


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_it_does_not_go_where_an_answer_leads(webhook: Webhook, status: int):
    """A redirected POST becomes a GET without the message, whose success would mean nothing."""
    with open_webhook() as other:
        webhook.status, webhook.headers = status, {"Location": other.url}
        assert f"answered {status}" in refusal(webhook.url)
        assert other.messages == []


def test_a_server_that_is_not_there():
    with unanswered_port() as port:
        assert refusal(f"http://127.0.0.1:{port}{PATH}") == (
            "127.0.0.1: the webhook cannot be reached (Connection refused), so nobody was told; check its address."
        )


@pytest.mark.parametrize("space", ["\n", "\r\n", " "])
def test_the_end_of_a_file_is_no_part_of_an_address(webhook: Webhook, space: str):
    check_webhook(webhook.url + space)
    send(webhook.url + space, "a line")
    assert webhook.texts == ["a line"]


@pytest.mark.parametrize("proxy", ["http://..bad:1", "http:/127.0.0.1"])
def test_a_proxy_that_is_none_is_a_sentence(proxy: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", proxy)
    assert refusal("https://hooks.example.com/hush").startswith("hooks.example.com: the webhook cannot be reached (")


def test_a_server_without_tls(webhook: Webhook):
    assert "cannot be reached" in refusal(webhook.url.replace("http:", "https:"))
    assert webhook.messages == []


def test_a_server_that_trickles_does_not_hold_anybody_up(webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    """Each byte comes soon enough for a time-out that bounds the silence alone."""
    monkeypatch.setattr(module, "SECONDS", 1)
    webhook.pause = 0.5
    began = time.monotonic()
    assert refusal(webhook.url) == (
        "127.0.0.1: the webhook did not answer within 1 seconds, so nobody was told; check its address."
    )
    assert time.monotonic() - began < 15


def test_what_goes_to_this_machine_goes_through_no_proxy(webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    with open_webhook() as proxy:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        send(webhook.url, "a line")
        assert proxy.messages == []
    assert webhook.texts == ["a line"]


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks..slack.com/hush",
        "https://.slack.com/hush",
        f"https://{'a' * 64}.com/hush",
        "",
        "hooks.slack.com/services/hush",
        "ftp://hooks.slack.com/hush",
        "https:///services/hush",
        "https://",
        "https://hooks.slack.com:port/hush",
        "https://[hooks/hush",
        "https://hooks.slack.com/hush hush",
        "https://hooks.slack.com/hush\r\nX: y",
        "https://hooks.slack.com/hüsh/hush",
    ],
)
def test_what_is_no_address_is_refused(address: str):
    assert refusal(address) == ("the address of the webhook is none; it begins with https:// and the name of a host.")


def test_an_address_that_others_could_read_is_refused():
    assert refusal("http://hooks.example.com/hush") == (
        "http://hooks.example.com: the address of a webhook, which is as good as a password, would be sent "
        "unencrypted; give an address that begins with https."
    )
    assert refusal("https://user:hush@hooks.example.com/x") == (
        "hooks.example.com: leave the user name and password out of the address of the webhook."
    )


@pytest.mark.parametrize("address", ["https://hooks.slack.com/x", "http://localhost:8065/x", "http://[::1]/x"])
def test_these_may_be_used(address: str):
    check_webhook(address)
