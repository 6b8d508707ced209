"""The service under load on loopback, beside the engine alone; then clients that leave, and a stop while all are busy.

    python bench/serve.py [--seconds 60] [--clients 16] [--size 321x481] [--json results/serve_load.json]

A ticket of the network small (90 % pruned, layer by layer) restores one photograph as JPEG, over and over. `engine` restores
the same photograph from bytes to bytes in as many threads as the service has workers, half of the time before the load and
half after. `disconnects` of the clients leave in the middle of a request; `stop` is SIGTERM while all clients wait: an
answer that was begun must arrive whole.
"""

import argparse
import asyncio
import io
import signal
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from mirl.engine.engine import open_backend
from mirl.evaluate.speed import example_image, machine, parse_size
from mirl.files import write_json
from mirl.serve.work import Wish, restore_bytes
from mirl.ticket import read_ticket, write_ticket
from patterns import NETWORKS, make_ticket
from service import resident_mb, service


def engine_alone(ticket: Path, photo: bytes, workers: int, seconds: float) -> float:
    """Return photos a second, from bytes to bytes, without HTTP."""
    backend = open_backend(read_ticket(ticket), threads=1)
    restore_bytes(photo, lambda: backend, Wish(), 24, lambda: None)
    ends = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < ends:
            restore_bytes(photo, lambda: backend, Wish(), 24, lambda: None)
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(work, range(workers)))
    return done / (time.perf_counter() - began)


async def load(address: str, photo: bytes, clients: int, seconds: float, sound: bytes, leave: float = 0) -> dict[str, Any]:
    """Let `clients` ask in turns for `seconds`; a share of `leave` of the requests is abandoned after a moment."""
    times: list[float] = []
    seen = {"ok": 0, "busy": 0, "left": 0, "stopped": 0, "wrong": 0}
    ends, rng = time.perf_counter() + seconds, np.random.default_rng(0)

    async def client() -> None:
        async with httpx.AsyncClient(timeout=120) as session:
            while time.perf_counter() < ends:
                began = time.perf_counter()
                try:
                    asked = session.post(f"{address}/v1/restore", content=photo)
                    answer = await asyncio.wait_for(asked, 0.05 if rng.random() < leave else None)
                except TimeoutError:
                    seen["left"] += 1
                    continue
                except httpx.ConnectError:
                    seen["stopped"] += 1
                    return
                except httpx.TransportError:
                    seen["wrong"] += 1
                    continue
                if answer.status_code == 503:
                    seen["busy"] += 1
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                elif answer.status_code == 200 and answer.content == sound:
                    seen["ok"] += 1
                    times.append(time.perf_counter() - began)
                else:
                    seen["wrong"] += 1

    await asyncio.gather(*[client() for _ in range(clients)])
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return {**seen, "p50_seconds": cuts[49], "p95_seconds": cuts[94]}


async def stop_under_load(process: Any, address: str, photo: bytes, clients: int, sound: bytes) -> dict[str, Any]:
    """Send SIGTERM while every client waits; count whole answers, and what was lost after the service took it in."""
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=clients)) as session:
        asked = [asyncio.ensure_future(session.post(f"{address}/v1/restore", content=photo)) for _ in range(clients)]
        inside = 0
        while inside < clients:
            figures = (await asyncio.to_thread(httpx.get, f"{address}/metrics")).text
            taken = next(line for line in figures.splitlines() if line.startswith("mirl_places_taken"))
            inside = int(float(taken.split()[1])) + sum(answer.done() for answer in asked)
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asked, return_exceptions=True)
    whole = [isinstance(answer, httpx.Response) and answer.content == sound for answer in answers]
    code = await asyncio.to_thread(process.wait, 120)
    return {"inside": clients, "answered": sum(whole), "lost": clients - sum(whole), "exit_code": code}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", default="321x481")
    parser.add_argument("--json", type=Path, default=Path("results/serve_load.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ticket = Path(folder) / "small.mirl"
        write_ticket(make_ticket(NETWORKS["small"], "layer-90"), ticket)
        image, buffer = example_image(parse_size(options.size)), io.BytesIO()
        Image.fromarray(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        photo, half = buffer.getvalue(), options.seconds / 2
        backend = open_backend(read_ticket(ticket), threads=1)
        sound = restore_bytes(photo, lambda: backend, Wish(), 24, lambda: None).content
        before = engine_alone(ticket, photo, options.workers, half)
        with service(ticket, Path(folder) / "log", options.workers) as (process, address):
            httpx.post(f"{address}/v1/restore", content=photo)
            memory = [resident_mb(process)]
            began = time.perf_counter()
            rows = asyncio.run(load(address, photo, options.clients, options.seconds, sound))
            rows["photos_per_second"] = rows["ok"] / (time.perf_counter() - began)
            memory.append(resident_mb(process))
            leaving = asyncio.run(load(address, photo, options.clients, options.seconds / 6, sound, leave=0.3))
            memory.append(resident_mb(process))
            stop = asyncio.run(stop_under_load(process, address, photo, options.clients, sound))
        after = engine_alone(ticket, photo, options.workers, half)
    alone = (before + after) / 2
    result = {
        "command": f"python bench/serve.py --seconds {options.seconds:g} --clients {options.clients} "
        f"--workers {options.workers} --size {options.size}",
        "machine": machine(),
        "engine_photos_per_second": [before, after],
        "service_over_engine": rows["photos_per_second"] / alone,
        "load": rows,
        "disconnects": leaving,
        "stop": stop,
        "resident_mb_first_loaded_left": memory,
    }
    print(f"{rows['photos_per_second']:.2f} photos/s, {result['service_over_engine']:.3f} of the engine alone; {rows}")
    print(f"disconnects {leaving}; stop {stop}; resident MB {memory}")
    write_json(options.json, result)


if __name__ == "__main__":
    main()
