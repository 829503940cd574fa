# ruff: noqa: E501 - messages in one piece
"""The command line: every command, one-sentence errors, exit statuses, and a help that costs no torch."""

import _thread
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from syn2co.core.processes import LEAVE
from syn2co.core.stuck_threads import map_in_threads


def test_help_imports_no_torch():
    """So that it answers in under half a second."""
    code = """
import sys
from click.testing import CliRunner
from syn2co.cli.main import cli
for arguments in (["--help"], ["--version"], ["pretrain", "--help"], ["evaluate", "--help"], ["doctor", "--help"]):
    assert CliRunner().invoke(cli, arguments).exit_code == 0, arguments
heavy = {"torch", "timm", "cv2", "numpy", "sklearn", "scipy", "matplotlib", "pydantic", "rich", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recipes_without_torch():
    code = """
import sys
from click.testing import CliRunner
from syn2co.cli.main import cli
assert "synco-deit-s" in CliRunner().invoke(cli, ["recipes"]).output
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "syn2co", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("syn2co, version ")
    done = subprocess.run([sys.executable, "-m", "syn2co", "pretrian"], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no command 'pretrian'; did you mean pretrain?" in done.stderr


def test_commands_in_the_order_of_work(run):
    code, out, _ = run("--help")
    assert code == 0
    places = [out.index(f"\n  {name} ") for name in ("pretrain", "evaluate", "doctor", "demo", "recipes")]
    assert places == sorted(places)


def test_recipes_lists_prints_and_feeds_back(run, tmp_path):
    code, out, _ = run("recipes")
    assert code == 0 and "\nsynco-deit-s-released " in out
    code, out, _ = run("recipes", "demo", "--json")
    assert code == 0
    (tmp_path / "demo.json").write_text(out)
    from syn2co.pretraining.config import load_config
    from syn2co.pretraining.recipes import recipe

    assert load_config(tmp_path / "demo.json") == recipe("demo")


@pytest.fixture
def config_file(tiny, tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(tiny("training.steps=4").to_json())
    return path


def test_pretrain_then_evaluate_then_doctor(run, config_file, image_folder, tmp_path):
    out = tmp_path / "runs" / "mine"
    code, said, error = run("pretrain", "--config", config_file, "--out", out, "--set", "heads.width=8")
    assert code == 0 and f"{out}: 4 steps done. Next: syn2co evaluate {out} --train SRC --test SRC" in said
    assert "Traceback" not in error
    assert json.loads((out / "config.json").read_text())["heads"]["width"] == 8
    same = ("--config", config_file, "--out", out, "--set", "heads.width=8", "--quiet")
    assert run("pretrain", *same)[::2] == (0, "")
    code, said, error = run("doctor", out)
    assert code == 0 and said


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("pretrain", "--recipe", "demo", "--budget", "2h", "--out", "x"), "--budget is of the recipe auto"),
        (
            ("pretrain", "--recipe", "demo", "--extend", "--out", "x"),
            "--extend takes the config of the run in --out; give",
        ),
        (("pretrain", "--budget", "soon", "--out", "x"), "'soon' is no time; give hours, minutes or seconds"),
        (("pretrain", "--recipe", "demo", "--config", "y", "--out", "x"), "give either --recipe NAME or --config FILE"),
        (("pretrain", "--recipe", "demo"), "Missing option '--out'"),
        (("pretrain", "--recipe", "demo", "--out", "x", "--seeed", "3"), "No such option"),
        (("recipes", "--json"), "--json needs the name of a recipe"),
        (("evaluate", "x", "--train", "builtin:digits"), "--test: is missing beside --train; give both"),
        (("prtrain",), "there is no command 'prtrain'; did you mean pretrain?"),
    ],
)
def test_wrong_usage(arguments, sentence, run):
    """Unknown flags are refused: the released code swallows them (defect 4)."""
    code, out, error = run(*arguments)
    assert (code, out) == (2, "")
    assert sentence in error


def _pretrain(*more: str) -> tuple[str, ...]:
    return ("pretrain", "--quiet", "--config", "CONFIG", "--out", "OUT", *more)


@pytest.mark.parametrize(
    "arguments, kind, sentence",
    [
        (("pretrain", "--recipe", "dmo", "--out", "OUT"), "ConfigError", "--recipe dmo: there is no such recipe; did you"),
        (("pretrain", "--recipe", "moby-deit-s", "--out", "OUT"), "ConfigError", "data.real: names no images; give folders"),
        (("pretrain", "--out", "OUT"), "ConfigError", "data.real: names no images; give folders"),
        (("pretrain", "--extend", "--out", "OUT"), "ConfigError", "--extend run: there is no run in this folder; train one"),
        (("recipes", "auto"), "ConfigError", "--recipe auto: is chosen from images, by `syn2co pretrain` alone; name"),
        (("pretrain", "--config", "NOTHING", "--out", "OUT"), "ConfigError", "--config nothing.json: cannot be read"),
        (_pretrain("--set", "queue.sise=3"), "ConfigError", "--set queue.sise: there is no such setting; did you mean"),
        (_pretrain("--set", "negatives.hardest=61"), "ConfigError", "negatives.hardest = 61: must be at most queue.size"),
        (_pretrain("--set", "encoder.name=vit_tinny"), "ConfigError", "encoder.name = vit_tinny: timm has no such model;"),
        (_pretrain("--set", "training.batch=27"), "DataError", "data.real: 26 images are fewer than training.batch = 27"),
        (_pretrain("--set", "machine.device=gpu"), "ConfigError", "machine.device = gpu: must be auto, cpu, cuda, cuda:N"),
        (_pretrain("--set", "machine.device=cuda"), "ConfigError", "machine.device = cuda: torch sees no CUDA GPU; use"),
        (_pretrain("--set", "training.steps=2"), "ConfigError", "negatives.start = 1, negatives.stop = inf: the window of"),
        (_pretrain("--set", "training.steps=null", "--set", "training.epochs=0.01", "--set", "negatives.start=0"),
         "ConfigError", "training.epochs = 0.01: is less than one step of 3 per epoch; raise it"),
        (_pretrain("--set", "optimizer.betas=[0.9,1]"), "ConfigError", "optimizer.betas.1 = 1: input should be less than 1"),
        (_pretrain("--real", "builtin:digits", "--set", "data.real=x"), "ConfigError", "--set data.real: the sources are na"),
        (_pretrain("--real", "EMPTY"), "DataError", "empty"),
        (_pretrain("--real", "MISSING"), "DataError", "missing"),
        (("doctor", "MISSING"), "", "missing"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence(arguments, kind, sentence, run, config_file, tmp_path):
    if "cuda" in " ".join(arguments) and "machine.device=cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("here is a GPU")
    (tmp_path / "empty").mkdir()
    places = {
        "CONFIG": config_file, "OUT": tmp_path / "run", "NOTHING": tmp_path / "nothing.json",
        "EMPTY": tmp_path / "empty", "MISSING": tmp_path / "missing",
    }  # fmt: skip
    code, out, error = run(*(places.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert error.startswith(kind) and sentence in error
    assert error.count("\n") == 1 and "Traceback" not in error


def test_one_image_and_an_unreadable_one(run, config_file, tmp_path):
    from tiny_images import write_images

    code, _, error = run("pretrain", "--config", config_file, "--out", tmp_path / "run", "--set",
                         f'data.real=["{write_images(tmp_path / "one", 1)}"]')  # fmt: skip
    assert code == 2 and "data.real: 1 images are fewer than training.batch = 8" in error
    (tmp_path / "one" / "class-0" / "00.png").write_bytes(b"no image")
    code, _, error = run("pretrain", "--quiet", "--config", config_file, "--out", tmp_path / "other", "--set",
                         f'data.real=["{tmp_path / "one"}"]')  # fmt: skip
    assert code == 2 and error.startswith("BrokenSet: none of the 1 images can be read")


def test_ctrl_c_before_training(monkeypatch, run, config_file, tmp_path):
    import syn2co.data.training_data as module

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "open_images", interrupted)
    assert run("pretrain", "--config", config_file, "--out", tmp_path / "run")[0] == 130


def test_the_public_names():
    import syn2co

    assert set(syn2co.__all__) >= {
        "pretrain",
        "evaluate",
        "load_encoder",
        "open_images",
        "Config",
        "doctor",
        "audit",
        "demo",
        "generate",
    }
    for name in syn2co.__all__:
        assert getattr(syn2co, name) is not None
    with pytest.raises(AttributeError, match="No syn2co attribute train_me"):
        syn2co.train_me  # noqa: B018


def test_left_over_variables_of_a_launcher_silence_nothing(run, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert run("recipes", "no-such")[2].startswith("ConfigError: ")


@pytest.mark.parametrize("number", LEAVE)
def test_a_signal_to_leave_ends_any_command_in_order(number, run, monkeypatch):
    import syn2co.pretraining.recipes as recipes

    cleaned = []

    def told(_):
        try:
            signal.raise_signal(number)
        except Exception:  # such as a loop that goes on without what has failed
            return
        finally:
            cleaned.append(number)

    monkeypatch.setattr(recipes, "recipe", told)
    code, _, error = run("recipes", "demo")
    assert code == 143 and cleaned == [number]
    name = signal.Signals(number).name
    assert error == f"ended by {name}; what was finished is kept, and used by the same command\n"
    assert signal.getsignal(number) == signal.SIG_DFL


def test_no_folder_for_temporary_files_is_one_sentence(run, monkeypatch):
    """As in a container without one that can be written; some library asks while it is imported."""
    import syn2co.pretraining.recipes as recipes

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [])
    monkeypatch.setattr(recipes, "recipe", lambda _: tempfile.gettempdir())
    sentence = "TMPDIR: no folder for temporary files can be written; name one in this variable\n"
    assert run("recipes", "demo") == (2, "", sentence)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("Cannot allocate memory"), ImportError("x.so: failed to map segment")]
)
def test_a_lack_of_memory_ends_any_command_in_one_sentence(error, run, monkeypatch):
    import syn2co.pretraining.recipes as recipes

    monkeypatch.setattr(recipes, "recipe", lambda _: (_ for _ in ()).throw(error))
    code, _, said = run("recipes", "demo")
    words = str(error) or "no more is given"
    assert (code, said) == (2, f"memory is used up ({words}); end other programs, or raise the limit (ulimit -v)\n")


def test_a_lack_of_threads_ends_any_command_in_one_sentence(run, monkeypatch):
    """As in a container with a small limit of processes."""
    import syn2co.pretraining.recipes as recipes

    monkeypatch.setattr(
        _thread, "start_new_thread", lambda *_: (_ for _ in ()).throw(RuntimeError("can't start new thread"))
    )
    monkeypatch.setattr(threading, "_start_new_thread", _thread.start_new_thread)
    monkeypatch.setattr(recipes, "recipe", lambda _: next(map_in_threads(abs, [1], 1)))
    code, _, said = run("recipes", "demo")
    advice = "end other programs, or raise the limit of processes (ulimit -u, or that of the container)"
    assert (code, said) == (2, f"no more threads can be started; {advice}\n")


def test_a_current_folder_that_is_gone_is_one_sentence(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert run("recipes") == (2, "", "PathError: the current folder is no longer there; change to another one\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_no_file_takes_the_place_of_a_standard_stream_that_is_closed(tmp_path):
    """A warning of a library would be written into it."""
    from syn2co.cli import main

    child = os.fork()
    if not child:
        kept = False
        try:
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                os.close(number)
                setattr(sys, name, None)
            main._open_streams()
            sys.stdout.write("nobody reads this")
            kept = all(os.get_inheritable(number) for number in range(3)) and os.open(tmp_path / "file", os.O_CREAT) > 2
        finally:
            os._exit(int(not kept))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_standard_output_on_a_full_disk_is_one_sentence(buffered):
    environment = os.environ | {"PYTHONUNBUFFERED": buffered}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "syn2co", "recipes"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == "standard output: cannot be written (No space left on device); give it another place\n"


def test_a_reader_who_has_gone_is_no_error_to_read():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "syn2co", "recipes"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
