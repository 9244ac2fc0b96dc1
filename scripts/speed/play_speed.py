"""How fast the play page is while Chromium runs beside it: `python scripts/speed/play_speed.py --presets cpu --steps 1 3`.

Starts src/play.py on an untrained model of each preset (its weights do not change its speed), opens the page headless, holds
keys and lets go of them, and prints a line for each number of denoising steps: frames a second that arrive in the page when as
many as possible are asked for (at most 60), the time from a key to the first frame that it acted on as the page measures it,
and the processor time that the server took for a frame, which does not depend on what else the machine does.
Needs the test extra and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from omegaconf import OmegaConf
from playwright.sync_api import Page, sync_playwright

from adamas.config.files import save_config, schema
from adamas.envs.make import action_meanings
from adamas.training import checkpoint
from adamas.training.models import Models
from adamas.training.progress import Progress
from adamas.utils.errors import exit_code

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["cpu", "diamond"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 3], help="denoising steps")
    parser.add_argument("--fps", type=int, default=60, help="frames a second that are asked for")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch threads {torch.get_num_threads()}", flush=True)
    for preset in arguments.presets:
        with tempfile.TemporaryDirectory() as folder:
            measure(make_run(preset, Path(folder)), preset, arguments)


def make_run(preset: str, path: Path) -> Path:
    """A run folder with an untrained model."""
    preset_file = OmegaConf.load(ROOT / "config" / "preset" / f"{preset}.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(schema(), preset_file))
    models = Models(config, action_meanings(config), torch.device("cpu"))
    save_config(config, path / "config.yaml")
    parts = {"models": models.state_dict(), "progress": Progress().state_dict()}
    checkpoint.save(path / "checkpoints", 0, parts, keep=1)
    return path


def measure(run: Path, preset: str, arguments: argparse.Namespace) -> None:
    command = [sys.executable, str(ROOT / "src" / "play.py"), f"run={run}", "port=0", f"fps={arguments.fps}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        address = server.stdout.readline().split()[1]
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for steps in arguments.steps:
                page = chromium.new_page(viewport={"width": 1280, "height": 800})
                page.goto(address)
                result = play(page, steps, server.pid, arguments.seconds)
                print(f"preset={preset}, {steps} denoising steps: {result}", flush=True)
                page.close()
            chromium.close()
    finally:
        server.terminate()
        server.wait()


def play(page: Page, steps: int, server: int, seconds: int) -> str:
    page.wait_for_timeout(2000)
    page.locator("#set-stop_at_end").uncheck()
    for name, value in (("denoising_steps", steps), ("horizon", 2000)):
        slider = page.locator(f"#set-{name}")
        slider.evaluate("(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", value)
    page.keyboard.press("r")
    page.wait_for_timeout(1500)
    first, cpu, began = shown(page), processor_seconds(server), time.perf_counter()
    rates = []
    while time.perf_counter() - began < seconds:
        for key in ("ArrowLeft", "ArrowRight"):
            page.keyboard.down(key)
            page.wait_for_timeout(120)
            page.keyboard.up(key)
            page.wait_for_timeout(130)
        rates.append(int(page.locator("#fps").text_content()))
    frames, used = shown(page) - first, processor_seconds(server) - cpu
    tail = re.search(r"\d+ ms", page.locator("#latency").get_attribute("title") or "")
    latency = f"{page.locator('#latency').text_content()} ms, 95% within {tail[0] if tail else '-'}"
    return (
        f"{frames / (time.perf_counter() - began):.1f} frames/s (slowest second {min(rates)}, median {statistics.median(rates):.0f}), "
        f"key to frame {latency}, processor {1000 * used / max(frames, 1):.1f} ms a frame"
    )


def shown(page: Page) -> int:
    return int(page.locator("#step").text_content())


def processor_seconds(process: int) -> float:
    """User and system time of all its threads so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(exit_code(main))
