"""The pictures of the play page in docs/: `python scripts/play_pictures.py RUN`.

Lets the agent play a real session in headless Chromium and saves docs/play-desktop.png, docs/play-phone.png and docs/play.gif.
Needs the test extra and Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
DESKTOP = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
    "color_scheme": "dark",
}
PICTURES = 60  # pictures
STILL = 12  # the one that is shown alone
PAUSE = 60  # milliseconds between two pictures of the GIF


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder")
    run = parser.parse_args().run
    command = [sys.executable, str(ROOT / "src" / "play.py"), f"run={run}", "port=0", "fps=10"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        address = server.stdout.readline().split()[1]
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            desktop(chromium, address, ROOT / "docs")
            phone(chromium, address, ROOT / "docs")
            chromium.close()
    finally:
        server.terminate()
        server.wait()


def desktop(chromium: Browser, address: str, docs: Path) -> None:
    page = chromium.new_context(**DESKTOP).new_page()
    open_page(page, address)
    page.locator("#views [data-view=both]").click()
    page.keyboard.press("m")
    page.keyboard.press("n")
    began = time.perf_counter()
    pictures = [screenshot(page) for _ in range(PICTURES)]
    duration = 1000 * (time.perf_counter() - began) / len(pictures)  # so that it runs at the speed of the session
    pictures[STILL].save(docs / "play-desktop.png")
    small = [picture.resize((800, 500), Image.Resampling.LANCZOS).quantize(48) for picture in pictures]
    small[0].save(docs / "play.gif", save_all=True, append_images=small[1:], duration=duration, loop=0, optimize=True)
    page.context.close()


def phone(chromium: Browser, address: str, docs: Path) -> None:
    page = chromium.new_context(**PHONE).new_page()
    open_page(page, address)
    page.keyboard.press("m")
    page.keyboard.press("n")
    page.wait_for_timeout(STILL * PAUSE)
    page.screenshot(path=docs / "play-phone.png")


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_timeout(2000)
    page.locator("#set-stop_at_end").uncheck()


def screenshot(page: Page) -> Image.Image:
    """The page PAUSE milliseconds later."""
    page.wait_for_timeout(PAUSE)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


if __name__ == "__main__":
    main()
