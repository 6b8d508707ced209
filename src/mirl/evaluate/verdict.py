"""What the measured tickets of a run say together: which is in the package, how it stands to its dense network, has it won.

Differences are paired: each image of one ticket with the same image of the other. After ± stands the standard error of their
mean over the images, which says nothing about the spread over seeds.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mirl.errors import MirlError
from mirl.evaluate.report import MATCH_DB
from mirl.evaluate.runs import Run
from mirl.evaluate.scores import COLUMNS, HEADS, NOISE, NOT_IN_MEAN, Scored
from mirl.files import sha256
from mirl.ticket import shipped

ASKED = ("reinit", "shuffle", "oneshot", "dense-small")  # controls without which no ticket is called winning
WARM = ("finetune", "lr-rewind", "partial-reset")  # controls that do not put back every tensor
ASIDE = ("level-", "deeper", "ticket", "dense-macs")  # no controls of a ticket of its size


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences in dB, its standard error (0 where one image alone was measured), on how many of `images`
    the first is better.
    """

    mean: float
    error: float
    better: int = 0
    images: int = 0

    def __str__(self) -> str:
        return f"{self.mean:+.2f}" + (f" ± {self.error:.2f}" if self.error else "")


def ends(run: Run, scored: Sequence[Scored]) -> tuple[Scored | None, Scored | None]:
    """Return the tickets of a run's dense level and of its last, where they are measured."""
    levels = {each.place: each for each in scored if each.run == run.label}
    return levels.get("level-00"), levels.get(f"level-{run.last.number:02d}")


def ships(each: Scored) -> bool:
    """Whether a measured ticket is one of those in the package."""
    return each.sha256 in {sha256(file) for file in shipped().values()}


def ours(run: Run, scored: Sequence[Scored]) -> Scored | None:
    """Return the ticket of a run that is in the package, else that of its last level."""
    return next((each for each in scored if each.run == run.label and ships(each)), ends(run, scored)[1])


def tasks_of(run: Run) -> set[str]:
    """Return what a run was trained on."""
    return {share["task"] for share in run.recipe["tasks"]}


def differences(one: Scored, other: Scored) -> str:
    """Say by how much `one` is better, task by task."""
    said = [f"{head} {one.psnr[c] - other.psnr[c]:+.2f}" for head, c in zip(HEADS, COLUMNS, strict=True)]
    aside = -len(NOT_IN_MEAN)
    return f"{', '.join(said[:aside])}; not in the mean: {', '.join(said[aside:])}"


def paired(one: Scored, other: Scored, task: str, sets: Sequence[str]) -> Difference:
    """Compare two tickets on the images of one task that lie in `sets`."""
    return _difference([a - b for a, b in _pairs(one, other, task, sets)])


def paired_mean(one: Scored, other: Scored) -> Difference:
    """Compare two tickets in the mean of the three tasks; the three strengths of noise on an image count as one value."""
    noise = zip(*(_pairs(one, other, task, COLUMNS[task]) for task in NOISE), strict=True)
    parts = [
        _difference([statistics.fmean(a - b for a, b in same) for same in noise]),
        *(paired(one, other, task, COLUMNS[task]) for task in ("derain", "dehaze")),
    ]
    return Difference(one.mean - other.mean, math.sqrt(sum(part.error**2 for part in parts)) / len(parts))


def verdict(run: Run, scored: Sequence[Scored]) -> str:
    """Say in plain words how the last measured level compares with its dense network and its controls on the test sets.

    Markdown: a paragraph, then one line of a list for each other thing to be said.
    """
    dense, last = ends(run, scored)
    if dense is None or last is None or run.last.number == 0:
        return "The run has no measured ticket yet."
    gain = paired_mean(last, dense)
    word = "beats" if gain.mean > 0 else "loses to"
    if abs(gain.mean) < MATCH_DB and gain.error <= MATCH_DB:
        word = "matches"
    elif abs(gain.mean) < 2 * gain.error:
        word = "cannot be told from"
    text = f"**Trained alike, the ticket {last.place} keeps {last.density:.2%} of all parameters and {word} its dense "
    text += f"network: {gain} dB**"
    text += f" mean PSNR over noise, rain and haze of the test sets ({differences(last, dense)})."
    said = [
        _harm(run, last),
        *_against_controls(run, scored, last, word),
        _equal_work(scored, last),
        _longer(run, scored),
        "± is the standard error over the test images; it says nothing about the spread over seeds.",
    ]
    return "\n".join([text, "", *(f"- {line}" for line in said if line)])


def _pairs(one: Scored, other: Scored, task: str, sets: Sequence[str]) -> list[tuple[float, float]]:
    """PSNR of each image with both tickets, in the order of `one`. Raises MirlError when they saw other images."""
    mine, theirs = (
        {(i["set"], i["image"]): float(i["psnr"]) for i in each.images if i["task"] == task and i["set"] in sets}
        for each in (one, other)
    )
    if odd := sorted(mine.keys() ^ theirs.keys()):
        named = " and ".join(f"{each.run}-{each.place}" for each in (one, other))
        raise MirlError(
            f"{named} were measured on other images of {task}: {len(odd)} are of one alone, such as {'/'.join(odd[0])}; "
            "measure both on the same test sets"
        )
    return [(psnr, theirs[image]) for image, psnr in mine.items()]


def _difference(values: Sequence[float]) -> Difference:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Difference(statistics.fmean(values or [0.0]), error, sum(value > 0 for value in values), len(values))


def _harm(run: Run, last: Scored) -> str:
    """Name the tasks in which the ticket leaves pictures worse than it found them, and by how much."""
    worse = [
        f"{head} {last.psnr[c] - last.input_psnr[c]:+.2f}" + ("" if c in tasks_of(run) else " (on which it was not trained)")
        for head, c in zip(HEADS, COLUMNS, strict=True)
        if c != "clean" and last.psnr[c] < last.input_psnr[c]
    ]
    if all(math.isclose(last.psnr[c], last.input_psnr[c], abs_tol=0.005) for c in COLUMNS if c != "clean"):
        return "It returns every picture as it came."
    return f"Worse than left alone: {', '.join(worse)}." if worse else "Nothing is worse than left alone."


def _against_controls(run: Run, scored: Sequence[Scored], last: Scored, word: str) -> list[str]:
    """Say how every control stands to the ticket, and whether that makes it a winning one; then of those that stay warm."""
    controls = [each for each in scored if not each.place.startswith(ASIDE) and "-total" not in each.place]
    equal = [each for each in controls if each.density <= last.density * 1.001]
    warm = [each for each in equal if each.place.startswith(WARM)]
    cold = [each for each in equal if each not in warm]
    missing = [kind for kind in ASKED if kind not in {each.place for each in cold}]
    text, beaten = "", True
    if cold:
        leads = {each.place: paired_mean(each, last) for each in sorted(cold, key=lambda each: -each.mean)}
        beaten = all(lead.mean < -max(MATCH_DB, 2 * lead.error) for lead in leads.values())
        told = ", ".join(f"{place} at {lead}" for place, lead in leads.items())
        text += f"Controls of at most its size, strongest first, in dB from it: {told}."
    text += " " if text else ""
    if missing:
        open_end = "one that loses is none whatever they say" if word == "loses to" else "so nothing says whether it is one"
        text += f"Not measured of what a winning ticket must beat: {', '.join(missing)}; {open_end}."
    elif run.recipe["prune"].get("reset", "full") != "full":
        text += "It was not rewound whole: it is no ticket in the sense of the lottery."
    elif beaten and word in ("matches", "beats"):
        text += "By these runs it is a winning ticket."
    elif beaten:
        text += "It beats them, yet is not shown to match its dense network: by these runs it is no winning ticket."
    else:
        text += "By these runs it is not shown to be a winning ticket."
    if not warm:
        return [text]
    told = ", ".join(f"{each.place} at {paired_mean(each, last)} dB" for each in warm)
    return [text, f"Begun from values that stay trained: {told} from it."]


def _equal_work(scored: Sequence[Scored], last: Scored) -> str:
    """Say how a small dense network stands that multiplies as often as the ticket, and in what share of its time."""
    other = next((each for each in scored if each.place == "dense-macs"), None)
    if other is None:
        return ""
    times = ""
    if other.time and last.time:
        times = f", in {other.time / last.time:.2f} of its time"
    return (
        f"A dense network of as many multiply-accumulates, attention included (dense-macs, {other.density:.1%} of the "
        f"parameters), is at {paired_mean(other, last)} dB from it{times}."
    )


def _longer(run: Run, scored: Sequence[Scored]) -> str:
    """Say what ticket and dense network make of all updates of the search in one training, beside the dense level of one."""
    longer = {each.place.removesuffix("-total"): each for each in scored if each.place.endswith("-total")}
    level, _ = ends(run, scored)
    named = [
        (f"the {name}", longer[key], f" ({longer[key].place}{', the one in the package' if ships(longer[key]) else ''})")
        for key, name in (("ticket", "ticket"), ("dense", "dense network"))
        if key in longer
    ]
    if not named or level is None:
        return ""
    text = f"Trained longer, for the {sum(each.steps for each in run.levels):,} updates of all levels at once, "
    text += " and ".join(f"{name}{which} is at {paired_mean(each, level)} dB" for name, each, which in named)
    told = "; ".join(f"{name}: {differences(each, level)}" for name, each, _ in named)
    text += f" from {level.place} ({told})."
    if len(named) > 1:
        ticket, dense = longer["ticket"], longer["dense"]
        text += f" So trained, the ticket is at {paired_mean(ticket, dense)} dB from the dense network"
        text += f" ({differences(ticket, dense)})."
    return text
