"""Who may use the demo page: the page itself, under this machine's names."""

import pytest

pytest.importorskip("starlette")

from captioner.pages.demo_guard import names_of, refusal

LOCAL = ("127.0.0.1:7860", "localhost:7860", "LOCALHOST:80", "[::1]:7860", "127.0.0.1")
REBOUND = (
    "evil.example",
    "evil.example:7860",
    "127.0.0.1.evil.example",
    "localhost.evil.example:7860",
    "127.0.0.1@evil.example",
    "192.168.0.7:7860",
    "",
    "[::1",
    "a b",
)


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_answered(host: str) -> None:
    assert refusal({"host": host}, "127.0.0.1") is None
    assert refusal({"host": host}, "0.0.0.0") is None


@pytest.mark.parametrize("host", REBOUND)
def test_other_names_are_refused_on_loopback(host: str) -> None:
    reason = refusal({"host": host}, "127.0.0.1")
    assert reason == f"this server is not {host!r}; open http://127.0.0.1 with its port"


@pytest.mark.parametrize("host", [one for one in REBOUND if not one.startswith("192")])
def test_strangers_domains_are_refused_on_every_address(host: str) -> None:
    assert refusal({"host": host}, "0.0.0.0") is not None


def test_addresses_and_the_given_name_are_answered_beyond_loopback() -> None:
    assert refusal({"host": "192.168.0.7:7860"}, "0.0.0.0") is None
    assert refusal({"host": "[fe80::1]:7860"}, "::") is None
    assert refusal({"host": "lab-7.example:7860"}, "lab-7.example") is None


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"origin": "http://127.0.0.1:7860"}, False),
        ({"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://127.0.0.1:9999"}, True),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
    ],
)
def test_requests_of_other_pages_are_refused(headers: dict[str, str], refused: bool) -> None:
    reason = refusal({"host": "127.0.0.1:7860"} | headers, "127.0.0.1")
    assert reason == ("requests from other web sites are refused" if refused else None)


def test_names() -> None:
    assert names_of("127.0.0.1") == names_of("localhost") == {"127.0.0.1", "localhost", "::1"}
    assert names_of("127.0.0.9") == {"127.0.0.1", "localhost", "::1", "127.0.0.9"}
    assert names_of("0.0.0.0") is None
    assert names_of("192.168.0.7") is None
