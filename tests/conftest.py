"""Shared by all tests: one thread, a cache of their own, a folder of tiny images, a config that trains in seconds."""

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import runs  # its server of processes has torch at hand, whichever test is the first to start one
from tiny_images import write_images

if TYPE_CHECKING:
    from syn2co.pretraining.config import Config

_CACHE = tempfile.TemporaryDirectory(prefix="syn2co-tests-", ignore_cleanup_errors=True)
os.environ["SYN2CO_CACHE"] = _CACHE.name
runs.PROCESSES.set_forkserver_preload(runs.PRELOADED)
runs.wait_for_no_disk()
gc.set_threshold(10_000, 20, 50)  # looking for garbage as often as usual takes a tenth of all time
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in every process that a test starts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: a quarter of the time of tests is waiting."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Look for no garbage among what was imported."""
    gc.freeze()


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 readable images in three classes; not to be written to."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def tiny(image_folder: Path) -> "Callable[..., Config]":
    """`tiny("queue.size=32", ...)`: a config of 12 steps in 4 epochs; the window of negatives opens after the first."""

    def make(*assignments: str) -> "Config":
        from syn2co.pretraining.config import Config

        return Config.parse(
            {
                "data": {"real": [str(image_folder)]},
                "views": {"size": 16},
                "encoder": {
                    "name": "vit_tiny_patch16_224",
                    "options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
                    "drop_path": 0.3,
                },
                "heads": {"hidden": 32, "width": 16},
                "queue": {"size": 60},
                "negatives": {
                    "interpolated": 3, "extrapolated": 2, "mixup": 2, "noise": 2, "perturbed": 1, "adversarial": 1,
                    "hardest": 16, "start": 1.0,
                },
                "optimizer": {"warmup_epochs": 1.0, "base_lr": 0.02},
                "training": {"batch": 8, "steps": 12},
                "machine": {
                    "device": "cpu", "workers": 0, "threads": 1, "tensorboard": False, "save_steps": 5, "log_steps": 1,
                },
            }
        ).with_settings(assignments)  # fmt: skip

    return make


@pytest.fixture
def few_patches(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Fewer images in `builtin:photos`, and in `builtin:digits:train`; the patches of each photograph by split."""
    from functools import cache

    from syn2co.images.sources import builtin

    patches = {"train": 40, "labeled": 10, "test": 4}
    monkeypatch.setattr(builtin, "PATCHES", patches)
    monkeypatch.setattr(builtin, "photo_part", cache(builtin.photo_part))  # a photograph is decoded once
    fifth = builtin._fifth

    def few(rows: object, value: int, split: str) -> object:
        return fifth(rows, value, split)[: 20 if split == "train" else None]  # type: ignore[arg-type]

    monkeypatch.setattr(builtin, "_fifth", few)
    return patches


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run("recipes", ...)` is (exit status, standard output, standard error) of the command line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        import sys

        from syn2co.cli import main as cli

        monkeypatch.setattr(sys, "argv", ["syn2co", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`launched(RANK=1, WORLD_SIZE=2)`: the variables of torchrun, with these values."""

    def start(**variables: object) -> None:
        complete = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500, **variables}
        for name, value in complete.items():
            monkeypatch.setenv(name, str(value))

    return start


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that leaves the number of threads changed would make later ones slow or unequal in the last bits."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("SYN2CO_DATA", raising=False)
    yield
    import sys

    if "torch" in sys.modules:
        assert sys.modules["torch"].get_num_threads() == 1
