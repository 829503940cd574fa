"""The cache of clean features: found again, bounded, cleared, never trusted if damaged, and no condition of a score."""

import os
import signal
from pathlib import Path

import pytest
import torch
from evaluation_folders import TINY, paint

from syn2co.evaluation.feature_cache import FeatureCache, cache
from syn2co.evaluation.protocols import protocol
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.images.objects.cache import ObjectCache
from syn2co.images.objects.store import RemoteObject
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate
from syn2co.runtime.signals import ends_on_signals

BYTES = 4 * 100 + 132  # 100 float32 values, the .npy header, the checksum


def test_the_second_time_nothing_is_made(tmp_path: Path) -> None:
    features = torch.arange(100.0).view(10, 10)
    kept = FeatureCache(10_000, tmp_path)
    assert torch.equal(kept.fetch(("a", 1), lambda: features), features)
    assert torch.equal(FeatureCache(10_000, tmp_path).fetch(("a", 1), lambda: pytest.fail("made again")), features)
    assert torch.equal(kept.fetch(("a", 2), lambda: features + 1), features + 1), "another key is another file"


def test_a_signal_keeps_the_features_that_are_finished(tmp_path: Path) -> None:
    features, kept = torch.arange(100.0), FeatureCache(10_000, tmp_path)
    with pytest.raises(SystemExit, match="143"), ends_on_signals():
        kept.fetch(("a",), lambda: features)
        kept.fetch(("b",), lambda: signal.raise_signal(signal.SIGTERM) or features)
    assert torch.equal(kept.fetch(("a",), lambda: pytest.fail("made again")), features)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_header_is_no_error(tmp_path: Path) -> None:
    """NumPy's parser of headers raises whatever it meets: TokenError in 147 of 3,000 changed bytes."""
    kept = FeatureCache(10_000, tmp_path)
    kept.fetch(("a",), lambda: torch.zeros(100))
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    for place in range(128):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        assert kept.fetch(("a",), lambda: torch.zeros(100)).tolist() == [0] * 100


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "gone"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    features = torch.arange(100.0)
    kept = FeatureCache(10_000, tmp_path)
    kept.fetch(("a",), lambda: features)
    (path,) = tmp_path.glob("*.npy")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    {
        "cut": lambda: path.write_bytes(bytes(data[:-9])),
        "flipped": lambda: path.write_bytes(bytes(data)),
        "other": lambda: path.write_text("nothing of ours"),
        "gone": path.unlink,
    }[damage]()
    assert torch.equal(kept.fetch(("a",), lambda: features), features)
    assert torch.equal(kept.fetch(("a",), lambda: pytest.fail("not mended")), features)


def test_what_was_used_longest_ago_leaves_first(tmp_path: Path) -> None:
    kept = FeatureCache(2 * BYTES, tmp_path)
    for number, name in enumerate("ab"):
        kept.fetch((name,), lambda: torch.zeros(100))
        for path in tmp_path.glob("*.npy"):
            if path.stat().st_mtime > 10_000:
                os.utime(path, (number, number))
    kept.fetch(("a",), lambda: pytest.fail("a left"))  # used: now b is the older one
    kept.fetch(("c",), lambda: torch.zeros(100))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npy")) <= 2 * BYTES
    kept.fetch(("a",), lambda: pytest.fail("a left"))
    made: list[str] = []
    kept.fetch(("b",), lambda: made.append("b") or torch.zeros(100))
    assert made == ["b"]


def test_a_limit_of_zero_or_below_the_file_remembers_nothing(tmp_path: Path) -> None:
    for limit in (0, 100):
        FeatureCache(limit, tmp_path / "none").fetch(("a",), lambda: torch.zeros(100))
        assert not list((tmp_path / "none").glob("*"))


def test_clearing_leaves_the_rest_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path))
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "kept.npz").touch()
    FeatureCache(10_000).fetch(("a",), lambda: torch.zeros(100))
    remote = ObjectCache(tmp_path / "remote")
    read, unread = (remote.entry(RemoteObject(f"s3://bucket/{name}.tar", 3, "1")) for name in "ab")
    remote.make_room([read, unread])
    remote.claim([read])
    for entry in (read, unread):
        entry.file.write_bytes(b"tar")
    assert cache() == (tmp_path, 1, BYTES, 2, 6)
    assert cache(clear=True) == (tmp_path, 0, 0, 2, 6)
    assert cache(clear_remote=True) == (tmp_path, 0, 0, 1, 3) and read.file.exists() and not unread.file.exists()
    assert (tmp_path / "index" / "kept.npz").exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    made = FeatureCache(10_000, tmp_path / "taken").fetch(("a",), lambda: torch.zeros(3))
    assert made.tolist() == [0, 0, 0]


def test_an_evaluation_extracts_once_for_all_protocols_and_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    train, test = paint(tmp_path / "a", {"blue": 6, "red": 6}), paint(tmp_path / "b", {"blue": 3, "red": 3}, seed=1)
    encoder, settings = build_encoder(TINY, seed=1), EvaluationSettings(device="cpu", baselines=False)
    calls: list[int] = []
    extract = protocol.extract
    monkeypatch.setattr(protocol, "extract", lambda *a, **k: calls.append(1) or extract(*a, **k))
    first = evaluate(encoder, train, test, settings=settings)
    assert len(calls) == 2, "train and test, for both protocols"
    again = evaluate(encoder, train, test, settings=settings)
    assert len(calls) == 2 and again.to_csv() == first.to_csv()
    evaluate(build_encoder(TINY, seed=2), train, test, settings=settings)
    assert len(calls) == 4, "another encoder has other features"
    evaluate(encoder, train, test, settings=settings.with_settings(["precision=bfloat16", "cache_gib=0"]))
    assert len(calls) == 6 and cache().files == 4


def test_equal_weights_with_another_input_are_another_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the normalization nor the number of heads is among the weights, and both change the features."""
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    train, test = paint(tmp_path / "a", {"blue": 6, "red": 6}), paint(tmp_path / "b", {"blue": 3, "red": 3}, seed=1)
    settings = EvaluationSettings(device="cpu", baselines=False)
    heads = {**TINY.options, "num_heads": 3}
    hashes = set()
    for number, spec in enumerate((TINY, TINY.model_copy(update={"mean": (0.1, 0.1, 0.1)}),
                                   TINY.model_copy(update={"options": heads})), start=1):  # fmt: skip
        report = evaluate(build_encoder(spec, seed=1), train, test, protocols=["knn"], settings=settings)
        hashes.add(report.rows[0].encoder_hash)
        assert cache().files == 2 * number
    assert len(hashes) == 1, "the weights are the same"
