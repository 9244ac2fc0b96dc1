"""The exported page in headless Chromium, from a plain static server, in a subfolder."""

from __future__ import annotations

import functools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from web_dream import dream, torch_networks
from web_runs import make_awake_run

from adamas.web.export import FILM, export_page, open_rounded, play

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]
if CHROMIUM:
    from playwright.sync_api import Browser, Page, expect, sync_playwright

    expect.set_options(timeout=60_000)

SHIPPED = ROOT / "results" / "breakout-cpu" / "agent"
HOST = "127.0.0.1"
NO_WEBASSEMBLY = "delete globalThis.WebAssembly"
SIZES_OF_BUFFERS = """
globalThis.buffers = [];
globalThis.Worker = class extends Worker {
  constructor(...from) {
    super(...from);
    this.addEventListener("message", ({ data: [, pictures] }) => {
      if (pictures) buffers.push(...[pictures.dream, pictures.real, ...pictures.strip].filter(Boolean).map((one) => one.buffer.byteLength));
    });
  }
};
"""
NO_SIMD = "WebAssembly.validate = () => false"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a static server of the folder, as `python -m http.server` is one."""
    server = ThreadingHTTPServer((HOST, 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_awake_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("site")
    (folder / "games").mkdir()
    with few_starts():
        export_page(run, folder / "games" / "Breakout")
    with served(folder) as address:
        yield f"{address}/games/Breakout/"


@pytest.fixture(scope="module")
def shipped_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("shipped")
    export_page(SHIPPED, folder / "Breakout")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 25e6
    with served(folder) as address:
        yield f"{address}/Breakout/"


@contextmanager
def few_starts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adamas.web.export.STARTS", 2)
        yield


@contextmanager
def visit(browser: Browser, address: str, script: str = "", **window: object) -> Iterator[Page]:
    """A window with the page in it, which asks for nothing elsewhere and complains of nothing."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **window})
    context.add_init_script(script)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    context.on("request", lambda request: wrong.append(request.url) if f"://{HOST}:" not in request.url else None)
    page.goto(address)
    yield page
    context.close()
    assert not wrong


@contextmanager
def dreaming(browser: Browser, address: str, **window: object) -> Iterator[Page]:
    """The same, paused at its first frame."""
    with visit(browser, address, **window) as page:
        expect(page.locator("#step")).to_have_text(re.compile("[0-9]+"))
        page.keyboard.press("p")
        expect(page.locator("#pause span")).to_have_text("▶")
        page.keyboard.press("r")
        expect(page.locator("#step")).to_have_text("0")
        yield page


def picture(page: Page, canvas: str = "dream") -> np.ndarray:
    """uint8 (84, 84): what is on the canvas."""
    script = f"[...document.getElementById('{canvas}').getContext('2d').getImageData(0, 0, 84, 84).data]"
    return np.array(page.evaluate(script), np.uint8).reshape(84, 84, 4)[..., 0]


def step(page: Page) -> np.ndarray:
    """One step on; its picture."""
    next_one = int(page.locator("#step").text_content()) + 1
    page.keyboard.press(".")
    expect(page.locator("#step")).to_have_text(str(next_one))
    return picture(page)


def held(page: Page, key: str, steps: int) -> np.ndarray:
    """The picture after so many steps with the key held, from the start on."""
    page.keyboard.press("r")
    expect(page.locator("#step")).to_have_text("0")
    page.keyboard.down(key)
    shown = [step(page) for _ in range(steps)][-1]
    page.keyboard.up(key)
    return shown


def share_close(run: Path, page: Page, steps: int) -> float:
    """The share of pixels that differ by at most one grey level between the page and PyTorch, for a recording's actions."""
    shipped = open_rounded(run)
    clips, c = play(shipped), shipped.config
    actions = clips.action[0].tolist()
    start = clips.obs[0, :4].numpy(), actions[:3]
    film = dream(
        torch_networks(shipped.models),
        c.network.lstm_dim,
        c.actor_critic.frame_stack,
        *start,
        seed=5,
        choose=lambda t, _: actions[3 + t],
    )
    page.click("[data-player=film]")
    shares = [(np.abs(step(page).astype(int) - next(film).obs.astype(int)) <= 1).mean() for _ in range(steps)]
    assert np.array_equal(picture(page, "real"), clips.obs[0, 3 + steps].numpy())
    return float(np.mean(shares))


def test_a_message_holds_no_more_bytes_than_its_pictures(browser: Browser, site: str) -> None:
    with visit(browser, f"{site}#player=film", script=SIZES_OF_BUFFERS) as page:
        wait(page, lambda: page.evaluate("buffers.length") > 30)
        assert set(page.evaluate("buffers")) == {84 * 84}


def wait(page: Page, true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "waited in vain"
        page.wait_for_timeout(30)


def test_the_page_dreams_what_pytorch_dreams(browser: Browser, site: str, run: Path) -> None:
    with dreaming(browser, f"{site}#seed=5") as page, few_starts():
        assert share_close(run, page, 5) >= 0.999


@pytest.mark.slow
def test_keys_rewind_and_the_agent(browser: Browser, site: str) -> None:
    with dreaming(browser, site) as page:
        left, right, again = (held(page, key, 2) for key in ("ArrowLeft", "ArrowRight", "KeyA"))
        assert not np.array_equal(left, right)
        assert np.array_equal(left, again)
        page.keyboard.press("Backspace")
        expect(page.locator("#step")).to_have_text("1")
        page.keyboard.press("m")
        page.keyboard.press("p")
        wait(page, lambda: int(page.locator("#step").text_content()) > 4)
        assert page.locator("#bars .chosen").count() == 1
        assert "player=agent" in page.url


@pytest.mark.parametrize(
    ("script", "told"), [(NO_WEBASSEMBLY, "has no WebAssembly"), (NO_SIMD, "no SIMD instructions")]
)
def test_what_is_missing_is_told(browser: Browser, site: str, script: str, told: str) -> None:
    with visit(browser, site, script) as page:
        expect(page.locator("#missing")).to_contain_text(told)


def test_a_folder_opened_from_a_disk_tells_what_to_do(browser: Browser, tmp_path: Path) -> None:
    from adamas.web.export import copy_page

    copy_page(tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    expect(page.locator("#missing")).to_contain_text("python -m http.server")
    page.close()


@pytest.mark.slow
def test_the_shipped_agent_dreams_what_pytorch_dreams_over_50_steps(browser: Browser, shipped_site: str) -> None:
    with dreaming(browser, f"{shipped_site}#seed=5") as page:
        assert share_close(SHIPPED, page, FILM) >= 0.999


@pytest.mark.slow
def test_keys_move_the_paddle(browser: Browser, shipped_site: str) -> None:
    def paddle(shown: np.ndarray) -> float:
        bright = shown[75:78, 8:76].sum(0).astype(float)
        return float((bright * np.arange(len(bright))).sum() / bright.sum())

    with dreaming(browser, shipped_site) as page:
        left, right = (paddle(held(page, key, 10)) for key in ("ArrowLeft", "ArrowRight"))
        assert left + 10 < right


@pytest.mark.slow
def test_touch_moves_the_paddle_and_a_seed_repeats_the_agents_dream(browser: Browser, shipped_site: str) -> None:
    with dreaming(browser, shipped_site, **PHONE) as page:
        box = page.locator("#touch .LEFT").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        assert page.locator("#touch .held").count() == 1
        page.mouse.up()
    films = []
    for _ in range(2):
        with dreaming(browser, f"{shipped_site}#start=2&seed=9&player=agent") as page:
            films.append([step(page) for _ in range(20)])
    assert np.array_equal(*films)
