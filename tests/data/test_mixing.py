"""Which image when: ratios, streams, occurrences, replacement and coverage, as functions of (seed, epoch, slot)."""

import numpy as np
import pytest

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.data.coverage import Coverage
from syn2co.data.loader import Schedule
from syn2co.data.mixing import Mixer, choose_mode, image_index, make_mixer, subset_rows
from syn2co.data.settings import MixSchedule, MixSettings
from syn2co.pretraining.config import Config


def mix(**settings) -> MixSettings:
    return MixSettings.parse(settings)


class Fake:
    """What a mixer asks of an `ImageSet`."""

    def __init__(self, real: int, synthetic: int, groups=None) -> None:
        self.groups = np.arange(real + synthetic) if groups is None else np.array(groups)

    def __len__(self) -> int:
        return len(self.groups)

    def name(self, index: int) -> str:
        return f"image {index}"


def make(real: int, synthetic: int, *, batch: int = 1, seed: int = 0, groups=None, **settings) -> Mixer:
    settings = mix(**settings)
    mode = choose_mode(settings, real=real > 0, synthetic=synthetic > 0)
    return make_mixer(Fake(real, synthetic, groups), real, settings, mode, seed=seed, batch=batch)  # type: ignore[arg-type]


# --- one pool ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real, synthetic, mode", [(26, 0, "real"), (0, 26, "synthetic"), (20, 6, "union")])
def test_without_a_ratio_the_order_is_the_permutation_of_the_epoch(real, synthetic, mode):
    mixer = make(real, synthetic, batch=8, seed=5)
    assert (mixer.mode, mixer.length) == (mode, 26)
    for epoch in range(3):
        np.testing.assert_array_equal(mixer.order(epoch), keyed_rng.permutation(26, "epoch order", 5, epoch))


def test_an_epoch_of_another_length_goes_on_in_the_stream():
    """Epochs of 16 over 10 images: 48 slots of three epochs hold every image 4 or 5 times."""
    mixer = make(10, 0, batch=8, epoch_images=17)
    assert mixer.length == 16, "cut to whole batches"
    seen = np.concatenate([image_index(mixer.order(epoch)) for epoch in range(3)])
    counts = np.bincount(seen, minlength=10)
    assert len(seen) == 48 and set(counts) == {4, 5}


def test_an_image_that_comes_again_in_an_epoch_is_another_draw():
    mixer = make(3, 0, epoch_images=8)
    sample_ids = mixer.order(0)
    assert len(set(sample_ids.tolist())) == 8
    for index in range(3):
        own = sample_ids[image_index(sample_ids) == index]
        assert own.tolist() == [index + (k << 40) for k in range(len(own))], "in order, the first one the index itself"
    assert (image_index(sample_ids)[:3] == keyed_rng.permutation(3, "epoch order", 0, 0)).all()


def test_subsets_of_one_seed_are_nested():
    small, large = (make(50, 40, max_real=count, seed=3).real for count in (10, 30))
    assert set(small) < set(large) and small.tolist() == sorted(small)
    assert subset_rows(np.arange(50), 10, "max_real", 3).tolist() == small.tolist(), "as a generator chooses them"
    assert subset_rows(small, 10, "max_real", 3).tolist() == small.tolist(), "chosen twice is chosen once"


def test_distinct_images_are_a_keyed_subset():
    one, again, other = (make(50, 40, max_real=10, max_synthetic=7, seed=seed) for seed in (0, 0, 1))
    assert one.real.tolist() == again.real.tolist() != other.real.tolist()
    assert len(set(one.real)) == 10 and (one.real < 50).all() and (one.synthetic >= 50).all()
    assert one.length == 17 and set(one.order(3)) == {*one.real, *one.synthetic}


# --- ratio ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_an_epoch_holds_the_ratio_exactly(ratio):
    mixer = make(26, 11, ratio=ratio, batch=8)
    assert mixer.length == 24
    for epoch in range(5):
        index = image_index(mixer.order(epoch))
        assert (index >= 26).sum() == round(24 * ratio) and len(index) == 24


def test_each_side_of_a_ratio_is_covered_evenly():
    """Any number of epochs: every image of a side came k or k + 1 times."""
    mixer = make(26, 11, ratio={"kind": "linear", "start": 0.1, "stop": 0.9, "epochs": 5}, batch=8)
    counts = np.zeros(37, int)
    for epoch in range(9):
        counts += np.bincount(image_index(mixer.order(epoch)), minlength=37)
        for side in (counts[:26], counts[26:]):
            assert side.max() - side.min() <= 1, epoch


def test_real_and_synthetic_are_shuffled_together_anew_each_epoch():
    mixer = make(1000, 1000, ratio=0.5)
    kinds = [image_index(mixer.order(epoch)) >= 1000 for epoch in range(2)]
    assert 430 < kinds[0][:900].sum() < 470, "450 expected"
    assert (kinds[0] != kinds[1]).any()
    assert (mixer.order(0) != make(1000, 1000, ratio=0.5, seed=1).order(0)).any()


def test_schedules_by_hand():
    moving = {"start": 0.2, "stop": 0.6, "from_epoch": 2, "epochs": 4}
    shares = {
        kind: [MixSchedule.parse({"kind": kind, **moving}).at(epoch) for epoch in (0, 2, 3, 4, 5, 6, 9)]
        for kind in ("linear", "cosine", "step")
    }
    assert shares["linear"] == pytest.approx([0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6])
    assert shares["cosine"] == pytest.approx([0.2, 0.2, 0.2585786, 0.4, 0.5414214, 0.6, 0.6])
    assert shares["step"] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 0.6])
    assert [MixSchedule(start=0.3).at(epoch) for epoch in (0, 100)] == [0.3, 0.3]


def test_epochs_follow_the_schedule():
    mixer = make(100, 100, ratio={"kind": "step", "start": 0.0, "stop": 0.75, "epochs": 2})
    assert [(image_index(mixer.order(epoch)) >= 100).sum() for epoch in range(4)] == [0, 0, 75, 75]


# --- replacement ------------------------------------------------------------------------------------------------

VARIED = [*range(4), 2, 0, 1, 3, 0, 1, 2, 3, 1 << 62]  # 4 real images, two variations each, and a stranger


def replaced(mixer: Mixer, epochs: int = 500) -> np.ndarray:
    """Return which of both views were replaced over many epochs, [2, n]."""
    views = [mixer.view_images(epoch, mixer.order(epoch)) for epoch in range(epochs)]
    return np.concatenate(views, axis=1) >= 4


@pytest.mark.parametrize(
    "view, expected",
    [("first", (0.3, 0.0, 0.0)), ("second", (0.0, 0.3, 0.0)), ("both", (0.3, 0.3, 0.3)), ("random", (0.15, 0.15, 0))],
)
def test_views_are_replaced_as_often_as_asked(view, expected):
    """2000 draws: three standard deviations are 0.031."""
    mixer = make(4, 9, groups=VARIED, replace=0.3, view=view)
    found = replaced(mixer)
    shares = (*found.mean(axis=1), found.all(axis=0).mean())
    np.testing.assert_allclose(shares, expected, atol=0.031)
    assert all(share == 0 for share, wanted in zip(shares, expected, strict=True) if wanted == 0)


def test_the_probability_of_a_replacement_follows_its_schedule():
    mixer = make(4, 9, groups=VARIED, replace={"kind": "step", "start": 0, "stop": 1, "epochs": 3})
    views = [mixer.view_images(epoch, mixer.order(epoch))[1] >= 4 for epoch in range(5)]
    assert [int(replaced.sum()) for replaced in views] == [0, 0, 0, 4, 4]


def test_a_view_is_replaced_by_a_variation_of_its_own_image():
    mixer = make(4, 9, groups=VARIED, replace=1, view="both")
    picked = {index: set() for index in range(4)}
    for epoch in range(30):
        sample_ids = mixer.order(epoch)
        assert sorted(sample_ids) == [0, 1, 2, 3], "an epoch is of the real images"
        for view in mixer.view_images(epoch, sample_ids):
            for index, other in zip(sample_ids, view, strict=True):
                assert VARIED[other] == index and other >= 4
                picked[index].add(int(other))
    assert picked == {0: {5, 8}, 1: {6, 9}, 2: {4, 10}, 3: {7, 11}}, "all of them in turn"
    assert mixer.unused == 1 and mixer.synthetic.tolist() == [5, 8, 6, 9, 4, 10, 7, 11]


def test_replacement_is_keyed_by_the_draw_and_not_by_its_place():
    mixer = make(4, 9, groups=VARIED, replace=0.5, view="random")
    sample_ids = np.arange(4) + (np.arange(4) << 40)
    whole = mixer.view_images(3, sample_ids)
    for row in range(4):
        np.testing.assert_array_equal(mixer.view_images(3, sample_ids[[row]])[:, 0], whole[:, row])


def test_a_missing_variation_is_an_error_and_not_a_silent_real_image():
    sentence = r"mix.replace: 2 of 4 real images have no variation in data.synthetic \(image 1, image 3\); generate the"
    with pytest.raises(DataError, match=sentence):
        make(4, 2, groups=[0, 1, 2, 3, 0, 2], replace=0.01)
    assert make(4, 2, groups=[0, 1, 2, 3, 0, 2], ratio=0.5).mode == "ratio", "only replacement needs them"


# --- synthetic first, then real -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share, epoch", [(0.5, 5), (0.25, 2), (0.26, 3), (0.1, 1), (0.9, 9)])
def test_a_run_in_two_phases_goes_over_at_the_nearest_end_of_an_epoch(share, epoch):
    mixer = make(26, 11, then=share, batch=8)
    assert (mixer.mode, mixer.length, mixer.switch_epoch) == ("then", 24, None)
    phases = mixer.switching(share, total_steps=30, steps_per_epoch=3)
    assert phases.switch_epoch == epoch
    counts = np.zeros(37, int)
    for number in range(10):
        index = image_index(phases.order(number))
        assert ((index >= 26) == (number < epoch)).all() and len(index) == 24
        counts += np.bincount(index, minlength=37)
        for side in (counts[:26], counts[26:]):
            assert side.max() - side.min() <= 1, "each side is a stream of permutations of its own"
    assert make(26, 11, ratio=0.5, batch=8).switch_epoch is None


@pytest.mark.parametrize("share, steps", [(0.1, 12), (0.9, 12), (0.5, 5), (0.5, 2)])
def test_a_phase_of_less_than_an_epoch_is_an_error(share, steps):
    mixer = make(26, 11, then=share, batch=8)
    sentence = (
        rf"mix.then = {share}: leaves less than one epoch of 3 steps .* of {steps} steps; shorten mix.epoch_images"
    )
    with pytest.raises(ConfigError, match=sentence + " or train longer"):
        mixer.switching(share, total_steps=steps, steps_per_epoch=3)


# --- coverage ---------------------------------------------------------------------------------------------------


def literal_coverage(mixer: Mixer, batch: int, per_epoch: int, step: int) -> dict[str, float]:
    """What `Coverage` returns, by a set and a loop."""
    seen: set[int] = set()
    for number in range(step):
        epoch, first = number // per_epoch, number % per_epoch * batch
        seen |= set(mixer.view_images(epoch, mixer.order(epoch)[first : first + batch]).ravel().tolist())
    pools = {"real": mixer.real, "synthetic": mixer.synthetic}
    return {f"coverage/{name}": len(seen & set(pool.tolist())) / len(pool) for name, pool in pools.items() if len(pool)}


@pytest.mark.parametrize(
    "settings", [{}, {"ratio": 0.3}, {"replace": 0.4, "view": "random"}, {"mode": "synthetic"}, {"max_real": 3}]
)
def test_coverage_is_what_the_steps_have_drawn(settings):
    mixer = make(4, 9, groups=VARIED, batch=2, **settings)
    per_epoch = mixer.length // 2
    coverage = Coverage(mixer, batch=2, steps_per_epoch=per_epoch)
    for step in (0, 1, 3, 4, 9, 30):
        expected = literal_coverage(mixer, 2, per_epoch, step)
        assert coverage.at(step) == expected
        assert Coverage(mixer, batch=2, steps_per_epoch=per_epoch).at(step) == expected, "as after a restart"
    assert min(expected.values()) > 0.7


# --- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, real, synthetic, sentence",
    [
        (
            {"ratio": 0.5},
            4,
            0,
            r"mix.ratio: needs synthetic images; name their sources with --synthetic, or set",
        ),
        ({"replace": 0.5}, 0, 4, r"mix.replace: needs real images; name their sources with --real, or set mix.replace"),
        ({"mode": "union"}, 4, 0, r"mix.mode = union: needs synthetic images; .*, or set mix.mode to auto"),
        (
            {"then": 0.5},
            4,
            0,
            r"mix.then: needs synthetic images; name their sources with --synthetic, or set mix.then",
        ),
        ({"then": 0.5}, 0, 4, r"mix.then: needs real images; name their sources with --real, or set mix.then to null"),
        ({"mode": "real"}, 0, 4, r"mix.mode = real: needs real images"),
        ({"mode": "synthetic"}, 4, 0, r"mix.mode = synthetic: needs synthetic images"),
        ({"max_synthetic": 3}, 4, 0, r"mix.max_synthetic = 3: means nothing where only real images are drawn; set it"),
        ({"max_real": 3, "mode": "synthetic"}, 4, 4, r"mix.max_real = 3: means nothing where only synthetic images"),
        ({"max_real": 5}, 4, 4, r"mix.max_real = 5: there are only 4 such images; lower it or set it to null"),
    ],
)
def test_settings_that_contradict_the_sources(settings, real, synthetic, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(real, synthetic, **settings)


@pytest.mark.parametrize(
    "assignments, sentence",
    [
        (["mix.mode=ratio"], r"mix.mode = ratio: needs mix.ratio; set it to a number from 0 to 1 or a schedule"),
        (
            ["mix.mode=union", "mix.ratio=0.5"],
            r"mix.ratio: means nothing with mix.mode = union; set mix.mode to",
        ),
        (["mix.ratio=0.5", "mix.replace=0.5"], r"mix.ratio and mix.replace: are two ways of mixing that exclude each"),
        (
            ["mix.replace=1", "mix.max_synthetic=5"],
            r"mix.max_synthetic = 5: would leave real images without a var",
        ),
        (["mix.mode=then"], r"mix.mode = then: needs mix.then; set it to a number from 0 to 1$"),
        (["mix.mode=union", "mix.then=0.5"], r"mix.then: means nothing with mix.mode = union; set mix.mode to then"),
        (["mix.ratio=0.5", "mix.then=0.5"], r"mix.ratio and mix.then: are two ways of mixing that exclude each other"),
        (["mix.then=1"], r"mix.then = 1: input should be less than 1"),
        (["mix.then=0"], r"mix.then = 0: input should be greater than 0"),
        (["mix.ratio=1.5"], r"mix.ratio.start = 1.5: input should be less than or equal to 1"),
        (['mix.ratio={"kind":"linear","start":0.5}'], r'mix.ratio: kind = linear: needs "stop" and "epochs" beside'),
        (['mix.ratio={"start":0.5,"epochs":3}'], r'mix.ratio: kind = constant: has "start" alone; leave the rest out'),
        (["mix.rato=0.5"], r"--set mix.rato: there is no such setting; did you mean mix.ratio\?"),
    ],
)
def test_settings_that_contradict_each_other(assignments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Config().with_settings(assignments)


def test_an_epoch_shorter_than_a_batch_is_an_error():
    mixer = make(20, 20, batch=8, ratio=0.5, epoch_images=5)
    sentence = r"mix: an epoch of 5 images has fewer than training.batch = 8, so not one step could be taken; add"
    with pytest.raises(DataError, match=sentence):
        Schedule(mixer.length, 8, 1, 1, 0, mixer)


def test_the_schedule_follows_the_mixer():
    mixer = make(26, 50, batch=8, ratio=0.5)
    schedule = Schedule(mixer.length, 8, 2, 2, 0, mixer)
    parts = [[[sample_id for _, sample_id in keys] for keys in schedule.keys(rank, 0, 6)] for rank in (0, 1)]
    for epoch in (0, 1):
        flat = [parts[rank][6 * epoch + part] for part in range(6) for rank in (0, 1)]
        assert sum(flat, []) == mixer.order(epoch).tolist()
    assert [{epoch for epoch, _ in keys} for keys in schedule.keys(0, 2, 4)] == [{0}] * 2 + [{1}] * 2
