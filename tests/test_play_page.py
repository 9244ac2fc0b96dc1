"""The real page in headless Chromium, with a real server and the real game behind it."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import mostly_slow, read_dataset
from playing import Served, new_session

from adamas.play.auth import AccessControl
from adamas.play.settings import Settings
from adamas.training.load_run import OpenedRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]
if CHROMIUM:
    from playwright.sync_api import Browser, Page, expect, sync_playwright

    expect.set_options(timeout=20_000)

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def served(agent: OpenedRun, tmp_path: Path) -> Iterator[Served]:
    session = new_session(agent, tmp_path, fps=Settings().fps)
    made = Served(session)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    with visit(browser, served) as page:
        expect(page.locator("#step")).to_have_text(re.compile("[0-9]+"))  # the first frame is there
        yield page


class visit:
    """A browser window of its own with the page in it. At the end the page must not have complained of anything."""

    def __init__(self, browser: Browser, served: Served, script: str = "", **window: object) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **window})
        self.context.add_init_script(script)  # runs before those of the page
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.page.goto(address(served))

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *error: object) -> None:
        self.context.close()
        assert not [text for text in self.complaints if "401" not in text and "WebSocket" not in text]


def address(served: Served) -> str:
    return f"http://{served.host}/?token={served.access.token}"


def wait(page: Page, true: Callable[[], bool]) -> None:
    """The page's policy forbids playwright to wait for a script."""
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until, "waited in vain"
        page.wait_for_timeout(30)


def step(page: Page) -> int:
    """The step that it shows, 0 before its first picture."""
    text = page.locator("#step").text_content()
    return int(text) if text.isdecimal() else 0


def picture(page: Page, canvas: str) -> np.ndarray:
    """uint8 (84, 84): what is on the canvas."""
    script = f"[...document.getElementById('{canvas}').getContext('2d').getImageData(0, 0, 84, 84).data]"
    return np.array(page.evaluate(script), np.uint8).reshape(84, 84, 4)[..., 0]


def paddle(page: Page) -> float:
    """The column of its middle, in the real game."""
    bright = picture(page, "real")[75:78, 5:79].sum(0).astype(float)
    return float((bright * np.arange(len(bright))).sum() / bright.sum())


def hold(page: Page, key: str, steps: int = 14) -> None:
    page.keyboard.down(key)
    first = step(page)
    wait(page, lambda: step(page) >= first + steps)
    page.keyboard.up(key)


def pause(page: Page) -> None:
    page.keyboard.press("p")
    expect(page.locator("#pause span")).to_have_text("▶")


def slide(page: Page, name: str, value: int) -> None:
    page.locator(f"#set-{name}").evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", value
    )
    expect(page.locator(f"#value-{name}")).to_have_text(str(value))


@pytest.mark.parametrize(
    ("left", "right"), [("ArrowLeft", "ArrowRight"), pytest.param("a", "D", marks=pytest.mark.slow)]
)
def test_keys_move_the_paddle(page: Page, left: str, right: str) -> None:
    hold(page, left)
    expect(page.locator("#bars .chosen")).to_have_text(re.compile("left|wait"))
    at_left = paddle(page)
    hold(page, right)
    assert paddle(page) > at_left + 20
    assert int(page.locator("#latency").text_content()) >= 0


def key_event(page: Page, kind: str, code: str, key: str) -> None:
    page.evaluate(
        "([kind, code, key]) => { document.body.dispatchEvent(new KeyboardEvent(kind, { code, key, bubbles: true })) }",
        [kind, code, key],
    )


@pytest.mark.parametrize("key", mostly_slow(["ф", "q", "א", "Unidentified"], ["ф"]))
def test_a_key_is_known_by_its_place_in_every_layout(page: Page, served: Served, key: str) -> None:
    key_event(page, "keydown", "KeyA", key)
    wait(page, lambda: served.session.state.action == 3)
    key_event(page, "keyup", "KeyA", "a")  # the layout was changed while the key was held
    wait(page, lambda: served.session._held == [])
    key_event(page, "keydown", "KeyM", "ь")
    wait(page, lambda: served.session.player == "agent")
    key_event(page, "keydown", "KeyP", "з")
    wait(page, lambda: served.session.paused)


def hide(page: Page) -> None:
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'));"
    )


@pytest.mark.parametrize(
    "leave",
    [
        hide,
        lambda page: page.evaluate("dispatchEvent(new Event('blur')), undefined"),
        pytest.param(lambda page: page.locator("#tabs [data-tab=browse]").click(), marks=pytest.mark.slow),
        pytest.param(lambda page: page.keyboard.press("Control+k"), marks=pytest.mark.slow),
    ],
)
def test_keys_are_released_when_the_page_is_left(page: Page, served: Served, leave: Callable[[Page], None]) -> None:
    page.keyboard.down("ArrowLeft")
    page.locator("#touch .RIGHT").dispatch_event("pointerdown", {"pointerId": 1})
    wait(page, lambda: served.session._held == ["LEFT", "RIGHT"])
    leave(page)
    wait(page, lambda: served.session._held == [])
    expect(page.locator("#touch .held")).to_have_count(0)


def test_the_hints_name_the_keys_of_the_players_keyboard(browser: Browser, served: Served) -> None:
    azerty = "new Map([['KeyW', 'z'], ['KeyA', 'q'], ['KeyS', 's'], ['KeyD', 'd'], ['KeyM', ','], ['KeyN', 'т']])"
    script = f"navigator.keyboard.getLayoutMap = async () => {azerty};"
    with visit(browser, served, script) as page:
        expect(page.locator("#keys")).to_contain_text("arrows or ZQSD")
        expect(page.locator("h2 kbd")).to_have_text(",")
        expect(page.locator("#new-episode kbd")).to_have_text(
            "N"
        )  # keyboards with Cyrillic letters have Latin ones too


@pytest.mark.slow
def test_touch_moves_the_paddle_and_the_phone_does_not_scroll_sideways(browser: Browser, served: Served) -> None:
    with visit(browser, served, **PHONE) as page:
        for name, key in (("LEFT", 3), ("RIGHT", 2)):
            button = page.locator(f"#touch .{name}")
            button.dispatch_event("pointerdown", {"pointerId": 1})
            expect(button).to_have_class(re.compile("held"))
            wait(page, lambda key=key: served.session.state.action == key)
            button.dispatch_event("pointerup", {"pointerId": 1})
            wait(page, lambda: served.session.state.action == 0)
        box = page.locator("#touch .FIRE").bounding_box()
        assert box["y"] + box["height"] <= 844  # within reach of a thumb
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_agent_plays_and_gives_the_game_back(page: Page, served: Served) -> None:
    wait(page, lambda: step(page) >= 3)
    assert served.session.state.action == 0  # nobody pressed anything
    page.keyboard.press("m")
    expect(page.locator("#player [data-player=agent]")).to_have_attribute("aria-pressed", "true")
    here = step(page)
    wait(page, lambda: step(page) >= here + 20)
    assert len({moment.action for moment in served.session.history.states[here + 1 :]}) > 1
    shares = page.locator("#bars dd").all_text_contents()
    assert abs(sum(int(share.rstrip("%")) for share in shares[:4]) - 100) <= 2
    page.locator("#player [data-player=human]").click()
    wait(page, lambda: served.session.player == "human")


@pytest.mark.slow
def test_rewind_shows_the_same_pixels_again(page: Page) -> None:
    page.keyboard.press("m")
    wait(page, lambda: step(page) >= 6)
    pause(page)
    here, shown = step(page), picture(page, "dream")
    for _ in range(4):
        page.keyboard.press("Backspace")
    expect(page.locator("#step")).to_have_text(str(here - 4))
    assert not np.array_equal(picture(page, "dream"), shown)
    for _ in range(4):
        page.keyboard.press(".")
    expect(page.locator("#step")).to_have_text(str(here))
    assert np.array_equal(picture(page, "dream"), shown)
    page.locator("#timeline").evaluate("(e) => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    expect(page.locator("#step")).to_have_text("1")
    page.keyboard.press("r")
    expect(page.locator("#step")).to_have_text("0")


@pytest.mark.slow
def test_a_held_shortcut_waits_for_a_slow_model(page: Page, served: Served) -> None:
    pause(page)
    here, go_on = step(page), threading.Event()
    served.server._worker.submit(go_on.wait)
    for _ in range(20):
        page.keyboard.down(".")  # all but the first are repeats
    page.keyboard.up(".")
    go_on.set()
    expect(page.locator("#step")).to_have_text(str(here + 1))
    page.keyboard.press(".")
    expect(page.locator("#step")).to_have_text(str(here + 2))
    assert served.session.state.step == here + 2


@pytest.mark.slow
def test_sliders_act_at_once(page: Page, served: Served) -> None:
    slide(page, "denoising_steps", 4)
    expect(page.locator("#denoising-steps canvas")).to_have_count(8)
    slide(page, "fps", 30)
    assert served.session.settings.fps == 30
    page.locator("#set-initial_noise").select_option("sigma_max")
    wait(page, lambda: served.session.settings.initial_noise == "sigma_max")
    slide(page, "horizon", 10)
    expect(page.locator("#ended b")).to_have_text("The horizon is reached")
    page.locator("#set-show_denoising").uncheck()
    expect(page.locator("#denoising")).to_be_hidden()


@pytest.mark.slow
def test_the_world_model_beside_the_real_game(page: Page) -> None:
    wait(page, lambda: step(page) >= 3)  # the first frame has no difference
    pause(page)
    expect(page.locator("#real")).to_be_hidden()
    page.keyboard.press("v")
    expect(page.locator("#dream")).to_be_hidden()
    page.keyboard.press("v")
    for canvas in ("dream", "real", "difference", "distance"):
        expect(page.locator(f"#{canvas}")).to_be_visible()
    assert picture(page, "difference").any()  # at once, not with the next frame
    expect(page.locator("#distance-now")).to_contain_text("% mean difference")
    page.locator("#set-initial_state").select_option("replay")
    expect(page.locator("#views [data-view=both]")).to_be_disabled()
    expect(page.locator("#real")).to_be_hidden()


@pytest.mark.slow
def test_a_recording_is_downloaded_and_training_can_read_it(page: Page, served: Served, tmp_path: Path) -> None:
    page.keyboard.press("c")
    wait(page, lambda: served.session.recorder is not None and served.session.recorder.steps >= 5)
    page.reload()  # loses nothing
    expect(page.locator("#recorded")).to_have_text(re.compile("[0-9]+ steps"))
    page.locator("#record").click()
    expect(page.locator("#recordings a")).to_have_count(3)
    expect(page.locator("#notification")).to_contain_text("saved as")
    for number, kind in enumerate(("npz", "gif")):
        with page.expect_download() as download:
            page.locator("#recordings a").nth(number).click()
        download.value.save_as(tmp_path / f"download.{kind}")
    assert read_dataset(tmp_path / "download.npz", [1.0]).num_steps >= 5
    assert (tmp_path / "download.gif").read_bytes().startswith(b"GIF89a")


def test_a_recording_of_any_name_can_be_downloaded(browser: Browser, served: Served) -> None:
    name = "my try 50%20 #1.npz"
    served.session.datasets.recordings.mkdir()
    (served.session.datasets.recordings / name).write_bytes(b"recorded")
    with visit(browser, served) as page:
        with page.expect_download() as download:
            page.locator("#recordings a").first.click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).read_bytes() == b"recorded"


@pytest.mark.slow
def test_datasets_are_browsed(page: Page, made_run: Path) -> None:
    page.locator("#tabs [data-tab=browse]").click()
    expect(page.locator("#episode-facts")).to_contain_text("step 1 of")
    page.locator("#next-reward").click()
    expect(page.locator("#episode-facts")).to_contain_text("step 11 of")
    expect(page.locator("#row-facts")).to_contain_text("reward 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#episode-facts")).to_contain_text("step 12 of")
    rows = np.load(next((made_run / "replay").glob("*.npz")))["obs"]
    assert np.array_equal(picture(page, "row-frame"), rows[11])


def test_a_lost_connection_comes_back_by_itself(page: Page, served: Served) -> None:
    page.keyboard.press("c")
    expect(page.locator("#recorded")).to_have_text(re.compile("[0-9]+ steps"))  # else the cut can swallow the key
    served.cut()
    expect(page.locator("#dialog")).to_be_visible()
    expect(page.locator("#dialog p")).to_contain_text("Trying again")
    expect(page.locator("#dialog")).to_be_hidden()
    here = step(page)
    wait(page, lambda: step(page) > here)
    expect(page.locator("#recorded")).to_have_text(re.compile("[0-9]+ steps"))


@pytest.mark.slow
def test_after_a_restart_the_page_asks_for_the_new_address(page: Page, served: Served) -> None:
    wait(page, lambda: step(page) >= 1)
    served.server.access = AccessControl()
    served.cut()
    expect(page.locator("#dialog p")).to_contain_text("another token")


def test_a_wrong_token_and_a_foreign_page_are_refused(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    for query in ("", "?token=wrong"):
        assert page.goto(f"http://{served.host}/{query}").status == 401
    page.goto("about:blank")
    socket = f"ws://{served.host}/socket?token={served.access.token}&client=x"
    script = "(url) => new Promise((done) => { const s = new WebSocket(url); s.onopen = () => done('in'); s.onerror = () => done('out'); })"
    assert page.evaluate(script, socket) == "out"
    assert served.server._player is None
    page.close()


@pytest.mark.slow
def test_a_second_window_asks_before_it_takes_over(browser: Browser, page: Page, served: Served) -> None:
    wait(page, lambda: step(page) >= 1)
    with visit(browser, served) as second:
        expect(second.locator("#dialog p")).to_have_text("Somebody else is playing.")
        second.locator("#dialog button").click()
        expect(second.locator("#dialog")).to_be_hidden()
        expect(page.locator("#dialog p")).to_have_text("Another page has taken over.")
        here = step(second)
        wait(second, lambda: step(second) > here)
        page.locator("#dialog button").click()
        expect(page.locator("#dialog")).to_be_hidden()


@pytest.mark.slow
def test_churn_has_no_control_where_the_sampler_cannot_add_noise(browser: Browser, served: Served) -> None:
    served.session.agent.config.sampler.method = "heun"
    with visit(browser, served) as page:
        expect(page.locator("#set-temperature")).to_be_visible()
        expect(page.locator("#set-s_churn")).to_have_count(0)


@pytest.mark.slow
def test_a_model_that_is_too_slow_is_told_of_and_the_page_answers(page: Page, served: Served) -> None:
    quick = served.session.tick
    served.session.tick = lambda: (time.sleep(0.2), quick())[1]
    expect(page.locator("#notification")).to_contain_text(re.compile("the model makes [0-9]+ of 15 frames/s"))
    pause(page)
