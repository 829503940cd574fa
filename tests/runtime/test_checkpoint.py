"""Checkpoint files: whole or not there, verified when read, the last ones kept, nothing pickled."""

import errno
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_same_tensors

from syn2co.core.errors import CheckpointError, FileError
from syn2co.core.files import write_atomically
from syn2co.runtime.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint

STATE = {"seed": 3, "averages": {"loss": [1.5, 2.0], "hardness": [float("nan"), 1.0]}, "name": "ünï"}


def _tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(5, 7, generator=draws),
        "double": torch.randn(3, generator=draws, dtype=torch.float64),
        "half": torch.randn(3, generator=draws).bfloat16(),
        "count": torch.tensor(2**40),
        "groups": torch.arange(-3, 4),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 4),
        "turned": torch.randn(4, 3, generator=draws).T,
    }


def _save(run: Path, step: int, *, keep: int = 2) -> Path:
    return save_checkpoint(run, step, _tensors(step), {**STATE, "at": step}, keep=keep)


def test_everything_comes_back_bit_for_bit(tmp_path):
    path = _save(tmp_path, 7)
    found = load_checkpoint(path)
    assert_same_tensors(found.tensors, _tensors(7))
    assert found.state["step"] == 7 and found.state["name"] == "ünï" and found.state["format"] == 1
    assert np.isnan(found.state["averages"]["hardness"][0])
    assert load_checkpoint(tmp_path).path == path == tmp_path / "checkpoints" / "step-000000007.safetensors"


def test_defect_11_nothing_is_pickled(tmp_path):
    """The file is eight bytes of length, JSON, and raw numbers; the released code pickles its configuration."""
    body = _save(tmp_path, 1).read_bytes()
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert json.loads(metadata["state"])["seed"] == 3
    assert set(metadata) == {"state", "crc32"}
    assert len(body) == 8 + length + max(entry["data_offsets"][1] for entry in header.values())


def test_defect_11_a_file_is_never_changed_in_place(tmp_path, monkeypatch):
    """At every moment the folder holds only whole checkpoints under their final names."""
    _save(tmp_path, 1)
    seen = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def watched(*args, original=original):
            found = [load_checkpoint(path).state["at"] for path in sorted((tmp_path / "checkpoints").glob("step-*s"))]
            seen.append(found)
            return original(*args)

        monkeypatch.setattr(os, name, watched)
    _save(tmp_path, 2)
    assert seen == [[1], [1], [1, 2]]  # before the flush of the file, the rename, the flush of the folder


def test_the_last_ones_are_kept(tmp_path):
    for step in (1, 5, 10, 100):
        _save(tmp_path, step, keep=3)
    assert [path.name[5:14] for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "000000005", "000000010", "000000100",
    ]  # fmt: skip


def test_equal_states_are_equal_files(tmp_path):
    """safetensors writes the metadata in the order of a hash map, which is another one each time."""
    saved = set()
    for number in range(8):
        saved.add(_save(tmp_path / str(number), 1).read_bytes())
    assert len(saved) == 1


def test_what_killed_saves_left_is_removed(tmp_path):
    _save(tmp_path, 1)
    for name in ("step-000000002.tmp", ".tmpAbCdEf", ".step-000000002.safetensors.0a1b2c3d.tmp"):
        (tmp_path / "checkpoints" / name).write_bytes(b"half")
    (tmp_path / "checkpoints" / "mine.txt").write_text("kept")
    _save(tmp_path, 3)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "mine.txt", "step-000000001.safetensors", "step-000000003.safetensors",
    ]  # fmt: skip


def test_damaged_later_ones_do_not_push_out_good_ones(tmp_path):
    """After a resume from step 10, step 20 is damaged and must not count as one of the two that are kept."""
    _save(tmp_path, 10)
    _save(tmp_path, 20).write_bytes(b"damaged")
    _save(tmp_path, 15)
    assert [path.name[5:14] for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000000010", "000000015"]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        assert _save(tmp_path, 1).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    path = _save(tmp_path, 1)
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, 40), *draws.integers(40, header, 150), *draws.integers(header, len(whole), 50), len(whole) - 1]
    unnoticed = []
    for place in places:
        body = bytearray(whole)
        body[place] ^= 1 << int(draws.integers(8))
        path.write_bytes(body)
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        unnoticed.append(place)
        assert_same_tensors(found.tensors, _tensors(1))  # blanks of the padding may be anything
        assert found.state["at"] == 1
    assert unnoticed == []


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_found(length, tmp_path):
    path = _save(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="step-000000001.safetensors: is damaged or not a checkpoint of syn2co"):
        load_checkpoint(path)


def test_a_safetensors_file_of_somebody_else_is_no_checkpoint(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is damaged or not a checkpoint of syn2co; give an earlier one"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_the_newest_that_verifies_counts(tmp_path):
    for step in (1, 2, 3):
        _save(tmp_path, step, keep=3)
    newest = tmp_path / "checkpoints" / "step-000000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    damaged: list[Path] = []
    found = newest_checkpoint(tmp_path, damaged=damaged)
    assert found is not None and found.state["at"] == 2
    assert damaged == [newest]


def test_files_of_the_users_own_are_neither_read_nor_deleted(tmp_path):
    _save(tmp_path, 1)
    own = [
        tmp_path / "checkpoints" / name for name in ("step-best.safetensors", "step-000000037-mine.bak", "notes.txt")
    ]
    for path in own:
        path.write_text("mine")
    for step in (2, 3, 4):
        _save(tmp_path, step)
    assert all(path.read_text() == "mine" for path in own)
    assert load_checkpoint(tmp_path).state["step"] == 4


def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_over(tmp_path, monkeypatch):
    """A file system that is away for a moment must not cost the newest checkpoint."""
    for step in (1, 2):
        _save(tmp_path, step)
    real = open

    def unwell(path, *args, **named):
        if str(path).endswith("step-000000002.safetensors"):
            raise OSError(5, "Input/output error")
        return real(path, *args, **named)

    monkeypatch.setattr("builtins.open", unwell)
    with pytest.raises(
        CheckpointError, match=r"step-000000002.safetensors: cannot be read \(Input/output error\); fix"
    ):
        load_checkpoint(tmp_path)


def test_all_damaged_is_an_error_and_none_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    with pytest.raises(CheckpointError, match="has no checkpoint yet; give a run folder of `syn2co pretrain`"):
        load_checkpoint(tmp_path)
    for step in (1, 2):
        _save(tmp_path, step)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of its checkpoints \(2\) is intact; start again in a new folder"):
        newest_checkpoint(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: does not exist; give a run folder or a checkpoint file"):
        load_checkpoint(tmp_path / "nowhere")


FULL = r"step-000000002.safetensors: the checkpoint could not be saved \(no space is left on the device; free some and"


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_no_space_left_leaves_the_earlier_ones(where, tmp_path, monkeypatch):
    _save(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=FULL):
        patch.setattr(os, where, full)
        _save(tmp_path, 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001.safetensors"]
    assert load_checkpoint(tmp_path).state["at"] == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_leaves_the_earlier_ones(small_disk):
    save_checkpoint(small_disk, 1, {"a": torch.zeros(10_000)}, {"at": 1}, keep=2)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=FULL):
            save_checkpoint(small_disk, 2, {"a": torch.zeros(10_000)}, {"at": 2}, keep=2)
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["step-000000001.safetensors"]
    assert load_checkpoint(small_disk).state["at"] == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(CheckpointError, match="could not be saved .*File exists.*; there is none yet"):
        _save(tmp_path, 1)


def test_small_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_atomically(path, "old\n")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"config.json: cannot be written \(No space left on device\); nothing was"):
        write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    assert [found.name for found in tmp_path.iterdir()] == ["config.json"]


def test_a_checkpoint_of_another_layout_says_which_version_wrote_it(tmp_path, monkeypatch):
    import syn2co.runtime.checkpoint as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT", 9)
        path = module.save_checkpoint(tmp_path, 1, {}, {"machine": {"syn2co": "7.0"}}, keep=2)
    sentence = r"step-000000001.safetensors: was written by syn2co 7.0 in checkpoint format 9, .* \(.+\) reads format 1"
    for where in (path, tmp_path):
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(where)


@pytest.mark.parametrize(
    "forged",
    [
        {"step": None}, {"step": -1}, {"step": 10**30}, {"step": True}, {"averages": [1]}, {"averages": {"loss": [1]}},
        {"averages": "x"}, {"encoder": []}, {"mix": None}, {"mix": {"generators": "x"}}, {"init": None}, {"machine": 3},
        {"config": {"data": "x"}}, {"config_hash": 7}, {"total_steps": "3"}, {"format": "1"}, {"images": 0.5},
    ],
)  # fmt: skip
def test_a_forged_state_under_a_right_checksum_is_damage(forged, tmp_path):
    """A checksum tells damage, not forgery; an earlier checkpoint counts then."""
    save_checkpoint(tmp_path, 1, {}, {}, keep=2)
    save_checkpoint(tmp_path, 2, {}, forged, keep=2)
    assert load_checkpoint(tmp_path).state["step"] == 1
    with pytest.raises(CheckpointError, match="step-000000002.safetensors: is damaged or not a checkpoint of syn2co"):
        load_checkpoint(tmp_path / "checkpoints" / "step-000000002.safetensors")


def test_tensors_that_share_memory_are_saved(tmp_path):
    """Networks with tied weights, such as coat_tiny: one tensor under two names."""
    tied = torch.arange(6.0)
    path = save_checkpoint(tmp_path, 1, {"one": tied, "two": tied, "part": tied[:2]}, {}, keep=2)
    assert_same_tensors(load_checkpoint(path).tensors, {"one": tied, "two": tied, "part": tied[:2]})
