"""The numbers behind an audit, by hand and by oracle: hashes, pairs, precision and recall, Vendi, AUC, memorization."""

import itertools

import numpy as np
import pytest

from syn2co.audits import feature_space as features
from syn2co.audits import fidelity as diversity
from syn2co.audits import separability
from syn2co.images import hash_pairs
from syn2co.images.near_copies import AGREEMENT, RADIUS, thumbnail, unit_thumbnail
from syn2co.images.perceptual_hash import phash, phash_bits


def draws(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def scene(seed: int, side: int = 48) -> np.ndarray:
    """A smooth colorful picture, different for each seed."""
    import cv2

    coarse = draws(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def distance(one: np.ndarray, two: np.ndarray) -> int:
    return (phash_bits(one) ^ phash_bits(two)).bit_count()


def agreement(one: np.ndarray, two: np.ndarray) -> float:
    return float(unit_thumbnail(one) @ unit_thumbnail(two))


def test_the_hash_has_16_digits_and_half_of_its_bits_are_set() -> None:
    text = phash(scene(0))
    assert len(text) == 16 and int(text, 16) == phash_bits(scene(0))
    assert phash_bits(scene(0)).bit_count() == 32
    assert phash(np.full((20, 30, 3), 77, np.uint8)) == "0" * 16


def test_a_changed_picture_keeps_its_hash_and_another_does_not() -> None:
    import cv2

    picture = scene(1)
    brighter = np.clip(picture * 1.1 + 5, 0, 255).astype(np.uint8)
    larger = cv2.resize(picture, (96, 96), interpolation=cv2.INTER_CUBIC)
    cut = cv2.resize(picture[1:, 1:], (48, 48))
    for changed in (brighter, larger, cut):
        assert distance(picture, changed) <= RADIUS
        assert agreement(thumbnail(picture), thumbnail(changed)) > AGREEMENT
    for other in range(2, 30):
        assert agreement(thumbnail(picture), thumbnail(scene(other))) < AGREEMENT
    assert np.median([distance(picture, scene(other)) for other in range(2, 30)]) > 24


def test_agreement_ignores_brightness_and_contrast_and_is_0_for_a_constant() -> None:
    picture = (scene(1)[:16, :16] // 4).astype(np.uint8)
    assert agreement(picture, (picture * 3 + 20).astype(np.uint8)) == pytest.approx(1.0, abs=1e-6)
    assert agreement(picture, np.full_like(picture, 9)) == 0.0


@pytest.mark.parametrize("one, two, bits", [(0, 0, 0), (0b1011, 0b0001, 2), (2**64 - 1, 0, 64)])
def test_differing_bits_by_hand(one: int, two: int, bits: int) -> None:
    first, second = np.array([one], np.uint64), np.array([two], np.uint64)
    for radius in range(65):
        assert len(hash_pairs.close_pairs(first, second, radius).first) == (radius >= bits)


def spread_hashes(count: int, seed: int) -> np.ndarray:
    """Hashes around a few centers, so that every distance from 0 to 20 occurs often."""
    rng = draws(seed)
    centers = rng.integers(0, 2**64, 12, dtype=np.uint64)
    found = []
    for number in range(count):
        value = int(centers[number % 12])
        for bit in rng.permutation(64)[: rng.integers(0, 14)]:
            value ^= 1 << int(bit)
        found.append(value)
    return np.array(found, np.uint64)


def test_close_pairs_are_those_of_all_pairs() -> None:
    one, two = spread_hashes(150, 0), spread_hashes(120, 0)[::-1].copy()
    for radius in (0, 4, 12):
        found = hash_pairs.close_pairs(one, two, radius)
        wanted = {
            (i, j)
            for i, j in itertools.product(range(150), range(120))
            if (int(one[i]) ^ int(two[j])).bit_count() <= radius
        }
        assert wanted and found.complete
        assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
        assert len(found.first) == len(wanted)


def test_close_pairs_within_a_list_have_i_below_j() -> None:
    one = np.concatenate([spread_hashes(100, 1), spread_hashes(100, 1)[:20]])
    found = hash_pairs.close_pairs(one, None, 10)
    wanted = {(i, j) for i, j in itertools.combinations(range(120), 2) if (int(one[i]) ^ int(one[j])).bit_count() <= 10}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted


def test_a_crowd_of_equal_hashes_does_not_explode_and_is_said_to_be_incomplete() -> None:
    found = hash_pairs.close_pairs(np.zeros(30_000, np.uint64), None, 12)
    assert len(found.first) == 16 * 15 // 2 + 16 * (30_000 - 16) and not found.complete
    many = hash_pairs.close_pairs(spread_hashes(2000, 2), None, 12, most=500)
    assert len(many.first) == 500 and not many.complete


def always_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every search use the index."""
    monkeypatch.setattr(hash_pairs, "_FEW_PAIRS", 0)
    monkeypatch.setattr(hash_pairs, "_BUCKET_PAIRS", -1_000_000)
    monkeypatch.setattr(hash_pairs, "_COUNTS", (7,))


@pytest.mark.parametrize("chunks", [4, 5, 6, 7, 8])
def test_hashes_that_differ_in_12_bits_are_near_in_a_chunk(chunks: int) -> None:
    parts = hash_pairs._chunks(chunks, 12)
    assert sum(part.width for part in parts) == 64
    bits = [draws(number).permutation(64)[:12] for number in range(2000)]
    # The worst case fills each chunk with as many bits as are still near, and one more bit somewhere.
    worst = [bit for part in parts for bit in range(part.shift, part.shift + part.radius + 1)]
    bits += [np.delete(worst, number) for number in range(13)]
    differing = np.array([sum(1 << int(bit) for bit in part) for part in bits], np.uint64)
    assert np.any([part.near(differing) for part in parts], axis=0).all()
    assert not any(part.near(np.array([sum(1 << bit for bit in worst)], np.uint64)).any() for part in parts)


def crowd_and_clusters() -> np.ndarray:
    """Hashes around centers, alone, equal (40 times), and equal in the lower half."""
    alone = draws(5).integers(0, 2**64, 400, dtype=np.uint64)
    return np.concatenate([spread_hashes(200, 4), alone, alone[:40] & np.uint64(2**32 - 1), np.full(40, alone[7])])


@pytest.mark.parametrize("missing", [0, 1, 300])
def test_the_index_gives_the_pairs_of_all_pairs_also_where_the_search_stops(monkeypatch, missing) -> None:
    one, two = crowd_and_clusters(), spread_hashes(250, 4)[::-1].copy()
    for second in (None, two):
        most = len(hash_pairs.close_pairs(one, second, 12).first) - missing
        wanted = hash_pairs.close_pairs(one, second, 12, most=most)
        with monkeypatch.context() as patched:
            always_indexed(patched)
            if not missing:
                patched.setattr(hash_pairs, "_all", None)
            pairs = hash_pairs.close_pairs(one, second, 12, most=most)
        assert pairs.complete == wanted.complete
        assert np.array_equal(pairs.first, wanted.first) and np.array_equal(pairs.second, wanted.second)


def test_the_index_compares_few_pairs_and_all_pairs_where_hashes_share_their_chunks(monkeypatch) -> None:
    compared = []
    compare = hash_pairs._BlockSearch.__call__

    def counted(self, left, right, columns=hash_pairs._COLUMNS):
        compared.append(len(left) * len(right))
        return compare(self, left, right, columns)

    monkeypatch.setattr(hash_pairs._BlockSearch, "__call__", counted)
    hashes = draws(6).integers(0, 2**64, 20_000, dtype=np.uint64)
    planted = hashes[:50] ^ np.uint64(0b1011)
    pairs = hash_pairs.close_pairs(np.concatenate([hashes, planted]), None, 12)
    assert {(row, 20_000 + row) for row in range(50)} <= set(
        zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    )
    assert sum(compared) < 0.25 * 20_000**2 / 2
    assert not hash_pairs._quickest(hashes[:6000] >> np.uint64(52), hashes[:6000] >> np.uint64(52), 12)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def test_nearest_by_hand() -> None:
    distances, rows = diversity.nearest(column(0, 10), column(3, 1, 9, 12), 2)
    assert distances.tolist() == [[1, 3], [1, 2]] and rows.tolist() == [[1, 0], [2, 3]]
    distances, rows = diversity.nearest(column(0, 1, 3), column(0, 1, 3), 1, itself=True)
    assert distances.ravel().tolist() == [1, 1, 2] and rows.ravel().tolist() == [1, 0, 1]


def test_equal_rows_have_distance_0() -> None:
    rows = draws(3).normal(size=(40, 7)) + 1e4
    assert (diversity.nearest(rows, rows, 1)[0] == 0).all()


def test_precision_recall_density_coverage_by_hand() -> None:
    """On a line: the balls of the real 0..7 have radius 3 2 2 2 2 2 2 3 for k = 3 and 5 4 3 3 3 3 4 5 for k = 5.

    Every synthetic point of 4.2, 4.3 ... 4.9 lies in a real ball (precision 1) and in all eight of k = 5, so density
    is 8 * 8 / (5 * 8) and coverage 1. The synthetic balls have radius 0.2 to 0.3: only 4 and 5 lie in one.
    """
    real = column(*range(8))
    synthetic = column(*(4.2 + 0.1 * number for number in range(8)))
    found = diversity.fidelity(synthetic, real)
    assert (found.precision, found.recall, found.coverage) == (1.0, 2 / 8, 1.0)
    assert found.density == pytest.approx(1.6)


def test_samples_far_apart_have_no_precision_recall_or_coverage() -> None:
    real = column(*range(8))
    found = diversity.fidelity(real + 100, real)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)
    half = np.concatenate([real[:4] + 0.01, real[:4] + 500])
    assert diversity.fidelity(half, real).precision == 0.5


def test_fidelity_is_that_of_loops() -> None:
    one, two = draws(4).normal(size=(30, 3)), draws(5).normal(size=(30, 3)) * 0.7 + 0.5

    def radius(rows: np.ndarray, index: int, k: int) -> float:
        return sorted(float(np.linalg.norm(rows[index] - row)) for n, row in enumerate(rows) if n != index)[k - 1]

    inside = {k: [[np.linalg.norm(a - b) <= radius(two, j, k) for j, b in enumerate(two)] for a in one] for k in (3, 5)}
    recall = np.mean([any(np.linalg.norm(a - b) <= radius(one, i, 3) for i, a in enumerate(one)) for b in two])
    found = diversity.fidelity(one, two)
    assert found.precision == pytest.approx(np.mean([any(row) for row in inside[3]]))
    assert found.recall == pytest.approx(recall)
    assert found.density == pytest.approx(np.sum(inside[5]) / (5 * 30))
    assert found.coverage == pytest.approx(np.mean(np.any(inside[5], axis=0)))


def test_the_vendi_score_counts_directions() -> None:
    assert diversity.vendi(np.ones((10, 4))) == pytest.approx(1.0)
    assert diversity.vendi(np.eye(4).repeat(3, axis=0)) == pytest.approx(4.0)
    assert diversity.vendi(np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])) == pytest.approx(
        np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    )


def test_memorization_is_about_1_percent_for_fresh_samples_and_high_for_copies() -> None:
    real, fresh = draws(6).normal(size=(1500, 8)), draws(7).normal(size=(1500, 8))
    honest = diversity.memorization(fresh, real)
    assert honest.share < 0.03 and honest.low <= 0.02
    copies = fresh.copy()
    copies[:300] = real[:300] + 0.02 * fresh[:300]
    found = diversity.memorization(copies, real)
    assert 0.2 <= found.share < 0.23 and found.low > 0.17
    assert found.nearest[:300].tolist() == list(range(300))
    assert found.ratios[:300].max() < found.threshold


def test_one_odd_real_image_is_not_memorized_by_all_odd_synthetic_ones() -> None:
    """Sixty synthetic images lie around one real image, far from all others: a hub, not sixty copies."""
    real, fresh = draws(15).normal(size=(300, 8)), draws(16).normal(size=(60, 8))
    real[7] = 40
    found = diversity.memorization(fresh + 40, real)
    assert (found.nearest == 7).all() and (found.ratios < found.threshold).all()
    assert found.share == pytest.approx(1 / 60) and found.low < 0.02
    copies = diversity.memorization(np.repeat(real[:20], 30, axis=0) + 1e-3, real[:20])
    assert copies.share == 1.0


def test_wilson_interval_by_hand() -> None:
    assert diversity.wilson_low(0, 100) == pytest.approx(0.0, abs=1e-12)
    assert diversity.wilson_low(10, 100) == pytest.approx(0.0552, abs=1e-4)


def test_auc_is_a_half_for_one_distribution_and_1_for_two() -> None:
    one, two = draws(8).normal(size=(400, 6)), draws(9).normal(size=(400, 6))
    same = separability.probe(one, two, seed=0)
    assert same.low < 0.5 < same.high and abs(same.value - 0.5) < 0.06
    apart = separability.probe(one + 3, two, seed=0)
    assert apart.value > 0.999 and apart.low > 0.99
    assert separability.probe(one, two, seed=0) == same


def test_images_of_one_group_stay_in_one_fold() -> None:
    """20 groups of 20 equal rows: unless they are kept together, the classifier recognizes them again."""
    centers, real = draws(10).normal(size=(20, 60)), draws(11).normal(size=(400, 60))
    rows, groups = centers.repeat(20, axis=0), np.arange(20).repeat(20)
    assert separability.probe(rows, real, seed=0).value > 0.9
    assert separability.probe(rows, real, seed=0, groups=groups).value < 0.75


def test_whitening_gives_unit_variance_and_leaves_empty_directions_out() -> None:
    rows = draws(12).normal(size=(200, 5)) * np.array([5.0, 1, 0.1, 0, 0]) + 3
    one, two = features.whiten([rows[:120], rows[120:]], 64)
    both = np.concatenate([one, two])
    assert both.shape == (200, 3)
    np.testing.assert_allclose(both.T @ both / 200, np.eye(3), atol=1e-8)


def test_whitening_few_images_of_many_pixels_is_that_of_the_large_matrix() -> None:
    rows = draws(14).normal(size=(40, 60)) * np.linspace(1, 9, 60)
    (found,) = features.whiten([rows], 64)
    _, values, vectors = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    wanted = (rows - rows.mean(axis=0)) @ vectors[:39].T / values[:39] * np.sqrt(40)
    assert found.shape == (40, 39)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-7)


def test_the_block_grid_of_jpeg_is_seen() -> None:
    import cv2

    picture = np.clip(scene(3, 64) + draws(13).normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)
    stored = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)
    assert separability.traces(stored, 64)[-2:].min() > separability.traces(picture, 64)[-2:].max() + 0.3


def test_fine_lines_on_a_ground_are_not_noise() -> None:
    """A checker of 1 pixel over half of the image correlates negatively from pixel to pixel; noise has no structure."""
    from syn2co.audits.health import ROUGH
    from syn2co.audits.scan import statistics

    ground = np.full((32, 32, 3), (40, 120, 60), np.uint8)
    rows, columns = np.indices((32, 32))
    ground[(rows + columns) % 2 * (columns < 16) == 1] = (250, 120, 200)
    gray = np.repeat(np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8), 3, axis=2)
    assert statistics(ground)[2] > ROUGH > statistics(gray)[2]
