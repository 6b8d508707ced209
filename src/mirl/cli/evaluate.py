"""mirl evaluate, report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from mirl.errors import MirlError
from mirl.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from mirl.evaluate.benchmark import Restore
    from mirl.evaluate.page import Example


def evaluate(
    data: Path,
    ticket: str,
    suite: Literal["paper", "people", "all"] = "paper",
    protocol: Literal["standard", "paper"] = "standard",
    tasks: tuple[str, ...] = (),
    backend: Literal["auto", "native", "onnx", "torch"] = "auto",
    threads: int | None = None,
    window: int | None = None,
    limit: int | None = None,
    as_written: bool = False,
    peers: tuple[Literal["nlm", "nlm-estimated", "opencv"], ...] = (),
    pictures: Path | None = None,
    skip_bad: bool = False,
    json: Path | None = None,
    csv: Path | None = None,
) -> None:
    """Measure PSNR and SSIM of a ticket per task, set and image, beside the degraded input's own.

    Args:
        data: Test folder in MIR-L's layout; for --suite people also real/SET/input and target, wild/rain, haze and tone.
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        suite: paper (noise, rain, haze), people (what people have: real noise, coded, grey, jpeg, clean, graphics, tone,
            wild; with tone, detail and the share made worse) or all. What the folder lacks of people's is named.
        protocol: Of the suite paper: standard (full size, 8-bit output, Gaussian SSIM) or paper (as MIR-L measures).
        tasks: Tasks to measure, such as denoise25 derain, or groups of the suite people; all when left out. clean gives
            clean photos in; development, in the suite people, takes the ten photographs that choices are made by.
        backend: What runs the network: the native sparse engine, ONNX Runtime, PyTorch, or the fastest that is installed.
        threads: Processor threads; the backend's own number when left out.
        window: Side of the windows in pixels; 0 takes the statistics of the whole image; what the ticket says if left out.
        limit: Take only the first images of each set.
        as_written: Suite people: score the file that mirl restore writes by default, instead of the pixels.
        peers: Suite people: measure these too: non-local means (scikit-image) at one strength, or by the noise it estimates,
            and OpenCV's. They need mirl[bench].
        pictures: Suite people: a folder for one PNG of each picture, input, output and truth side by side.
        skip_bad: Leave out files that cannot be used instead of stopping.
        json: Write the rows to this file.
        csv: Write one line for each image to this file.
    """
    from mirl.engine.engine import open_backend, restore_pixels
    from mirl.engine.memory import keep_large_blocks
    from mirl.engine.options import Options
    from mirl.ticket import load_ticket

    if suite == "paper" and (as_written or peers or pictures):
        raise MirlError("--as-written, --peers and --pictures are for --suite people or all; add one of them")
    if suite == "people" and protocol != "standard":
        raise MirlError(f"--protocol {protocol} is for the suite paper; leave it out with --suite people")
    if suite == "all" and csv is not None:
        raise MirlError("--csv holds the images of one suite; run --suite paper and --suite people on their own")
    loaded = load_ticket(ticket)
    opened = open_backend(loaded, backend, threads)
    keep_large_blocks()

    options = Options(window=window)

    def restore(image: "np.ndarray") -> "np.ndarray":
        return restore_pixels(opened, image, options)

    paper, people = _tasks_of(suite, tasks)
    value: dict[str, Any] = {"ticket": ticket}
    if suite != "people" and paper != ():
        value |= _paper(restore, ticket, data, protocol, paper, limit, skip_bad, csv)
    if suite != "paper" and people != ():
        found = _people(restore, ticket, peers, data, people, limit, as_written, csv, pictures)
        found["rows"] = value.get("rows", []) + found["rows"]
        value |= {"suite": suite} | found
    if json is not None:
        write_json(json, value)
    strange = sorted({row["task"] for row in value["rows"] if "group" not in row} - set(loaded.tasks or ()))
    if loaded.tasks and strange:
        print(f"mirl: the ticket was not trained on {', '.join(strange)}", file=sys.stderr)


def _tasks_of(suite: str, tasks: tuple[str, ...]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Tasks of the suite paper and groups of the suite people, None for all; with --suite all a name is sought in both."""
    from mirl.evaluate.people.suite import NAMES

    if not tasks:
        return None, None
    if suite != "all":
        return tasks, tasks
    return tuple(name for name in tasks if name not in NAMES), tuple(name for name in tasks if name in NAMES)


def _paper(
    restore: "Restore", ticket: str, data: Path, protocol: str, tasks: tuple[str, ...] | None, limit: int | None,
    skip_bad: bool, csv: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Measure and print the suite paper; return its JSON."""
    from mirl.cli.progress import counting_progress
    from mirl.evaluate.benchmark import evaluate as measure

    with counting_progress("measuring") as count:
        result = measure(restore, data, protocol, tasks, limit, skip_bad, count)
    for message in result.skipped:
        print(f"mirl: left out: {message}", file=sys.stderr)
    if csv is not None:
        result.write_csv(csv)
    _console().print(result.table())
    return result.to_json(ticket)


def _people(
    restore: "Restore", ticket: str, peers: tuple[str, ...], data: Path, groups: tuple[str, ...] | None, limit: int | None,
    as_written: bool, csv: Path | None, pictures: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Measure and print the suite people; return its JSON."""
    from mirl.cli.progress import counting_progress
    from mirl.evaluate.people.peers import peer_named
    from mirl.evaluate.people.suite import measure_people

    methods = {ticket: restore} | {peer: peer_named(peer) for peer in peers}
    with counting_progress("measuring") as count:
        result = measure_people(methods, data, groups, limit, as_written, count, pictures)
    for message in result.lacking:
        print(f"mirl: not measured: {message}", file=sys.stderr)
    if csv is not None:
        result.write_csv(csv)
    for table in result.tables():
        _console().print(table)
    return result.to_json()


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
    crops: int = 2,
    evidence: Path | None = None,
    readme: Path | None = None,
) -> None:
    """Write one self-contained HTML page about run folders: PSNR against density, controls, layers, crops.

    Args:
        runs: Run folders made by mirl search.
        out: The page; plots (SVG) and numbers (CSV) are written into a folder beside it.
        evidence: Instead of runs: the folder of records and scores that `make evidence` made. The page is then Markdown.
        readme: With --evidence: a Markdown file whose part between the marks of results is made anew.
        crops: Validation pictures of each task to show, restored by the dense level and by the ticket; 0 shows none.
    """
    from mirl.evaluate.report import write_report

    if evidence is not None:
        from mirl.evaluate.evidence import write_results

        if runs:
            raise MirlError(f"--evidence takes no run folders beside it, found {runs[0]}; leave them out")
        for path in write_results(evidence, out, f"mirl report --evidence {evidence} -o {out}", readme):
            print(path)
        return
    if readme is not None:
        raise MirlError("--readme goes with --evidence; leave it out or name the folder of results")
    if not runs:
        raise MirlError("no run folder given; expected at least one made by `mirl search`")
    if crops < 0:
        raise MirlError(f"--crops is a number of pictures, at least 0, found {crops}")
    for path in write_report(runs, out, _examples(runs[0], crops) if crops else []):
        print(path)


def _examples(run: Path, count: int) -> list["Example"]:
    """Restore the first `count` validation pictures of each task with the dense level and with the last one."""
    from mirl.data.patches import validation_examples
    from mirl.engine.engine import open_backend, restore_pixels
    from mirl.evaluate.page import Example
    from mirl.lottery.run import RunFolder
    from mirl.ticket import read_ticket

    folder = RunFolder(run)
    recipe, source = folder.recipe(), folder.data()["folder"]
    if source and not Path(source).is_dir():
        print(f"mirl: no crops: the training data are not at {source} any more", file=sys.stderr)
        return []
    done = folder.finished_levels
    if not done:
        return []
    dense, ticket = (open_backend(read_ticket(place.ticket)) for place in (done[0], done[-1]))
    shown: dict[str, int] = {}
    result = []
    for e in validation_examples(Path(source) if source else None, [share.task for share in recipe.tasks], skip_bad=True):
        shown[e.task] = shown.get(e.task, 0) + 1
        if shown[e.task] <= count:
            restored = [restore_pixels(backend, e.degraded) for backend in (dense, ticket)]
            result.append(Example(e.task, e.name, e.degraded, restored[0], restored[1], e.clean))
    return result
