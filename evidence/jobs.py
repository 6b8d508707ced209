"""The trainings of the queue, the first ones first; standard library alone."""

import shlex
from dataclasses import dataclass
from pathlib import Path


class QueueError(Exception):
    """What the user has to do something about; printed without a traceback."""


@dataclass(frozen=True)
class Job:
    """A training: the same command must go on where it was stopped, end with 0 once finished, and stop safely on SIGTERM.

    `command` begins with `mirl` or with `python`; in it {run} is the job's run folder, {runs} the folder of all runs, {data}
    the training data. `patches` is what it takes in all, in patches of 64x64 pixels. It waits until the job `after` has
    finished. A control trains beside a run of another job: `run` names that run, `control` its folder in there. A command
    that starts two `processes` (`--devices 2` shares each batch among them) takes both places of the queue.
    """

    name: str
    command: str
    patches: int
    after: str = ""
    run: str = ""
    control: str = ""
    processes: int = 1

    def folder(self, runs: Path) -> Path:
        """Where the run folder lies."""
        return runs / (self.run or self.name)

    def words(self, python: Path, runs: Path, data: Path) -> list[str]:
        """Return the command line for an interpreter. Raises QueueError for another program than mirl and python."""
        program, *words = shlex.split(self.command)
        programs = {"mirl": [str(python), "-m", "mirl"], "python": [str(python)]}
        if program not in programs:
            raise QueueError(f"job {self.name!r} begins with {program!r}; expected mirl or python")
        return programs[program] + [word.format(run=self.folder(runs), runs=runs, data=data) for word in words]


JOBS = (
    Job(
        "first",
        "mirl search --recipe small --steps 12500 --data {data} --skip-bad --device cpu --devices 2 --out {run}",
        patches=800_000,
        processes=2,
    ),
    Job(
        "ship",
        "mirl search --recipe small --data {data} --skip-bad --device cpu --devices 2 --out {run}",
        patches=5_000_000,
        processes=2,
    ),
    Job(
        "paper-way",
        "mirl search --recipe small --reset full --fraction 0.55 --dense-from {runs}/ship --data {data} --skip-bad "
        "--device cpu --out {run}",
        patches=7_500_000,
        after="ship",
    ),
)


def check(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Return the table. Raises QueueError where a name is there twice, or a job waits for one that is not before it."""
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen or not job.name.replace("-", "").isalnum():
            raise QueueError(f"job {job.name!r}: expected a name of its own, of letters, digits and hyphens")
        if job.after and job.after not in seen:
            raise QueueError(f"job {job.name!r} waits for {job.after!r}, which is no job before it")
        seen.add(job.name)
    return jobs
