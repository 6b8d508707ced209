"""mirl evaluate, report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from mirl.errors import MirlError
from mirl.files import write_json

if TYPE_CHECKING:
    from mirl.evaluate.page import Example


def evaluate(
    data: Path,
    ticket: str,
    protocol: Literal["standard", "paper"] = "standard",
    tasks: tuple[str, ...] = (),
    backend: Literal["auto", "native", "onnx", "torch"] = "auto",
    threads: int | None = None,
    window: int | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    json: Path | None = None,
    csv: Path | None = None,
) -> None:
    """Measure PSNR and SSIM of a ticket per task, set and image, beside the degraded input's own.

    Args:
        data: Test folder in MIR-L's layout.
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        protocol: standard (full size, 8-bit output, Gaussian SSIM) or paper (as MIR-L measures).
        tasks: Tasks to measure, such as denoise25 derain; all that have a set when left out. clean gives clean photos in.
        backend: What runs the network: the native sparse engine, ONNX Runtime, PyTorch, or the fastest that is installed.
        threads: Processor threads; the backend's own number when left out.
        window: Side of the windows in pixels; 0 takes the statistics of the whole image; what the ticket says if left out.
        limit: Take only the first images of each set.
        skip_bad: Leave out files that cannot be used instead of stopping.
        json: Write the rows to this file.
        csv: Write one line for each image to this file.
    """
    from mirl.cli.progress import counting_progress
    from mirl.engine.engine import open_backend, restore_pixels
    from mirl.engine.memory import keep_large_blocks
    from mirl.engine.options import Options
    from mirl.evaluate.benchmark import evaluate as measure
    from mirl.ticket import load_ticket

    loaded = load_ticket(ticket)
    opened = open_backend(loaded, backend, threads)
    keep_large_blocks()
    options = Options(window=window)
    with counting_progress("measuring") as count:
        result = measure(
            lambda image: restore_pixels(opened, image, options),
            data,
            protocol,
            tasks or None,
            limit,
            skip_bad,
            count,
        )
    for message in result.skipped:
        print(f"mirl: left out: {message}", file=sys.stderr)
    if json is not None:
        write_json(json, result.to_json(ticket))
    if csv is not None:
        result.write_csv(csv)
    Console(width=None if sys.stdout.isatty() else 120).print(result.table())
    strange = sorted({row.task for row in result.rows} - set(loaded.tasks)) if loaded.tasks else []
    if strange:
        print(f"mirl: the ticket was not trained on {', '.join(strange)}", file=sys.stderr)


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
