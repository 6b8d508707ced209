"""Photos and folders in, restored photos out: names, refusals before any work, inputs that never change."""

import hashlib
import io
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirl.engine.engine import open_backend
from mirl.engine.options import Options
from mirl.engine.photos import STREAM, Choices, Job, RestoreResult, plan, restore_file, restore_files
from mirl.errors import MirlError
from mirl.image import read_photo
from mirl.windows import WHOLE

RNG = np.random.default_rng(0)


class Inverter:
    """A backend whose work is easy to see: every pixel becomes its opposite."""

    name = "inverter"
    bytes_per_pixel = 1000.0
    windows = WHOLE
    haze_head = None

    def __init__(self):
        self.calls = 0

    def forward(self, pixels):
        self.calls += 1
        return 1 - pixels

    @contextmanager
    def shared_statistics(self, tiles, on_tile):
        for done, _ in enumerate(tiles):
            on_tile(done + 1)
        yield


def make(path: Path, mode: str = "RGB", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (12, 16, 4), dtype=np.uint8)).convert(mode).save(path, **options)
    return path


def levels(path: Path) -> np.ndarray:
    return np.rint(read_photo(path).pixels * 255).astype(int)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.png", "a.PNG", "sub/c.png", "sub/deep/a.png", ".hidden.png", ".git/d.png", "sub/.e.png"):
        make(tmp_path / "album" / name)
    (tmp_path / "album" / "notes.txt").write_text("no photo")
    (tmp_path / "album" / "folder.png").mkdir()
    return tmp_path / "album"


def test_one_photo_and_a_photo_name_make_that_file(tmp_path):
    source = make(tmp_path / "in.png")
    result = restore_files([source], tmp_path / "new" / "out.bmp", Inverter())
    assert result == RestoreResult([tmp_path / "new" / "out.bmp"], [])
    np.testing.assert_array_equal(levels(tmp_path / "new" / "out.bmp"), 255 - levels(source))
    assert Image.open(io.BytesIO((tmp_path / "new" / "out.bmp").read_bytes())).format == "BMP"


@pytest.mark.parametrize("exists", [True, False])
def test_otherwise_the_output_is_a_folder_and_names_are_kept(tmp_path, exists):
    sources = [make(tmp_path / "x" / "one.jpg"), make(tmp_path / "y" / "two.png")]
    output = tmp_path / "out.png" if exists else tmp_path / "out"
    if exists:  # even when its name looks like a photo's
        output.mkdir()
    result = restore_files(sources, output, Inverter())
    assert result.done == [output / "one.jpg", output / "two.png"]
    assert sorted(path.name for path in output.iterdir()) == ["one.jpg", "two.png"]


def test_a_folder_gives_its_visible_photos_and_sub_folders_when_recursive(album, tmp_path):
    out = tmp_path / "out"
    flat = [job.target.relative_to(out) for job in plan([album], out)]
    deep = [job.target.relative_to(out) for job in plan([album], out, recursive=True)]
    assert flat == [Path("a.PNG"), Path("b.png")]
    assert deep == [Path("a.PNG"), Path("b.png"), Path("sub/c.png"), Path("sub/deep/a.png")]
    result = restore_files([album], out, Inverter(), recursive=True)
    assert sorted(tree(out)) == sorted(str(path) for path in deep)
    assert result.failed == []


def test_no_input_ever_changes(album, tmp_path):
    before = tree(album)
    restore_files([album], tmp_path / "out", Inverter(), recursive=True)
    restore_files([album], tmp_path / "out", Inverter(), recursive=True)
    assert tree(album) == before


def test_an_output_folder_inside_the_input_is_not_restored_again(album):
    for _ in range(2):
        result = restore_files([album], album / "restored", Inverter(), recursive=True)
        assert len(result.done) == 4
    assert sorted(tree(album / "restored")) == ["a.PNG", "b.png", "sub/c.png", "sub/deep/a.png"]


def test_another_format_changes_the_suffix_only_where_it_must(tmp_path):
    names = ["a.png", "b.JPG", "c.jpeg", "sub/d.tif", "e.webp"]
    for name in names:
        make(tmp_path / "in" / name)
    make(tmp_path / "IMG.2024", format="PNG")
    out = tmp_path / "out"
    result = restore_files([tmp_path / "in", tmp_path / "IMG.2024"], out, Inverter(), Choices(format="jpeg"), recursive=True)
    assert result.failed == []
    assert sorted(tree(out)) == ["IMG.2024.jpg", "a.jpg", "b.JPG", "c.jpeg", "e.jpg", "sub/d.jpg"]
    for path in result.done:
        assert Image.open(io.BytesIO(path.read_bytes())).format == "JPEG"
    restore_files([tmp_path / "in" / "b.JPG"], tmp_path / "lossless", Inverter(), Choices(format="png"))
    np.testing.assert_array_equal(levels(tmp_path / "lossless" / "b.png"), 255 - levels(tmp_path / "in" / "b.JPG"))


def test_quality_is_that_of_the_file_and_concerns_jpeg_and_webp_alone(tmp_path):
    source = make(tmp_path / "in.jpg", quality=98)

    def restored(name: str, **options: object) -> bytes:
        restore_files([source], tmp_path / name, Inverter(), Choices(**options))
        return (tmp_path / name).read_bytes()

    own, coarse, fine = restored("own.jpg"), restored("coarse.jpg", quality=5), restored("fine.jpg", quality=100)
    tables = [Image.open(io.BytesIO(content)).quantization for content in (source.read_bytes(), own, coarse, fine)]
    assert tables[0] == tables[1]
    assert max(tables[3][0]) == 1 < min(tables[2][0])
    assert len(restored("coarse.webp", quality=5)) < len(restored("fine.webp", quality=100))
    assert restored("coarse.png", quality=5) == restored("fine.png", quality=100)


def test_a_stream_has_the_format_and_quality_asked_for(tmp_path):
    source, sizes = make(tmp_path / "in.png"), []
    for quality in (5, 100):
        out = io.BytesIO()
        restore_files([source], STREAM, Inverter(), Choices(format="webp", quality=quality), stdout=out)
        assert Image.open(out).format == "WEBP"
        sizes.append(len(out.getvalue()))
    assert sizes[0] < sizes[1]
    clear, backend = make(tmp_path / "clear.png", "RGBA"), Inverter()
    result = restore_files([clear], STREAM, backend, Choices(format="jpeg"), stdout=io.BytesIO())
    assert "transparency" in result.failed[0][1]
    assert backend.calls == 0


def refuse(inputs: list[Path], output: Path, words: str, recursive: bool = False, **options: object) -> None:
    backend = Inverter()
    with pytest.raises(MirlError, match=words) as caught:
        restore_files(inputs, output, backend, Choices(**options), recursive=recursive)
    assert "\n" not in str(caught.value)
    assert backend.calls == 0


def test_a_format_or_quality_that_cannot_be_is_refused(tmp_path):
    source = make(tmp_path / "in" / "a.png")
    make(tmp_path / "in" / "a.bmp")
    refuse([source], tmp_path / "out", "--format must be one of keep, jpeg, png, webp, tiff, bmp, found 'gif'", format="gif")
    for quality in (0, 101):
        refuse([source], tmp_path / "out.jpg", f"--quality .* found {quality}", quality=quality)
    refuse([source], tmp_path / "out.png", "out.png is not named as --format webp asks", format="webp")
    refuse([tmp_path / "in"], tmp_path / "out", "would both become .*a.webp", format="webp")
    refuse([source], tmp_path / "in", "is the input", format="png")


def test_one_file_of_a_python_program_is_that_of_the_command(tmp_path, mini_ticket):
    exif = Image.Exif()
    exif[0x010E] = "a caption"
    source = make(tmp_path / "in.png", exif=exif)
    target = restore_file(str(source), tmp_path / "out", mini_ticket, strength=0.7, format="webp", quality=80, threads=1)
    assert target == tmp_path / "out" / "in.webp"
    with Image.open(target) as image:
        assert (image.format, image.getexif()[0x010E]) == ("WEBP", "a caption")
    backend = open_backend(mini_ticket, threads=1)
    restore_files([source], tmp_path / "same.webp", backend, Choices(Options(strength=0.7), quality=80))
    assert (tmp_path / "same.webp").read_bytes() == target.read_bytes()
    (tmp_path / "bad.png").write_bytes(b"no photo")
    with pytest.raises(MirlError, match=r"bad.png is not an image"):
        restore_file(tmp_path / "bad.png", tmp_path / "out", mini_ticket)


def test_an_output_that_is_an_input_is_refused(album, tmp_path):
    before = tree(album)
    refuse([album / "b.png"], album / "b.png", "is the input .* never overwritten")
    refuse([album / "b.png"], album, "is the input")
    refuse([album], album, "is the input")
    refuse([album], album / "sub" / "..", "is the input", recursive=True)
    (tmp_path / "soft.png").symlink_to(album / "b.png")
    refuse([album / "b.png"], tmp_path / "soft.png", "is the input")
    refuse([tmp_path / "soft.png"], album / "b.png", "is the input")
    (tmp_path / "hard.png").hardlink_to(album / "b.png")
    refuse([album / "b.png"], tmp_path / "hard.png", "is the input")
    (tmp_path / "linked").symlink_to(album)
    refuse([album], tmp_path / "linked", "is the input")
    assert tree(album) == before


def test_an_output_that_is_another_input_is_refused(tmp_path):
    first, second = make(tmp_path / "one" / "a.png"), make(tmp_path / "two" / "a.png")
    refuse([first, second], tmp_path / "two", "is the input")
    refuse([first, make(tmp_path / "b.png")], tmp_path / "two" / "..", "is the input .*b.png")


def test_two_inputs_for_one_output_are_refused(tmp_path):
    first, second = make(tmp_path / "one" / "a.png"), make(tmp_path / "two" / "a.png")
    refuse([first, second], tmp_path / "out", "one/a.png and .*two/a.png would both become .*out/a.png")
    refuse([first, first], tmp_path / "out", "would both become")
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_not_there_are_refused(album, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "empty" / "below").mkdir(parents=True)
    make(tmp_path / "empty" / "below" / "x.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    refuse([], out, "no input given")
    refuse([album / "b.png", tmp_path / "none.png"], out, "none.png does not exist")
    refuse([tmp_path / "dangling.png"], out, "dangling.png does not exist")
    refuse([tmp_path / "empty"], out, "no photos in .*empty.*--recursive")
    refuse([album / "folder.png"], out, r"no photos in .*folder.png; expected files ending in \.jpg")
    refuse([tmp_path / ("x" * 300)], out, "cannot look at .*File name too long")
    assert not out.exists()


def test_an_output_that_does_not_fit_the_inputs_is_refused(album, tmp_path):
    photo = album / "b.png"
    (tmp_path / "file").write_text("x")
    refuse([album], tmp_path / "out.png", "is a folder, but the output .*out.png is one photo")
    refuse([photo, album / "a.PNG"], tmp_path / "out.png", "2 inputs, but the output")
    refuse([photo], tmp_path / "file", "is a file without an image suffix")
    refuse([photo], tmp_path / "file" / "out", "cannot make the folder")
    refuse([photo], Path("/proc/none/out.png"), "cannot make the folder")
    (tmp_path / "out" / "b.png").mkdir(parents=True)
    refuse([photo], tmp_path / "out", "out/b.png is a folder")


def test_wrong_options_are_refused_before_any_work(album, tmp_path):
    refuse([album], tmp_path / "out", "--max-megapixels", max_megapixels=0)
    assert not (tmp_path / "out").exists()


def test_a_bad_photo_is_reported_and_the_others_go_on(album, tmp_path):
    (album / "aa.png").write_bytes((album / "b.png").read_bytes()[:200])
    (album / "zz.jpg").write_text("no photo")
    result = restore_files([album], tmp_path / "out", Inverter())
    assert [path.name for path in result.done] == ["a.PNG", "b.png"]
    assert [path.name for path, _ in result.failed] == ["aa.png", "zz.jpg"]
    assert all("\n" not in message and str(path) in message for path, message in result.failed)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.PNG", "b.png"]


def test_an_output_named_as_a_format_that_is_not_written_is_no_folder(album, tmp_path):
    for name in ("out.gif", "out.HEIC"):
        refuse([album / "a.PNG"], tmp_path / name, "named as a format that is not written here; expected one of .jpg")
    (tmp_path / "holiday.raf").mkdir()
    assert plan([album / "a.PNG"], tmp_path / "holiday.raf")[0].target.parent.name == "holiday.raf"


def test_a_folder_made_for_photos_that_all_failed_is_taken_away_again(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no photo")
    (tmp_path / "there").mkdir()
    for out, remains in (("new/below", False), ("there", True)):
        result = restore_files([tmp_path / "bad.png"], tmp_path / out, Inverter())
        assert len(result.failed) == 1
        assert (tmp_path / out).exists() == remains
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "there"]


def test_transparency_that_would_be_lost_fails_before_the_work(tmp_path):
    backend = Inverter()
    result = restore_files([make(tmp_path / "a.png", "RGBA")], tmp_path / "a.jpg", backend)
    assert "transparency" in result.failed[0][1]
    assert backend.calls == 0
    assert not (tmp_path / "a.jpg").exists()


def test_an_unwritable_output_fails_and_leaves_no_part(tmp_path, monkeypatch):
    source = make(tmp_path / "in" / "a.png")
    old = make(tmp_path / "out" / "a.png").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = restore_files([source], tmp_path / "out", Inverter())
    assert "No space left" in result.failed[0][1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert (tmp_path / "out" / "a.png").read_bytes() == old


def test_an_older_output_is_replaced(tmp_path):
    source, old = make(tmp_path / "in" / "a.png"), make(tmp_path / "out" / "a.png")
    restore_files([source], tmp_path / "out", Inverter())
    np.testing.assert_array_equal(levels(old), 255 - levels(source))


@pytest.mark.parametrize("moment", ["network", "write"])
def test_an_interrupt_stops_and_leaves_no_partial_file(album, tmp_path, monkeypatch, moment):
    def interrupt(*_):
        raise KeyboardInterrupt

    backend = Inverter()
    if moment == "network":
        backend.forward = interrupt
    else:
        monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        restore_files([album], tmp_path / "out", backend)
    assert list((tmp_path / "out").iterdir()) == []


def test_strength_tile_and_megapixels_reach_the_photos(album, tmp_path):
    photo = album / "b.png"
    restore_files([photo], tmp_path / "same.png", Inverter(), Choices(Options(strength=0)))
    np.testing.assert_array_equal(levels(tmp_path / "same.png"), levels(photo))
    backend = Inverter()
    large = tmp_path / "large.png"
    Image.new("RGB", (64, 64)).save(large)
    restore_files([large], tmp_path / "tiled.png", backend, Choices(Options(tile=32)))
    assert backend.calls > 1
    result = restore_files([large], tmp_path / "none.png", backend, Choices(max_megapixels=0.001))
    assert "0.004096 megapixels" in result.failed[0][1]


def test_progress_counts_photos_and_the_part_of_the_one_in_work(tmp_path):
    sources = [make(tmp_path / "a.png"), tmp_path / "b.png"]
    Image.new("RGB", (64, 32)).save(sources[1])
    seen = []
    restore_files(sources, tmp_path / "out", Inverter(), Choices(Options(tile=32)), progress=lambda *step: seen.append(step))
    finished = [done for done, _, _ in seen]
    assert finished == sorted(finished)
    assert (finished[0], finished[-1]) == (0, 2)
    assert any(1 < done < 2 for done in finished)
    assert {total for _, total, _ in seen} == {2}
    assert seen[0][2] == sources[0]


def test_standard_input_and_output_carry_bytes(tmp_path):
    source = make(tmp_path / "in.webp", lossless=True)
    out = io.BytesIO()
    result = restore_files([STREAM], STREAM, Inverter(), stdin=io.BytesIO(source.read_bytes()), stdout=out)
    assert result.done == [STREAM]
    (tmp_path / "out.webp").write_bytes(out.getvalue())
    np.testing.assert_array_equal(levels(tmp_path / "out.webp"), 255 - levels(source))
    assert Image.open(io.BytesIO(out.getvalue())).format == "WEBP"


def test_the_process_streams_are_the_default(tmp_path, monkeypatch):
    source, out = make(tmp_path / "in.png"), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    stdout = io.TextIOWrapper(out)
    monkeypatch.setattr(sys, "stdout", stdout)
    restore_files([STREAM], STREAM, Inverter())
    assert out.getvalue().startswith(b"\x89PNG")


def test_a_stream_goes_to_a_named_photo_and_a_photo_to_a_stream(tmp_path):
    source, out = make(tmp_path / "in.png"), io.BytesIO()
    restore_files([STREAM], tmp_path / "out.bmp", Inverter(), stdin=io.BytesIO(source.read_bytes()))
    np.testing.assert_array_equal(levels(tmp_path / "out.bmp"), 255 - levels(source))
    restore_files([source], STREAM, Inverter(), stdout=out)
    assert out.getvalue().startswith(b"\x89PNG")


def test_streams_that_make_no_sense_are_refused(tmp_path):
    source = make(tmp_path / "in.png")
    refuse([STREAM, source], tmp_path / "out.png", "'-' stands for one photo, found 2 inputs")
    refuse([source, source], STREAM, "found 2 inputs")
    refuse([STREAM], tmp_path / "out", "names no photo")
    refuse([STREAM], tmp_path, "names no photo")
    refuse([tmp_path], STREAM, "is not a file")
    refuse([tmp_path / "none.png"], STREAM, "is not a file")


def test_bad_bytes_on_standard_input_and_a_full_standard_output_fail_in_one_line(tmp_path):
    result = restore_files([STREAM], STREAM, Inverter(), stdin=io.BytesIO(b"GIF89a"), stdout=io.BytesIO())
    assert "a GIF" in result.failed[0][1]
    with Path("/dev/full").open("wb", buffering=0) as full:
        result = restore_files([make(tmp_path / "in.png")], STREAM, Inverter(), stdout=full)
    assert "cannot write the photo to stdout: No space left" in result.failed[0][1]


def test_metadata_and_transparency_go_through(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    source = make(tmp_path / "in.png", "RGBA", exif=exif, icc_profile=b"profile" * 30)
    restore_files([source], tmp_path / "out.png", Inverter())
    before, after = read_photo(source), read_photo(tmp_path / "out.png")
    np.testing.assert_array_equal(before.alpha, after.alpha)
    assert before.exif == after.exif
    assert (before.icc, after.icc) == (b"profile" * 30,) * 2
    assert after.pixels.shape == (16, 12, 3)


def test_planning_writes_nothing(album, tmp_path):
    before = tree(tmp_path)
    assert plan([album / "b.png"], tmp_path / "out") == [Job(album / "b.png", tmp_path / "out" / "b.png")]
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()
