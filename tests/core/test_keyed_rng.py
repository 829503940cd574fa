"""Keyed randomness: a function of the key, of all of it, and of nothing else."""

import numpy as np
import pytest

from syn2co.core import keyed_rng


def test_every_part_of_a_key_matters_with_its_type_and_position() -> None:
    keys = [(1, 2), (2, 1), (12,), ("1", 2), (1, "2"), (1, 2, 0), ()]
    assert len({keyed_rng.digest(*key) for key in keys}) == len(keys)
    assert len({keyed_rng.key64(*key) for key in keys}) == len(keys)


def test_numpy_integers_are_the_same_key_as_pythons() -> None:
    assert keyed_rng.digest(np.int64(7), "a") == keyed_rng.digest(7, "a")


def test_recorded_draws_do_not_change() -> None:
    """Recorded with NumPy 2.4: a change would break the repetition of every run."""
    assert keyed_rng.key64("views", 0, 1, 2) == 2592087719832382609
    assert keyed_rng.permutation(5, "epoch order", 0, 0).tolist() == [2, 3, 0, 4, 1]


def test_a_generator_starts_afresh() -> None:
    first, second = keyed_rng.generator("a", 1), keyed_rng.generator("a", 1)
    assert first.random(5).tolist() == second.random(5).tolist()
    assert keyed_rng.generator("a", 2).random() != keyed_rng.generator("a", 1).random()


def test_vectorized_keys_are_uniform_and_uncorrelated_between_neighbors() -> None:
    start = np.full(20_000, np.uint64(keyed_rng.key64("x")))
    one = keyed_rng.uniforms(keyed_rng.fold(start, np.arange(20_000, dtype=np.uint64)))
    assert one.min() >= 0 and one.max() < 1
    counts, _ = np.histogram(one, bins=20, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03


def test_fold_depends_on_both_arguments() -> None:
    a, b = np.array([1], np.uint64), np.array([2], np.uint64)
    assert len({int(keyed_rng.fold(x, y)[0]) for x in (a, b) for y in (a, b)}) == 4


def test_torch_seed_is_keyed_and_leaves_the_ambient_state_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state()
    with keyed_rng.torch_seed("w", 1):
        first = torch.rand(3)
    with keyed_rng.torch_seed("w", 1):
        assert torch.equal(first, torch.rand(3))
    with keyed_rng.torch_seed("w", 2):
        assert not torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.random.get_rng_state())
