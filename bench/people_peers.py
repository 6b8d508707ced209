"""The strengths of classical peers of `mirl evaluate --suite people`, chosen on the development set.

    python bench/people_peers.py --tests ../shared/data/test [--json results/people_peers.json]

Mean PSNR of the middles (256 pixels) of the ten development photographs, for each strength; half a minute on one core.
"""

import argparse
import statistics
from pathlib import Path

from mirl.evaluate.metrics import psnr
from mirl.evaluate.people import development_crops
from mirl.evaluate.people.peers import PEERS, peer_named
from mirl.files import write_json
from mirl.image import quantise

STRENGTHS = {
    "nlm": (0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05),
    "opencv": (2.0, 3.0, 4.0, 5.0, 6.0, 8.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    crops = development_crops(options.tests)
    rows: list[dict[str, object]] = []
    for name, strengths in STRENGTHS.items():
        means = {}
        for strength in strengths:
            run = peer_named(name, strength)
            means[strength] = statistics.fmean(psnr(quantise(run(crop.degraded)), crop.clean) for crop in crops)
        best = max(means, key=lambda strength: means[strength])
        rows.append({"peer": name, "psnr": {f"{s:g}": value for s, value in means.items()}, "best": best})
        print(f"{name}: {', '.join(f'{s:g}: {value:.2f}' for s, value in means.items())}; fixed: {PEERS[name].strength:g}")
    if options.json:
        before = statistics.fmean(psnr(crop.degraded, crop.clean) for crop in crops)
        command = "python bench/people_peers.py --tests ../shared/data/test --json results/people_peers.json"
        write_json(options.json, {"command": command, "photographs": len(crops), "input_psnr": before, "rows": rows})


if __name__ == "__main__":
    main()
