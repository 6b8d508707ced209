"""Malformed and odd files: the API answers a valid image or a 4xx with JSON, and `mirl restore` one line; nothing else."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from mirl.cli import main
from mirl.image import ImageError, read_photo
from odd_images import mutations, named
from test_serve_api import OFFER, refused, talk

NAMED = named()
COUNT = 200  # bench/serve_fuzz.py runs 1,000 against a service with its socket


def is_sound(answer) -> bool:
    """Say whether it is a restored image; fails unless it is that or a refusal that tells nothing."""
    if answer.status_code == 200:
        with Image.open(io.BytesIO(answer.content)) as image:
            assert answer.headers["content-type"] == f"image/{image.format.lower()}"
            image.load()
        return True
    assert 400 <= answer.status_code < 500, answer.text
    refused(answer, answer.status_code, answer.json()["error"]["code"])
    return False


@pytest.mark.parametrize("name", NAMED)
def test_every_class_of_odd_file_is_handled_or_refused_with_its_status(name):
    content, status = NAMED[name]
    answer = talk(lambda client: client.post("/v1/restore", content=content))
    is_sound(answer)
    assert status in (None, answer.status_code), answer.text
    if "polyglot" in name:
        assert b"<script>" not in answer.content
        assert b"PK\x03\x04" not in answer.content


def test_megapixels_are_counted_before_a_pixel_is_decoded(monkeypatch):
    def decoded(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    for name in [name for name in NAMED if name.startswith("bomb") and NAMED[name][1]] + [
        "TIFF of 3000 pages", "animated WebP", "JPEG of 10000 scans", "scans hidden behind a lone marker",
    ]:  # fmt: skip
        answer = talk(lambda client, name=name: client.post("/v1/restore", content=NAMED[name][0]))
        assert answer.status_code in (413, 422)


def test_filling_between_the_parts_of_a_jpeg_costs_no_time():
    began = time.process_time()
    for length in (50_000, 2_000_000):  # a search that goes back over it would take minutes for the one, days for the other
        content = b"\xff\xd8" + b"\xff" * length
        with pytest.raises(ImageError) as refused_one:
            read_photo(content)
        assert refused_one.value.reason == "damaged"
    assert time.process_time() - began < 20


def test_damaged_files_give_images_or_refusals():
    async def conversation(client):
        return [await client.post("/v1/restore", content=content) for content in mutations(COUNT)]

    sound = [is_sound(answer) for answer in talk(conversation)]
    assert 0.02 * COUNT < np.sum(sound) < 0.98 * COUNT  # both ends of the API were reached


def test_the_command_refuses_the_same_files_without_a_traceback(tmp_path, capsys):
    folder, ticket = tmp_path / "in", tmp_path / "t.mirl"
    folder.mkdir()
    ticket.write_bytes(OFFER.content)
    files = [content for content, _ in NAMED.values()] + list(mutations(COUNT, seed=1))
    for number, content in enumerate(files):
        (folder / f"{number}.png").write_bytes(content)
    words = ["restore", str(folder), "-o", str(tmp_path / "out"), "--ticket", str(ticket), "--max-megapixels", "24"]
    assert main([*words, "--threads", "1"]) == 1
    done, errors = capsys.readouterr()
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("mirl: ")]
    assert len(done.splitlines()) + len(lines) - 1 == len(files)  # the last line counts them
