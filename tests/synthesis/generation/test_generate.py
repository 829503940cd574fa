# ruff: noqa: E501 - messages in one piece
"""Sets are made, shared, resumed, grown and refused; what was finished stays."""

import errno
import io
import json
import os
import re
import tarfile
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthesis_sets import assert_same_set, files, generate_in_process, lines, settings, write_generator
from tiny_images import write_images

from syn2co.core.errors import ConfigError, SynthesisError
from syn2co.synthesis.generation import generate as generating
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.locks import shard_lock
from syn2co.synthesis.generation.plan import plan
from syn2co.synthesis.generation.verify import verify
from syn2co.synthesis.sets.manifest import KEYS, seal


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    return write_generator(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def sixty(own, tmp_path_factory) -> Path:
    """60 images in six shards, made at once in this process."""
    out = tmp_path_factory.mktemp("sixty") / "set"
    done = generate(settings(own), out, count=60)
    assert (done.images, done.planned, done.shards, done.made, done.complete) == (60, 60, 6, 60, True)
    return out


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_files_of_a_set(sixty):
    shards = {f"00000{number}{suffix}" for number in range(6) for suffix in (".tar", ".jsonl")}
    assert files(sixty).keys() == shards | {"recipe.json", "README.md", "contact.png"}
    with tarfile.open(sixty / "000003.tar") as archive:
        members = archive.getmembers()
        ids = [line["id"] for line in lines(sixty)[30:40]]
        assert [member.name for member in members] == [f"{name}.{kind}" for name in ids for kind in ("png", "json")]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="Windows follows links")
def test_links_in_a_strangers_folder_overwrite_nothing(own, tmp_path):
    out, victim = tmp_path / "set", tmp_path / "victim"
    out.mkdir()
    victim.write_text("precious")
    for name in (".000000.tar.tmp", ".000001.tar.old", ".recipe.json.tmp", ".README.md.tmp"):
        (out / name).symlink_to(victim)
    assert generate(settings(own), out, count=20).complete
    assert victim.read_text() == "precious"
    (out / "cost.jsonl").unlink()
    (out / "cost.jsonl").symlink_to(victim)
    with pytest.raises(SynthesisError, match="--out set: cannot be written: Too many levels of symbolic links"):
        generate(settings(own), out, count=30)
    assert victim.read_text() == "precious"


def test_a_lock_that_is_left_is_named(own, tmp_path, monkeypatch):
    monkeypatch.setattr(generating, "PATIENCE_SECONDS", 0.2)
    said = io.StringIO()  # `capsys` may lose what another thread prints while it is read
    with redirect_stderr(said), ThreadPoolExecutor(1) as pool, shard_lock(tmp_path / "set", 0):
        made = pool.submit(generate, settings(own), tmp_path / "set", count=20)
        while "waiting for 1 shards that others make, such as 000000" not in said.getvalue() and not made.done():
            time.sleep(0.01)
    assert "its lock is left, delete .locks/000000" in said.getvalue()
    assert made.result().complete


def test_the_lines_of_a_manifest(sixty, own):
    jobs = plan(settings(own), count=60)
    for job, line in zip(jobs, lines(sixty), strict=True):
        assert line.keys() == set(KEYS)
        assert (line["id"], line["seed"], line["group"], line["labels"]) == (job.id, job.seed, job.group, "none")
        assert (line["generator"], line["model"], line["license"], line["size"]) == ("own.py:noise", None, None, [8, 8])
        assert re.fullmatch("[0-9a-f]{16}", line["phash"]) and re.fullmatch("[0-9a-f]{16}", line["check"])


def test_a_stored_image_is_what_the_generator_made(sixty, own):
    job = plan(settings(own), count=60)[17]
    line = lines(sixty)[17]
    with tarfile.open(sixty / "000001.tar") as archive:
        data = archive.extractfile(f"{job.id}.png").read()  # type: ignore[union-attr]
        assert json.load(archive.extractfile(f"{job.id}.json")) == line  # type: ignore[arg-type]
    assert sha256(data).hexdigest() == line["sha256"]
    stored = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert (stored == job.rng("noise").integers(0, 256, (8, 8, 3), dtype=np.uint8)).all()


@pytest.mark.parametrize("kind, magic", [("jpg", b"\xff\xd8\xff"), ("webp", b"RIFF"), ("png", b"\x89PNG")])
def test_formats_and_their_quality(kind, magic, own, tmp_path):
    sizes = []
    for quality in (30, 95):
        out = tmp_path / str(quality)
        generate(settings(own, format=kind, quality=quality), out, count=4)
        assert verify(out).valid
        with tarfile.open(out / "000000.tar") as archive:
            member = archive.getmembers()[0]
            assert member.name.endswith(f".{kind}")
            assert archive.extractfile(member).read().startswith(magic)  # type: ignore[union-attr]
            sizes.append(member.size)
    assert sizes[0] < sizes[1] or kind == "png"


def test_nothing_written_tells_where_on_the_machine_it_was(own, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    real, out = write_images(tmp_path / "real", 4), tmp_path / "set"
    generate(settings(own, classes=str(tmp_path / "classes.txt")), out, count=6, real=[real])
    for name, data in files(out).items():
        assert str(tmp_path).encode() not in data and b"/tmp" not in data and str(own.parent).encode() not in data, name
    assert json.loads((out / "recipe.json").read_text())["classes"] == "classes.txt"


def test_images_of_class_names_use_labels(own, tmp_path):
    generate(settings(own, classes=("cat", "dog")), tmp_path / "set", count=4)
    assert {(line["labels"], line["class"]) for line in lines(tmp_path / "set")} == {("used", "cat"), ("used", "dog")}
    assert "| Labels | used" in (tmp_path / "set" / "README.md").read_text()


def test_variations_of_real_images(own, tmp_path):
    real, out = write_images(tmp_path / "real", 3), tmp_path / "set"
    generate(settings(own, vary=True, per_subject=2), out, real=[real])
    assert [line["source"] for line in lines(out)] == [line["group"] for line in lines(out)]
    assert len({line["source"] for line in lines(out)}) == 3 and len(lines(out)) == 6
    assert verify(out).valid


def test_real_images_are_limited_in_the_context_and_in_a_replay(tmp_path):
    """A generator of (options, context) that writes the number of its real images into each pixel."""
    text = (
        "import numpy as np\nfrom syn2co.synthesis import Generator, Settings\n\n\nclass Options(Settings):\n"
        "    pass\n\n\ndef count(options, context):\n    facts = dict.fromkeys(('model', 'revision', 'license'))\n"
        "    shape = (context.size, context.size, 3)\n    make = lambda jobs: [\n"
        "        np.append(np.full(191, len(context.real)), job.seed % 100).astype(np.uint8).reshape(shape) for job in jobs]\n"
        "    return Generator(make, {'generator': 'own.py:count', **facts}, batch=4)\n"
    )
    from syn2co.synthesis.generation.replay import replay
    from syn2co.synthesis.sets.shards import stored_images

    own, real, out = write_generator(tmp_path, text), write_images(tmp_path / "real", 12), tmp_path / "set"
    limited = settings(own, "count", max_real=5)
    generate(limited, out, count=3, real=[real])
    assert json.loads((out / "recipe.json").read_text())["max_real"] == 5
    name = lines(out)[0]["id"]
    stored = cv2.imdecode(np.frombuffer(stored_images(out / "000000.tar", [name], "png")[name], np.uint8), 1)
    assert stored[0, 0].tolist() == [5, 5, 5]
    assert replay(out, name, real=[real], generator=f"{own}:count").identical
    for other, said in (({"max_real": 6}, "5 there, 6 now"), ({}, "5 there, not set now")):
        with pytest.raises(ConfigError, match=f"another recipe .max_real = {said}"):
            generate(settings(own, "count", **other), out, count=3, real=[real])
    assert generate(limited, out, count=3).made == 0, "a finished set needs no real images"


# --- the same set, however it is made ----------------------------------------------------------------------------


@pytest.mark.parametrize("work", [{"batch": 1}, {"batch": 7}, {"workers": 1}, {"workers": 3, "batch": 3}])
def test_processes_and_batches_change_nothing(work, own, sixty, tmp_path):
    workers = work.pop("workers", 0)
    generate_in_process(settings(own, work=work).model_dump_json(), str(tmp_path / "set"), 60, workers)
    assert_same_set(tmp_path / "set", sixty)


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 2, 3, 1)])
def test_parts_make_the_whole(order, own, sixty, tmp_path):
    """Four parts of six shards, in any order; only the last one writes the card."""
    for number, part in enumerate(order, 1):
        done = generate(settings(own), tmp_path / "set", count=60, shard=f"{part}/4")
        assert done.complete == (number == 4) == (tmp_path / "set" / "README.md").exists()
    assert_same_set(tmp_path / "set", sixty)


def test_parts_beyond_the_last_shard_make_nothing(own, sixty, tmp_path):
    """Nine jobs for six shards, the last ones first."""
    for part in range(9, 0, -1):
        done = generate(settings(own), tmp_path / "set", count=60, shard=f"{part}/9")
        assert (done.made, done.complete) == ((0, False) if part > 6 else (10, part == 1))
    assert_same_set(tmp_path / "set", sixty)


def test_growth_equals_making_all_at_once(own, sixty, tmp_path):
    out = tmp_path / "set"
    for count, made in ((25, 25), (25, 0), (38, 13), (60, 22), (60, 0)):
        done = generate(settings(own), out, count=count)
        assert (done.made, done.images, done.complete) == (made, count, True)
        assert f"| Images | {count} of" in (out / "README.md").read_text()
    assert_same_set(out, sixty)


def test_a_part_that_lacks_nothing_of_a_larger_set(own, tmp_path):
    """The first shard is whole; the second has 5 of its 10 images and belongs to the other part."""
    out = tmp_path / "set"
    generate(settings(own), out, count=15)
    done = generate(settings(own), out, count=20, shard="1/2")
    assert (done.images, done.planned, done.made, done.complete) == (15, 20, 0, False)
    assert json.loads((out / "recipe.json").read_text())["set"]["count"] == 20
    assert not (out / "README.md").exists() and not verify(out).valid
    assert generate(settings(own), out, shard="2/2").complete
    generate(settings(own), tmp_path / "once", count=20)
    assert_same_set(out, tmp_path / "once")


def test_a_call_without_a_count_goes_on_with_the_set(own, sixty, tmp_path):
    generate(settings(own), tmp_path / "set", count=60, shard="1/2")
    assert generate(settings(own), tmp_path / "set").images == 60
    assert_same_set(tmp_path / "set", sixty)


def test_a_finished_set_is_left_as_it_is(own, sixty):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sixty.iterdir() if path.is_file()}
    assert generate(settings(own), sixty, count=60).made == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sixty.iterdir() if path.is_file()} == before


# --- damage ------------------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-11_000])


def _edit(path: Path) -> None:
    path.write_text(path.read_text().replace('"labels": "none"', '"labels": "used"', 1))


def _swap(path: Path) -> None:
    first, second, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *rest]))


def _torn_line(path: Path) -> None:
    path.write_text(path.read_text()[:-40])


def _fill(path: Path) -> None:
    path.write_bytes(b"\0" * 5000)


@pytest.mark.parametrize(
    "name, harm, made",
    [
        ("000002.tar", _cut, 4),  # images in the part that is lost
        ("000002.tar", _fill, 10),
        ("000002.tar", Path.unlink, 10),
        ("000002.jsonl", _edit, 0),  # the tar has the lines, too
        ("000002.jsonl", _swap, 0),
        ("000002.jsonl", _torn_line, 0),
        ("000002.jsonl", Path.unlink, 0),
    ],
)
def test_damaged_shards_are_made_again_and_others_kept(name, harm, made, own, sixty, tmp_path):
    generate(settings(own), tmp_path / "set", count=60)
    harm(tmp_path / "set" / name)
    assert not verify(tmp_path / "set").valid
    done = generate(settings(own), tmp_path / "set", count=60)
    assert done.made == made if made != 4 else 1 <= done.made <= 9
    assert_same_set(tmp_path / "set", sixty)


def test_a_flipped_byte_in_an_image_is_found_by_verify_and_mended(own, sixty, tmp_path):
    out = tmp_path / "set"
    generate(settings(own), out, count=60)
    data = bytearray((out / "000001.tar").read_bytes())
    data[512 + 60] ^= 255  # inside the first image
    (out / "000001.tar").write_bytes(data)
    found = verify(out)
    assert any("does not have the sha256 of its manifest line" in problem for problem in found.problems)
    assert generate(settings(own), out, count=60).made == 1
    assert_same_set(out, sixty)


def test_a_flipped_byte_in_a_line_of_a_tar_is_mended(own, sixty, tmp_path):
    out = tmp_path / "set"
    generate(settings(own), out, count=60)
    data = (out / "000001.tar").read_bytes()
    (out / "000001.tar").write_bytes(data.replace(b'"labels": "none"', b'"labels": "nine"', 1))
    assert not verify(out).valid
    generate(settings(own), out, count=60)
    assert_same_set(out, sixty)


@pytest.mark.parametrize("changes", [{"generator": "midjourney"}, {"class": "cat"}, {"group": "another"}])
def test_lines_of_another_origin_are_made_again(changes, own, sixty, tmp_path):
    """Sealed by a forger, in the tar too."""
    out = tmp_path / "set"
    generate(settings(own), out, count=60)
    text = (out / "000001.jsonl").read_text().splitlines()[4]
    line = json.loads(text)
    forged = seal({key: value for key, value in line.items() if key != "check"} | changes)
    with tarfile.open(out / "000001.tar") as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(out / "000001.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, data in members:
            data = forged.encode() if data == text.encode() else data
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (out / "000001.jsonl").write_text((out / "000001.jsonl").read_text().replace(text, forged))
    [problem] = verify(out).problems
    [(name, value)] = changes.items()
    assert problem.startswith(f"000001.jsonl: image {line['id']} has {name} = {value!r} where the set has ")
    assert generate(settings(own), out, count=60).made == 1
    assert_same_set(out, sixty)


@pytest.mark.parametrize("name", ["README.md", "contact.png"])
def test_a_deleted_card_or_sheet_comes_back(name, own, sixty, tmp_path):
    out = tmp_path / "set"
    generate(settings(own), out, count=60)
    (out / name).unlink()
    assert generate(settings(own), out, count=60).made == 0
    assert_same_set(out, sixty)


# --- refusals of the folder --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, count, sentence",
    [
        ({"seed": 1}, 60, "--out set: holds a set of another recipe (seed = 0 there, 1 now); choose another folder"),
        ({"options": {"level": 2}}, 60, "--out set: holds a set of another recipe (options.level = 0 there, 2 now)"),
        ({"size": 9}, 60, "--out set: holds a set of another recipe (size = 8 there, 9 now)"),
        ({"classes": ("a",)}, 60, "--out set: was begun with another list of subjects (None programs then, 1 classes"),
        ({"per_subject": 2}, 60, "--out set: was begun with another list of subjects"),
        ({"work": {"shard_size": 9}}, 60, "work.shard_size = 9: set was begun with 10; repeat that"),
        ({}, 25, "count = 25: set is a set of 60 images, and a set can only grow; give at least 60"),
    ],
)  # fmt: skip
def test_folders_of_other_sets(values, count, sentence, own, sixty):
    if values.get("classes"):  # the same hash needs the same templates, which count only with classes
        sentence = "--out set: holds a set of another recipe"
    before = files(sixty)
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        generate(settings(own, **values), sixty, count=count)
    assert files(sixty) == before


def test_another_list_of_classes(own, tmp_path):
    generate(settings(own, classes=("a", "b")), tmp_path / "set", count=4)
    for other in (("b", "a"), ("a", "b", "c")):
        with pytest.raises(ConfigError, match="^--out set: was begun with another list of subjects"):
            generate(settings(own, classes=other), tmp_path / "set", count=6)


def test_a_generator_whose_file_changed(own, tmp_path):
    mine = write_generator(tmp_path / "mine", own.read_text())
    generate(settings(mine), tmp_path / "set", count=4)
    mine.write_text(mine.read_text() + "\n# another\n")
    with pytest.raises(ConfigError, match="another recipe .the file of the generator has changed"):
        generate(settings(mine), tmp_path / "set", count=4)


def test_other_real_images_and_none(own, tmp_path):
    one, two = (write_images(tmp_path / str(seed), 4, seed=seed) for seed in (1, 2))
    generate(settings(own), tmp_path / "set", count=4, real=[one])
    with pytest.raises(ConfigError, match="another recipe .its generator learned from other real images"):
        generate(settings(own), tmp_path / "set", count=4, real=[two])
    assert generate(settings(own), tmp_path / "set", count=6).images == 6  # the set knows what it was made from


def test_folders_that_are_no_set(own, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.doc").write_text("years of work")
    with pytest.raises(
        ConfigError, match="^--out set: is not empty and holds no data set .thesis.doc.; choose another"
    ):
        generate(settings(own), tmp_path / "set", count=4)
    (tmp_path / "set" / "recipe.json").write_text("{}")
    with pytest.raises(SynthesisError, match="^set/recipe.json: is damaged .it .*; restore it"):
        generate(settings(own), tmp_path / "set", count=4)


def test_a_set_that_another_process_begins_at_the_same_time(own, sixty):
    """No recipe.json was there when this process looked, and then there is one."""
    from syn2co.synthesis.sets.dataset_folder import check_recipe

    check_recipe(sixty, None, plan(settings(own), count=60))
    with pytest.raises(ConfigError, match="another recipe .seed = 0 there, 1 now"):
        check_recipe(sixty, None, plan(settings(own, seed=1), count=60))


# --- generators that fail ----------------------------------------------------------------------------------------

BAD = """
import os, sys
import numpy as np
from syn2co.synthesis import Generator, GeneratedImage, Skipped
from syn2co.synthesis import Settings

def good(job, size):
    return job.rng().integers(0, 256, (size, size, 3), dtype=np.uint8)

def late(job, wrong):
    return wrong() if int(job.subject.split(":")[1]) == 33 else good(job, 8)

def raises(job, size): return late(job, lambda: 1 / 0)
def nan(job, size): return late(job, lambda: np.full((8, 8, 3), np.nan))
def floats(job, size): return late(job, lambda: np.ones((8, 8, 3)))
def large(job, size): return late(job, lambda: np.ones((9, 8, 3), np.uint8))
def gray(job, size): return late(job, lambda: np.ones((8, 8), np.uint8))
def nothing(job, size): return late(job, lambda: None)
def noted(job, size): return late(job, lambda: GeneratedImage(good(job, 8), {"id": 3}))
def odd_note(job, size): return late(job, lambda: GeneratedImage(good(job, 8), {"level": np.nan}))
def black(job, size): return late(job, lambda: np.zeros((8, 8, 3), np.uint8))
def flat(job, size): return late(job, lambda: np.full((8, 8, 3), 7, np.uint8))
def refused(job, size): return late(job, lambda: Skipped("the safety checker flagged it"))
def numbered(job, size): return GeneratedImage(good(job, 8), {"levels": {10: 1, 2: [3]}, "program": "x"})
def leaves(job, size): return late(job, lambda: sys.exit("no license\\nfound"))
def dies(job, size): return late(job, lambda: os._exit(7))

class Options(Settings):
    fault: str = ""
    license: str | None = None
    model: str | None = None

def batches(options, context):
    def make(jobs):
        if options.fault == "few": return [good(job, 8) for job in jobs[1:]]
        if options.fault == "together" and len(jobs) > 1: raise MemoryError("too many")
        return [GeneratedImage(good(job, 8), {"program": "noise"}) for job in jobs]
    facts = {"generator": "batches", "model": options.model, "license": options.license, "versions": {}}
    return Generator(make, facts, batch=4)
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> Path:
    return write_generator(tmp_path_factory.mktemp("bad"), BAD, "bad.py")


JOB = "job [0-9a-f]{32} .program:33."


FAULTS = {
    "raises": f"generator bad.py:raises: {JOB} failed .ZeroDivisionError: division by zero.$",
    "nan": f"generator bad.py:nan: {JOB}: the image is float64 with NaN; return uint8 values from 0 to 255",
    "floats": f"generator bad.py:floats: {JOB}: the image is float64; return uint8",
    "large": rf"generator bad.py:large: {JOB}: the image has the shape .9, 8, 3.; it must be .8, 8, 3.",
    "gray": rf"generator bad.py:gray: {JOB}: the image has the shape .8, 8.; it must",
    "nothing": f"generator bad.py:nothing: {JOB}: the image is a NoneType; return a NumPy array of uint8",
    "noted": "job [0-9a-f]{32}: the generator notes id, which the manifest writes itself; rename that",
    "odd_note": "generator bad.py:odd_note: job [0-9a-f]{32}: a note or fact cannot be written as JSON",
    "leaves": f"generator bad.py:leaves: {JOB} failed .SystemExit: no license found.$",
    "black": "1 of 60 images cannot be made, more than work.max_skipped_share = 0 allows .*: the image is black",
}


@pytest.mark.parametrize("function, workers", [*((name, 0) for name in FAULTS), ("raises", 2), ("large", 2)])
def test_generators_that_fail_name_the_job_and_lose_nothing(function, workers, bad, tmp_path):
    sentence = FAULTS[function]
    chosen = settings(bad, function, work={"workers": workers, "max_skipped_share": 0})
    with pytest.raises(SynthesisError, match="^" + sentence):
        generate(chosen, tmp_path / "set", count=60)
    assert len(lines(tmp_path / "set")) == 30  # the three shards before
    with pytest.raises(SynthesisError, match="^" + sentence):
        generate(chosen, tmp_path / "set", count=60)


def test_notes_with_keys_that_are_numbers(bad, tmp_path):
    out = tmp_path / "set"
    generate(settings(bad, "numbered"), out, count=4)
    assert verify(out).valid and generate(settings(bad, "numbered"), out, count=4).made == 0
    assert {json.dumps(line["levels"]) for line in lines(out)} == {'{"10": 1, "2": [3]}'}


def test_a_process_that_dies(bad, tmp_path):
    with pytest.raises(SynthesisError, match="^work.workers: a process that makes images died .exit status 7;"):
        generate(settings(bad, "dies", work={"workers": 1}), tmp_path / "set", count=60)
    assert len(lines(tmp_path / "set")) == 30


def test_batches_that_fail(bad, tmp_path):
    with pytest.raises(
        SynthesisError, match="^generator bad.py:batches: returned 3 images for 4 jobs .the first is job "
    ):
        generate(settings(bad, "batches", options={"fault": "few"}), tmp_path / "few", count=8)
    chosen = settings(bad, "batches", options={"fault": "together"})
    with pytest.raises(
        SynthesisError, match="4 jobs from [0-9a-f]{32} on failed together and not alone .MemoryError: too"
    ):
        generate(chosen, tmp_path / "together", count=8)
    chosen = settings(bad, "batches", options={"fault": "together"}, work={"batch": 1})
    assert generate(chosen, tmp_path / "together", count=8).images == 8


@pytest.mark.parametrize(
    "function, reason",
    [("black", "the image is black"), ("flat", "the image is constant (all 7)"), ("refused", "the safety checker flagged it")],
)  # fmt: skip
def test_skipped_images_are_counted_and_listed(function, reason, bad, tmp_path):
    out = tmp_path / "set"
    done = generate(settings(bad, function, work={"max_skipped_share": 0.02}), out, count=60)
    assert (done.images, done.skipped, done.complete) == (59, 1, True)
    [line] = [json.loads(text) for text in (out / "skipped.jsonl").read_text().splitlines()]
    assert (line["index"], line["subject"], line["reason"]) == (33, "program:33", reason)
    assert line["id"] not in {line["id"] for line in lines(out)}
    assert f"| Skipped | 1 ({reason}) |" in (out / "README.md").read_text()
    found = verify(out)
    assert found.valid and (found.images, found.skipped) == (59, 1)


FLAKY = """
import os
import numpy as np


def flaky(job, size):
    if job.k == 0 and int(job.subject.removeprefix("program:")) in map(int, os.environ["BLACK"].split()):
        return np.zeros((size, size, 3), np.uint8)
    return job.rng().integers(0, 256, (size, size, 3), dtype=np.uint8)
"""


def test_few_skipped_images_stop_no_small_set_and_can_be_made_later(tmp_path, monkeypatch):
    own, out = write_generator(tmp_path, FLAKY, "flaky.py"), tmp_path / "set"
    monkeypatch.setenv("BLACK", "")
    generate(settings(own, "flaky"), tmp_path / "whole", count=40)
    monkeypatch.setenv("BLACK", "3 4 17 18")
    with pytest.raises(SynthesisError, match="^4 of 40 images cannot be made, more than work.max_skipped_share = 0.01"):
        generate(settings(own, "flaky"), tmp_path / "refused", count=40)
    monkeypatch.setenv("BLACK", "3 4 17")
    assert generate(settings(own, "flaky"), out, count=40).skipped == 3
    retry = settings(own, "flaky", work={"retry_skipped": 1})
    monkeypatch.setenv("BLACK", "4")
    tried = generate(retry, out, count=40)
    assert (tried.made, tried.skipped, tried.complete) == (3, 1, True) and verify(out).valid
    monkeypatch.setenv("BLACK", "")
    assert generate(settings(own, "flaky"), out, count=40).made == 0  # not unless it is asked for
    assert generate(retry, out, count=40).made == 1
    assert_same_set(out, tmp_path / "whole")


def test_a_generator_that_fails_at_once_binds_the_folder_to_nothing(tmp_path):
    own = write_generator(tmp_path, "def scaled(job, size, *, by: int = 1):\n    return job.rng().bytes(8 // by)\n")
    out = tmp_path / "set"
    with pytest.raises(SynthesisError, match="failed .ZeroDivisionError"):
        generate(settings(own, "scaled", options={"by": 0}), out, count=4)
    write_generator(tmp_path)
    assert generate(settings(own), out, count=4).complete


def test_a_set_of_which_nothing_is_left(bad, own, tmp_path):
    chosen = settings(own, options={"black_every": 1}, work={"max_skipped_share": 1.0})
    with pytest.raises(SynthesisError, match="^--out set: all 4 images are skipped .see skipped.jsonl., a set needs"):
        generate(chosen, tmp_path / "set", count=4)
    assert (
        "skipped.jsonl: lists all 4 images and a set needs at least one; fix the generator"
        in verify(tmp_path / "set").problems
    )


def test_skips_are_read_once_to_look_for_what_is_missing(own, tmp_path, monkeypatch):
    import syn2co.synthesis.generation.generate as generating
    import syn2co.synthesis.sets.dataset_folder as folder

    chosen = settings(own, options={"black_every": 4}, work={"max_skipped_share": 1.0})
    generate(chosen, tmp_path / "set", count=60)
    calls, read = [], folder.read_skipped
    for module in (folder, generating):
        monkeypatch.setattr(module, "read_skipped", lambda out: calls.append(out) or read(out))
    assert generate(chosen, tmp_path / "set", count=60).made == 0
    assert len(calls) == 2  # to look for what is missing, and to count


def test_licenses(bad, tmp_path):
    with pytest.raises(
        ConfigError, match="^model = big: its license is unknown, .* set work.allow_unknown_license=true"
    ):
        generate(settings(bad, "batches", options={"model": "big"}), tmp_path / "set", count=4)
    assert not list((tmp_path / "set").glob("*.tar"))
    allowed = settings(bad, "batches", options={"model": "big"}, work={"allow_unknown_license": True})
    generate(allowed, tmp_path / "set", count=4)
    assert "| License of the model | **UNKNOWN." in (tmp_path / "set" / "README.md").read_text()
    assert {line["license"] for line in lines(tmp_path / "set")} == {None}
    generate(settings(bad, "batches", options={"model": "big", "license": "mit"}), tmp_path / "other", count=4)
    assert "| License of the model | mit |" in (tmp_path / "other" / "README.md").read_text()


# --- disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [3, 7, 9])  # the first shard, the second, its manifest; even ones flush a folder
def test_a_disk_that_fills_up_loses_nothing_finished(call, own, sixty, tmp_path, monkeypatch):
    import syn2co.core.files as module

    calls, flush = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(SynthesisError, match="^--out set: cannot be written: no space is left on the device; free"):
            generate(settings(own), tmp_path / "set", count=60)
    assert verify(tmp_path / "set").images == (0 if call == 3 else 10)
    generate(settings(own), tmp_path / "set", count=60)
    assert_same_set(tmp_path / "set", sixty)


@pytest.mark.parametrize("shard_size, left", [(10, 99_990), (1000, 99_984)])
def test_a_disk_that_is_clearly_too_small(shard_size, left, own, tmp_path, monkeypatch):
    """Said at the second shard, or within the first one as soon as 16 images are known."""
    import syn2co.synthesis.generation.disk_budget as module

    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(0, 0, 10**6))
    sentence = f"^--out set: the {left} images that are left will take about [0-9.]+ MB and 1.0 MB are free; free some,"
    with pytest.raises(SynthesisError, match=sentence):
        generate(settings(own, work={"shard_size": shard_size}), tmp_path / "set", count=100_000)


def test_a_folder_that_cannot_be_written(own, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SynthesisError, match="^set/recipe.json: cannot be read .Not a directory.; correct the path"):
        generate(settings(own), tmp_path / "file" / "set", count=4)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".locks").write_text("")
    with pytest.raises(SynthesisError, match="^set/.locks: must be a writable folder .File exists.; fix or remove it$"):
        generate(settings(own), tmp_path / "set", count=4)


def test_locks_that_cannot_be_written(own, tmp_path, monkeypatch):
    import syn2co.core.locks as module

    class Refused(module.FileLock):
        def acquire(self, *arguments: object, **named: object) -> None:  # type: ignore[override]
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module, "FileLock", Refused)
    with pytest.raises(SynthesisError, match="^set/.locks: must be a writable folder .Permission denied.; fix or rem"):
        generate(settings(own), tmp_path / "set", count=4)


PRECISE = """
import os
import numpy as np
from syn2co.synthesis import Settings
from syn2co.synthesis import Generator

class Options(Settings):
    pass

def precise(options, context):
    facts = {"generator": "precise", "model": "m", "license": "mit", "dtype": os.environ["DTYPE"], "versions": {}}
    return Generator(lambda jobs: [job.rng().integers(50, 90, (8, 8, 3), dtype=np.uint8) for job in jobs], facts)
"""


def test_a_set_goes_on_in_the_precision_that_it_was_begun_in(tmp_path, monkeypatch):
    mine = settings(write_generator(tmp_path, PRECISE), "precise")
    monkeypatch.setenv("DTYPE", "float32")
    generate(mine, tmp_path / "set", count=4)
    before = files(tmp_path / "set")
    monkeypatch.setenv("DTYPE", "float16")
    with pytest.raises(
        ConfigError, match="^--out set: was begun with dtype = float32 and the generator now has float16"
    ):
        generate(mine, tmp_path / "set", count=6)
    assert files(tmp_path / "set") == before
    monkeypatch.setenv("DTYPE", "float32")
    assert generate(mine, tmp_path / "set", count=6).made == 2
