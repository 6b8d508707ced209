"""The results page says what the measurements of what people have say, ours beside the first one and the peers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirl.errors import MirlError
from mirl.evaluate.evidence_people import people_part, read_measurements
from mirl.evaluate.people import suite
from mirl.evaluate.people.groups import Example, Trial

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import people_crops
from people import file_measurement


@pytest.fixture
def filed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two measurements, before and after, the second with a peer, on made-up pictures."""
    clean = np.random.default_rng(0).integers(40, 200, (40, 40, 3)).astype(np.float32) / 255
    noisy = np.rint(np.clip(clean + 8 / 255, 0, 1) * 255).astype(np.float32) / np.float32(255)

    def real(pair):
        return Example(b"", noisy, clean)

    def tone(pair):
        return Example(b"", clean, clean)

    def haze(pair):
        return Example(b"", noisy, None)

    folder = tmp_path / "tests"
    folder.mkdir()
    groups = {
        "real": (Trial("real", ("real/A",), real), Trial("real", ("real/B",), real)),
        "tone": (Trial("tone", ("wild/tone",), tone),),
        "wild": (Trial("wild-haze", ("wild/haze",), haze),),
    }
    monkeypatch.setattr(suite, "GROUPS", groups)
    monkeypatch.setattr(suite, "find_pictures", lambda trial, tests: ([suite.Pair("one", None, tests)], []))

    def shifted(levels: float):
        return lambda pixels: np.clip(pixels + np.float32(levels / 255), 0, 1)

    results = tmp_path / "people.json"
    for label, methods in (("before", {"small": shifted(-20)}), ("after", {"small": shifted(-5), "nlm": shifted(-8)})):
        scores = tmp_path / "scores.json"
        scores.write_text(json.dumps({"ticket": "small"} | suite.measure_people(methods, folder).to_json()))
        file_measurement(scores, label, results)
    return results


def test_the_page_holds_every_method_and_the_verdict_is_computed(filed):
    text = "\n".join(people_part(filed))
    columns = read_measurements(filed)
    assert [column.title for column in columns] == ["small, before", "small, after", "nlm"]
    before, after, peer = (column.groups["real"] for column in columns)
    assert (
        f"**real**: small, after {after['gain']:+.2f} dB (small, before: {before['gain']:+.2f}); 0% of 2 made worse" in text
    )
    assert f"best classical peer: nlm {peer['gain']:+.2f}" in text
    assert "over 4 levels in 1, over 10 in 0, at most 5.0 (before: 1, 1, 20.0)" in text
    assert "**real haze**: the largest shift of a block is 5.0 levels in the median picture." in text
    assert f"| real A | 1 | {before['input_psnr']:.2f} | {before['gain']:+.2f}, 100% worse |" in text
    assert "| **real, all** | **2** |" in text
    assert "| wild | small, after | one | 5.0 |" in text


def test_pictures_and_what_was_seen_stand_on_the_page(filed, tmp_path, monkeypatch):
    assert "Looked at" not in "\n".join(people_part(filed))
    monkeypatch.setattr(people_crops, "CASES", (people_crops.CASES[3], people_crops.CASES[8]))
    words = ["people_crops.py", "--out", str(tmp_path / "people"), "--json", str(tmp_path / "people_crops.json")]
    monkeypatch.setattr("sys.argv", words)
    people_crops.main()
    (tmp_path / "people_looked.json").write_text(json.dumps({"sentences": ["Rain stays."]}))
    text = "\n".join(people_part(filed))
    found = json.loads((tmp_path / "people_crops.json").read_text())["cases"]
    coded, night = found
    assert f"{coded['case']} ({coded['picture']}): {coded['input_psnr']:.2f} to {coded['psnr']:.2f} dB." in text
    assert f"{night['case']} ({night['picture']}): {night['psnr']:.2f} dB from what it was." in text
    assert "- Rain stays." in text
    for case, shown in zip(found, (3, 2), strict=True):  # the truth is shown where something was degraded
        assert f"![{case['case']}]({case['file']})" in text
        picture = Image.open(tmp_path / case["file"])
        side, gap = people_crops.CROP * people_crops.ZOOM, people_crops.GAP
        assert picture.size == (shown * (side + gap) - gap, side)
        first, second = (picture.crop((at, 0, at + side, side)) for at in (0, side + gap))
        assert (np.asarray(first) != np.asarray(second)).any()


def test_a_label_is_filed_once_and_stays_in_its_place(filed, tmp_path):
    scores = tmp_path / "scores.json"
    file_measurement(scores, "before", filed)
    assert [each["label"] for each in json.loads(filed.read_text())["measurements"]] == ["before", "after"]
    scores.write_text("{}")
    with pytest.raises(SystemExit, match="holds no groups"):
        file_measurement(scores, "x", filed)


def test_a_missing_file_says_nothing_and_a_damaged_one_is_named(tmp_path):
    assert people_part(tmp_path / "none.json") == []
    file = tmp_path / "people.json"
    for content in ('{"measurements": [{}]}', "{}", '{"measurements": [3]}'):
        file.write_text(content)
        with pytest.raises(MirlError, match=r"people\.json is no file of measurements"):
            people_part(file)
    file.write_text('{"measurements": []}')
    with pytest.raises(MirlError, match="holds no measurement of a ticket"):
        people_part(file)
