"""Make a pilot's ticket fit to ship: `python evidence/pack_ticket.py PILOT.mirl --like SHIPPED -o TICKET.mirl`.

It takes windows and haze head of a shipped ticket, and loses the smallest weights (by LAMP, nothing is trained afterwards)
until it keeps 10 % of all parameters, those of the head included. Provenance says so.
"""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mirl.errors import MirlError
from mirl.lottery.prune import scores, shrink_masks
from mirl.recipe import PruneConfig
from mirl.ticket import Ticket, load_ticket, write_ticket

LAMP = PruneConfig(score="lamp")


def fit(ticket: Ticket, like: Ticket, keep: float = 0.10) -> Ticket:
    """Return the ticket with windows and head of `like`, at most `keep` of all its parameters kept.

    Raises MirlError when biases, norms and the head alone are more than that.
    """
    headed = replace(ticket, windows=like.windows, haze_head=like.haze_head)
    masked = sum(int(np.count_nonzero(mask)) for mask in ticket.masks.values())
    most = math.floor(keep * headed.total)
    count = masked - max(headed.kept - most, 0)
    if count < 0:
        raise MirlError(
            f"{headed.kept - masked:,} parameters (biases, norms, the haze head) are never pruned, more than the {most:,} "
            f"that {keep:.0%} of all {headed.total:,} allows; take a larger network"
        )
    ranking = scores(ticket.weights, dict.fromkeys(ticket.masks, 1.0), ticket.network, LAMP)
    masks = shrink_masks(ticket.masks, ranking, count, LAMP)
    weights = {n: np.where(masks[n], w, np.float32(0)) if n in masks else w for n, w in ticket.weights.items()}
    provenance = {k: v for k, v in like.provenance.items() if k == "haze_head"} | ticket.provenance
    provenance["thinned"] = {"by": "lamp, after training", "from": masked, "to": count}
    packed = replace(headed, weights=weights, masks=masks, provenance=provenance)
    return replace(packed, provenance=provenance | {"density": packed.density})


def main() -> None:
    """Read, fit, write, say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ticket")
    parser.add_argument("--like", default="small")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    packed = fit(load_ticket(options.ticket), load_ticket(options.like))
    write_ticket(packed, options.out)
    print(f"{options.out}: {packed.kept:,} of {packed.total:,} parameters, {packed.density:.2%}, "
          f"{options.out.stat().st_size:,} bytes")  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except MirlError as error:
        sys.exit(f"pack_ticket: {error}")
