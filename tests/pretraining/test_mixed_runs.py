"""Runs on mixed images: what batches hold, what is logged, false negatives, restarts, kills and ranks."""

import json
import math
import shutil
import signal
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_same_run, finish, interrupt_at, metrics, saved_steps, start, start_ranks, train, train_and_die
from synthetic_folders import picture, variations_of, write_set
from tiny_images import write_images

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.data.codec import Codec
from syn2co.data.loader import Schedule, batches
from syn2co.data.mixing import choose_mode, image_index, make_mixer
from syn2co.data.open import open_images
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import one_view
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.metrics import losses_by_source
from syn2co.pretraining.train import pretrain
from syn2co.reports.evaluation import evaluate

VIEWS = ViewsSettings(size=16)
THEN = ("mix.then=0.5", "mix.epoch_images=16", "negatives.start=0")
MIXES = {
    "ratio": ('mix.ratio={"kind":"linear","start":0.25,"stop":0.75,"epochs":3}', "mix.epoch_images=24"),
    "replace": ("mix.replace=0.5", "mix.view=random"),
    "union": ("mix.max_synthetic=6",),
}


@pytest.fixture(scope="session")
def variations(image_folder, tmp_path_factory) -> Path:
    """Two variations of each of the 26 images; not to be written to."""
    return variations_of(tmp_path_factory.mktemp("synthetic") / "set", image_folder, 2)


@pytest.fixture(scope="session")
def mixed(tiny, variations):
    """`mixed("ratio", "queue.size=32")`: the tiny config on a mix."""
    return lambda mix, *assignments: tiny(f'data.synthetic=["{variations}"]', *MIXES[mix], *assignments)


def _train(config, out: Path) -> Path:
    pretrain(config, out=out, progress=False)
    return out


def _setting(sources, real: int, mix, batch: int = 8):
    images = open_images(sources)
    boundary = images.first_of(real)
    mode = choose_mode(mix, real=real > 0, synthetic=len(sources) > real)
    mixer = make_mixer(images, boundary, mix, mode, seed=3, batch=batch)
    return images, Schedule(mixer.length, batch, 1, 1, 3, mixer)


# --- batches ----------------------------------------------------------------------------------------------------


def test_batches_of_a_replacement_by_hand(mixed, image_folder, variations):
    mix = mixed("replace").mix
    images, schedule = _setting([image_folder, variations], 1, mix)
    codec = Codec(canvas=18, jpeg_quality=80)
    (batch,) = batches(images, VIEWS, schedule, range(1, 2), rank=0, workers=0, codec=codec)
    sample_ids = keyed_rng.permutation(26, "epoch order", 3, 0)[8:16]
    of_view = schedule.mix.view_images(0, sample_ids)
    assert batch.indices.tolist() == batch.groups.tolist() == batch.sample_ids.tolist() == sample_ids.tolist()
    assert batch.synthetic.tolist() == (of_view >= 26).tolist() and 0 < batch.synthetic.sum() < 8
    assert (images.groups[of_view] == sample_ids).all()
    for view in (0, 1):
        for row, index in enumerate(of_view[view]):
            pixels = codec(images.read(int(index)))
            expected = one_view(pixels, VIEWS, seed=3, epoch=0, index=int(sample_ids[row]), view=view)
            np.testing.assert_array_equal(batch.views[view, row].numpy(), expected)


def test_an_image_that_comes_twice_gets_other_views_and_other_drops(tiny, tmp_path):
    config = tiny("mix.epoch_images=64")
    images, schedule = _setting([write_images(tmp_path / "three", 3)], 1, config.mix)
    (batch,) = batches(images, VIEWS, schedule, range(0, 1), rank=0, workers=0)
    assert batch.indices.tolist() == image_index(batch.sample_ids.numpy()).tolist()
    rows = [row for row in range(8) if batch.indices[row] == batch.indices[0]]
    assert len(rows) >= 2 and int(batch.sample_ids[rows[0]]) == int(batch.indices[0])
    for one, two in zip(rows, rows[1:], strict=False):
        assert not torch.equal(batch.views[:, one], batch.views[:, two])
    from syn2co.models.drop_path import drop_path_uniforms

    uniforms = drop_path_uniforms(4, batch.sample_ids, seed=3, epoch=0, view=1)
    assert len(set(uniforms[0].tolist())) == 8


@pytest.mark.parametrize("mix", MIXES)
def test_workers_change_nothing(mix, mixed, image_folder, variations):
    images, schedule = _setting([image_folder, variations, "procedural:warps:30:16"], 1, mixed(mix).mix)
    streams = [batches(images, VIEWS, schedule, range(1, 7), rank=0, workers=number) for number in (0, 4)]
    for one, two in zip(*streams, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))


# --- what is logged ---------------------------------------------------------------------------------------------


def test_losses_by_source_by_hand():
    means = {"loss": 3.0, "part/real": 1.5, "rows/real": 0.75, "part/synthetic": 1.5, "rows/synthetic": 0.25}
    assert losses_by_source(means) == {"loss": 3.0, "loss/real": 2.0, "loss/synthetic": 6.0}
    alone = {"loss": 3.0, "part/real": 3.0, "rows/real": 1.0, "part/synthetic": 0.0, "rows/synthetic": 0.0}
    assert losses_by_source(alone) == {"loss": 3.0, "loss/real": 3.0}, "no row of a kind: no loss of it, and no NaN"


def test_a_mixed_run_logs_what_it_drew(mixed, tmp_path):
    """24 images an epoch of three steps: 6, 10, 14 and 18 of them synthetic."""
    run = _train(mixed("ratio", "machine.log_steps=3"), tmp_path / "run")
    records = metrics(run)
    assert [record["drawn_synthetic"] for record in records] == pytest.approx([6 / 24, 10 / 24, 14 / 24, 18 / 24])
    assert [record["coverage/synthetic"] for record in records] == pytest.approx([6 / 52, 16 / 52, 30 / 52, 48 / 52])
    assert [record["coverage/real"] for record in records] == pytest.approx([18 / 26, 1, 1, 1])
    for record in records:
        share = record["drawn_synthetic"]
        weighted = share * record["loss/synthetic"] + (1 - share) * record["loss/real"]
        assert weighted == pytest.approx(record["loss"], rel=1e-5)
        assert not {name for name in record if name.startswith(("part/", "rows/"))}
        for kind in ("real", "synthetic"):
            both = {f"feature_std/{kind}", f"effective_rank/{kind}"} & record.keys()
            assert len(both) in (0, 2) and all(math.isfinite(record[name]) for name in both)
    assert any("effective_rank/synthetic" in record for record in records)
    expected = {
        "mode": "ratio", "real": 26, "synthetic": 52, "epoch": 24, "labels": "none", "generators": ["by hand"],
        "licenses": {"by hand": ["CC0-1.0"]},
    }  # fmt: skip
    assert json.loads((run / "mix.json").read_text()) == expected
    from syn2co.runtime.checkpoint import load_checkpoint

    assert load_checkpoint(run).state["mix"] == expected


def test_a_kind_without_rows_has_no_numbers(mixed, tmp_path):
    config = mixed("ratio", 'mix.ratio={"kind":"step","start":0.0,"stop":1.0,"epochs":2}')
    for record in metrics(_train(config, tmp_path / "run")):
        there, gone = ("real", "synthetic") if record["step"] <= 6 else ("synthetic", "real")
        assert record["drawn_synthetic"] == (there == "synthetic")
        assert record[f"loss/{there}"] == pytest.approx(record["loss"], rel=1e-5)
        assert record[f"effective_rank/{there}"] == pytest.approx(record["effective_rank"])
        assert not {f"loss/{gone}", f"feature_std/{gone}", f"effective_rank/{gone}"} & record.keys()


def test_a_run_of_real_images_is_as_it_was(tiny, mixed, tmp_path):
    """The explicit mode beside synthetic sources trains the same weights, and a plain run logs nothing of mixing."""
    from runs import assert_same_tensors

    from syn2co.runtime.checkpoint import load_checkpoint

    plain = _train(tiny("training.steps=4"), tmp_path / "plain")
    other = _train(mixed("union", "mix.max_synthetic=null", "mix.mode=real", "training.steps=4"), tmp_path / "other")
    assert_same_tensors(load_checkpoint(plain).tensors, load_checkpoint(other).tensors)
    for record in metrics(plain):
        assert not [name for name in record if "/real" in name or "/synthetic" in name or "drawn" in name]
    assert not (plain / "mix.json").exists() and "mix" not in load_checkpoint(plain).state


def test_used_labels_and_unequal_files_are_said(tiny, tmp_path, capsys):
    lines = [{"class": "cat", "labels": "used"}] * 12
    synthetic = write_set(tmp_path / "set", [picture(number, size=30) for number in range(12)], lines)
    config = tiny(f'data.synthetic=["{synthetic}"]', "training.steps=4", "mix.ratio=0.5")
    run = _train(config, tmp_path / "run")
    said = capsys.readouterr().err
    assert "note: labels went into the synthetic images, so scores of this run are not free of labels\n" in said
    assert "note: real and synthetic images differ in sizes (20 x 24 against 30 x 30), which a network can read" in said
    assert json.loads((run / "mix.json").read_text())["labels"] == "used"
    train, test = (write_images(tmp_path / name, seed=seed) for seed, name in enumerate(("train", "test")))
    report = evaluate(run, train, test, protocols=["knn"], settings=EvaluationSettings(baselines=False))
    assert "labels went into the synthetic images of run" in report.notes
    _train(config.with_settings(["mix.canvas=20"]), tmp_path / "other")
    assert "differ in" not in capsys.readouterr().err


def test_variations_without_their_source_are_said(mixed, tmp_path):
    from syn2co.data.training_data import open_training_data

    def opened(*assignments: str) -> list[str]:
        config = mixed("ratio", *assignments)
        return open_training_data(config.data, config.mix, seed=config.seed, batch=8, size=16).notes

    write_images(tmp_path / "other", seed=1)
    kept = opened()
    notes = opened(f'data.real=["{tmp_path / "other"}"]')
    sentence = "52 of 52 variations have a source that is not in the run, by name and content or by content alone; only"
    assert any(note.startswith(sentence) for note in notes) and not any("variations" in note for note in kept)


def test_the_progress_shows_the_ratio():
    from syn2co.pretraining.metrics import training_text

    record = {
        "epoch": 1.0,
        "loss": 2.0,
        "real_loss": 1.0,
        "uninformative": 3.0,
        "images_per_second": 9.0,
        "data_wait": 0,
    }
    assert "synthetic" not in training_text(record)
    assert training_text({**record, "drawn_synthetic": 0.25}).startswith("epoch 1.00  synthetic 25 %  loss 2.00")


def test_doctor_reads_a_mixed_run(whole_of):
    from syn2co.diagnostics.doctor import doctor

    assert "78 images" in doctor(whole_of("ratio")).text()


def test_the_codec_reaches_the_views_of_a_run(mixed, image_folder, variations, tmp_path, monkeypatch):
    import syn2co.pretraining.loop as loop

    take, seen = loop.training_step, []

    def looking(model, online, batch, place, *args, **named):
        seen.append(batch.views)
        return take(model, online, batch, place, *args, **named)

    monkeypatch.setattr(loop, "training_step", looking)
    config = mixed("ratio", "mix.canvas=18", "mix.jpeg_quality=40", "training.steps=4")
    _train(config, tmp_path / "run")
    images = open_images([image_folder, variations])
    mixer = make_mixer(images, 26, config.mix, "ratio", seed=config.seed, batch=8)
    sample_id = int(mixer.order(0)[0])
    pixels = Codec(18, 40)(images.read(int(image_index(np.array(sample_id)))))
    expected = one_view(pixels, config.views, seed=config.seed, epoch=0, index=sample_id, view=1)
    np.testing.assert_array_equal(seen[0][1, 0].numpy(), expected)


# --- false negatives --------------------------------------------------------------------------------------------


def test_without_the_mask_the_hardest_negatives_are_the_variations(tiny, image_folder, tmp_path):
    """Queue: the keys of three variations of every image. Query: the image itself."""
    from syn2co.objective.infonce import same_group

    synthetic = variations_of(tmp_path / "set", image_folder, 3, near=3)
    images = open_images([image_folder, synthetic])
    config = tiny("encoder.drop_path=0", "training.precision=float64")
    model = Syn2Co(config).train()

    def embeddings(rows: range):
        plain = ViewsSettings(
            size=16, crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, color_jitter_prob=0, grayscale=0, blur=(0, 0),
            solarize=(0, 0),
        )  # fmt: skip
        view = np.stack([one_view(images.read(row), plain, seed=0, epoch=0, index=row) for row in rows])
        with torch.no_grad():
            return model.target(torch.from_numpy(np.stack([view, view])), torch.zeros(0, 2, len(rows)))[0]

    queries, keys = embeddings(range(26)), embeddings(range(26, 104))
    groups = torch.from_numpy(images.groups)
    products = queries @ keys.T
    own = same_group(groups[:26], groups[26:])
    assert own.sum(1).tolist() == [3] * 26
    hardest = products.topk(3).indices
    assert own.gather(1, hardest).all(), "all of the three hardest are false negatives, for every query"
    after = products.masked_fill(own, -torch.inf).topk(16).indices
    assert not own.gather(1, after).any()


def test_the_mask_reaches_the_loss_of_a_run(mixed, tmp_path):
    """Replacement: the queue holds keys of variations, and none of them is a negative of its own image."""
    done = {}
    for mask in ("true", "false"):
        config = mixed("replace", f"negatives.mask_groups={mask}", "negatives.start=0", "training.steps=9")
        done[mask] = metrics(_train(config, tmp_path / mask))
    assert done["false"][-1]["masked_share"] == 0 < done["true"][-1]["masked_share"]
    assert done["true"][-1]["uninformative"] < done["false"][-1]["uninformative"]


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "assignments, kind, sentence",
    [
        (["mix.ratio=0.5", "data.synthetic=[]"], ConfigError, "mix.ratio: needs synthetic images; name their sources"),
        (
            ["mix.ratio=0.5", "data.real=[]"],
            ConfigError,
            "mix.ratio: needs real images; name their sources with --real",
        ),
        (
            ["data.real=[]", "data.synthetic=[]"],
            ConfigError,
            "data.real: names no images; .* or synthetic ones with --s",
        ),
        (["mix.ratio=0.5", "mix.epoch_images=4"], DataError, "mix: an epoch of 4 images has fewer than training.batch"),
        (
            ["mix.replace=1", 'data.real=["builtin:photos:test"]'],
            DataError,
            "mix.replace: 1024 of 1024 real images have",
        ),
    ],
)
def test_a_run_that_cannot_be(assignments, kind, sentence, tiny, variations, tmp_path):
    with pytest.raises(kind, match=sentence):
        _train(tiny(f'data.synthetic=["{variations}"]', *assignments), tmp_path / "run")


def test_other_synthetic_images_than_at_the_start_are_refused(mixed, variations, tmp_path):
    images = [picture(number) for number in range(30)]
    synthetic = write_set(tmp_path / "set", images, [{}] * 30)
    config = mixed("ratio", f'data.synthetic=["{synthetic}"]')
    run = _train(config, tmp_path / "run")
    write_set(synthetic, images, [{"group": "one"}] * 30)
    with pytest.raises(DataError, match="data.real and data.synthetic: the images are not those that the run began"):
        _train(config, run)


# --- restarts, kills and ranks ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_of(mixed, tmp_path_factory):
    """`whole_of(mix)`: its run, never interrupted; made once."""
    return cache(lambda mix: _train(mixed(mix), tmp_path_factory.mktemp("whole") / "run"))


@pytest.mark.parametrize("mix", MIXES)
def test_a_mixed_run_that_is_stopped_goes_on_bit_for_bit(mix, mixed, whole_of, tmp_path, monkeypatch):
    import os

    import syn2co.pretraining.loop as loop

    whole, run, take, stops = whole_of(mix), tmp_path / "run", loop.training_step, [2, 5, 7]

    def stopping(model, online, batch, place, *args, **named):
        if stops and place.step == stops[0]:
            stops.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)
        return take(model, online, batch, place, *args, **named)

    monkeypatch.setattr(loop, "training_step", stopping)
    for _ in range(3):
        with pytest.raises(SystemExit):
            _train(mixed(mix), run)
    assert not stops
    assert_same_run(_train(mixed(mix), run), whole)


def test_a_mixed_run_that_is_killed_ends_like_one_that_was_not(mixed, whole_of, tmp_path):
    mix, run = "replace", tmp_path / "run"
    for point, number, workers in (("before the enqueue", 7, 2), ("half a file", 1, 0), ("after the enqueue", 5, 2)):
        config = mixed(mix, f"machine.workers={workers}").to_json()
        assert finish(start(train_and_die, config, str(run), point, number)) == -signal.SIGKILL
        assert max(saved_steps(run), default=0) < 12
    assert finish(start(train, mixed(mix).to_json(), str(run))) == 0
    assert_same_run(run, whole_of(mix))


@pytest.mark.parametrize("mix", ["ratio", "replace"])
def test_one_rank_and_two_are_one_run(mix, mixed, tmp_path):
    from syn2co.runtime.checkpoint import load_checkpoint

    config = mixed(mix, "training.precision=float64", "training.steps=6")
    one, two = _train(config, tmp_path / "one"), tmp_path / "two"
    assert [finish(process) for process in start_ranks(2, train, config.to_json(), str(two))] == [0, 0]
    left, right = load_checkpoint(one).tensors, load_checkpoint(two).tensors
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert float((tensor.double() - right[name].double()).abs().max()) < 1e-9, name
    same = ("loss", "loss/", "drawn", "coverage/", "feature_std/", "effective_rank")
    for here, there in zip(metrics(one), metrics(two), strict=True):
        assert here.keys() == there.keys()
        for name in here:
            if name.startswith(same):
                assert here[name] == pytest.approx(there[name], abs=1e-9), name


# --- synthetic first, then real ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phases(tiny, variations, tmp_path_factory):
    """A config of six epochs of two steps, three of them synthetic, and its run, never interrupted."""
    config = tiny(f'data.synthetic=["{variations}"]', *THEN)
    return config, _train(config, tmp_path_factory.mktemp("phases") / "run")


def test_images_and_schedules_of_both_phases(phases, monkeypatch, tmp_path):
    """Six steps each: images of one kind, and a warm-up (of two steps) and cosines of their own."""
    import syn2co.pretraining.loop as loop

    config, run = phases
    momenta, kinds, take, move = [], [], loop.training_step, Syn2Co.update_target

    def looking(model, online, batch, place, *args, **named):
        kinds.append(set((batch.indices >= 26).tolist()) | set(batch.synthetic.flatten().tolist()))
        return take(model, online, batch, place, *args, **named)

    monkeypatch.setattr(loop, "training_step", looking)
    monkeypatch.setattr(
        Syn2Co, "update_target", lambda self, momentum: (momenta.append(momentum), move(self, momentum))
    )
    assert_same_run(_train(config, tmp_path / "again"), run)
    assert kinds == [{True}] * 6 + [{False}] * 6
    scale = 8 / 512
    peak, start, end = (scale * rate for rate in (0.02, 5e-7, 5e-6))
    rates = [start + (peak - start) * s / 2 if s < 2 else end + (peak - end) * _cosine(s / 6) for s in range(6)]
    assert [record["lr"] for record in metrics(run)] == pytest.approx(rates * 2)
    assert momenta == pytest.approx([1 - 0.01 * _cosine(s / 6) for s in range(6)] * 2)
    assert all(record["synthetic"] for record in metrics(run)), "the window counts epochs of the whole run"
    metadata = json.loads((run / "mix.json").read_text())
    assert (metadata["mode"], metadata["switch_step"], metadata["epoch"]) == ("then", 6, 16)


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def test_stops_around_the_switch_change_nothing(phases, tmp_path, monkeypatch):
    config, whole = phases
    for passage, stop in ((4, 5), (0, 6), (0, 7)):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            interrupt_at(patch, passage, signal.SIGTERM)
            _train(config, tmp_path / "run")
        assert saved_steps(tmp_path / "run")[-1] == stop
    assert_same_run(_train(config, tmp_path / "run"), whole)


def test_a_run_killed_in_both_phases_ends_like_one_that_was_not(phases, tmp_path):
    config, whole = phases
    run, words = tmp_path / "run", config.with_settings(["machine.workers=2"]).to_json()
    for point, number in (("before the enqueue", 7), ("after the enqueue", 5)):  # in step 6, and resumed from 5 in 9
        assert finish(start(train_and_die, words, str(run), point, number)) == -signal.SIGKILL
    assert saved_steps(run) == [5] and finish(start(train, words, str(run))) == 0
    assert_same_run(run, whole)


def test_a_switch_that_leaves_no_epoch_on_one_side_is_refused(phases, tmp_path):
    config, _ = phases
    sentence = (
        r"mix.then = 0.05: leaves less than one epoch of 2 steps .* of 12 steps; shorten mix.epoch_images or train"
    )
    with pytest.raises(ConfigError, match=sentence):
        _train(config.with_settings(["mix.then=0.05"]), tmp_path / "run")
    assert not (tmp_path / "run" / "mix.json").exists()


def test_a_run_from_before_mixing_goes_on(tiny, tmp_path):
    """Its config.json names neither data.synthetic nor mix, and its hash is another one."""
    whole = _train(tiny(), tmp_path / "whole")
    run = shutil.copytree(whole, tmp_path / "run")
    for path in (run / "checkpoints").glob("*12.safetensors"):
        path.unlink()
    old = json.loads((run / "config.json").read_text())
    del old["mix"], old["data"]["synthetic"]
    (run / "config.json").write_text(json.dumps({**old, "hash": "0" * 16}))
    pretrain(run / "config.json", out=run, progress=False)
    assert_same_run(run, whole)


def test_the_command_line(mixed, image_folder, variations, tmp_path):
    from click.testing import CliRunner

    from syn2co.cli.main import cli

    config = mixed("ratio", "training.steps=4", "data.real=[]", "data.synthetic=[]")
    (tmp_path / "tiny.json").write_text(config.to_json())
    sources = ["--real", str(image_folder), "--synthetic", str(variations), "--synthetic", "procedural:mix:20"]
    command = ["pretrain", "--config", str(tmp_path / "tiny.json"), *sources, "--out", str(tmp_path / "run"), "--quiet"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert saved["synthetic"] == [str(variations), "procedural:mix:20"]
    metadata = json.loads((tmp_path / "run" / "mix.json").read_text())
    assert metadata["synthetic"] == 72 and metadata["generators"] == ["by hand", "procedural"]
    assert metadata["licenses"] == {"by hand": ["CC0-1.0"], "procedural": ["CC0-1.0"]}
