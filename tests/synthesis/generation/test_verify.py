# ruff: noqa: E501 - messages in one piece
"""Verification, replays, the card and the contact sheet."""

import contextlib
import functools
import io
import json
import shlex
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthesis_sets import files, lines, settings, write_generator
from tiny_images import write_images

from syn2co.core.errors import ConfigError, Syn2CoError, SynthesisError
from syn2co.data.open import open_images
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.replay import replay
from syn2co.synthesis.generation.verify import verify
from syn2co.synthesis.sets.manifest import seal


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    return write_generator(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def made(own, tmp_path_factory) -> Path:
    """25 images of two classes in three shards."""
    out = tmp_path_factory.mktemp("made") / "set"
    generate(settings(own, classes=("cat", "dog")), out, count=25)
    return out


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "set"))


def _rewrite(tar: Path, change) -> None:
    """Write a tar again from its (header, data) pairs after `change` had them."""
    with tarfile.open(tar) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))


def _header(name: str, data: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def _reseal(path: Path, number: int, **changes) -> None:
    """Change a manifest line and seal it anew, as a forger would."""
    texts = path.read_text().splitlines()
    line = json.loads(texts[number])
    del line["check"]
    texts[number] = seal(line | changes)
    path.write_text("".join(text + "\n" for text in texts))


def test_a_good_set(made):
    found = verify(made)
    assert (found.valid, found.images, found.planned, found.skipped, found.more) == (True, 25, 25, 0, 0)
    assert found.text() == "set: 25 of 25 images verified, 0 skipped and listed; everything is as it should be"


def test_a_set_is_a_source_of_images(made):
    images = open_images(sorted(made.glob("*.tar")))
    assert len(images) == 25 and images.classes == ("cat", "dog") and not images.quarantined


NASTY = {
    "leads out of the tar": lambda m: m.append(_header("../evil.png", b"x")),
    "leads out of the tar; ": lambda m: m.append(_header("/etc/evil.png", b"x")),
    "is a link or something else than a plain file": lambda m: m.append(
        _header("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    ),
    "is a link or": lambda m: m.append(_header("a.png", type=tarfile.LNKTYPE, linkname=m[0][0].name)),
    "is not in the manifest": lambda m: m.append(_header("0" * 32 + ".png", b"x")),
    "is there twice": lambda m: m.append(m[0]),
    "000001.tar: lacks ": lambda m: m.pop(0),
    "does not have the sha256 of its manifest line": lambda m: m.__setitem__(0, (m[0][0], m[0][1][:-1] + b"x")),
    "differs from its manifest line": lambda m: m.__setitem__(1, (m[3][0].replace(name=m[1][0].name), m[3][1])),
    "bytes, more than such a file can need": lambda m: m.__setitem__(0, _header(m[0][0].name, b"\0" * 10**6)),
}


@pytest.mark.parametrize("sentence", NASTY)
def test_what_must_not_lie_in_a_tar(sentence, copy):
    _rewrite(copy / "000001.tar", NASTY[sentence])
    found = verify(copy)
    assert not found.valid and any(sentence in problem for problem in found.problems), found.problems
    assert all(problem.startswith("000001.tar: ") for problem in found.problems)


def test_a_tar_with_something_behind_its_end(copy):
    with open(copy / "000001.tar", "ab") as file:
        file.write(b"more")
    assert any("000001.tar: is torn or damaged at byte" in problem for problem in verify(copy).problems)


def test_a_bomb_is_not_decoded(copy):
    """A small file of many pixels, with the hash and the line of an honest image."""
    from hashlib import sha256

    bomb = cv2.imencode(".png", np.zeros((5000, 5000, 3), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    small = cv2.imencode(".png", np.zeros((100, 100, 3), np.uint8))[1].tobytes()
    assert len(bomb) > 64_512 > len(small)
    for data, sentence in ((bomb, "more than such a file can need"), (small, "above max_pixels = 64")):
        _reseal(copy / "000000.jsonl", 0, sha256=sha256(data).hexdigest())
        text = (copy / "000000.jsonl").read_text().splitlines()[0].encode()
        name = json.loads(text)["id"]
        pair = [_header(f"{name}.png", data), _header(f"{name}.json", text)]
        _rewrite(copy / "000000.tar", lambda m, pair=pair: m.__setitem__(slice(0, 2), pair))
        found = verify(copy)
        assert len(found.problems) == 1 and sentence in found.problems[0], found.problems


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"k": 7}, "id and seed of image .* do not follow from recipe, subject and number"),
        ({"seed": 7}, "id and seed of image .* do not follow from recipe, subject and number"),
        ({"subject": "owl"}, "000000.jsonl: image .* is not image 3 of the plan"),
        ({"size": [9, 9]}, r"000000.jsonl: line 4 has size = \[9, 9\], not \[8, 8\]"),
        ({"k": "x"}, "000000.jsonl: line 4 has k = 'x', which is no int"),
        ({"id": "0" * 32}, "id and seed"),
        ({"generator": "own.py:other"}, "image .* has generator = 'own.py:other' where the set has 'own.py:noise'"),
        ({"model": "sd"}, "image .* has model = 'sd' where the set has None"),
        ({"class": "cat"}, "image .* has class = 'cat' where the set has 'dog'"),
        ({"class": None}, "image .* has class = None where the set has 'dog'"),
        ({"labels": "none"}, "image .* has labels = 'none' where the set has 'used'"),
        ({"source": "real.png#1"}, "image .* has source = 'real.png#1' where the set has None"),
        ({"group": "x"}, "image .* has group = 'x' where the set has '[0-9a-f]{32}'"),
    ],
)
def test_lines_that_were_forged(changes, sentence, copy):
    import re

    _reseal(copy / "000000.jsonl", 3, **changes)
    found = verify(copy)
    assert any(re.search(sentence, problem) for problem in found.problems), found.problems


def test_lines_edited_without_their_seal(copy):
    path = copy / "000002.jsonl"
    path.write_text(path.read_text().replace('"guidance": null', '"guidance": 2.0', 1))
    found = verify(copy)
    (problem,) = found.problems  # and not one for each image of the shard
    assert problem.startswith("000002.jsonl: line 1 was changed after it was written (image ")


@pytest.mark.parametrize("line, lacking", [("{}", "has no check"), ("nonsense", "is not JSON"), ("[]", "has no check")])
def test_lines_that_are_none(line, lacking, copy):
    (copy / "000002.jsonl").write_text(line + "\n")
    assert any(f"000002.jsonl: line 1 {lacking}" in problem for problem in verify(copy).problems)


def test_missing_and_foreign_files(copy):
    (copy / "000001.jsonl").unlink()
    (copy / "000002.tar").unlink()
    (copy / "000007.tar").write_bytes(b"")
    problems = verify(copy).problems
    assert "000007.tar: is not part of a set of 3 shards; remove it" in problems
    assert "000001.jsonl: missing" in problems and "000002.tar: missing" in problems and len(problems) == 3


def test_a_recipe_that_was_changed(copy):
    path = copy / "recipe.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert verify(copy).problems[0].startswith("recipe.json: its settings do not have its hash")


def _edits(value, path=()):
    """Yield (path, new value) for every value of nested JSON, and the path alone (DELETED) for every key."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key), DELETED
        if isinstance(part, dict | list):
            yield from _edits(part, (*path, key))
        else:
            yield (*path, key), (not part) if isinstance(part, bool) else f"{part}x" if isinstance(part, str) else 17


DELETED = object()


def test_a_number_of_the_recipe_that_is_not_finite_is_an_edit(copy):
    path = copy / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["set"]["facts"] = {"scale": float("inf")}
    path.write_text(json.dumps(recipe))
    assert verify(copy).problems == ("recipe.json: was changed after it was written",)


def test_every_edit_of_the_recipe_is_noticed(tmp_path):
    """Settings that no shard repeats too: backgrounds, templates, digests; and no command calls the set complete."""
    own = write_generator(tmp_path)
    chosen = settings(
        own, classes=("cat", "dog"), per_subject=2, templates={"a {class}, {background}": 1}, backgrounds=("sea",)
    )
    out = tmp_path / "set"
    generate(chosen, out)
    path = out / "recipe.json"
    written = path.read_text()
    edits = list(_edits(json.loads(written)))
    assert len(edits) > 60
    for (*groups, key), new in edits:
        recipe = json.loads(written)
        group = functools.reduce(lambda inner, name: inner[name], groups, recipe)
        if new is DELETED:
            del group[key]
        else:
            group[key] = new
        path.write_text(json.dumps(recipe))
        with contextlib.suppress(SynthesisError):  # the shape is wrong
            assert not verify(out).valid, (*groups, key)
        with pytest.raises(Syn2CoError):
            generate(chosen, out)


def test_a_set_without_a_seal_is_read_and_says_so(copy, own):
    path = copy / "recipe.json"
    recipe = json.loads(path.read_text())
    del recipe["check"], recipe["set"]["sealed"]
    path.write_text(json.dumps(recipe))
    found = verify(copy)
    assert found.valid and "recipe.json bears no seal" in found.text()
    chosen = settings(own, classes=("cat", "dog"))
    assert generate(chosen, copy).made == 0 and generate(chosen, copy, count=31).made == 6
    assert "bears no seal" not in verify(copy).text()  # what is written is sealed


def test_a_skip_that_was_invented(copy):
    line = {"index": 3, "id": "0" * 32, "subject": "dog", "k": 1, "reason": "none"}
    (copy / "skipped.jsonl").write_text(seal(line) + "\n")
    assert verify(copy).problems[0] == f"skipped.jsonl: image {'0' * 32} does not follow from the recipe"
    (copy / "skipped.jsonl").write_text("{}\n")
    with pytest.raises(
        SynthesisError, match="^set/skipped.jsonl: line 1 has no check; delete skipped.jsonl and generate"
    ):
        verify(copy)


def test_a_folder_that_is_no_set(tmp_path):
    for call in (verify, lambda out: replay(out, "0" * 32)):
        with pytest.raises(
            SynthesisError, match="holds no recipe.json, so it is no data set of syn2co; correct the path"
        ):
            call(tmp_path)


def test_many_problems_are_counted(own, tmp_path):
    generate(settings(own, work={"shard_size": 2000}), tmp_path / "set", count=1100)
    _rewrite(tmp_path / "set" / "000000.tar", list.clear)
    found = verify(tmp_path / "set")
    assert len(found.problems) == 1000 and found.more == 100
    assert "and 100 more problems" in found.text()


# --- replay ------------------------------------------------------------------------------------------------------


def test_an_image_is_made_again_from_its_id(made, own, tmp_path):
    for line in lines(made)[::12]:
        found = replay(made, line["id"], generator=f"{own}:noise", to=tmp_path / "again.png")
        assert found.same and found.identical and found.difference == 0
        assert found.text() == f"{line['id']}: the same file, byte for byte"
        assert cv2.imread(str(tmp_path / "again.png")).shape == (8, 8, 3)


def test_replay_without_the_generators_file(made, own, tmp_path):
    name = lines(made)[0]["id"]
    with pytest.raises(ConfigError, match="^set: names a generator of its own, own.py:noise, and no file that a set"):
        replay(made, name)
    other = write_generator(tmp_path, own.read_text() + "\n#\n")
    with pytest.raises(
        ConfigError, match="^set: was made with another file of the generator own.py:noise than is given"
    ):
        replay(made, name, generator=f"{other}:noise")
    with pytest.raises(SynthesisError, match=f"^set: has no image {'0' * 32}; ids are 32 hex digits"):
        replay(made, "0" * 32, generator=f"{own}:noise")
    with pytest.raises(
        SynthesisError, match=r"^again.jpg: is the name of no PNG; give the file a name that ends in .png"
    ):
        replay(made, name, generator=f"{own}:noise", to=made / "again.jpg")


INEXACT = '''
import numpy as np
from syn2co.synthesis import Settings
from syn2co.synthesis import Generator

class Options(Settings):
    exact: bool = False

calls = []

def drifting(options, context):
    """One level brighter at each call of the process: what another machine does to the last bits."""
    def make(jobs):
        calls.append(len(jobs))
        return [job.rng().integers(50, 90, (8, 8, 3), dtype=np.uint8) + np.uint8(step()) for job in jobs]
    return Generator(make, {"generator": "drifting", "model": None, "versions": {"torch": str(len(calls))}}, options.exact)

def step():
    return STEP * (len(calls) - 1)
'''


@pytest.mark.parametrize("spelling", ["own.py:noise", "sub/own.py:noise", "{folder}/own.py:noise"])
def test_a_file_that_a_strangers_recipe_names_is_run_by_no_command(spelling, copy, own, tmp_path, monkeypatch, run):
    """It runs once the user names it on this command line."""
    recipe = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps(recipe | {"generator": spelling.format(folder=copy)}))
    (copy / "sub").mkdir()
    for folder in (copy, copy / "sub"):
        write_generator(folder, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + own.read_text())
    monkeypatch.chdir(copy)
    name = lines(copy)[0]["id"]
    config = ["--config", "recipe.json", "--count", "2", "--out"]
    for words in (
        ["replay", ".", name], ["plan", *config, tmp_path / "jobs"], ["generate", *config, tmp_path / "new"],
        ["generate", *config, tmp_path / "new", "--dry-run"], ["generate", *config, tmp_path / "new", "--set", "sixe=3"],
        ["verify", "."], ["audit", "."],
    ):  # fmt: skip
        code, _, said = run(*words)
        assert code == 2 or words[0] in ("verify", "audit"), words
        assert not (tmp_path / "ran").exists(), words
        assert words[0] in ("verify", "audit") or "give it with --generator path.py:function" in " ".join(said.split())
    assert run("plan", *config, tmp_path / "jobs", "--generator", "own.py:noise")[0] == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("step, exact, same", [(1, False, True), (2, False, False), (1, True, False)])
def test_generators_that_are_not_exact(step, exact, same, tmp_path):
    own = write_generator(tmp_path, INEXACT.replace("STEP", str(step)) + f"# {exact}\n")
    generate(settings(own, "drifting", options={"exact": exact}, work={"batch": 4}), tmp_path / "set", count=4)
    found = replay(tmp_path / "set", lines(tmp_path / "set")[0]["id"], generator=f"{own}:drifting")
    assert (found.same, found.identical, found.difference) == (same, False, step)
    assert f"{'the same' if same else 'NOT the same'}, the largest difference is {step}/255" in found.text()
    assert found.text().endswith("; since then changed torch 0 -> 1")


MODEL = """
from syn2co.synthesis import Settings
from syn2co.synthesis import Generator
from own import noise

class Options(Settings):
    pass

def learns(options, context):
    if context.folder is not None:
        context.folder.mkdir(parents=True, exist_ok=True)
        (context.folder / "weights").touch()
    name = (context.real.fingerprint if context.real is not None else "none")
    facts = {"generator": "learns", "model": name, "steps": 3, "license": "mit", "versions": {}}
    return Generator(lambda jobs: [noise(job, context.size) for job in jobs], facts)
"""


def test_a_replay_with_another_model_is_refused_and_leaves_no_model(own, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(own.parent)
    mine, real = write_generator(tmp_path, MODEL, "learns.py"), write_images(tmp_path / "real", 3)
    generate(settings(mine, "learns"), tmp_path / "set", count=3, real=[real])
    name = lines(tmp_path / "set")[0]["id"]
    shutil.rmtree(tmp_path / "set" / "model")
    before = files(tmp_path / "set")
    with pytest.raises(ConfigError, match="was begun with model = .* now has none; give the model and the settings of"):
        replay(tmp_path / "set", name, generator=f"{mine}:learns")
    assert replay(tmp_path / "set", name, generator=f"{mine}:learns", real=[real]).identical
    assert files(tmp_path / "set") == before


def test_a_replay_fits_no_model(tmp_path):
    from syn2co.synthesis.sets.settings import SynthesisSettings

    real, out = write_images(tmp_path / "real", 20), tmp_path / "set"
    generate(SynthesisSettings.parse({"generator": "fitted", "size": 16}), out, count=2, real=[real])
    name = lines(out)[0]["id"]
    assert replay(out, name).identical
    shutil.rmtree(out / "model")
    with pytest.raises(
        SynthesisError, match="^set/model/fitted.safetensors: is missing or not finished and a replay trains no model; "
    ):
        replay(out, name, real=[real])
    assert not (out / "model").exists()


def test_a_replay_of_a_learned_model_needs_locks_that_can_be_written(tmp_path):
    from syn2co.synthesis.sets.settings import SynthesisSettings

    real, out = write_images(tmp_path / "real", 20), tmp_path / "set"
    generate(SynthesisSettings.parse({"generator": "fitted", "size": 16}), out, count=2, real=[real])
    shutil.rmtree(out / ".locks")
    (out / ".locks").write_text("")
    with pytest.raises(SynthesisError, match="^set/.locks: must be a writable folder .File exists.; fix or remove it$"):
        replay(out, lines(out)[0]["id"])


def test_a_replay_of_a_line_that_was_forged(copy, own):
    _reseal(copy / "000000.jsonl", 3, generator="own.py:other")
    with pytest.raises(SynthesisError, match="^set: image .* has generator = 'own.py:other' where .*; run `syn2co ver"):
        replay(copy, lines(copy)[3]["id"], generator=f"{own}:noise")


def test_replay_of_a_variation(own, tmp_path):
    real = write_images(tmp_path / "real", 2)
    generate(settings(own, vary=True), tmp_path / "set", real=[real])
    name = lines(tmp_path / "set")[1]["id"]
    assert replay(tmp_path / "set", name, real=[real], generator=f"{own}:noise").identical


# --- card and sheet ----------------------------------------------------------------------------------------------


def test_the_card(made):
    text = (made / "README.md").read_text()
    recipe = json.loads((made / "recipe.json").read_text())
    for part in ("| Images | 25 of 8 x 8 px, png |", "| Generator | `own.py:noise` |", "| Model | none |",
                 "| Subjects | 2 classes, 12 to 13 images each |", "| Skipped | none |", f"`{recipe['hash']}`",
                 "![A sample of the set](contact.png)", "25 images have a prompt; 0 of these were cut",
                 f"with blake2b `{recipe['set']['code']}`"):  # fmt: skip
        assert part in text


def test_the_command_of_the_card_makes_the_same_set(made, own, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from syn2co.cli.main import cli

    monkeypatch.chdir(own.parent)  # where own.py lies
    [command] = [line for line in (made / "README.md").read_text().splitlines() if line.startswith("syn2co generate")]
    words = [str(tmp_path / "set") if word == "OUT" else word for word in shlex.split(command)[1:]]
    done = CliRunner().invoke(cli, [*words, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0
    assert files(tmp_path / "set") == files(made)


def test_cut_prompts_are_counted(tmp_path):
    text = "import numpy as np\nfrom syn2co.synthesis import GeneratedImage\n\ndef f(job, size):\n    image = job.rng().integers(0, 9, (8, 8, 3), dtype=np.uint8)\n    return GeneratedImage(image, {'prompt_cut': job.k > 2})\n"
    generate(settings(write_generator(tmp_path, text), "f", classes=("cat",)), tmp_path / "set", count=5)
    assert "5 images have a prompt; 2 of these were cut" in (tmp_path / "set" / "README.md").read_text()


@pytest.mark.parametrize("count, columns, rows", [(3, 3, 1), (64, 8, 8), (150, 8, 8)])
def test_the_contact_sheet(count, columns, rows, own, tmp_path):
    generate(settings(own), tmp_path / "set", count=count)
    sheet = cv2.imread(str(tmp_path / "set" / "contact.png"))
    assert sheet.shape[:2] == (rows * 134 + 6, columns * 134 + 6)
    with tarfile.open(tmp_path / "set" / "000000.tar") as archive:
        data = archive.extractfile(archive.getmembers()[0]).read()  # type: ignore[union-attr]
    first = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert (sheet[6:134:16, 6:134:16] == first).all()  # 8 pixels enlarged to 128 without smoothing


@pytest.mark.parametrize(
    "name", ["cat", "great white shark, white shark, man-eater, Carcharodon carcharias\nof the sea"]
)
def test_the_contact_sheet_says_the_class_below_each_image(name, tmp_path):
    text = "import numpy as np\ndef f(job, size):\n    return job.rng().integers(0, 99, (8, 8, 3), dtype=np.uint8)\n"
    generate(settings(write_generator(tmp_path, text), "f", classes=(name,)), tmp_path / "set", count=2)
    sheet = cv2.imread(str(tmp_path / "set" / "contact.png"))
    assert sheet.shape[:2] == (150 + 6, 2 * 134 + 6)
    caption = sheet[135:150].min(axis=(0, 2)) < 128
    assert caption[6:134].any() and caption[140:268].any() and not caption[134:140].any()  # one does not reach the next


def test_a_card_is_not_written_from_a_damaged_manifest(own, tmp_path):
    generate(settings(own), tmp_path / "set", count=20, shard="1/2")
    path = tmp_path / "set" / "000000.jsonl"
    path.write_text(path.read_text().replace('"k": 0', '"k": 1', 1))
    with pytest.raises(SynthesisError, match="^set/000000.jsonl: line 1 was changed .* again to fix it"):
        generate(settings(own), tmp_path / "set", count=20, shard="2/2")
