"""Tickets on the hub: huggingface_hub as it is, in processes of its own, against a local server with the hub's endpoints."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from conftest import make_ticket
from mirl import hub
from mirl.errors import MirlError
from mirl.publish import model_card
from mirl.serve.shelf import read_offers
from mirl.ticket import encode_ticket, find_ticket, read_ticket, write_ticket

TOKEN = "hf_local"


@dataclass
class Hub:
    """Repositories by name: commits by hash, each with files by name, and which hash is main."""

    address: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    main: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)  # by SHA-256, uploaded and not yet committed
    asked: list[str] = field(default_factory=list)
    failing: bool = False

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        before = self.commits.get(name, {}).get(self.main.get(name, ""), {})
        digest = hashlib.sha1(f"{name}{len(self.commits.get(name, {}))}".encode()).hexdigest()
        self.commits.setdefault(name, {})[digest] = {**before, **files}
        self.main[name] = digest
        return digest


class Handler(BaseHTTPRequestHandler):
    """What huggingface_hub asks for: resolve, create, validate-yaml, preupload, LFS batch and upload, commit."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: object = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append(f"{self.command} {self.path}")
        if self.hub.failing:
            return self.answer(400, {"error": "the hub is being mended"})
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0]):
            return self.resolve(match[1], unquote(match[2]), match[3], known)
        if self.command == "PUT" and (match := re.fullmatch(r"/upload/(\w+)", self.path)):
            self.hub.stored[match[1]] = body
            return self.answer(200)
        if not known:
            return self.answer(401, {"error": "Invalid credentials"})
        return self.post(self.path.partition("?")[0], body)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

    def resolve(self, name: str, revision: str, path: str, known: bool) -> None:
        if name not in self.hub.commits or (name in self.hub.private and not known):
            return self.answer(404 if known else 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        digest = self.hub.main[name] if revision == "main" else revision
        if digest not in self.hub.commits[name]:
            return self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"no revision {revision}")
        files = self.hub.commits[name][digest]
        if path not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="no file", X_Repo_Commit=digest)
        etag = hashlib.sha256(files[path]).hexdigest()
        return self.answer(200, files[path], ETag=f'"{etag}"', X_Repo_Commit=digest)

    def post(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if wanted["organization"] == "others":
                return self.answer(403, {"error": "You have no right to do this"})
            if name in self.hub.commits:
                return self.answer(409, {"error": "exists", "url": f"{self.hub.address}/{name}"})
            self.hub.commit(name, {".gitattributes": b""})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.hub.private.add(name)
            return self.answer(200, {"url": f"{self.hub.address}/{name}", "name": name})
        if path == "/api/validate-yaml":
            wanted = json.loads(body)
            good = re.match(r"---\n(\w+: [^\n]+\n)+---\n", wanted["content"])
            return self.answer(200 if good else 400, {"errors": [] if good else [{"message": "bad"}], "warnings": []})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {"path": f["path"], "uploadMode": "regular" if f["path"].endswith(".md") else "lfs", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.address}/upload/{o['oid']}", "header": {}}}}
                for o in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            files = {}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "lfsFile":
                    files[line["value"]["path"]] = self.hub.stored[line["value"]["oid"]]
            digest = self.hub.commit(match[1], files)
            address = f"{self.hub.address}/{match[1]}/commit/{digest}"
            return self.answer(200, {"success": True, "commitUrl": address, "commitOid": digest, "hookOutput": ""})
        return self.answer(404, {"error": f"no such endpoint: {path}"})


@pytest.fixture
def served() -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": state}))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    path = tmp_path / "t.mirl"
    write_ticket(make_ticket(keep=0.5), path)
    return path


COMMANDS = """
import contextlib, io, json, os, sys
from mirl.cli import main

results = []
for token, words in json.load(sys.stdin):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(words)
    results.append([code, out.getvalue(), error.getvalue()])
json.dump(results, sys.stdout)
"""


@dataclass
class Client:
    """A machine with huggingface_hub and a cache; it runs many commands in one process, for a start takes a second."""

    hub: Hub
    home: Path

    def python(self, code: str, given: str = "", *words: str, **more: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        added = {"HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", code, *words]
        result = subprocess.run(command, env=kept | added | more, input=given, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(self, *commands: list[object], token: str = TOKEN, **more: str) -> list[str]:
        """Run commands that must succeed, return what each printed."""
        results = self.results(token, commands, more)
        assert [code for code, _, _ in results] == [0] * len(commands), results
        return [out for _, out, _ in results]

    def refused(self, *commands: list[object], token: str = TOKEN, **more: str) -> list[str]:
        """Run commands that must fail, each with one line of ours at the end; return the lines."""
        lines = []
        for code, _, error in self.results(token, commands, more):
            assert code == 1
            assert "Traceback" not in error
            lines.append(error.splitlines()[-1])
            assert lines[-1].startswith("mirl: ")
        return lines

    def results(self, token: str, commands: tuple[list[object], ...], more: dict[str, str]) -> list[tuple[int, str, str]]:
        given = [(token, [str(word) for word in words]) for words in commands]
        return json.loads(self.python(COMMANDS, json.dumps(given), **more))


@pytest.fixture
def client(served: Hub, tmp_path: Path) -> Client:
    return Client(served, tmp_path / "hf")


def test_what_is_pushed_is_what_is_loaded_wherever_a_ticket_is_taken(client: Client, ticket: Path, tmp_path: Path):
    clean = tmp_path / "sets" / "denoise" / "ONE"
    clean.mkdir(parents=True)
    photo = clean / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(photo)
    assert client.run(["push", ticket, "me/rain"]) == [f"{client.hub.address}/me/rain\n"]
    files = client.hub.commits["me/rain"][client.hub.main["me/rain"]]
    assert files["ticket.mirl"] == ticket.read_bytes()
    assert files["README.md"].decode() == model_card(read_ticket(ticket), ticket.stat().st_size, "me/rain")
    name, sets = "hf:me/rain", tmp_path / "sets"
    out = client.run(
        ["restore", photo, "-o", tmp_path / "file.png", "--ticket", ticket],
        ["restore", photo, "-o", tmp_path / "hub.png", "--ticket", name],
        ["inspect", name, "--json", tmp_path / "i.json"],
        ["verify", name],
        ["export", name, "--format", "safetensors", "-o", tmp_path / "t.safetensors"],
        ["evaluate", "--ticket", name, "--data", sets, "--tasks", "denoise25", "--json", tmp_path / "e.json"],
        token="",
    )
    assert (tmp_path / "file.png").read_bytes() == (tmp_path / "hub.png").read_bytes()
    assert (tmp_path / "hub.png").read_bytes() != photo.read_bytes()
    assert json.loads((tmp_path / "i.json").read_text())["bytes"] == ticket.stat().st_size
    assert "ok" in out[3]
    assert (tmp_path / "t.safetensors").exists()
    assert json.loads((tmp_path / "e.json").read_text())["ticket"] == name


def test_a_revision_is_that_ticket_and_main_is_the_newest(client: Client, ticket: Path, tmp_path: Path):
    other = make_ticket(keep=0.1)
    write_ticket(other, tmp_path / "other.mirl")
    client.run(["push", ticket, "me/rain"], ["push", tmp_path / "other.mirl", "me/rain"])
    _, first, newest = client.hub.commits["me/rain"]
    assert newest == client.hub.main["me/rain"]
    code = "import mirl, sys; print([mirl.load(name).kept for name in sys.argv[1:]])"
    loaded = client.python(code, "", f"hf:me/rain@{first}", "hf:me/rain", "hf:me/rain@main")
    assert json.loads(loaded) == [read_ticket(ticket).kept, other.kept, other.kept]


def test_a_second_load_fetches_nothing_and_needs_no_connection(client: Client, ticket: Path):
    def fetched() -> int:
        return sum(line.startswith("GET") and "/resolve/" in line for line in client.hub.asked)

    client.hub.commit("me/rain", {"ticket.mirl": ticket.read_bytes()})
    client.run(["inspect", "hf:me/rain"])
    assert fetched() == 1
    client.run(["inspect", "hf:me/rain"])
    assert fetched() == 1
    client.hub.asked.clear()
    client.run(["inspect", "hf:me/rain"], HF_HUB_OFFLINE="1")
    assert "the cache has no copy" in client.refused(["inspect", "hf:me/other"], HF_HUB_OFFLINE="1")[0]
    assert not any("/resolve/" in line for line in client.hub.asked)


def test_every_refusal_of_the_hub_is_one_line(client: Client, ticket: Path):
    client.run(["push", ticket, "me/rain", "--private"])
    assert client.hub.private == {"me/rain"}
    client.hub.commit("me/empty", {"README.md": b""})
    client.hub.commit("me/bad", {"ticket.mirl": b"no ticket"})
    lines = client.refused(
        ["inspect", "hf:me/none"],
        ["inspect", "hf:me/rain@v9"],
        ["inspect", "hf:me/empty"],
        ["inspect", "hf:me/bad"],
        ["push", ticket, "others/rain"],
    )
    told = [
        "no such repository, or it is private",
        "no such revision",
        "holds no ticket.mirl",
        "not a ticket",
        "not let you",
    ]
    assert [part in line for part, line in zip(told, lines, strict=True)] == [True] * 5, lines
    strangers = client.refused(["inspect", "hf:me/rain"], ["push", ticket, "me/new"], token="hf_wrong")
    strangers += client.refused(["inspect", "hf:me/rain"], ["push", ticket, "me/new"], token="")
    assert all("HF_TOKEN" in line for line in strangers), strangers
    client.hub.failing = True
    assert "the hub failed" in client.refused(["push", ticket, "me/new"])[0]


def test_nothing_is_sent_of_a_bad_ticket_or_to_a_bad_name(client: Client, ticket: Path, tmp_path: Path):
    (tmp_path / "bad.mirl").write_bytes(ticket.read_bytes()[:-1])
    lines = client.refused(
        ["push", tmp_path / "bad.mirl", "me/new"],
        ["push", tmp_path / "none.mirl", "me/new"],
        ["push", tmp_path, "me/new"],
        ["push", ticket, "new"],
    )
    told = ["truncated", "no ticket", "cannot read", "no repository of the hub"]
    assert [part in line for part, line in zip(told, lines, strict=True)] == [True] * 4, lines
    assert client.hub.asked == []


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:me",
        "hf:me/",
        "hf:/x",
        "hf:me/rain@",
        "hf:me/rain/x",
        "hf:me/../x",
        "hf:me/r n",
        "hf:me/rain@-x",
        "hf:a--b/c",
    ],
)
def test_a_name_of_another_form_is_refused_before_anything_is_asked(name: str):
    with pytest.raises(MirlError, match=r"hub; expected"):
        find_ticket(name)


def test_names_and_revisions():
    assert hub.split_name("hf:me/rain") == ("me/rain", None)
    assert hub.split_name(Path("hf:me/rain@refs/pr/1")) == ("me/rain", "refs/pr/1")
    assert not hub.is_hub_name("runs/hf:x.mirl")


def test_without_the_library_it_says_what_to_install(ticket: Path):
    code = "import sys; sys.modules['huggingface_hub'] = None\nfrom mirl.cli import main\nsys.exit(main(sys.argv[1:]))"
    for words in (["inspect", "hf:me/rain"], ["push", str(ticket), "me/rain"]):
        result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "pip install 'mirl[hub]'" in result.stderr


def test_a_service_offers_it_under_the_name_of_its_repository(ticket: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mirl.ticket.fetch", lambda name: ticket)
    offers = read_offers([Path("hf:me/rain@v1"), ticket])
    assert [offer.name for offer in offers][:2] == ["rain", "t"]
    assert offers[0].content == ticket.read_bytes()
    with pytest.raises(MirlError, match="two tickets are called rain"):
        read_offers([Path("hf:me/rain"), Path("hf:other/rain")])


# the card


def card(**provenance: object) -> str:
    ticket = replace(make_ticket(keep=0.5), provenance=provenance)
    return model_card(ticket, len(encode_ticket(ticket)), "me/rain")


def test_the_card_is_made_of_the_tickets_figures_scores_and_provenance():
    ticket = make_ticket(keep=0.5)
    scores = {"derain": {"psnr": 30.126, "input_psnr": 25.0}, "odd": {"psnr": "x", "input_psnr": 1}, "a|b": {}}
    text = card(tasks=["derain", "a\nb: c"], scores=scores, seed=7, note="``` and ```` end")
    front = text.split("---\n")[1]
    assert "library_name: mirl" in front
    assert "tags: [image-restoration, lottery-ticket, pruning, sparse, derain]" in front
    assert "license" not in front
    assert f"{ticket.kept:,} of {ticket.total:,} parameters are kept" in text
    assert "| derain | 25.00 | 30.13 |" in text
    assert "| odd" not in text
    assert 'mirl.load("hf:me/rain")' in text
    fenced = text.split("`````json\n")[1].split("\n`````")[0]
    assert json.loads(fenced)["seed"] == 7


def test_a_card_without_scores_says_so_and_an_imported_ticket_tells_its_origin():
    text = card(tasks=3, scores=[1], imported={"file": "x.ckpt"})
    assert "None stated." in text
    assert "| tasks | not stated |" in text
    assert "Imported from a checkpoint" in text
    assert '"file": "x.ckpt"' in text


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan"), None, "30", [1]])
def test_a_score_that_is_no_finite_number_is_left_out(number: object):
    scores = {"derain": {"psnr": number, "input_psnr": 25.0}, "dehaze": {"psnr": 31, "input_psnr": 25}}
    text = model_card(replace(make_ticket(keep=0.5), provenance={"scores": scores}), 1000, "me/rain")
    assert "| derain" not in text
    assert "| dehaze | 25.00 | 31.00 |" in text
