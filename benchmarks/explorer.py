"""How long it takes from the movement of a slider to the picture, in Chromium: `python benchmarks/explorer.py`.

A slider is moved by an event, as by hand; the picture is there when the browser has painted it. `--moves` are made, one
after the other has been answered wholly. The load of the machine is printed too: figures count on an idle one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import statistics
import threading
import time

import psutil
import uvicorn
from playwright.sync_api import Page, sync_playwright

from dln.explorer.door import ADDRESS, listening
from dln.explorer.server import application
from dln.explorer.worker import Worker

TOKEN = "benchmark"

CASES = {
    "default, 32 seeds": "",
    "default, 32 seeds, no sharpness": "sharpness=false",
    "128 seeds": "seeds=128",
    "batches of 10": "training.batch_size=10",
    "width 100": "model.hidden_dim=100",
    "two settings": "compare=true&b.training.lr=0.001",
}

MOVE = """(place) => {
  const slider = document.getElementById("a-model-gamma");
  slider.value = place;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}"""


SECONDS = 5
DRAG = """async (seconds) => {
  const slider = document.getElementById("a-model-gamma");
  for (let i = 0; i < 60 * seconds; i++) {
    slider.value = 300 + (i % 120) * 3;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 1000 / 60));
  }
}"""


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with listening(0) as at, sync_playwright() as playwright:
        worker = Worker()
        server = uvicorn.Server(
            uvicorn.Config(application(TOKEN, worker), log_level="warning", lifespan="off", ws="none")
        )
        threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores; milliseconds, median (90 %)")
        print("| setting | others | first picture | all seeds | all seeds / others | processor time of the server |")
        print("|---|---|---|---|---|---|")
        for name, fragment in CASES.items():
            measure(browser.new_page(viewport={"width": 1300, "height": 950}), at, name, fragment, options.moves)
        drag(browser.new_page(viewport={"width": 1300, "height": 950}), at)
        browser.close()
        server.should_exit = True
        worker.stop()


def measure(page: Page, at: socket.socket, name: str, fragment: str, moves: int) -> None:
    """Make movements of one slider, and print how long their pictures took."""
    page.goto(f"http://{ADDRESS}:{at.getsockname()[1]}/?token={TOKEN}#{fragment}")
    settled = page.locator("#state[data-busy=false]")
    settled.wait_for(timeout=120_000)
    shares = [crowding()]
    process, first, whole, used = psutil.Process(), [], [], []
    for move in range(moves):
        before = page.evaluate("dln.explorer.pictures.length")
        started = sum(process.cpu_times()[:2])
        page.evaluate(MOVE, 300 + 5 * move)  # to three digits every place is another value
        settled.wait_for(timeout=120_000)
        used.append(1000 * (sum(process.cpu_times()[:2]) - started))
        took: list[tuple[bool, float]] = []
        while not any(complete for complete, _ in took):
            time.sleep(0.05)
            drawn = page.evaluate(f"dln.explorer.pictures.slice({before}).filter((one) => one.kind === 'curves')")
            took = [(one["seeds"] == one["of"], one["drawn"] - one["asked"]) for one in drawn]
        first.append(took[0][1])
        whole.append(max(milliseconds for complete, milliseconds in took if complete))
    shares.append(crowding())
    others, alone = statistics.mean(shares), statistics.median(whole) / statistics.mean(shares)
    figures = f"{others:.1f} | {told(first)} | {told(whole)} | {alone:.0f} | {statistics.median(used):.0f}"
    print(f"| {name} | {figures} |", flush=True)
    page.close()


def drag(page: Page, at: socket.socket) -> None:
    """Drag a slider at the default config, sixty places a second, and print how its pictures follow."""
    page.goto(f"http://{ADDRESS}:{at.getsockname()[1]}/?token={TOKEN}")
    page.locator("#state[data-busy=false]").wait_for(timeout=120_000)
    before, others = page.evaluate("dln.explorer.pictures.length"), crowding()
    page.evaluate(DRAG, SECONDS)
    drawn = page.evaluate(f"dln.explorer.pictures.slice({before}).filter((one) => one.kind === 'curves')")
    took = [one["drawn"] - one["asked"] for one in drawn]
    pace = f"{len(drawn) / SECONDS:.1f} pictures a second, {told(took)} ms after the movement"
    print(f"\ndragged: {pace}; others {others:.1f}")
    page.close()


def crowding(seconds: float = 0.5) -> float:
    """Return how many times longer work takes on two threads than the processor is busy with it."""
    content, ratios = bytes(2**22), []

    def work() -> None:
        started, begun = time.perf_counter(), time.thread_time()
        while time.perf_counter() - started < seconds:
            hashlib.sha256(content)  # without Python's lock
        ratios.append((time.perf_counter() - started) / (time.thread_time() - begun))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(ratios)


def told(times: list[float]) -> str:
    """Return the median and, in brackets, the 90 % quantile."""
    return f"{statistics.median(times):.0f} ({sorted(times)[int(0.9 * (len(times) - 1))]:.0f})"


if __name__ == "__main__":
    main()
