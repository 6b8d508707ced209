"""The service as a process: signals, clients that leave, its log, its examples, its Dockerfile."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import crossplane
import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import make_ticket
from mirl.cli import main
from mirl.ticket import write_ticket
from test_serve_api import encoded

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))
from service import service  # noqa: E402

LARGE = encoded("PNG", Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)))


@pytest.fixture
def running(tmp_path):
    ticket = tmp_path / "t.mirl"
    write_ticket(make_ticket(keep=0.9), ticket)
    with service(ticket, tmp_path / "log", workers=1, queue=4) as (process, address):
        yield process, address, tmp_path / "log"


def places(address: str) -> float:
    figures = httpx.get(f"{address}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in figures if line.startswith("mirl_places_taken"))


def wait_for(condition) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_sigterm_answers_what_was_begun_and_leaves_with_zero(running):
    process, address, log = running
    answers: list[httpx.Response] = []

    def ask():
        answers.append(httpx.post(f"{address}/v1/restore", content=LARGE, timeout=60))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    wait_for(lambda: places(address) + len(answers) >= 3)
    process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.content for answer in answers}) == 1
    assert process.wait(30) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "request"] == ["ready", "stopped"]


def test_a_client_that_leaves_gives_its_place_back(running):
    _, address, _ = running
    host, port = address.removeprefix("http://").split(":")
    for sent in (LARGE, LARGE[: len(LARGE) // 2]):  # while it restores, while it reads
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /v1/restore HTTP/1.1\r\nHost: mirl\r\nContent-Length: {len(LARGE)}\r\n\r\n"
            client.sendall(head.encode() + sent)
            wait_for(lambda: places(address) == 1)
        wait_for(lambda: places(address) == 0)
    assert httpx.post(f"{address}/v1/restore", content=encoded()).status_code == 200


def test_nothing_is_written_to_disk(tmp_path):
    """No byte can be: the process may not write to any file, and its folder for temporary ones stays empty."""
    ticket, temporary = tmp_path / "t.mirl", tmp_path / "temporary"
    write_ticket(make_ticket(keep=0.9), ticket)
    temporary.mkdir()
    start = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from mirl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "serve", "--port", "0", "--ticket", str(ticket)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    try:
        address = process.stdout.readline().strip()
        wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        large = Image.fromarray(np.zeros((1000, 1100, 3), np.uint8))
        for format in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
            answer = httpx.post(f"{address}/v1/restore", content=encoded(format))
            assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{format.lower()}")
        form = httpx.post(f"{address}/v1/restore", files={"image": encoded("BMP", large)}, timeout=120)
        assert (form.status_code, len(form.content) > 3e6) == (200, True)
        assert httpx.post(f"{address}/v1/restore", files={"image": b"no photo" * 500_000}).status_code == 415
        assert list(temporary.iterdir()) == []
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


def test_the_static_page_needs_no_web_framework(tmp_path):
    start = (
        "import sys; sys.modules.update(dict.fromkeys(('fastapi', 'starlette', 'uvicorn', 'prometheus_client')))\n"
        "from mirl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["serve", "--static-only", str(tmp_path / "site")]
    made = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "site" / "index.html").exists()
    failed = subprocess.run([sys.executable, "-c", start, "serve", "--port", "0"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "pip install 'mirl[serve]'" in failed.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seconds", "0"), ("--seconds", "inf"), ("--seconds", "nan"), ("--workers", "0"), ("--queue", "-1"),
     ("--max-megapixels", "-3"), ("--max-megabytes", "inf"), ("--port", "99999"), ("--threads", "0")],
)  # fmt: skip
def test_an_impossible_limit_is_one_line(tmp_path, capsys, option, value):
    ticket = tmp_path / "t.mirl"
    write_ticket(make_ticket(), ticket)
    words = ["serve", "--ticket", str(ticket), "--port", "0"] if option != "--port" else ["serve", "--ticket", str(ticket)]
    assert main([*words, option, value]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mirl: ")
    assert error.count("\n") == 1
    assert option in error


def test_the_examples_restore_a_photo(running, tmp_path):
    _, address, _ = running
    source = tmp_path / "in.png"
    source.write_bytes(encoded())
    expected = httpx.post(f"{address}/v1/restore", content=encoded()).content
    for number, words in enumerate(([sys.executable, "examples/serve/client.py"], ["bash", "examples/serve/curl.sh"])):
        target = tmp_path / f"{number}.png"
        subprocess.run([*words, source, target, address], check=True, cwd=ROOT)
        assert target.read_bytes() == expected
        assert target.stat().st_mode == source.stat().st_mode, "who may read it is as ever, not mktemp's"
        (tmp_path / "bad.png").write_bytes(b"no photo")
        failed = subprocess.run([*words, tmp_path / "bad.png", target, address], cwd=ROOT, capture_output=True, text=True)
        assert failed.returncode == 1
        assert "not an image" in failed.stderr
        assert target.read_bytes() == expected, "an error never becomes the photo"
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".png"} == {"in.png", "bad.png", "0.png", "1.png"}


def test_the_configuration_of_nginx_is_valid(tmp_path):
    main_file = tmp_path / "nginx.conf"
    main_file.write_text(f"events {{}}\nhttp {{ include {ROOT / 'examples' / 'serve' / 'nginx.conf'}; }}\n")
    parsed = crossplane.parse(str(main_file), strict=True)
    assert parsed["status"] == "ok", parsed["errors"]
    assert len(parsed["config"]) == 2


def test_the_dockerfile_is_clean():
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
