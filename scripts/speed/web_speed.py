"""How fast an exported page is in headless Chromium: `python scripts/speed/web_speed.py SITE [--isolated]`.

SITE is what `adamas export run=RUN web=SITE` made. Prints the median of some visits: seconds from opening the page to its first
frame, frames a second with the agent while it plays (at most 60 are asked for), the time from a key to the first frame that it
acted on as the page measures it, at the speed that the page has at first and at that most, and the processor time that all of Chromium takes for a frame, which depends less on what else the machine
does. --isolated serves with the headers that let the page use threads. --pictures FOLDER saves pictures of the page instead.
Needs the test extra and Chromium.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shutil
import statistics
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HERTZ = os.sysconf("SC_CLK_TCK")
WINDOW = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
    "color_scheme": "dark",
}
COUNT = """
globalThis.seen = [];
const step = document.getElementById("step");
new MutationObserver(() => seen.push([Number(step.textContent), performance.now()])).observe(step, { childList: true });
"""
STILL = 25  # the step that a picture shows


class Handler(SimpleHTTPRequestHandler):
    isolated = False

    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument(
        "--warm-up", type=float, default=6, help="seconds until the browser has compiled well what runs often"
    )
    parser.add_argument("--presses", type=int, default=60, help="of keys")
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    Handler.isolated = arguments.isolated
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=arguments.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if arguments.pictures:
            save_pictures(chromium, address, arguments.pictures)
        else:
            report(chromium, address, arguments)
        chromium.close()


def report(browser: Browser, address: str, arguments: argparse.Namespace) -> None:
    visits = [measure(browser, address, arguments) for _ in range(arguments.visits)]
    threads = "threads" if arguments.isolated else "one thread"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {threads}, median of {len(visits)} visits")
    for name in visits[0]:
        values = [visit[name] for visit in visits]
        print(f"{name:<52} {statistics.median(values):7.1f}   ({', '.join(f'{value:.1f}' for value in values)})")


def measure(browser: Browser, address: str, arguments: argparse.Namespace) -> dict[str, float]:
    began = time.perf_counter()
    page = open_page(browser, address + "#player=agent", WINDOW)
    first = time.perf_counter() - began
    page.locator("#fps").fill("60")
    page.wait_for_timeout(1000 * arguments.warm_up)
    page.evaluate(COUNT)
    spent = processor_time()
    page.wait_for_timeout(1000 * arguments.seconds)
    spent = processor_time() - spent
    gaps = between_steps(page.evaluate("seen"))
    figures = {
        "first frame, s": first,
        "frames/s": 1000 * len(gaps) / sum(gaps),
        "processor time a frame, ms": 1000 * spent / len(gaps),
    }
    page.context.close()
    for fps in (None, 60):
        figures |= key_to_frame(browser, address, fps, arguments)
    return figures


def key_to_frame(browser: Browser, address: str, fps: int | None, arguments: argparse.Namespace) -> dict[str, float]:
    page = open_page(browser, address + "#player=agent", WINDOW)
    page.wait_for_timeout(1000 * arguments.warm_up)
    if fps:
        page.locator("#fps").fill(str(fps))
    page.click("[data-player=human]")
    page.keyboard.press("n")
    for i in range(arguments.presses):
        page.keyboard.press(("ArrowLeft", "ArrowRight")[i % 2], delay=50)
        page.wait_for_timeout(90 + 7 * (i % 11))
        if page.locator("#ended").is_visible():
            page.keyboard.press("n")
    words = page.locator("#latency").get_attribute("title").split()
    median = float(page.locator("#latency").text_content())
    page.context.close()
    speed = f"{fps} frames/s asked for" if fps else "as it opens"
    return {f"key to frame, {speed}, median, ms": median, f"key to frame, {speed}, 95%, ms": float(words[-2])}


def between_steps(seen: list[tuple[int, float]]) -> list[float]:
    """Milliseconds from each step to the next of the same dream: the second that the page rests after a dream's end is left out."""
    return [late - early for (a, early), (b, late) in itertools.pairwise(seen) if b == a + 1]


def open_page(browser: Browser, address: str, window: dict) -> Page:
    page = browser.new_context(**window).new_page()
    page.goto(address)
    while steps(page) < 0:
        time.sleep(0.01)
    return page


def steps(page: Page) -> int:
    text = page.locator("#step").text_content()
    return int(text) if text.isdecimal() else -1


def processor_time() -> float:
    """Seconds that the children of this process, and theirs, have taken."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(path.parent.name)] = int(words[1]), int(words[11]) + int(words[12])
    family = {os.getpid()}
    for _ in range(8):  # generations
        family |= {number for number, (parent, _) in parents.items() if parent in family}
    return sum(parents[number][1] for number in family if number in parents and number != os.getpid()) / HERTZ


def save_pictures(browser: Browser, address: str, out: Path) -> None:
    for name, window in (("web-desktop", WINDOW), ("web-phone", PHONE)):
        page = open_page(browser, f"{address}#start=1&seed=1&player={'film' if window is WINDOW else 'agent'}", window)
        while steps(page) < STILL and not page.locator("#ended").is_visible():
            time.sleep(0.02)
        page.keyboard.press("p")
        page.wait_for_timeout(500)
        page.screenshot(path=out / f"{name}.png")
        page.context.close()


if __name__ == "__main__":
    main()
