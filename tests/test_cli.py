"""The command line, as a real process: a script that calls command_line.launch with a `run` that prints its config."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adamas.config import MEANING, Config, Replay, files, help
from adamas.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import dataclasses, json, os, signal, sys, tempfile
from pathlib import Path
from adamas.config import command_line
from adamas.utils.errors import UserError

def run(config):
    print(json.dumps({**dataclasses.asdict(config), "torch": "torch" in sys.modules}), flush=True)
    if config.env == "Nowhere":
        raise UserError("unknown game 'Nowhere'")
    if config.env == "Stop":
        return False
    if config.env == "Crash":
        raise ValueError("a bug")
    if config.env == "Interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    if config.env == "Nine":
        sys.exit(9)

def in_child(argv):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv[1:] = argv
            sys.exit(command_line.launch(run, config_dir=config_dir))
        _, status = os.waitpid(child, 0)
        out.seek(0), err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read()

config_dir = Path(sys.argv.pop(1))
if "GPU" in os.environ:
    import torch
    torch.cuda.is_available = lambda: os.environ["GPU"] == "yes"
if "EACH" in os.environ:  # many command lines, for the price of one import
    print(json.dumps([in_child(argv) for argv in json.loads(os.environ["EACH"])]))
    sys.exit()
sys.exit(command_line.launch(run, config_dir=config_dir))
"""

PRESETS = {
    "smoke": "# @package _global_\n# Minutes.\nfinal_epochs: 1\ndenoiser:\n  channels: [16]\n  depths: [1]\n",
    "cpu": "# @package _global_\n# Two hours.\nfinal_epochs: 2\n",
    "diamond": "# @package _global_\n# As published.\n",
    "wrong": "# @package _global_\ndenoiser:\n  contxt: 3\n",
}


class Terminal:
    """Starts the script in an empty folder, and sees to it that the folder stays empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cwd, self.config = folder, folder / "cwd", folder / "config"
        self.cwd.mkdir()
        (folder / "script.py").write_text(SCRIPT)
        (self.config / "preset").mkdir(parents=True)
        shutil.copy(ROOT / "config" / "train.yaml", self.config)
        for name, text in PRESETS.items():
            (self.config / "preset" / f"{name}.yaml").write_text(text)

    def __call__(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "script.py"), str(self.config), *argv]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **env}
        done = subprocess.run(command, cwd=self.cwd, env=env, capture_output=True, text=True, timeout=120)
        assert list(self.cwd.iterdir()) == []
        return done

    def configs(self, *argv: str, **env: str) -> list[dict]:
        done = self(*argv, **env)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def each(self, argvs: list[list[str]], **env: str) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of each command line, which is a process of its own."""
        done = self(EACH=json.dumps(argvs), **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def errors(self, *argvs: list[str]) -> list[str]:
        lines = []
        for code, out, err in self.each([*argvs]):
            assert (code, out) == (2, "")
            assert err.startswith("error: ")
            assert err.count("\n") == 1
            lines.append(err.removeprefix("error: ").rstrip("\n"))
        return lines


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run folder with a space and a comma in its name."""
    folder = tmp_path / "a run, saved"
    folder.mkdir()
    files.save_config(Config(preset="smoke", env="Pong", seed=9, final_epochs=3), folder / "config.yaml")
    return folder


def test_overrides_reach_the_config_and_torch_is_not_imported(terminal: Terminal) -> None:
    (config,) = terminal.configs(
        *("preset=smoke", "env=Breakout", "denoiser.optimization.learning_rate=1e-4", "checkpoint.every_minutes=inf"),
        *("initialize.from=runs/Pong/1", "initialize.parts=[denoiser]", "network={lstm_dim: 8}"),
    )
    assert (config["preset"], config["env"], config["final_epochs"]) == ("smoke", "Breakout", 1)
    assert config["denoiser"]["channels"] == [16]
    assert config["denoiser"]["optimization"]["learning_rate"] == 1e-4
    assert config["checkpoint"]["every_minutes"] == float("inf")
    assert config["initialize"] == {"from": "runs/Pong/1", "parts": ["denoiser"]}
    assert config["network"]["lstm_dim"] == 8
    assert not config["torch"]


WRONG = [
    (["densoier.context=3"], "unknown key 'densoier.context': did you mean denoiser.context?"),
    (["context=3"], "unknown key 'context': did you mean denoiser.context?"),
    (["contxt=3"], "unknown key 'contxt': did you mean denoiser.context?"),
    (["steps=3"], "unknown key 'steps': did you mean collection.steps or sampler.steps?"),
    (["qqqqqq=3"], "unknown key 'qqqqqq': --help shows every setting"),
    (["initialize.form=x"], "unknown key 'initialize.form': did you mean initialize.from?"),
    (["preset=cpu", "denoiser={contxt: 3}"], "unknown key 'denoiser.contxt': did you mean denoiser.context?"),
    (["+qqqqqq=1"], "unknown key 'qqqqqq': --help shows every setting"),
    (["hydra.verbose=true"], "unknown key 'hydra.verbose': --help shows every setting"),
    (["preset@x=cpu"], "unknown key 'preset@x': did you mean preset?"),
    (["+seed=1"], "+seed=1: a setting can be changed, but not added or deleted: write seed=VALUE"),
    (["~seed"], "~seed: a setting can be changed, but not added or deleted: write seed=VALUE"),
    (["preset=cup"], "unknown preset 'cup': did you mean cpu? presets: cpu, diamond, smoke, wrong"),
    (["-m", "preset=cpu,xyz"], "unknown preset 'xyz': presets: cpu, diamond, smoke, wrong"),
    (["preset=null"], "unknown preset 'null': presets: cpu, diamond, smoke, wrong"),
    (
        ["preset=wrong"],
        "In 'preset/wrong': ConfigKeyError raised while composing config: Key 'contxt' not in 'Denoiser'",
    ),
    (["preset=cpu", "seed=abc"], "seed=abc: a whole number is needed"),
    (["preset=cpu", "seed=1.5"], "seed=1.5: a whole number is needed"),
    (["preset=cpu", "seed=null"], "seed=null: a whole number is needed"),
    (["preset=cpu", "env=[1]"], "env=[1]: text is needed"),
    (["preset=cpu", "sampler.s_churn=x"], "sampler.s_churn=x: a number is needed"),
    (["preset=cpu", "denoiser.channels=64"], "denoiser.channels=64: a list of whole numbers such as [1,2] is needed"),
    (["preset=cpu", "replay.age_weights=[a]"], "replay.age_weights[0]=a: a list of numbers such as [0.5,1] is needed"),
    (
        ["preset=cpu", "atari=3"],
        "atari=3: this is a group of settings: set one of them, such as atari.repeat_action_probability",
    ),
    (["preset=cpu", "seed=???"], "seed has no value: give it one"),
    (["preset=cpu", "env=${nowhere}"], "env: Interpolation key 'nowhere' not found"),
    (["preset=cpu", "seed=-1"], "seed=-1 is too small: the least is 0"),
    (["preset=cpu", "policy=dreamt"], "policy=dreamt is not one of imagined, model_free, dyna"),
    (
        ["preset=cpu", "policy=model_free", "q_network.replay_ratio=0"],
        "policy=model_free learns from the replay alone: set q_network.replay_ratio above 0",
    ),
    (
        ["preset=cpu", "actor_critic.minibatches=3", "actor_critic.optimization.batch_size=2"],
        "actor_critic.minibatches=3 is more than there are rollouts, 2: lower it",
    ),
    (["preset=cpu", "initialize.parts=[actor]"], "initialize.parts=['actor'] must be a list of some of denoiser"),
    (
        ["preset=cpu", "replay={event_share: 0.6, direction_change_share: 0.4}"],
        "replay.event_share=0.6 and replay.direction_change_share=0.4 leave nothing for other frames: together they",
    ),
    (
        ["preset=diamond", "reward_end.predict_divergence=true"],
        "reward_end.predict_divergence=true needs imagined frames to learn from: set reward_end.imagined_share",
    ),
    (
        ["preset=cpu", "denoiser.context=19", "network.condition_channels=38", "reward_end.imagined_share=0.5"],
        "reward_end.imagined_share needs frames to imagine after denoiser.context=19, and its segments have 19: lower",
    ),
    (["env"], "'env' cannot be read: write name=value, and a list as name=[1,2]"),
    (["=3"], "'=3' cannot be read: write name=value, and a list as name=[1,2]"),
    (["denoiser.channels=[1,2"], "'denoiser.channels=[1,2' cannot be read: write name=value"),
    (["resume=a(b)"], "resume=a(b) is not a run folder: it has no config.yaml"),
    (["env=a=b", "preset=cpu", "seed=x"], "seed=x: a whole number is needed"),
    (["seed=1,2"], "seed=1,2 has several values: add -m for one run each, or write a list as [1,2]"),
    (["-m", "seed=range(3,0)"], "seed=range(3,0) has no values to try: write them as seed=1,2 or seed=range(0,4)"),
    (["-m", "seed=interval(0,1)"], "seed=interval(0,1) has no values to try"),
    (["--foo"], "unrecognized arguments: --foo; --help shows what there is"),
    (["-m", "preset=cpu", "seed=1,abc"], "seed=abc: a whole number is needed"),
    (["-m", "preset=cpu", "seed=1,-1"], "seed=-1 is too small: the least is 0"),
]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str]]:
    return Terminal(tmp_path_factory.mktemp("wrong")).each([argv for argv, _ in WRONG])


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[" ".join(argv) for argv, _ in WRONG])
def test_a_mistake_is_one_line_and_nothing_runs(wrong: list[tuple[int, str, str]], index: int) -> None:
    code, out, err = wrong[index]
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {WRONG[index][1]}")
    assert err.count("\n") == 1


def test_what_run_raises(terminal: Terminal) -> None:
    names = ("Nowhere", "Interrupt", "Nine")
    error, interrupt, nine = terminal.each([["preset=cpu", f"env={name}"] for name in names])
    assert error[::2] == [2, "error: unknown game 'Nowhere'\n"]
    assert interrupt[::2] == [128 + signal.SIGINT, ""]
    assert nine[0] == 9
    crash = terminal("preset=cpu", "env=Crash")
    assert crash.returncode == 1
    assert crash.stderr.startswith("Traceback")
    assert crash.stderr.endswith("ValueError: a bug\n")
    assert "HYDRA_FULL_ERROR" not in crash.stderr


def test_sweep_runs_every_combination_in_order(terminal: Terminal) -> None:
    configs = terminal.configs("env=Breakout,Pong", "-m", "seed=1,2", "preset=smoke")
    assert [(c["env"], c["seed"]) for c in configs] == [("Breakout", 1), ("Breakout", 2), ("Pong", 1), ("Pong", 2)]
    assert [c["preset"] for c in terminal.configs("-m", "preset=smoke,cpu")] == ["smoke", "cpu"]


def test_sweep_goes_on_after_a_job_that_fails_and_names_it_at_the_end(terminal: Terminal) -> None:
    done = terminal("-m", "env=Pong,Nowhere,Breakout", "preset=cpu")
    failed = "error: job 2 of 3 failed: env=Nowhere preset=cpu"
    assert (done.returncode, done.stderr) == (2, f"error: unknown game 'Nowhere'\n{failed}\n")
    jobs = [line for line in done.stdout.splitlines() if line.startswith("job")]
    assert [job.partition(":")[0] for job in jobs] == ["job 1 of 3", "job 2 of 3", "job 3 of 3"]
    done = terminal("-m", "env=Crash,Breakout", "preset=cpu")
    assert done.returncode == 1
    assert "ValueError: a bug" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: job 1 of 2 failed: ")
    assert '"env": "Breakout"' in done.stdout


def test_sweep_ends_with_a_job_that_was_asked_to_stop(terminal: Terminal) -> None:
    assert [config["env"] for config in terminal.configs("-m", "env=Pong,Stop,Breakout", "preset=cpu")] == [
        "Pong",
        "Stop",
    ]


def test_of_two_presets_the_last_one_counts_quoted_or_not(terminal: Terminal) -> None:
    for last in ("preset='smoke'", "preset= smoke "):
        (config,) = terminal.configs("preset=cpu", last, "seed=1", "seed=2")
        assert (config["preset"], config["seed"]) == ("smoke", 2)
    swept = terminal.configs("-m", "preset=cpu,smoke", "seed=1,2", "seed=3,4", "preset=smoke")
    assert [(config["preset"], config["seed"]) for config in swept] == [("smoke", 3), ("smoke", 4)]


def test_preset_that_is_picked(terminal: Terminal) -> None:
    first, config = terminal("env=Pong", GPU="no").stdout.splitlines()
    assert first == "preset=cpu: no GPU was found; preset=diamond trains the published size"
    assert json.loads(config)["preset"] == "cpu"


def test_preset_that_is_picked_where_there_is_a_gpu(terminal: Terminal) -> None:
    (_, picked, _), (_, for_cpu, _) = terminal.each([["env=Pong"], ["device=cpu"]], GPU="yes")
    first, config = picked.splitlines()
    assert first == "preset=diamond: a GPU was found; preset=cpu trains a smaller model"
    assert json.loads(config)["preset"] == "diamond"
    assert for_cpu.startswith("preset=cpu: device=cpu was asked for;")


def test_resume_takes_the_saved_config_and_overrides_on_top(terminal: Terminal, saved: Path) -> None:
    (config,) = terminal.configs(f"resume='{saved}'", "final_epochs=60")
    expected = Config(preset="smoke", env="Pong", seed=9, final_epochs=60, resume=str(saved))
    assert config == {**dataclasses.asdict(expected), "torch": False}


def test_resume_mistakes(terminal: Terminal, saved: Path) -> None:
    resume = f"resume='{saved}'"
    keys = ["preset=cpu", "env=Pong", "seed=2", "initialize.from=x", "denoiser.target=change"]
    keys += [f"{setting}=1" for setting in MEANING]
    typed, *not_these, sweep, several, nowhere, empty = terminal.errors(
        [resume, "final_epochs=x"],
        *([resume, key] for key in keys),
        *(["-m", resume], ["-m", "resume=a,b"], ["resume=nowhere"], ["resume="]),
    )
    assert typed == "final_epochs=x: a whole number is needed"
    for key, error in zip(keys, not_these, strict=True):
        assert error.startswith(f"{key.split('=')[0]}= cannot be used with resume=")
    assert sweep.startswith("-m cannot be used with resume=")
    assert several == sweep
    assert nowhere == "resume=nowhere is not a run folder: it has no config.yaml"
    assert empty == "resume= is not a run folder: it has no config.yaml"
    (saved / "config.yaml").write_text("sede: 3\n")
    assert terminal.errors([resume]) == [f"{saved}/config.yaml: unknown key 'sede': did you mean seed?"]


def test_a_resume_can_move_the_dataset_and_not_drop_it(terminal: Terminal, saved: Path) -> None:
    resume = f"resume='{saved}'"
    assert terminal.errors([resume, "dataset=there"])[0].startswith("dataset= says where the dataset of a run is now")
    files.save_config(Config(preset="smoke", dataset="here"), saved / "config.yaml")
    assert terminal.configs(resume, "dataset=there")[0]["dataset"] == "there"
    assert terminal.errors([resume, "dataset=null"])[0].endswith(f"{saved} goes on with it: drop it")


def test_help_shows_the_usual_commands_the_presets_and_every_setting(terminal: Terminal) -> None:
    done = terminal("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "adamas train env=Breakout",
        "preset=smoke",
        "Minutes.",
        "sampler.method=euler",
        "(euler, heun)",
    ):
        assert text in done.stdout
    assert help.describe(Config) in done.stdout


def test_describe_names_each_setting_with_its_default() -> None:
    lines = [line.split()[0] for line in help.describe(Config).splitlines() if line.startswith("  ")]
    shown = dict(line.split("=") for line in lines)
    assert shown["denoiser.optimization.learning_rate"] == "0.0001"
    assert shown["actor_critic.optimization.first_updates"] == "5000"
    assert (shown["resume"], shown["initialize.from"], shown["sampler.sigma_max"]) == ("null", "null", "5.0")
    assert len(shown) == _count(dataclasses.asdict(Config()))


def _count(tree: dict) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in tree.values())


def test_cfg_job_prints_what_the_run_folder_would_hold(terminal: Terminal, tmp_path: Path) -> None:
    done = terminal("--cfg", "job", "preset=smoke", "seed=4")
    files.save_config(files.load_config(_written(tmp_path / "shown.yaml", done.stdout)), tmp_path / "saved.yaml")
    assert (tmp_path / "saved.yaml").read_text().partition("\n")[2] == done.stdout
    assert files.load_config(tmp_path / "saved.yaml").preset == "smoke"


@pytest.mark.parametrize(
    "text", ["2024-01-01", "1e5", "007", "no", "null", "", "a: b", "[1]", "#", "é\n'\"", "${x}", "a\\${"]
)
def test_saved_texts_read_back_exactly(tmp_path: Path, text: str) -> None:
    config = Config(env=text, dataset=text, initialize={"from": text, "parts": []})
    files.save_config(config, tmp_path / "config.yaml")
    assert files.load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("number", [1e-5, 0.1 + 0.2, 1e22, float("inf"), 3.0])
def test_saved_numbers_read_back_exactly(tmp_path: Path, number: float) -> None:
    config = Config(replay=Replay(age_weights=[number]))
    config.denoiser.optimization.learning_rate = number
    files.save_config(config, tmp_path / "config.yaml")
    assert files.load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("denoiser:\n  contxt: 3\n", "unknown key 'denoiser.contxt': did you mean denoiser.context?"),
        ("initialize:\n  form: 3\n", "unknown key 'initialize.form': did you mean initialize.from?"),
        ("seed: abc\n", "seed=abc: a whole number is needed"),
        ("seed: [\n", "cannot be read: while parsing"),
        ("- 1\n", "it holds no settings"),
        ("5\n", "it holds no settings"),
        ("", "is empty"),
        (None, "cannot be read: "),
    ],
)
def test_damaged_saved_config_names_the_file(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as raised:
        files.load_config(path)
    assert str(raised.value).startswith(str(path))
    assert words in str(raised.value)


def test_settings_newer_than_the_file_get_their_default(tmp_path: Path) -> None:
    assert files.load_config(_written(tmp_path / "config.yaml", "seed: 3\n")) == Config(seed=3)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "config" / "preset").glob("*.yaml")))
def test_presets_of_the_repository_compose(terminal: Terminal, preset: str) -> None:
    terminal.config = ROOT / "config"
    (config,) = terminal.configs(f"preset={preset}")
    assert config["preset"] == preset
