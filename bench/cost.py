"""What a ticket of 10 % of all parameters costs, by the way it was pruned: bytes, multiply-accumulates, milliseconds.

    python bench/cost.py [--networks small paper] [--size 256] [--threads 1] [--runs 5] [--out results/cost]

Initial weights with random norms (`bench/patterns.py`), pruned at once: scope x score x normalise x depthwise filters
pruned or kept. In the scope of a layer neither score nor normalise changes what is kept, so it has one row for each. No
tensor falls below 1 %: the score macs would empty layers at full resolution, and a
network without them costs nothing and does nothing. All tickets of a network restore the same image in turns. Writes
OUT.json and OUT.csv; `relative_time` is to the row of the recipes' defaults.
"""

import argparse
import csv
import io
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mirl.engine.sparse import NativeBackend
from mirl.evaluate.speed import example_image, interleave, machine, parse_size
from mirl.files import write_bytes, write_json
from mirl.lottery.prune import dense_masks, empty_layers, initial_scales, plan_levels, scores, shrink_masks
from mirl.recipe import NetworkConfig, Normalise, PruneConfig, Score
from mirl.ticket import Ticket, describe_ticket, encode_ticket
from patterns import NETWORKS, initial_weights

DEFAULT = PruneConfig(keep=0.10, min_layer_density=0.01)
SCORES: tuple[Score, ...] = ("magnitude", "macs")
SCALES: tuple[Normalise, ...] = ("initial-rms", "prompts", "none")
GLOBAL = tuple(
    replace(DEFAULT, score=score, normalise=normalise, depthwise=depthwise)
    for score, normalise, depthwise in itertools.product(SCORES, SCALES, (True, False))
)
LAYER = tuple(replace(DEFAULT, scope="layer", normalise="none", depthwise=depthwise) for depthwise in (True, False))


@dataclass
class Timed:
    """A ticket opened for timing."""

    name: str
    backend: NativeBackend
    image: np.ndarray

    def restore(self) -> float:
        """Restore the image once; returns the seconds that took."""
        began = time.perf_counter()
        self.backend.forward(self.image)
        return time.perf_counter() - began


def describe(ticket: Ticket, backend: NativeBackend) -> dict[str, Any]:
    """Return the figures of a ticket that do not depend on the machine."""
    figures, facts = describe_ticket(ticket, len(encode_ticket(ticket))), backend.facts
    return {
        "density": figures["density"],
        "density_macs": figures["density_macs"],
        "macs_share_with_attention": facts.macs_per_pixel / facts.dense_macs_per_pixel,
        "nonzero": facts.nonzero,
        "compaction_removed": facts.removed,
        "compaction_share": facts.removed / max(facts.nonzero, 1),
        "thinnest_tensor": min((float(mask.mean()) for mask in ticket.masks.values()), default=1.0),
        "emptied_tensors": len(empty_layers(ticket.masks)),
        "bytes": figures["bytes"],
        "bytes_share": figures["bytes"] / figures["dense_bytes"],
        "plan_bytes": facts.plan_bytes,
    }


def measure(backends: Sequence[NativeBackend], size: tuple[int, int], runs: int) -> Iterator[dict[str, Any]]:
    """Time the backends in turns on one image; relative to the first."""
    image = example_image(size)
    times = interleave([Timed(str(number), backend, image) for number, backend in enumerate(backends)], runs)
    first = statistics.median(times["0"])
    for taken in times.values():
        milliseconds = [1e3 * seconds for seconds in taken]
        yield {
            "median_ms": statistics.median(milliseconds),
            "min_ms": min(milliseconds),
            "max_ms": max(milliseconds),
            "relative_time": statistics.median(taken) / first,
        }


def tickets_of(network: NetworkConfig) -> Iterator[tuple[dict[str, Any], Ticket]]:
    """Make the tickets of a network, with what each was pruned by."""
    start = initial_weights(network)
    for prune in (*GLOBAL, *LAYER):
        ranking = scores(start, initial_scales(start, network, prune), network, prune)
        masks = shrink_masks(dense_masks(network, prune), ranking, plan_levels(network, prune)[-1], prune)
        weights = {name: weight * masks[name] if name in masks else weight for name, weight in start.items()}
        free = "any" if prune.scope == "layer" else ""
        row = {"scope": prune.scope, "score": free or prune.score, "normalise": free or prune.normalise}
        yield row | {"depthwise": "pruned" if prune.depthwise else "kept"}, Ticket(network, weights, masks)


def write_table(rows: Sequence[dict[str, Any]], out: Path, **about: Any) -> None:
    """Write OUT.json and OUT.csv."""
    write_json(out.with_suffix(".json"), {**about, "machine": machine(), "rows": list(rows)})
    plain = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, list(plain[0]), lineterminator="\n")
    table.writeheader()
    for row in plain:
        table.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    write_bytes(out.with_suffix(".csv"), text.getvalue().encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["small", "paper"], choices=list(NETWORKS))
    parser.add_argument("--size", default="256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/cost"))
    options = parser.parse_args()
    rows = []
    for name in options.networks:
        found, backends = [], []
        for row, ticket in tickets_of(NETWORKS[name]):
            backends.append(NativeBackend(ticket, options.threads))
            found.append({"network": name} | row | describe(ticket, backends[-1]))
        for row, times in zip(found, measure(backends, parse_size(options.size), options.runs), strict=True):
            rows.append(row | times)
            print(f"{name:6} {row['scope']:7} {row['score']:10} {row['normalise']:12} depthwise {row['depthwise']:7}"
                  f"MACs {row['density_macs']:6.1%}, left {row['macs_share_with_attention']:6.1%}; "
                  f"compaction {row['compaction_share']:6.1%}; bytes {row['bytes_share']:5.2%}; "
                  f"{times['median_ms']:7.1f} ms {times['relative_time']:.2f}", flush=True)  # fmt: skip
    command = (
        f"python bench/cost.py --networks {' '.join(options.networks)} --size {options.size} "
        f"--threads {options.threads} --runs {options.runs}"
    )
    write_table(rows, options.out, command=command, size=list(parse_size(options.size)), threads=options.threads,
                runs=options.runs, keep=DEFAULT.keep, min_layer_density=DEFAULT.min_layer_density)  # fmt: skip


if __name__ == "__main__":
    main()
