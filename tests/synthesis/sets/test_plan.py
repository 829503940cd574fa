# ruff: noqa: E501 - messages in one piece
"""Settings, prompts, subjects and the plan: a pure, lazy function of the recipe."""

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from synthesis_sets import settings, write_generator
from tiny_images import write_images

from syn2co.core.errors import ConfigError, DataError, Syn2CoError
from syn2co.synthesis.generation.plan import plan
from syn2co.synthesis.generation.sharding import parse_shard
from syn2co.synthesis.sets.prompts import BACKGROUNDS, TEMPLATES, choose_prompt
from syn2co.synthesis.sets.settings import SynthesisSettings, load_settings


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    return write_generator(tmp_path_factory.mktemp("own"))


# --- jobs --------------------------------------------------------------------------------------------------------


def test_a_longer_plan_begins_with_the_shorter_one(own):
    for values in ({}, {"per_subject": 3}, {"classes": ("cat", "dog", "owl")}):
        assert plan(settings(own, **values), count=60)[:25] == plan(settings(own, **values), count=25)[:]


def test_the_id_names_recipe_subject_and_number(own):
    jobs = plan(settings(own, classes=("cat", "dog")), count=50)[:]
    assert len({job.id for job in jobs}) == len({job.seed for job in jobs}) == 50
    assert [(job.subject, job.k) for job in jobs[:4]] == [("cat", 0), ("dog", 0), ("cat", 1), ("dog", 1)]
    other = plan(settings(own, classes=("cat", "dog"), seed=1), count=50)
    assert {job.id for job in jobs}.isdisjoint(job.id for job in other)


def test_groups(own, tmp_path):
    """The policy: source, caption or program; images of class names and of nothing are groups of their own."""
    (tmp_path / "c.txt").write_text("a red kite\na blue door\n")
    captions = plan(settings(own, captions=str(tmp_path / "c.txt"), per_subject=2))
    assert [job.group for job in captions] == ["caption:a red kite", "caption:a blue door"] * 2
    assert [job.prompt for job in captions[:2]] == ["a red kite", "a blue door"]
    programs = plan(settings(own, per_subject=2), count=5)
    text = f"program:{programs.recipe_hash}"
    assert [job.group for job in programs] == [f"{text}:0", f"{text}:0", f"{text}:1", f"{text}:1", f"{text}:2"]
    classes = plan(settings(own, classes=("cat",)), count=3)
    assert [job.group for job in classes] == [job.id for job in classes]
    real = write_images(tmp_path / "real", 3)
    from syn2co.data.open import open_images

    varied = plan(settings(own, vary=True, per_subject=2), real=[real])
    keys = [open_images(real).key(number) for number in range(3)]
    assert [(job.group, job.source, job.subject) for job in varied] == [(key, key, key) for key in keys * 2]


def test_the_hash_leaves_out_the_work_and_the_lists(own, tmp_path):
    (tmp_path / "c.txt").write_text("cat\n")

    def digest(**values) -> str:
        return plan(settings(own, **values), count=4).recipe_hash

    same = [{}, {"work": {"shard_size": 3, "batch": 2, "workers": 4, "device": "cuda"}}, {"per_subject": 2}]
    assert len({digest(**values) for values in same}) == 1
    assert digest(classes=("cat",)) == digest(classes=("dog", "owl")) == digest(classes=str(tmp_path / "c.txt"))
    changed = [{}, {"seed": 1}, {"size": 9}, {"format": "jpg"}, {"quality": 90}, {"options": {"level": 1}},
               {"classes": ("cat",)}, {"classes": ("cat",), "templates": {"{class}": 1.0}},
               {"classes": ("cat",), "backgrounds": ("a wood",)}]  # fmt: skip
    assert len({digest(**values) for values in changed}) == len(changed)


def test_the_hash_follows_the_code_and_not_the_place(own, tmp_path):
    moved = write_generator(tmp_path / "elsewhere", own.read_text())
    changed = write_generator(tmp_path / "changed", own.read_text() + "\n# another\n")
    one, same, other = (plan(settings(path), count=1).recipe_hash for path in (own, moved, changed))
    assert one == same != other


def test_the_hash_of_a_generator_that_learns_follows_its_images(own, tmp_path):
    hashes = {
        plan(settings(own), count=1, real=[write_images(tmp_path / str(n), 3, seed=n)]).recipe_hash for n in (0, 1)
    }
    assert len(hashes) == 2


@pytest.mark.parametrize("seed", [0, 7])
def test_a_generator_sees_the_real_images_that_a_run_trains_on(seed, own, tmp_path):
    from syn2co.data.settings import DataSettings, MixSettings
    from syn2co.data.training_data import open_training_data

    real = write_images(tmp_path / "real", 40)

    def names(most: int) -> tuple[set[str], set[str]]:
        jobs = plan(settings(own, vary=True, seed=seed, max_real=most), real=[real])
        mix = MixSettings(max_real=most, mode="union")
        sources = DataSettings(real=(str(real),), synthetic=("procedural:mix:20:16",))
        data = open_training_data(sources, mix, seed=seed, batch=8, size=16)
        return {str(job.source) for job in jobs}, {data.images.key(int(index)) for index in data.mixer.real}

    for most in (5, 12, 40):
        generator, run = names(most)
        assert generator == run and len(run) == most
    assert names(5)[0] < names(12)[0], "nested"


def test_the_hash_counts_real_images_when_their_number_is_set(own, tmp_path):
    """Recorded from commit 61c65ce, before there was the setting; a larger number than there are images is refused."""
    from syn2co.data.open import open_images
    from syn2co.synthesis.sets.recipe import public_settings

    assert plan(SynthesisSettings(), count=1).recipe_hash == "83dc74f7870c2f20daf9ea41899f66fa"
    assert "max_real" not in public_settings(SynthesisSettings())
    images = open_images([write_images(tmp_path / "real", 6)])
    hashes = {plan(settings(own, max_real=most), count=1, real=images).recipe_hash for most in (None, 3, 6)}
    assert len(hashes) == 3
    with pytest.raises(ConfigError, match="^max_real = 7: there are only 6 such images; lower it or set it to null"):
        plan(settings(own, max_real=7), count=1, real=images)


def test_a_plan_takes_no_memory(own):
    jobs = plan(settings(own, classes=tuple(f"class {number}" for number in range(100))), count=10**9)
    assert len(jobs) == 10**9 and jobs[10**9 - 1] == jobs[-1]
    tracemalloc.start()
    try:
        assert sum(job.k == 0 for job in (jobs[index] for index in range(3000))) == 100
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
    with pytest.raises(IndexError):
        jobs[10**9]


# --- prompts -----------------------------------------------------------------------------------------------------


def test_prompts_follow_the_text_and_not_the_place_in_the_list(own):
    one = {job.id: job.prompt for job in plan(settings(own, classes=("cat", "dog")), count=40)}
    other = {job.id: job.prompt for job in plan(settings(own, classes=("owl", "dog", "cat")), count=90)}
    shared = one.keys() & other.keys()
    assert len(shared) == 40 and all(one[key] == other[key] for key in shared)


def test_templates_are_drawn_by_weight():
    templates = {"{class}": 1.0, "{class}, {gloss}": 3.0, "a {class} inside {background}": 4.0}
    drawn = [
        choose_prompt(templates, ("a wood", "a cave"), name="crane", gloss="a bird", key=(0, "crane", k))
        for k in range(4000)
    ]
    shares = [sum(map(f, drawn)) / 4000 for f in (
        "crane".__eq__, "crane, a bird".__eq__, lambda p: p == "a crane inside a wood", lambda p: p == "a crane inside a cave"
    )]  # fmt: skip
    assert sum(shares) == 1
    assert shares == pytest.approx([1 / 8, 3 / 8, 2 / 8, 2 / 8], abs=0.03)


def test_templates_with_a_gloss_are_left_out_where_there_is_none():
    drawn = {choose_prompt(TEMPLATES, BACKGROUNDS, name="cat", gloss="", key=(k,)) for k in range(300)}
    assert len(drawn) > 40 and not any(prompt.endswith(", ") for prompt in drawn)


def test_a_class_file_with_glosses_and_underscores(own, tmp_path):
    (tmp_path / "c.txt").write_text("golden_retriever\tan English breed\ncat\n")
    jobs = plan(
        settings(own, classes=str(tmp_path / "c.txt"), templates={"{class}": 1, "{class} ({gloss})": 1}), count=40
    )
    assert {(job.class_name, job.prompt) for job in jobs} == {
        ("golden_retriever", "golden retriever"), ("golden_retriever", "golden retriever (an English breed)"), ("cat", "cat"),
    }  # fmt: skip


def test_synsets_get_names_and_glosses(own, tmp_path):
    (tmp_path / "synsets.txt").write_text("n02012849\nn03126707\n")  # both are called crane
    jobs = plan(settings(own, classes=str(tmp_path / "synsets.txt"), templates={"{class}, {gloss}": 1}), count=2)
    assert [job.class_name for job in jobs] == ["n02012849", "n03126707"]
    assert "crane, large long-necked wading bird" in str(jobs[0].prompt)
    assert "crane, lifts and moves heavy objects" in str(jobs[1].prompt)
    assert plan(settings(own, classes="imagenet-1k", per_subject=3)).subjects.number == 1000


def test_a_file_may_mix_synsets_and_plain_names(own, tmp_path):
    (tmp_path / "mixed.txt").write_text("n02012849\ngolden_retriever\tan English breed\n")
    jobs = plan(settings(own, classes=str(tmp_path / "mixed.txt"), templates={"{class}, {gloss}": 1}), count=2)
    assert [job.class_name for job in jobs] == ["n02012849", "golden_retriever"]
    assert str(jobs[0].prompt).startswith("crane, large") and jobs[1].prompt == "golden retriever, an English breed"


@pytest.mark.parametrize(
    "value, names",
    [
        (["cat", "dog"], ["cat", "dog"]),
        ({"dog": 1, "cat": 0}, ["cat", "dog"]),  # torchvision's class_to_idx
        ({"1": "dog", "0": "cat", "10": "owl"}, ["cat", "dog", "owl"]),
        ({"n03126707": "crane", "n02012849": "crane"}, ["n03126707", "n02012849"]),  # ImageNet-100's Labels.json
        (
            {"0": ["n02012849", "crane"], "1": ["n03126707", "crane"]},
            ["n02012849", "n03126707"],
        ),  # imagenet_class_index
    ],
)
@pytest.mark.parametrize("name", ["c.json", "c.txt"])
def test_classes_in_json(value, names, name, own, tmp_path):
    (tmp_path / name).write_text(json.dumps(value, indent=1))
    jobs = plan(settings(own, classes=str(tmp_path / name)), count=len(names))
    assert [job.class_name for job in jobs] == names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_synsets_with_their_names_in_any_unicode(encoding, own, tmp_path):
    (tmp_path / "map.txt").write_text("n03126707 crane\nn02012849 crane, bird\n", encoding=encoding)
    jobs = plan(settings(own, classes=str(tmp_path / "map.txt")), count=2)
    assert [job.class_name for job in jobs] == ["n03126707", "n02012849"]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("0 cat\n1 great owl\n", True),
        ("1 001.Cat\n2 002.Owl\n", True),  # CUB-200
        ("0: cat\n1: owl\n", True),
        ("3 cats\n2 owls\n", False),
        ("0\tzero\n1\tone\n", False),  # names with a gloss
        ("grade 0\ngrade 1\n", False),
        ("0.5 mm\n1.0 mm\n", False),
        ("7 up\n", False),
        ("0\n1\n", False),
    ],
)
def test_numbers_before_the_names_are_noted_and_kept(text, noted, own, tmp_path, capsys):
    (tmp_path / "c.txt").write_text(text)
    lines = text.splitlines()
    jobs = plan(settings(own, classes=str(tmp_path / "c.txt")), count=len(lines))
    assert [job.class_name for job in jobs] == [line.split("\t")[0] for line in lines]
    said = "classes = c.txt: every line begins with its number, which is read as a part of the name"
    assert (said in capsys.readouterr().err) is noted


def test_comments_among_classes_are_refused(own, tmp_path):
    (tmp_path / "c.txt").write_text("cat\n# birds\nowl\n")
    with pytest.raises(DataError, match="^classes = c.txt: line 2 begins with #, and comments are not read; remove it"):
        plan(settings(own, classes=str(tmp_path / "c.txt")), count=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "id,name\n0,cat\n"),
        ("c.yaml", "- cat\n- dog\n"),
        ("c.jsonl", '{"name": "cat"}\n{"name": "dog"}\n'),
        ("c.txt", "['cat', 'dog']\n"),
        ("c.xlsx", "PK\3\4\n"),
    ],
)
def test_files_of_classes_in_other_forms_are_refused(name, text, own, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"^classes = {name}: is no list of names; write one class per line, or JSON"):
        plan(settings(own, classes=str(tmp_path / name)), count=2)


def test_a_text_file_may_begin_with_a_bracket(own, tmp_path):
    (tmp_path / "c.txt").write_text("[cat]\ndog\n")
    jobs = plan(settings(own, classes=str(tmp_path / "c.txt")), count=2)
    assert [job.class_name for job in jobs] == ["[cat]", "dog"]


# --- captions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text",
    [
        ("c.txt", "a red kite\na door, blue\n"),
        ("c.jsonl", '{"caption": "a red kite"}\n{"caption": "a door, blue", "url": "x"}\n'),
        ("c.jsonl", '"a red kite"\n{"text": "a door, blue"}\n'),
        ("c.csv", 'id,caption\n1,a red kite\n2,"a door, blue"\n'),
        ("c.tsv", "text\tid\na red kite\t1\na door, blue\t2\n"),
    ],
)
def test_files_of_captions(name, text, own, tmp_path):
    (tmp_path / name).write_text(text)
    jobs = plan(settings(own, captions=str(tmp_path / name)))
    assert [job.prompt for job in jobs] == ["a red kite", "a door, blue"]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, content, sentence",
    [
        ({"classes": "FILE"}, "", "classes = list.txt: holds no class name; give at least one"),
        ({"classes": "FILE"}, "cat\n\ndog\n", "classes = list.txt: class 2 is empty"),
        ({"classes": "FILE"}, "cat\ndog\ncat\n", "classes = list.txt: class 1 and class 3 are the same"),
        ({"classes": "FILE"}, "n02012849\nn00000001\n", "classes: n00000001 is not among the 1000 ImageNet synsets"),
        ({"classes": "FILE"}, None, "classes = list.txt: cannot be read (No such file or directory); correct the path"),
        ({"classes": "FILE"}, b"\xff\xfe\xff", "classes = list.txt: is not UTF-8 text"),
        ({"classes": ["a", "a"]}, "", "classes = 2 names: class 1 and class 2 are the same"),
        ({"classes": "FILE"}, '{"names": {"a": 1}}', "classes = list.txt: is JSON of another form than a list of names"),
        ({"classes": "FILE.json"}, '["cat"', "classes = list.txt.json: is not JSON (Expecting ',' delimiter"),
        ({"classes": "FILE.json"}, "[]", "classes = list.txt.json: holds no class name"),
        ({"captions": "FILE.json"}, '["one"]', "captions = list.txt.json: one JSON value is not read as captions; write"),
        ({"captions": "FILE"}, "", "captions = list.txt: holds no caption; give at least one"),
        ({"captions": "FILE"}, "one\ntwo\none\n", "captions = list.txt: caption 1 and caption 3 are the same; keep one"),
        ({"captions": "FILE"}, "one\n \n", "captions = list.txt: caption 2 is empty"),
        ({"captions": "FILE"}, None, "captions = list.txt: cannot be read"),
        ({"captions": "FILE.jsonl"}, '{"caption": "one"}\n{', "captions = list.txt.jsonl: line 2 is not JSON"),
        ({"captions": "FILE.jsonl"}, '{"words": "one"}', 'captions = list.txt.jsonl: line 1 has no text under "caption"'),
        ({"captions": "FILE.jsonl"}, '"one"\n"\\ud83d"', "captions = list.txt.jsonl: line 2 holds half a character (a lone"),
        ({"captions": "FILE.csv"}, f"caption\n{'a' * 131073}", "captions = list.txt.csv: line 2 cannot be read (field larger"),
        ({"captions": "FILE.csv"}, "a" * 131073, "captions = list.txt.csv: line 1 cannot be read (field larger"),
        ({"captions": "FILE.csv"}, "a,b\n1,2\n", 'captions = list.txt.csv: has no column "caption" or "text" (a, b)'),
        ({"classes": ["a"], "captions": "x"}, "", "classes, captions: images are of classes, captions or real images"),
        ({"classes": ""}, "", "classes: no class names were given; give at least one, a file of them, or null"),
        ({"classes": []}, "", "classes: no class names were given; give at least one"),
        ({"generator": "fitted"}, "", "real: the fitted generator learns from real images and got none; give --real"),
        ({"vary": True}, "", "vary = true: makes variations of real images and was given none"),
        ({"classes": ["a"], "templates": {}}, "", "templates: the list is empty; give at least one, such as {class}"),
        ({"templates": {"a thing": 1}}, "", "templates.a thing: does not name {class}"),
        ({"templates": {"a {name}": 1}}, "", "templates.a {name}: must name only {class}, {gloss} and {background}"),
        ({"templates": {"a {class": 1}}, "", "templates.a {class: must name only"),
        ({"templates": {"{class}": 0}}, "", "templates.{class} = 0: a weight must be above 0"),
        ({"backgrounds": ["a", "b", "a"]}, "", "backgrounds: 'a' is given twice"),
        ({"backgrounds": [" "]}, "", "backgrounds: one is empty"),
        ({"backgrounds": []}, "", "backgrounds: the list is empty and a template names {background}"),
        ({"classes": ["a"], "templates": {"{class}, {gloss}": 1}}, "", "templates: all of them name {gloss} and the class"),
        ({"options": {"levl": 1}}, "", "options.levl: there is no such setting; did you mean options.level?"),
        ({"options": {"level": "x"}}, "", "options.level = x: input should be a valid integer"),
        ({"sise": 3}, "", "sise: there is no such setting; did you mean size?"),
        ({"size": 4}, "", "size = 4: input should be greater than or equal to 8"),
        ({"quality": 101}, "", "quality = 101: input should be less than or equal to 100"),
        ({"work": {"shard": 1}}, "", "work.shard: there is no such setting; did you mean work.shard_size?"),
        ({"generator": "procedual"}, "", "generator = procedual: there is no such generator; did you mean procedural?"),
        ({"generator": "diffusion", "options": {"model": "owner/x"}}, "", "classes: the diffusion generator must be told what"),
        ({"generator": "procedural", "classes": ["a"]}, "", "classes: the procedural generator cannot make images of"),
        ({"generator": "procedural", "vary": True}, "", "vary: the procedural generator cannot make variations of real im"),
        ({"generator": "/no/own.py:f"}, "", "generator = own.py:f: the file cannot be read (No such file"),
    ],
)  # fmt: skip
def test_bad_settings_and_lists(values, content, sentence, own, tmp_path):
    path = tmp_path / "list.txt"
    for name in ("classes", "captions"):
        if isinstance(values.get(name), str) and values[name].startswith("FILE"):
            path = tmp_path / values[name].replace("FILE", "list.txt")
            values = values | {name: str(path)}
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Syn2CoError, match="^" + re.escape(sentence)):
        plan(SynthesisSettings.parse({"generator": f"{own}:noise", **values}), count=3)


@pytest.mark.parametrize(
    "text, function, sentence",
    [
        ("def noise(job, size): pass\n", "nois", "the file has no such function; did you mean noise?"),
        ("def f(job): pass\n", "f", "must take (job, size) and then only named options"),
        ("def f(job, size, *rest): pass\n", "f", "must take (job, size) and then only named options"),
        ("def f(options, context): pass\n", "f", "needs a class Options(syn2co.synthesis.Settings) in the same file"),
        ("import no_such_thing\n", "f", "the file cannot be imported (ModuleNotFoundError: No module named"),
        ("def f(:\n", "f", "the file cannot be imported (SyntaxError"),
        ("raise SystemExit(3)\n", "f", "the file cannot be imported (SystemExit: 3); fix it"),
        ("f = 3\n", "f", "the file has no such function"),
    ],
)
def test_files_that_are_no_generator(text, function, sentence, tmp_path):
    path = write_generator(tmp_path, text)
    with pytest.raises(ConfigError, match="^" + re.escape(f"generator = own.py:{function}: {sentence}")):
        plan(settings(path, function), count=1)


def test_a_count_that_follows_from_nothing(own):
    with pytest.raises(ConfigError, match="^count: is not given and there is no list of classes or captions"):
        plan(settings(own))
    with pytest.raises(ConfigError, match="^count = 0: must be at least 1"):
        plan(settings(own), count=0)


def test_the_same_real_image_twice(own, tmp_path):
    for name in ("one", "two"):
        write_images(tmp_path / name, 2)
    with pytest.raises(DataError, match="^real: 0:class-0/00.png and 1:class-0/00.png have the same name and content"):
        plan(settings(own, vary=True), real=[tmp_path / "one", tmp_path / "two"])


# --- settings ----------------------------------------------------------------------------------------------------


def test_assignments_reach_the_options_and_templates(own):
    changed = settings(own).with_settings(
        ["options.level=3", "work.count=7", 'templates={"my {class}": 1}', 'classes=["a"]']
    )
    assert (changed.options, changed.work.count, changed.classes) == ({"level": 3}, 7, ("a",))
    assert plan(changed)[0].prompt == "my a"
    with pytest.raises(ConfigError, match=r"^--set work.cuont: there is no such setting; did you mean work.count\?"):
        settings(own).with_settings(["work.cuont=3"])


def test_settings_from_a_file(own, tmp_path):
    chosen = settings(own, classes=("a",), work={"shard_size": 1000})
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"hash": "x", "set": {}, **chosen.model_dump(mode="json")}))
    assert load_settings(path) == chosen
    path.write_text(
        json.dumps(
            {"set": {"count": 70, "shard_size": 20}, **settings(own, work={"shard_size": None}).model_dump(mode="json")}
        )
    )
    assert (load_settings(path).work.count, load_settings(path).work.shard_size) == (70, 20)
    path.write_text('{"work": {"count": 3}, "set": {"count": 70, "shard_size": 20}}')
    assert (load_settings(path).work.count, load_settings(path).work.shard_size) == (3, 20)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="^--config recipe.json: must hold one JSON object"):
        load_settings(path)


@pytest.mark.parametrize(
    "text, environment, part",
    [
        (None, {"RANK": "1", "WORLD_SIZE": "4"}, (0, 1)),
        ("1/1", {}, (0, 1)),
        ("3/8", {}, (2, 8)),
        ("auto", {}, (0, 1)),
        ("auto", {"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, (3, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}, (7, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
    ],
)
def test_parts(text, environment, part):
    assert parse_shard(text, environment) == part


SLURM = {f"SLURM_ARRAY_TASK_{name}": value for name, value in {"ID": "3", "MIN": "1", "MAX": "7", "COUNT": "7"}.items()}


@pytest.mark.parametrize(
    "environment, sentence",
    [
        ({"RANK": "one", "WORLD_SIZE": "4"}, "RANK = one: must be a whole number; correct it or give i/n"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK = 4 must be from 0 to 3 (WORLD_SIZE - 1)"),
        (SLURM | {"SLURM_ARRAY_TASK_MAX": "x"}, "SLURM_ARRAY_TASK_MAX = x: must be a whole number"),
        (
            SLURM | {"SLURM_ARRAY_TASK_COUNT": "3"},
            "task 3 of a SLURM array of 3 from 1 to 7 in steps of 1 is not in a plain range; use one such as --array=1-8, or --shard i/n",
        ),
        ({"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "8"}, "task 8 of a SLURM array of 8 from 0 to 7"),
        (SLURM | {"SLURM_ARRAY_TASK_STEP": "0"}, "task 3 of a SLURM array of 7 from 1 to 7 in steps of 0"),
    ],
)
def test_environments_that_name_no_part(environment, sentence):
    assert parse_shard("auto", SLURM) == (2, 7)
    with pytest.raises(ConfigError, match="^" + re.escape(f"--shard auto: {sentence}")):
        parse_shard("auto", environment)


def test_a_name_given_twice_in_json(own, tmp_path):
    sentence = "'a {class}' is named twice in one JSON object; name it once"
    twice = '{"a {class}": 1, "the {class}": 1, "a {class}": 2}'
    with pytest.raises(ConfigError, match="^" + re.escape(f"--set templates: {sentence}")):
        settings(own).with_settings([f"templates={twice}"])
    (tmp_path / "x.json").write_text(f'{{"templates": {twice}}}')
    with pytest.raises(ConfigError, match="^" + re.escape(f"--config x.json: {sentence}")):
        load_settings(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_parts_that_are_none(text):
    with pytest.raises(ConfigError, match=f"^--shard {text}: must be i/n with 1 <= i <= n, such as 3/8, or auto"):
        parse_shard(text, {})


def test_options_that_change_no_pixel_are_left_out_of_the_hash():
    from syn2co.synthesis.sets.recipe import public_settings, recipe_hash

    def hashed(**options):
        return recipe_hash(public_settings(SynthesisSettings(generator="diffusion", options=options)), None, None)

    plain = hashed(model="m", steps=20)
    assert hashed(model="m", steps=20, license="openrail", cpu_offload=True) == plain != hashed(model="m", steps=21)


def test_of_a_function_of_ones_own_every_option_counts(tmp_path):
    path = write_generator(tmp_path, "def noise(job, size, *, save_steps: int = 0): pass\n")
    assert len({plan(settings(path, options={"save_steps": n}), count=1).recipe_hash for n in (0, 1)}) == 2


def test_only_paths_are_shortened(own, tmp_path):
    from syn2co.synthesis.sets.recipe import public_settings

    (tmp_path / "c.txt").write_text("one\n")
    public = public_settings(settings(own, captions=str(tmp_path / "c.txt"), options={"model": "/private/sd15"}))
    assert (public["captions"], public["options"]["model"], public["generator"]) == ("c.txt", "sd15", "own.py:noise")
    public = public_settings(settings(own, classes=("/b/ as in bat", "../x"), backgrounds=("~ 3 m away", "./run")))
    assert (public["classes"], public["backgrounds"]) == (["/b/ as in bat", "../x"], ["~ 3 m away", "./run"])
    assert public_settings(settings(own, classes="/private/classes.txt"))["classes"] == "classes.txt"
    hashes = {
        plan(settings(own, classes=("a",), backgrounds=(place,)), count=1).recipe_hash for place in ("/a/x", "/b/x")
    }
    assert len(hashes) == 2
