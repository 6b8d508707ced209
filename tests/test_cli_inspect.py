"""`mirl inspect` beside what the native engine makes of a ticket."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import MINI, make_ticket, mini_weights
from mirl.cli import main
from mirl.ticket import Ticket, write_ticket
from mirl.windows import Windows
from test_haze import make_head

ENGINE = ("compaction_removed", "compaction_share", "macs_share_with_attention", "plan_bytes")


def figures_of(ticket: Ticket, folder: Path) -> dict[str, Any]:
    write_ticket(ticket, folder / "t.mirl", "float32")
    assert main(["inspect", str(folder / "t.mirl"), "--json", str(folder / "t.json")]) == 0
    return json.loads((folder / "t.json").read_text())


def with_dead_gates(*gates: int) -> Ticket:
    """A dense ticket in whose first block the filters of some gates are zero."""
    weights = mini_weights()
    weights["encoder1.0.feed_forward.depthwise.weight"][list(gates)] = 0
    return Ticket(MINI, weights, {})


@pytest.mark.parametrize("gates", [(), (3,), (0, 5)])
def test_compaction_removes_everything_that_only_a_dead_channel_used(gates: tuple[int, ...], tmp_path: Path):
    pytest.importorskip("mirl.engine._native")
    figures = figures_of(with_dead_gates(*gates), tmp_path)
    two_rows_of_expand, filter_of_its_partner, column_of_project = 2 * MINI.width, 9, MINI.width
    assert figures["compaction_removed"] == len(gates) * (two_rows_of_expand + filter_of_its_partner + column_of_project)
    assert figures["compaction_removed"] <= figures["compaction_share"] * figures["nonzero"]


def test_fewer_weights_mean_less_work_and_a_smaller_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("mirl.engine._native")
    found = [figures_of(make_ticket(keep=keep), tmp_path) for keep in (1.0, 0.5, 0.1, 0.0)]
    for name in ("macs_share_with_attention", "plan_bytes", "nonzero"):
        values = [figures[name] for figures in found]
        assert values == sorted(values, reverse=True), name
    assert found[0]["macs_share_with_attention"] <= 1.1  # folded projections may cost a little more than separate ones
    assert found[-1]["macs_share_with_attention"] == 0
    assert found[-1]["compaction_share"] == 0  # nothing to remove
    printed = capsys.readouterr().out
    assert f"{found[1]['compaction_removed']:,}: {found[1]['compaction_share']:.2%}" in printed
    assert f"{found[1]['macs_share_with_attention']:.2%} of the dense network's" in printed
    assert f"{found[1]['plan_bytes']:,} bytes" in printed


def test_without_the_engine_its_figures_are_null_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "mirl.engine.sparse", None)
    figures = figures_of(make_ticket(), tmp_path)
    assert {name: figures[name] for name in ENGINE} == dict.fromkeys(ENGINE)
    assert 0 < figures["density"] < 1
    assert "not built here" in capsys.readouterr().out


def test_windows_and_haze_head_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = figures_of(make_ticket(), tmp_path)
    assert (plain["window"], plain["overlap"], plain["haze_head"]) == (0, 0, 0)
    out = capsys.readouterr().out
    assert "statistics of the whole photograph" in out
    assert "every photograph is dehazed" in out
    figures = figures_of(replace(make_ticket(), windows=Windows(64, 8), haze_head=make_head()), tmp_path)
    assert (figures["window"], figures["overlap"], figures["haze_head"]) == (64, 8, make_head().size)
    assert figures["parameters"] == plain["parameters"] + make_head().size
    assert sum(layer["kept"] for layer in figures["layers"]) == figures["density"] * figures["parameters"]
    out = capsys.readouterr().out
    assert "64 pixels, overlapping by at least 8" in out
    assert f"{make_head().size:,} weights, haze from a probability of 0.2 on, fully from 0.8" in out


def test_inspect_imports_no_torch(tmp_path: Path):
    write_ticket(make_ticket(), tmp_path / "t.mirl")
    code = "import sys; from mirl.cli import main; main(['inspect', sys.argv[1]]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.mirl")], check=True, stdout=subprocess.DEVNULL)


def test_density_by_macs_weighs_weights_by_their_uses(tmp_path: Path):
    """A weight at full resolution counts 64 times as much as one at 1/8, a prompt's not at all."""
    densities = {}
    for name in ("encoder1.0.attention.qkv.weight", "latent.0.attention.qkv.weight", "prompt3.values"):
        weights = mini_weights()
        mask = np.ones(weights[name].shape, bool)
        mask.reshape(-1)[:4] = False
        weights[name][~mask] = 0
        densities[name] = figures_of(Ticket(MINI, weights, {name: mask}), tmp_path)["density_macs"]
    full, eighth, prompt = (1 - density for density in densities.values())
    assert full == pytest.approx(64 * eighth)
    assert prompt == 0


def test_the_shipped_ticket_is_told_in_its_own_words(capsys: pytest.CaptureFixture[str]):
    """It is a control of its run, so that it has no level; its updates are those from the rewind point on."""
    assert main(["verify", "small-laboratory"]) == 0
    out = capsys.readouterr().out
    assert "│ ticket " in out
    assert "None" not in out
    assert "ok: counts and zeros; what it began from" in out
    assert main(["inspect", "small-laboratory"]) == 0
    out = capsys.readouterr().out
    assert "rewound to update 1000, trained to 17000" in out
    assert "updates of this training" in out
    assert "16,000" in out
    assert "of those with weights" in out
