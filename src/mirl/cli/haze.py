"""mirl haze-head."""

from pathlib import Path
from typing import Annotated

import tyro

from mirl.errors import MirlError


def haze_head(
    ticket: tyro.conf.Positional[str],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    data: Path | None = None,
    like: str | None = None,
    examples: int = 24_000,
    steps: int = 4_000,
    window: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> None:
    """Give a ticket a haze head: the small network that says how much haze a photograph holds, so that no other is dehazed.

    It is trained on clean photographs, half of them put in haze, in minutes on one core; or taken from another ticket.

    Args:
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        out: The ticket to write, a .mirl file.
        data: Training data in MIR-L's layout; the photographs in the package when left out.
        like: Train nothing: take the head of this ticket.
        examples: Thumbnails that are made and then trained on.
        steps: Updates.
        window: Also set the side of the windows in pixels, with an eighth of it as overlap; 0: the whole photograph. As it
            is when left out.
        seed: Seed of the examples and of the head's first values.
        skip_bad: Pass over files that cannot be used, instead of stopping.
    """
    from dataclasses import replace

    import numpy as np

    from mirl.layers import parameters
    from mirl.ticket import load_ticket, write_ticket
    from mirl.windows import windows_of

    if out.suffix != ".mirl":
        raise MirlError(f"{out}: expected a name ending in .mirl for a ticket")
    loaded = load_ticket(ticket)
    if like is not None:
        if data is not None:
            raise MirlError("--like takes a head as it is and --data trains one; leave one of them out")
        head, told = (other := load_ticket(like)).haze_head, other.provenance.get("haze_head", {})
        if head is None:
            raise MirlError(f"{like} has no haze head; train one: leave out --like")
        text = f"as in {like}"
    else:
        from mirl.cli.progress import counting_progress
        from mirl.lottery.haze_answer import HazeTraining, train_haze_head

        if examples < 1 or steps < 1:
            raise MirlError(f"expected at least one example and one update, found {examples} and {steps}")
        training = HazeTraining(examples=examples, steps=steps, seed=seed)
        with counting_progress("haze head") as progress:
            result = train_haze_head(data, training, lambda what, done, total: progress(done, total, what), skip_bad)
        head, told = result.head, result.told()
        text = (
            f"{result.photos} photographs; of those held out {told['hazy']:.1%} are told when in haze, "
            f"{told['false']:.1%} taken for hazy as they are"
        )
    windows = loaded.windows if window is None else windows_of(window)
    prunable = [p.name for p in parameters(loaded.network) if p.prunable]
    exact = all(np.array_equal(w := loaded.weights[name], w.astype(np.float16)) for name in prunable)
    provenance = {**loaded.provenance, "haze_head": told}
    given = replace(loaded, haze_head=head, windows=windows, provenance=provenance)
    write_ticket(given, out, "float16" if exact else "float32")
    print(f"{out}: haze head of {head.size:,} weights, {text}; {out.stat().st_size:,} bytes")
