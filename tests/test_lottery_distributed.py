"""Several processes under torchrun, as a user starts them: one run folder, the masks and weights of a single process."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import mini_data
from mirl.cli import main
from mirl.errors import MirlError
from mirl.lottery.run import RunFolder, load_arrays, load_masks
from mirl.lottery.setting import make_setting, silent
from mirl.lottery.verify import verify
from mirl.recipe import Recipe

SLURM = Path(__file__).parents[1] / "examples" / "slurm" / "search.sh"
TORCHRUN = Path(sys.executable).with_name("torchrun")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
SEARCH = ["search", "--recipe", "tiny", "--steps", "3", "--batch", "6", "--patch", "16", "--fraction", "0.7",
          "--device", "cpu", "--checkpoint-seconds", "0.1"]  # fmt: skip


def ran(command: list[str], **environment: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def under_torchrun(processes: int, *words: str) -> list[str]:
    return [str(TORCHRUN), "--standalone", "--nproc-per-node", str(processes), "-m", "mirl", *words]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A search by one process."""
    run = tmp_path_factory.mktemp("distributed") / "one"
    ran([sys.executable, "-m", "mirl", *SEARCH, "--data", str(mini_data()), "--out", str(run)])
    return RunFolder(run)


def require_same_search(one: RunFolder, two: RunFolder) -> None:
    """The law of several processes: masks, weights and losses of one, but for rounding; and the audit finds nothing."""
    assert verify(two.path).problems == []
    assert len(one.finished_levels) == len(two.finished_levels) == 3
    for level in range(3):
        masks = [load_masks(run.level(level).mask) for run in (one, two)]
        differing = sum(int((masks[0][name] != masks[1][name]).sum()) for name in masks[0])
        assert sum(int(mask.sum()) for mask in masks[0].values()) == sum(int(mask.sum()) for mask in masks[1].values())
        assert differing <= 1e-4 * sum(mask.size for mask in masks[0].values()), level  # near ties, decided by rounding
        weights = [load_arrays(run.level(level).weights)[0] for run in (one, two)]
        for name, value in weights[0].items():
            both = masks[0][name] == masks[1][name] if name in masks[0] else np.ones(value.shape, bool)
            assert np.allclose(value[both], weights[1][name][both], atol=2e-4), (level, name)
        losses = [
            [json.loads(text)["loss"] for text in run.level(level).metrics.read_text().splitlines()] for run in (one, two)
        ]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("by", ["torchrun", "--devices"])
def test_two_processes_end_with_the_masks_and_the_weights_of_one(by: str, one: RunFolder, tmp_path: Path):
    words = [*SEARCH, "--data", str(mini_data()), "--out", str(tmp_path / "two")]
    out = ran(under_torchrun(2, *words) if by == "torchrun" else [sys.executable, "-m", "mirl", *words, by, "2"])
    assert out.count("ticket: ") == 1  # the first process alone reports
    require_same_search(one, RunFolder(tmp_path / "two"))


STALE = """
import os, pathlib, sys
from mirl.cli import main
from mirl.lottery import search

if os.environ["RANK"] == "1":
    there = pathlib.Path.exists
    pathlib.Path.exists = lambda path: path.name != "checkpoint.safetensors" and there(path)
    search.load_masks = None  # not to be called
sys.exit(main(sys.argv[1:]))
"""


def test_an_old_view_of_the_disk_in_one_process_changes_nothing(one: RunFolder, tmp_path: Path):
    """NFS may show a process neither the checkpoint nor the masks that are there: the first one looks for all."""
    script = tmp_path / "stale.py"
    script.write_text(STALE)
    run = RunFolder(tmp_path / "run")
    words = [*SEARCH, "--data", str(mini_data()), "--out", str(run.path)]
    assert main([*words, "--levels-now", "1"]) == 0
    assert main([*words, "--time-limit", "0s"]) == 0
    assert run.level(0).done
    assert run.level(1).checkpoint.exists()
    command = [str(TORCHRUN), "--standalone", "--nproc-per-node", "2", str(script), *words]
    assert "ticket: " in ran(command)
    require_same_search(one, run)


def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_is_written(tmp_path: Path):
    for what in (["--dry-run"], ["--out", str(tmp_path / "run"), "--data", str(mini_data())]):
        words = [sys.executable, "-m", "mirl", *SEARCH, "--batch", "5", "--devices", "2", *what]
        result = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
        assert result.returncode != 0
        assert "batch 5 cannot be shared by 2 processes; choose a multiple" in result.stderr
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_run_of_two_processes_goes_on_with_one_level_a_job_and_with_one_process(tmp_path: Path):
    words = [*SEARCH, "--data", str(mini_data()), "--out", str(tmp_path / "run"), "--levels-now", "1"]
    assert "level 0 of 2 has ended" in ran(under_torchrun(2, *words))
    assert not RunFolder(tmp_path / "run").level(1).path.exists()
    assert verify(tmp_path / "run").problems == []
    out = ran([sys.executable, "-m", "mirl", *words])
    assert "level 1 of 2 has ended" in out
    assert "ticket: " in ran(under_torchrun(2, *words))
    assert verify(tmp_path / "run").problems == []


def test_the_signal_of_a_scheduler_stops_all_processes_at_a_safe_point(tmp_path: Path):
    """Slurm sends it to every process, and torchrun passes its own on: each worker gets it twice."""
    run = RunFolder(tmp_path / "run")
    words = [
        *SEARCH,
        "--data",
        str(mini_data()),
        "--out",
        str(run.path),
        "--steps",
        "100000",
        "--checkpoint-seconds",
        "9999",
    ]
    process = subprocess.Popen(under_torchrun(2, *words), stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.monotonic() + 200
    while not (run.level(0).metrics.exists() and run.level(0).metrics.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not run.level(0).checkpoint.exists()
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) == 2
    for pid in [*workers, process.pid]:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(pid, signal.SIGTERM)
    assert process.wait(timeout=100) != 0  # nobody asked the search itself to end here
    assert run.level(0).checkpoint.exists()
    assert verify(run.path).problems == []


def test_a_dry_run_measures_with_the_processes_of_torchrun():
    out = ran(under_torchrun(2, *SEARCH, "--dry-run"))
    assert out.count("time: ") == out.count("updates: ") == 1


def test_torchrun_says_how_many_devices_there_are(mini_recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MirlError, match="2 processes on each of 2 machines, --devices 3 and --nodes 1 say otherwise"):
        make_setting(mini_recipe, None, "cpu", lambda: False, silent, devices=3)


def test_the_slurm_script_parses():
    subprocess.run(["bash", "-n", SLURM], check=True)
    text = SLURM.read_text()
    assert "#SBATCH --array=0-31%1" in text  # one job at a time: two would work on one run
    assert "--precision bf16-mixed --compile" in text


def test_torchrun_leaves_the_workers_most_of_the_time_that_slurm_gives(monkeypatch: pytest.MonkeyPatch):
    from torch.distributed.launcher.api import LaunchConfig

    name, seconds = re.findall(r"^export (TORCH_\w+)=(\d+)", SLURM.read_text(), re.MULTILINE)[0]
    (given,) = re.findall(r"^#SBATCH --signal=TERM@(\d+)", SLURM.read_text(), re.MULTILINE)
    monkeypatch.setenv(name, seconds)
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1).shutdown_timeout == int(seconds)
    assert 200 <= int(seconds) < int(given)


def test_the_slurm_script_trains_a_level_a_job_until_the_ticket_is_there(tmp_path: Path):
    """Its commands really run, on this machine: srun starts what follows, scontrol names the one node.

    Not compiled, which takes minutes on a CPU; `test_compiling_trains_the_same_network` has the option.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    run_it = f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/cpus; exec "$@"'
    for name, body in {"srun": run_it, "scontrol": "echo localhost"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    run = tmp_path / "run"
    environment = {
        "PATH": f"{programs}:{ENVIRONMENT['PATH']}", "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "7",
        "RUN": str(run), "DATA": str(mini_data()),
    }  # fmt: skip
    words = ["bash", str(SLURM), *SEARCH[1:], "--fraction", "0.95", "--no-compile"]
    told = [ran(words, **environment) for _ in range(3)]
    assert "level 0 of 1 has ended" in told[0]
    assert "ticket: " in told[1]
    assert told[2] == f"the search has ended: {run / 'ticket.mirl'}\n"
    assert (tmp_path / "cpus").read_text() == "7\n"
    assert verify(run).problems == []
    recipe = RunFolder(run).recipe()
    assert recipe.train.precision == "bf16-mixed"
