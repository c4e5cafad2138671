"""Claims about who the demo answers: a real server with a made-up source of answers, asked as strangers would
ask."""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers.planted import open_planted, planted_direction

pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running demo, started under an environment that asks for the opposite of what it must do."""
    os.environ |= {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/"}
    from persona_probe.app.server import launch, quiet_environment

    quiet_environment()
    from persona_probe.app.answers import AnswerFile, Replay
    from persona_probe.app.page import Look, build

    folder = tmp_path_factory.mktemp("toy")
    source = Replay(planted_direction(open_planted(folder)), AnswerFile(folder / "none.jsonl"))
    address, running = launch(
        build(source, Look({"base": "b", "tuned": "t"}, folder)),
        css="",
        script="() => {}",
        port=None,
        browser=False,
    )
    yield address
    running.close(verbose=False)


def reply(
    address: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of one raw request; `Host` is ours unless given."""
    at = urlsplit(address)
    connection = http.client.HTTPConnection(at.hostname or "", at.port or 0, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in (
        {"Host": at.netloc, "Content-Length": str(len(body or b""))}
        | {key.replace("_", "-"): value for key, value in headers.items()}
    ).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return (
        answer.status,
        answer.read(200_000).decode("utf-8", "replace"),
        {name.lower(): value for name, value in answer.getheaders()},
    )


def test_the_page_is_served_with_a_policy_that_names_no_other_place(address: str) -> None:
    status, text, headers = reply(address, "/")
    assert status == 200
    assert "persona_probe" in text
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_only_this_machine_is_bound_and_nothing_is_shared(address: str) -> None:
    assert urlsplit(address).hostname == "127.0.0.1"
    # Every address of 127/8 is this machine: a server that listens on all addresses answers on this one too.
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.2", urlsplit(address).port or 0), timeout=9),
    ):
        pass
    assert "gradio.live" not in reply(address, "/config")[1]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"],
)
def test_another_host_name_is_refused(address: str, host: str) -> None:
    for path in ("/", "/config", "/gradio_api/queue/join"):
        assert reply(address, path, Host=host)[0] in (400, 403)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"]
)
def test_a_page_of_another_site_is_refused(address: str, origin: str) -> None:
    assert reply(address, "/gradio_api/queue/join", method="POST", body=b"{}", Origin=origin)[0] == 403


def test_a_page_of_this_machine_is_let_through(address: str) -> None:
    assert reply(address, "/config", Origin=address.rstrip("/"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/hostname",
        "/gradio_api/file%3D/etc/hostname",
        "/gradio_api/file=..%2f..%2f..%2fetc%2fhostname",
        "/file=/etc/hostname",
        "/gradio_api/proxy=http://169.254.169.254/",
        "/proxy=http://169.254.169.254/",
        "//gradio_api/file=/etc/hostname",
        "/gradio_api/upload",
        "/docs",
        "/openapi.json",
        "/static/../../../../etc/hostname",
    ],
)
def test_no_file_leaves_and_none_comes_in(address: str, path: str) -> None:
    status, text, _ = reply(address, path)
    assert 400 <= status < 500
    assert Path("/etc/hostname").read_text().strip() not in text


def test_an_upload_is_refused(address: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nword\r\n--x--\r\n'
    answer = reply(
        address,
        "/gradio_api/upload",
        method="POST",
        body=body,
        Content_Type="multipart/form-data; boundary=x",
    )
    assert answer[:2] == (403, "this demo serves and takes no files")


def test_settings_of_the_environment_that_publish_are_dropped(address: str) -> None:
    assert {name for name in os.environ if name.startswith("GRADIO_")} == {"GRADIO_ANALYTICS_ENABLED"}


def test_a_large_or_endless_request_is_refused(address: str) -> None:
    assert reply(address, "/gradio_api/queue/join", method="POST", Content_Length="70000000")[0] == 413
    assert reply(address, "/gradio_api/queue/join", method="POST", Transfer_Encoding="chunked")[0] == 413
    assert reply(address, "/gradio_api/queue/join", method="POST", Content_Length="-1")[0] in (400, 413)


def test_no_event_can_be_called_by_name(address: str) -> None:
    assert reply(address, "/gradio_api/info")[1].count('"/') == 0
    assert reply(address, "/gradio_api/call/asking", method="POST", body=b'{"data": []}')[0] in (404, 422)


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    run: dict[str, Any] = {"capture_output": True, "text": True, "cwd": Path(__file__).parents[2]}
    command = [sys.executable, "-m", "persona_probe.demo"]
    empty = subprocess.run([*command, "--replay", "--answers", str(tmp_path / "none.jsonl")], **run)
    assert (empty.returncode, "holds no answers yet" in empty.stderr) == (3, True)
    other = subprocess.run([*command, "--base", "some/model"], **run)
    assert (other.returncode, "needs --tuned and --direction" in other.stderr) == (2, True)
    both = subprocess.run([*command, "--redact", "--show-text"], **run)
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)
