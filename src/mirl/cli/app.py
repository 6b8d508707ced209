"""The table of commands, and what all of them share: exit codes, errors in one line, --debug, Ctrl-C."""

import os
import sys
import warnings
from collections.abc import Sequence

import tyro
from tyro.extras import SubcommandApp

import mirl
from mirl.cli import bench, data, evaluate, exchange, haze, lottery, restore, search, serve
from mirl.errors import MirlError

DESCRIPTION = (
    "Restore photographs (rain, haze, noise) with small sparse networks, and find such networks. "
    "Exit code 0: done; 1: failed, with one line on stderr; 2: wrong command. --version says which this is; --debug shows "
    "the traceback of an error."
)


def commands() -> SubcommandApp:
    """Build the table of commands."""
    app, pairs = SubcommandApp(), SubcommandApp()
    app.command(restore.restore)
    app.command(search.search)
    app.command(lottery.control)
    app.command(lottery.verify)
    app.command(evaluate.evaluate)
    app.command(evaluate.report)
    app.command(lottery.inspect)
    app.command(haze.haze_head)
    app.command(bench.bench)
    app.command(exchange.export)
    app.command(name="import")(exchange.import_)
    app.command(exchange.push)
    app.command(serve.serve)
    pairs.command(name="list")(data.list_)
    pairs.command(data.check)
    pairs.command(data.paper)
    pairs.command(data.tasks)
    pairs.command(data.synth)
    app.command(pairs, name="data", help="List, check or make image pairs in MIR-L's folder layout.")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (a wrong command leaves through SystemExit with 2)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"mirl {mirl.__version__}")
        return 0
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # the default spins so long that other work on the cores costs 20x
    if debug := "--debug" in given:  # valid anywhere before a bare "--"
        given.remove("--debug")
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _print_warning
            commands().cli(prog="mirl", description=DESCRIPTION, args=given, config=(tyro.conf.DisallowNone,))
    except MirlError as error:
        if debug:
            raise
        print(f"mirl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mirl: interrupted; finished files are kept, the same command goes on", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away: no news for anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        extras = {"torch": "train", "lightning_fabric": "train", "matplotlib": "report", "tensorboard": "tensorboard"}
        extras |= dict.fromkeys(("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client"), "serve")
        extras |= dict.fromkeys(("onnx", "onnxruntime"), "onnx")
        if debug or error.name not in extras:
            raise
        print(
            f"mirl: this needs {error.name}, which is not installed; pip install 'mirl[{extras[error.name]}]'",
            file=sys.stderr,
        )
        return 1
    except OSError as error:  # a disk that fills up in the middle of a run, say
        if debug:
            raise
        print(f"mirl: {error.filename or 'a file'}: {error.strerror or error}; free some space or choose another place",
              file=sys.stderr)  # fmt: skip
        return 1
    except MemoryError:
        print("mirl: out of memory; use a smaller --tile or a smaller image", file=sys.stderr)
        return 1
    return 0


def _print_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as one line; Python's own names a line of our source."""
    print(f"mirl: {' '.join(str(message).split())}", file=sys.stderr)
