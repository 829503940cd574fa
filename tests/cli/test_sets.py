# ruff: noqa: E501 - messages in one piece
"""The commands plan, generate, verify and replay, and the example of a generator of one's own."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from synthesis_sets import files, lines, write_generator
from tiny_images import write_images

CHECKERS = Path(__file__).parents[2] / "examples" / "checkers.py"


@pytest.fixture
def own(tmp_path) -> str:
    return f"{write_generator(tmp_path)}:noise"


def test_help_imports_nothing_heavy():
    code = """
import sys
from click.testing import CliRunner
from syn2co.cli.main import cli
for name in ("plan", "generate", "verify", "replay"):
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name
heavy = {"torch", "timm", "cv2", "numpy", "sklearn", "scipy", "matplotlib", "pydantic", "rich", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_generating_with_a_function_imports_no_torch(own, tmp_path):
    code = f"""
import sys
from syn2co.synthesis import SynthesisSettings, generate
generate(SynthesisSettings.parse({{"generator": {own!r}, "size": 8}}), {str(tmp_path / "set")!r}, count=3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plan_generate_verify_replay(run, own, tmp_path):
    out, common = tmp_path / "set", ("--generator", own, "--size", 8, "--set", "work.shard_size=10")
    code, said, _ = run("plan", *common, "--count", 25)
    assert code == 0 and "images     25, of which 25 are missing" in said and "shards     3 of 10" in said
    assert said.count("  k=0  program:") == 10 and "disk       about" in said
    assert re.search(r"time       about 0:00:0\d in 1 process\n", said)
    code, said, _ = run("generate", *common, "--count", 25, "--out", out, "--dry-run")
    assert code == 0 and "of which 25 are missing" in said and not out.exists()
    code, said, error = run("generate", *common, "--count", 25, "--out", out)
    assert code == 0 and said.startswith(f"{out}: 25 of 25 images, ") and said.endswith(", complete\n")
    assert "generate 25/25" in error and " img/s " in error and "ETA" in error
    code, said, _ = run("generate", *common, "--count", 60, "--out", out, "--dry-run")
    assert code == 0 and "images     60, of which 40 are missing" in said
    code, said, _ = run("generate", "--config", out / "recipe.json", "--generator", own, "--count", 60,
                        "--out", out, "--shard", "1/2", "--quiet")  # fmt: skip
    assert code == 0 and "4 shards done, others are missing" in said
    assert run("generate", *common, "--out", out, "--quiet", "--workers", 1)[0] == 0
    assert run("verify", out, "--quiet")[:2] == (0, "set: 60 of 60 images verified, 0 skipped and listed; "
                                                    "everything is as it should be\n")  # fmt: skip
    name = lines(out)[13]["id"]
    code, said, _ = run("replay", out, name, "--generator", own, "--out", tmp_path / "again.png")
    assert (code, said) == (0, f"{name}: the same file, byte for byte\n") and (tmp_path / "again.png").exists()
    (out / "000001.jsonl").unlink()
    code, said, error = run("verify", out)
    assert code == 2 and said.startswith("000001.jsonl: missing\n") and "Traceback" not in error


def test_the_jobs_as_json(run, own, tmp_path):
    arguments = ("--generator", own, "--count", 3, "--set", 'classes=["cat","dog"]')
    code, said, _ = run("plan", *arguments, "--json")
    jobs = [json.loads(line) for line in said.splitlines()]
    assert code == 0 and [(job["class"], job["k"]) for job in jobs] == [("cat", 0), ("dog", 0), ("cat", 1)]
    code, told, _ = run("plan", *arguments, "--out", tmp_path / "jobs.jsonl")
    assert (code, told) == (0, f"{tmp_path / 'jobs.jsonl'}: 3 jobs\n")
    assert (tmp_path / "jobs.jsonl").read_text() == said


def test_a_file_of_jobs_is_written_whole_or_not_at_all(run, own, tmp_path, monkeypatch):
    from syn2co.synthesis.generation import preview

    (tmp_path / "out").mkdir()
    path, told = tmp_path / "out" / "jobs.jsonl", []
    path.write_text("before")

    def full(job):
        told.append(job)
        if len(told) == 3:
            raise OSError(28, "No space left on device")
        return {"id": job.id}

    monkeypatch.setattr(preview, "job_as_json", full)
    code, _, error = run("plan", "--generator", own, "--count", 5, "--out", path)
    assert code == 2 and error.startswith("SynthesisError: --out jobs.jsonl: cannot be written: no space is left")
    assert files(tmp_path / "out") == {"jobs.jsonl": b"before"}


def test_the_recipe_of_a_set_repeats_it(run, own, tmp_path):
    common = ("--generator", own, "--quiet")
    arguments = ("--size", 8, "--count", 25, "--set", "work.shard_size=10", "--out", tmp_path / "one")
    assert run("generate", *common, *arguments)[0] == 0
    assert run("generate", *common, "--config", tmp_path / "one" / "recipe.json", "--out", tmp_path / "two")[0] == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_lists_and_options_on_the_command_line(run, own, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "captions.csv").write_text("caption\na red kite\n")
    assert "subjects   2 classes" in run("plan", "--generator", own, "--classes", tmp_path / "classes.txt")[1]
    assert "subjects   1 captions" in run("plan", "--generator", own, "--captions", tmp_path / "captions.csv")[1]
    varied = ("--generator", own, "--vary", "--real", write_images(tmp_path / "real", 9))
    for words in (("--max-real", 4), ("--set", "max_real=4")):
        assert "subjects   4 real images" in run("plan", *varied, *words)[1]
        assert "subjects   4 real images" in run("generate", *varied, *words, "--out", tmp_path / "x", "--dry-run")[1]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("plan", "--generator", "procedual", "--count", "3"), "ConfigError: generator = procedual: there is no such"),
        (("plan", "--generator", "OWN"), "ConfigError: count: is not given and there is no list"),
        (
            ("plan", "--generator", "OWN", "--set", "sise=3"),
            "ConfigError: --set sise: there is no such setting; did you",
        ),
        (
            ("generate", "--generator", "OWN", "--count", "3", "--out", "OUT", "--shard", "4/3"),
            "ConfigError: --shard 4/3:",
        ),
        (
            ("generate", "--generator", "OWN", "--count", "3", "--out", "OUT", "--config", "x.json"),
            "ConfigError: --config",
        ),
        (("plan", "--generator", "OWN", "--count", "3", "--classes", ""), "ConfigError: classes: no class names were"),
        (("verify", "OUT"), "SynthesisError: out: holds no recipe.json"),
        (("replay", "OUT", "x"), "SynthesisError: out: holds no recipe.json"),
        (("generate", "--vary", "--generator", "OWN", "--out", "OUT"), "ConfigError: vary = true: makes variations of"),
        (
            ("plan", "--generator", "OWN", "--count", "3", "--json", "--out", "MISSING"),
            "SynthesisError: --out jobs: cannot",
        ),
    ],
)
def test_errors_are_one_sentence(arguments, sentence, run, own, tmp_path):
    places = {"OWN": own, "OUT": tmp_path / "out", "MISSING": tmp_path / "missing" / "jobs"}
    (tmp_path / "out").mkdir()
    code, said, error = run(*(places.get(argument, argument) for argument in arguments))
    assert (code, said) == (2, "") and error.startswith(sentence) and error.count("\n") == 1


def test_the_example(run, tmp_path):
    assert len(CHECKERS.read_text().splitlines()) < 40
    out = tmp_path / "set"
    arguments = ("--generator", f"{CHECKERS}:checkers", "--size", 32, "--set", "per_subject=2", "--out", out, "--quiet")
    assert run("generate", *arguments, "--count", 12, "--set", "options.squares=4")[0] == 0
    assert run("verify", out)[0] == 0
    assert len({line["group"] for line in lines(out)}) == 6 and len({line["sha256"] for line in lines(out)}) == 12
    code, _, error = run("generate", *arguments, "--count", 12, "--set", "options.squars=4")
    assert code == 2 and "options.squars: there is no such setting; did you mean options.squares?" in error
    assert json.loads((out / "recipe.json").read_text())["options"] == {"jitter": 0.5, "squares": 4}
    assert b"examples/" not in b"".join(data for data in files(out).values())


def test_procedural_images(run, tmp_path):
    out = tmp_path / "set"
    assert run("generate", "--count", 12, "--size", 32, "--out", out, "--quiet", "--set", "per_subject=3")[0] == 0
    assert run("verify", out, "--quiet")[0] == 0
    assert len({line["group"] for line in lines(out)}) == 4
    assert run("replay", out, lines(out)[5]["id"])[1].endswith(": the same file, byte for byte\n")


# --- the documentation -------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs" / "how-to" / "synthetic-images.md").read_text()


def _commands(section: str) -> list[list[str]]:
    """Return the words of the `syn2co` commands in a section of the documentation."""
    text = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("syn2co ")]


def test_the_quick_start(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in _commands("Quick start"):
        code, _, error = run(*words)
        assert code == 0, error
    assert len(lines(tmp_path / "runs" / "shapes")) == 60
    [code] = re.findall(r"```python\n(.*?)```", DOCUMENT.split("\n## Files of a set")[0], flags=re.S)
    exec(code, {})
    monkeypatch.chdir(CHECKERS.parent.parent)
    [words] = _commands("Your own generator")
    assert run(*[str(tmp_path / "own") if word == "runs/checkers" else word for word in words])[0] == 0


@pytest.mark.parametrize("section", ["Prompts", "Resuming and growing", "Many processes, many machines"])
def test_the_other_commands_are_understood(section):
    from syn2co.cli.main import cli as group

    commands = _commands(section)
    assert commands
    for words in commands:
        group.commands[words[0]].make_context(words[0], words[1:])


def test_every_default_background_is_counted():
    from syn2co.synthesis.sets.prompts import BACKGROUNDS

    assert f"one of {len(set(BACKGROUNDS))} backgrounds" in " ".join(DOCUMENT.split())
