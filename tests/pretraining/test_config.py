# ruff: noqa: E501 - messages in one piece
"""Settings: strict, frozen, one sentence an error, the same hash on every machine."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.pretraining.config import Config, load_config


def test_the_defaults_are_the_papers():
    """method.md, section 3: 300 epochs of ImageNet-1k."""
    config = Config()
    optimizer, training = config.optimizer, config.training
    assert (optimizer.base_lr, optimizer.warmup_lr, optimizer.final_lr, optimizer.warmup_epochs) == (
        1e-3,
        5e-7,
        5e-6,
        5,
    )
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay, optimizer.clip) == ((0.9, 0.999), 1e-8, 0.05, 5.0)
    assert (training.epochs, training.batch, training.temperature, training.momentum) == (300, 512, 0.2, 0.99)
    assert (config.queue.size, config.heads.hidden, config.heads.width, config.negatives.hardest) == (
        4096,
        4096,
        256,
        256,
    )
    assert (config.negatives.sigma, config.negatives.delta, config.negatives.eta) == (0.1, 0.01, 0.01)
    assert (config.encoder.drop_path, config.negatives.mask_groups, config.negatives.total) == (0.2, True, 0)


def test_json_there_and_back(tmp_path, tiny):
    for config in (Config(), tiny("negatives.stop=3.5", "encoder.options.depth=2")):
        path = tmp_path / "config.json"
        path.write_text(config.to_json())
        again = load_config(path)
        assert again == config and again.hash == config.hash and again.to_json() == config.to_json()
        assert json.loads(path.read_text())["hash"] == config.hash


def test_the_hash_is_the_same_on_every_machine():
    """Recorded; it changes only with the defaults, and then old run folders are refused, so change it knowingly."""
    code = "from syn2co.pretraining.config import Config; print(Config().hash)"
    hashes = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, text=True)
        .stdout.strip() for seed in ("1", "2")
    }  # fmt: skip
    assert hashes == {Config().hash}
    assert len(Config().hash) == 16


def test_the_hash_names_everything_but_the_machine_and_where_images_lie():
    config = Config()
    one, other, more = (config.with_settings([f"data.real={names}"]) for names in ('["x"]', '["y"]', '["x", "y"]'))
    assert one.hash == other.hash != more.hash
    other = config.with_settings(["machine.workers=3", "machine.device=cpu", "machine.tensorboard=false"])
    assert other != config and other.hash == config.hash
    changes = ["seed=1", "recipe=mine", "data.check=false", "views.size=96", "encoder.drop_path=0.1", "heads.width=64",
               "queue.size=1000", "negatives.sigma=0.2", "optimizer.eps=1e-7", "training.batch=256", "online_knn.max_images=3"]  # fmt: skip
    assert len({config.with_settings([change]).hash for change in changes} | {config.hash}) == len(changes) + 1


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        Config().queue.size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "assignment, path, value",
    [
        ("queue.size=1024", "queue.size", 1024),
        ("optimizer.base_lr=2e-3", "optimizer.base_lr", 2e-3),
        (" queue.size =7", "queue.size", 7),
        ("optimizer.clip=null", "optimizer.clip", None),
        ("optimizer.clip=none", "optimizer.clip", None),
        ("negatives.mask_groups=False", "negatives.mask_groups", False),
        ("encoder.name=swin_tiny_patch4_window7_224", "encoder.name", "swin_tiny_patch4_window7_224"),
        ("encoder.options.depth=6", "encoder.options", {"depth": 6}),
        ('encoder.options={"depth": 6}', "encoder.options", {"depth": 6}),
        ('data.real=["a=b", "c"]', "data.real", ("a=b", "c")),
        ("views.crop_scale=[0.2, 1]", "views.crop_scale", (0.2, 1.0)),
        ("views.crop_scale=[.2, 1.]", "views.crop_scale", (0.2, 1.0)),
        ("mix.max_real=4", "mix.max_real", 4),
        ("mix.then=.5", "mix.then", 0.5),
        ("training.epochs=5.", "training.epochs", 5.0),
        ("data.real=photos", "data.real", ("photos",)),
        ("data.real=./photos/.5.tar", "data.real", ("./photos/.5.tar",)),
        ("online_knn.train=labeled/train", "online_knn.train", ("labeled/train",)),
        ("encoder.options.norm=none", "encoder.options", {"norm": "none"}),
        ("encoder.options.norm=null", "encoder.options", {"norm": None}),
    ],
)
def test_assignments(assignment, path, value):
    found = Config().with_settings([assignment])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", [".5", "0.5", "5e-1", '{"start": .5}', '{"kind": "linear", "start": .5, "stop": 1., "epochs": 3}']
)
def test_every_spelling_of_a_share(text):
    ratio = Config().with_settings([f"mix.ratio={text}"]).mix.ratio
    assert ratio is not None and ratio.at(0) == 0.5


def test_one_assignment_is_no_list_of_letters():
    assert Config().with_settings("queue.size=5") == Config().with_settings(["queue.size=5"])


def test_later_assignments_win():
    assert Config().with_settings(["queue.size=5", "queue.size=6"]).queue.size == 6


@pytest.mark.parametrize(
    "assignment, sentence",
    [
        ("queue.size", "--set queue.size: must look like queue.size=1024"),
        ("queue.sise=3", r"--set queue.sise: there is no such setting; did you mean queue.size\?"),
        ("queue_size=3", r"--set queue_size: there is no such setting; did you mean queue.size\?"),
        ("temperature=0.1", r"--set temperature: there is no such setting; did you mean training.temperature\?"),
        ("queue.size.more=3", "--set queue.size.more: there is no such setting"),
        ("queue.size=0", "queue.size = 0: input should be greater than 0"),
        ("queue.size=many", "queue.size = many: input should be a valid integer"),
        ("training.steps=true", "training.steps = true: input should be a number"),
        ("optimizer.betas=[true,0.9]", "optimizer.betas = \\[true, 0.9\\]: input should be numbers, not true or false"),
        ("optimizer.clip=false", "optimizer.clip = false: input should be a number"),
        ("queue.size=1.5", "queue.size = 1.5: input should be a valid integer"),
        ("optimizer.base_lr=NaN", "optimizer.base_lr = nan: input should be"),
        ("optimizer.base_lr=Infinity", "optimizer.base_lr = inf: input should be a finite number"),
        ("training.temperature=-0.2", "training.temperature = -0.2: input should be greater than 0"),
        (
            "training.precision=float16",
            "training.precision = float16: input should be 'float32', 'bfloat16' or 'float64'",
        ),
        ("negatives.noise=-1", "negatives.noise = -1: input should be greater than or equal to 0"),
        ("encoder.drop_path=1", "encoder.drop_path = 1: input should be less than 1"),
        ("optimizer.betas=[0.9]", r"optimizer.betas = \[0.9\]: must be a list of 2 numbers, such as \[0.9,0.999\]$"),
        ("views.blur=[1,0,1]", r"views.blur = \[1, 0, 1\]: must be a list of 2 numbers, such as \[1.0,0.1\]$"),
        ("data.real=3", r'data.real = 3: must be a list of texts, such as \["a","b"\]$'),
        ("optimizer.base_lr=none", "optimizer.base_lr = none: input should be a valid number"),
        ("mix.ratio=50%", "mix.ratio: 50% is no share; give a number from 0 to 1, or an object such as {.start.: 0.5}"),
        ("=3", "--set =3: must look like queue.size=1024"),
        ("optimizer.lr=1", r"--set optimizer.lr: there is no such setting; did you mean optimizer.base_lr\?"),
        ("machine.keep=1", "machine.keep = 1: input should be greater than 1"),
        ("data.max_broken_share=2", "data.max_broken_share = 2: input should be less than or equal to 1"),
    ],
)
def test_assignments_that_cannot_be(assignment, sentence):
    with pytest.raises(ConfigError, match="^" + sentence):
        Config().with_settings([assignment])


COUNTS = ("negatives.noise=64",)


def test_a_preset_replaces_the_settings_that_it_names_and_no_others():
    config = Config().with_settings(["views.size=32", "views.flip=0.1", "views=weak"])
    by_hand = ["views.size=32", "views.flip=0.1", "views.crop_scale=[0.2, 1]", "views.color_jitter_prob=0.4"]
    assert config == Config().with_settings([*by_hand, "views.blur=[0, 0]"])
    assert config.hash == Config().with_settings([*by_hand, "views.blur=[0, 0]"]).hash
    assert Config().with_settings(["views=weak", "views.blur=[0.5, 0]"]).views.blur == (0.5, 0.0), "in order"
    assert Config().with_settings(["views.flip=0.1", 'views={"size": 32}']).views == Config().views.model_copy(
        update={"size": 32}
    ), "JSON is the whole group, as ever"


@pytest.mark.parametrize(
    "assignment, sentence",
    [
        (
            "views=waek",
            r"--set views=waek: there is no such preset; did you mean weak\? \(known are weak; single settings are views.NAME",
        ),
        ("queue=weak", "queue = weak: is a group of settings; name one of them, such as queue.size"),
    ],
)
def test_presets_that_are_none(assignment, sentence):
    with pytest.raises(ConfigError, match="^" + sentence):
        Config().with_settings([assignment])


def test_settings_that_are_newer_than_run_folders_count_in_the_hash_when_they_are_set():
    names = {"mix.then": "0.5", "online_knn.patience": "3"}
    knn = ["online_knn.every_epochs=1", 'online_knn.train=["a"]', 'online_knn.test=["b"]']
    config = Config().with_settings(knn)
    for name, value in names.items():
        changed = config.with_settings([f"{name}={value}"])
        assert changed.hash != config.hash == changed.with_settings([f"{name}=null"]).hash


@pytest.mark.parametrize(
    "assignments, sentence",
    [
        (
            ("online_knn.patience=3",),
            "online_knn.patience = 3: means nothing without a score; set online_knn.every_epochs, or patience to null",
        ),
        (
            (*COUNTS, "negatives.hardest=8192"),
            "negatives.hardest = 8192: must be at most queue.size = 4096; lower it or enlarge the queue",
        ),
        (("training.micro_batches=3",), "training.micro_batches = 3: must divide training.batch = 512; choose another"),
        (
            ("training.batch=8", "training.micro_batches=8"),
            "training.batch = 8: gives micro-batches of one image, and batch normalization needs 2; enlarge it or",
        ),
        (("training.batch=1",), "training.batch = 1: gives micro-batches of one image"),
        (
            (*COUNTS, "negatives.start=30", "negatives.stop=30"),
            "negatives.stop = 30: must be later than negatives.start = 30, or the window of synthetic negatives never opens",
        ),
        (
            (*COUNTS, "negatives.start=300"),
            "negatives.start = 300: must be before training.epochs = 300, or the window of synthetic negatives never opens",
        ),
        (("encoder.size=96",), "encoder.size = 96: must be views.size = 224; set views.size alone"),
        (("online_knn.every_epochs=1",), "online_knn.every_epochs: needs labeled images; set online_knn.train and"),
        (
            ("encoder.options.drop_path_rate=0.1",),
            "encoder.options: must not hold drop_path_rate; use encoder.drop_path and views.size, and leave the rest",
        ),
        (
            ('encoder.options={"pretrained": true, "num_classes": 9}',),
            "encoder.options: must not hold num_classes, pretr",
        ),
    ],
)
def test_contradictions(assignments, sentence):
    with pytest.raises(ConfigError, match="^" + sentence):
        Config().with_settings(assignments)


def test_no_synthetic_negatives_no_contradiction():
    config = Config().with_settings(["negatives.hardest=8192", "negatives.start=400", "negatives.stop=300"])
    assert config.negatives.total == 0


def test_any_kinds_alone():
    for kind in ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial"):
        config = Config().with_settings([f"negatives.{kind}=5"])
        assert config.negatives.total == 5 and config.negatives.counts[kind] == 5


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{", "--config bad.json: is not JSON .*; write one with `syn2co recipes NAME --json`"),
        ("[1]", "--config bad.json: must hold one JSON object with the settings, not a list"),
        ('{"quue": {}}', r"quue: there is no such setting; did you mean queue"),
        ('{"queue": {"sise": 3}}', r"queue.sise: there is no such setting; did you mean queue.size\?"),
        ('{"queue": 3}', "queue = 3: is a group of settings; name one of them, such as queue.size"),
        (
            '{"training": {"batch": 7, "micro_batches": 2}}',
            "training.micro_batches = 2: must divide training.batch = 7",
        ),
    ],
)
def test_files_that_cannot_be(text, sentence, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_config(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_files_as_powershell_and_notepad_write_them(encoding, tmp_path):
    config = Config().with_settings(["data.real=Bilder/\u00e4", "queue.size=1024"])
    path = tmp_path / "config.json"
    path.write_text(config.to_json(), encoding=encoding)
    assert load_config(path) == config


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(
        ConfigError, match=r"--config none.json: cannot be read \(No such file or directory\); give the path"
    ):
        load_config(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_config(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="--config binary.json: is not JSON"):
        load_config(tmp_path / "binary.json")


def test_nearest_names():
    known = ["queue.size", "views.size", "training.batch"]
    assert nearest("queue.sice", known) == "; did you mean queue.size?"
    assert nearest("bach", known) == "; did you mean training.batch?"
    assert nearest("xyzzy", known) == ""


@pytest.mark.parametrize(
    ("head", "writer"),
    [({"written_by": "syn2co 9.0", "hash": "x"}, "syn2co 9.0"), ({"hash": "x"}, "an earlier version of syn2co")],
)
def test_a_config_of_another_version_says_which(head, writer, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**head, "queue": {"length": 3}}))
    sentence = (
        rf"queue.length: there is no such setting.* \(config.json was written by {writer}, this is .*: use that version"
    )
    with pytest.raises(ConfigError, match=sentence):
        load_config(path)
    path.write_text(json.dumps({**head, "queue": {"size": 3000}}))
    assert load_config(path).queue.size == 3000


def test_half_a_character_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'\\ud800': is half a character; give text that UTF-8 can hold"):
        Config().with_settings(['init_hash="\\ud800"'])
