"""A pilot's ticket made fit to ship: at most 10 % of all parameters, the least lost, head and windows the shipped ones."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import MINI, make_ticket
from mirl.errors import MirlError
from mirl.recipe import tiny
from mirl.ticket import Ticket, load_ticket, read_ticket, write_ticket
from mirl.windows import Windows
from test_haze import make_head

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import pack_ticket
from pack_ticket import fit


@pytest.fixture(scope="module")
def pilot() -> Ticket:
    ticket = make_ticket(MINI, keep=0.3, seed=4)
    return replace(ticket, provenance=ticket.provenance | {"recipe": {"name": "a pilot"}})


@pytest.fixture(scope="module")
def like() -> Ticket:
    ticket = make_ticket(MINI, keep=0.05, seed=5)
    provenance = ticket.provenance | {"haze_head": {"made_by": "the shipped one"}, "recipe": {"name": "shipped"}}
    return replace(ticket, windows=Windows(64, 8), haze_head=make_head(seed=3), provenance=provenance)


@pytest.fixture(scope="module")
def packed(pilot: Ticket, like: Ticket) -> Ticket:
    return fit(pilot, like)


def masked(ticket: Ticket) -> int:
    return sum(int(mask.sum()) for mask in ticket.masks.values())


def lamp(weight: np.ndarray) -> np.ndarray:
    """Score a tensor by definition (arXiv 2010.07611): w^2 over the sum of the squares that are not smaller."""
    squares = np.square(weight.reshape(-1), dtype=np.float64)
    return np.array([0 if w == 0 else w / squares[squares >= w].sum() for w in squares]).reshape(weight.shape)


def test_it_keeps_a_tenth_of_all_parameters_the_head_counted(pilot: Ticket, like: Ticket, packed: Ticket):
    assert like.haze_head
    assert packed.total == pilot.total + like.haze_head.size
    assert packed.kept == math.floor(0.10 * packed.total), "not one more, not one less"
    assert fit(pilot, like, keep=0.2).kept == math.floor(0.2 * packed.total)


def test_windows_and_head_are_the_shipped_ones_and_the_network_the_pilots(pilot: Ticket, like: Ticket, packed: Ticket):
    assert (packed.windows, packed.haze_head, packed.network) == (like.windows, like.haze_head, pilot.network)


def test_the_least_weights_by_lamp_go_and_no_other_changes(pilot: Ticket, packed: Ticket):
    lost, least = [], []
    for name, weight in pilot.weights.items():
        if name not in pilot.masks:
            np.testing.assert_array_equal(packed.weights[name], weight)
            continue
        kept, gone, scores = packed.masks[name], pilot.masks[name] & ~packed.masks[name], lamp(weight)
        assert not (kept & ~pilot.masks[name]).any(), "what is pruned stays so"
        np.testing.assert_array_equal(packed.weights[name], np.where(kept, weight, 0))
        lost += scores[gone].tolist()
        least.append(scores[kept].min(initial=np.inf))
    assert len(lost) == masked(pilot) - masked(packed) > 5000
    assert max(lost) <= min(least) * (1 + 1e-5), "scores are ranked in single precision"


def test_provenance_says_what_was_done_and_whose_head_it_is(pilot: Ticket, packed: Ticket):
    expected = pilot.provenance | {
        "haze_head": {"made_by": "the shipped one"},
        "thinned": {"by": "lamp, after training", "from": masked(pilot), "to": masked(packed)},
        "density": packed.density,
    }
    assert packed.provenance == expected


def test_a_ticket_that_is_thin_enough_loses_nothing(like: Ticket):
    thin = make_ticket(MINI, keep=0.05)
    packed = fit(thin, like)
    assert all(np.array_equal(packed.weights[name], thin.weights[name]) for name in thin.weights)
    assert packed.provenance["thinned"]["from"] == packed.provenance["thinned"]["to"] == masked(thin)


def test_a_network_too_small_to_carry_the_head_is_refused(pilot: Ticket, like: Ticket):
    head = make_head(widths=(40, 40))
    never = pilot.total + head.size - sum(mask.size for mask in pilot.masks.values())
    with pytest.raises(MirlError, match=rf"^{never:,} parameters .* never pruned, more than the [\d,]+ that 10% of all"):
        fit(pilot, replace(like, haze_head=head))


def test_the_command_writes_a_ticket_that_can_be_read_and_says_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    source, out = tmp_path / "pilot.mirl", tmp_path / "packed.mirl"
    write_ticket(make_ticket(tiny().network, keep=0.3), source)
    monkeypatch.setattr(sys, "argv", ["pack_ticket", str(source), "-o", str(out)])
    pack_ticket.main()
    written, shipped = read_ticket(out), load_ticket("small")
    assert (written.windows, written.kept) == (shipped.windows, math.floor(0.10 * written.total))
    assert written.haze_head is not None
    assert written.provenance["haze_head"] == shipped.provenance["haze_head"]
    assert capsys.readouterr().out == (
        f"{out}: {written.kept:,} of {written.total:,} parameters, {written.density:.2%}, {out.stat().st_size:,} bytes\n"
    )
