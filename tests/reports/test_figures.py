"""Pictures: valid PNGs of the expected size that show what they were given, written whole or not at all."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from syn2co.core.errors import Syn2CoError
from syn2co.reports.figures import (
    BLUE,
    GRAY,
    RIGHT,
    VERMILION,
    WRONG,
    bars,
    loss_curve,
    nearest_neighbors,
    save,
    view_grid,
)

RED, LIME = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)


@dataclass(frozen=True)
class Row:
    encoder: str
    protocol: str
    value: float
    low: float
    high: float
    metric: str = "top-1"


def flat(color: np.ndarray, side: int = 32) -> np.ndarray:
    return np.broadcast_to(color, (side, side, 3))


def drawn(figure, path: Path) -> np.ndarray:
    """The pixels of the saved file, after a check that it is a PNG of the figure's size."""
    save(figure, path)
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == tuple((figure.get_size_inches() * 120).astype(int))
        return np.asarray(image.convert("RGB"))


def count(pixels: np.ndarray, color: str | np.ndarray) -> int:
    """How many pixels have exactly this color."""
    if isinstance(color, str):
        color = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)], np.uint8)
    return int((pixels == color).all(axis=2).sum())


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def records(steps: int = 60, **changes) -> list[dict]:
    """A made-up run: the loss falls from 17, the uninformative line lies at 15.5."""
    one = {"loss": 17.4, "real_loss": 17.0, "uninformative": 15.5}
    run = [{"step": step, "epoch": step / 10, **one} for step in range(steps)]
    for record in run:
        record["real_loss"] -= record["step"] / 15
        record["loss"] -= record["step"] / 15
        record.update(changes)
    return run


class TestViewGrid:
    def test_shows_every_image_and_its_captions(self, tmp_path):
        figure = view_grid([(flat(RED), flat(LIME), flat(LIME))] * 3)
        pixels = drawn(figure, tmp_path / "views.png")
        assert pixels.shape[1] - drawn(view_grid([(flat(RED),) * 3] * 2), tmp_path / "b.png").shape[1] == 120
        assert 1.8 < count(pixels, LIME) / count(pixels, RED) < 2.2
        assert all(caption in texts(figure) for caption in ("image", "view 1", "view 2", "Two random views"))

    def test_takes_any_shape_and_read_only_images(self, tmp_path):
        images = [
            np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            for shape in ((1, 1, 3), (9, 300, 3), (500, 375, 3))
        ]
        for image in images:
            image.setflags(write=False)
        drawn(view_grid([tuple(images)]), tmp_path / "views.png")


class TestNearestNeighbors:
    def picture(self, labels, path, **changes):
        figure = nearest_neighbors(
            [flat(RED)] * 2, [[flat(LIME)] * 3] * 2, np.array(["cat", "dog"]), np.array(labels), **changes
        )
        return drawn(figure, path), texts(figure)

    def test_borders_and_labels_tell_right_from_wrong(self, tmp_path):
        all_right, words = self.picture([["cat"] * 3, ["dog"] * 3], tmp_path / "right.png")
        assert count(all_right, RIGHT) > 1000 and count(all_right, WRONG) == 0
        assert "6 of 6 have the label of their query" in words and words.count("cat") == 1
        all_wrong, words = self.picture([["dog"] * 3, ["cat"] * 3], tmp_path / "wrong.png")
        assert count(all_wrong, RIGHT) == 0 and count(all_wrong, WRONG) > 1000
        assert "0 of 6" in words and words.count("cat") == 4
        some, words = self.picture([["cat", "dog", "cat"], ["dog"] * 3], tmp_path / "some.png")
        assert "5 of 6" in words
        assert 0.8 < count(some, RIGHT) / count(all_right, RIGHT) * 6 / 5 < 1.2

    def test_a_wrong_border_is_dashed_so_that_color_is_not_all(self, tmp_path):
        all_right, _ = self.picture([["cat"] * 3, ["dog"] * 3], tmp_path / "right.png")
        all_wrong, _ = self.picture([["dog"] * 3, ["cat"] * 3], tmp_path / "wrong.png")
        assert count(all_wrong, WRONG) < 0.9 * count(all_right, RIGHT)

    def test_caption_long_and_numeric_labels(self, tmp_path):
        _, words = self.picture([["x" * 40] * 3] * 2, tmp_path / "long.png", caption="After 9 epochs.")
        assert "After 9 epochs." in words and "x" * 40 not in words and "…" + "x" * 17 in words
        figure = nearest_neighbors([flat(RED)], [[flat(LIME)]], np.array([3]), np.array([[3]]))
        assert "1 of 1" in texts(figure)


class TestLossCurve:
    def test_shows_both_losses_and_the_labeled_line(self, tmp_path):
        figure = loss_curve(records())
        pixels = drawn(figure, tmp_path / "loss.png")
        assert min(count(pixels, color) for color in (BLUE, GRAY, VERMILION)) > 100
        words = texts(figure)
        assert all(
            word in words for word in ("uninformative", "real negatives only", "with synthetic", "epoch", "nats")
        )
        (axes,) = figure.axes
        (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert set(line.get_ydata()) == {15.5} and line.get_xdata()[-1] == pytest.approx(5.9)

    def test_running_mean_is_of_the_values(self):
        """Of 100 values the window is 3: in the middle the mean of three, at an end of the two that there are."""
        run = records(100)
        for record in run:
            record["real_loss"] = float(record["step"] % 3 == 0)
        means = [
            line.get_ydata() for line in loss_curve(run).axes[0].lines if line.get_label() == "real negatives only"
        ][0]
        assert means[1:-1] == pytest.approx(1 / 3) and means[0] == pytest.approx(1 / 2)

    def test_a_supervised_run_has_one_loss(self, tmp_path):
        run = [{**record, "top1": 0.5} for record in records()]
        figure = loss_curve([{k: v for k, v in record.items() if k != "real_loss"} for record in run])
        pixels, words = drawn(figure, tmp_path / "loss.png"), texts(figure)
        assert min(count(pixels, color) for color in (BLUE, VERMILION)) > 100 > count(pixels, GRAY)
        assert "cross-entropy with labels, mean of both views" in words and "real negatives" not in words
        assert figure.axes[0].get_ylabel() == "loss (nats)"

    def test_knn_gets_its_own_panel(self, tmp_path):
        scored = [*records(), {"step": 30, "epoch": 3.0, "knn": 61.0}, {"step": 60, "epoch": 6.0, "knn": 72.0}]
        figure = loss_curve(scored)
        _, lower = figure.axes
        assert lower.lines[0].get_ydata().tolist() == [61.0, 72.0] and lower.get_ylabel() == "k-NN top-1 (%)"
        assert drawn(figure, tmp_path / "a.png").shape[0] > drawn(loss_curve(records()), tmp_path / "b.png").shape[0]

    def test_the_picture_follows_the_numbers(self, tmp_path):
        one = drawn(loss_curve(records()), tmp_path / "a.png")
        assert not np.array_equal(one, drawn(loss_curve(records(real_loss=9.0)), tmp_path / "b.png"))
        assert np.array_equal(one, drawn(loss_curve(records()), tmp_path / "a.png"))

    @pytest.mark.parametrize("steps", [0, 1, 2])
    def test_short_runs(self, tmp_path, steps):
        pixels = drawn(loss_curve(records(steps)), tmp_path / "loss.png")
        assert (count(pixels, BLUE) > 0) == (steps > 0)
        assert ("no step has been recorded yet" in texts(loss_curve(records(steps)))) == (steps == 0)


class TestBars:
    ROWS = [
        Row(encoder, protocol, value, value - 2, value + 2)
        for protocol in ("knn", "linear")
        for encoder, value in (("run", 80.0), ("random init", 50.0), ("raw pixels", 30.0))
    ]

    def test_a_panel_a_protocol_and_a_bar_an_encoder(self, tmp_path):
        figure = bars(self.ROWS)
        pixels = drawn(figure, tmp_path / "scores.png")
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["knn: top-1", "linear: top-1"]
        assert [bar.get_width() for bar in figure.axes[0].patches] == [80.0, 50.0, 30.0]
        assert 0.9 < count(pixels, BLUE) / count(pixels, GRAY) < 1.1  # 80 against 50 + 30
        words = texts(figure)
        assert all(word in words for word in ("80.0", "run", "raw pixels", "knn: top-1", "95 % intervals"))

    def test_intervals_are_drawn(self):
        (container,) = [
            bar for bar in bars([Row("run", "knn", 50.0, 40.0, 70.0)]).axes[0].containers if hasattr(bar, "errorbar")
        ]
        (segments,) = container.errorbar.lines[2]
        assert segments.get_segments()[0][:, 0].tolist() == pytest.approx([40.0, 70.0])

    def test_extreme_scores_and_long_names_fit(self, tmp_path):
        rows = [Row("runs/" + "long" * 20, "knn", 100.0, 100.0, 100.0), Row("b", "knn", 0.0, 0.0, 0.0)]
        figure = bars(rows)
        pixels = drawn(figure, tmp_path / "scores.png")
        assert np.all(pixels[:, :4] == 255) and np.all(pixels[:, -4:] == 255), "something is cut off at the edge"


class TestSave:
    def test_replaces_the_file_and_leaves_nothing_else(self, tmp_path):
        path = tmp_path / "new" / "a.png"
        assert save(loss_curve(records()), str(path)) == path
        before = path.read_bytes()
        save(loss_curve(records(5)), path)
        assert path.read_bytes() != before and os.listdir(path.parent) == ["a.png"]

    def test_a_failed_write_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        path.write_bytes(b"old")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(Syn2CoError, match=r"a.png: cannot be written \(No space left on device\); nothing was"):
            save(loss_curve(records()), path)
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.png"]

    def test_a_folder_that_cannot_be_made_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(Syn2CoError, match="a.png: cannot be written"):
            save(loss_curve([]), tmp_path / "file" / "a.png")


def test_no_pyplot_is_loaded():
    code = "import sys, syn2co.reports.figures as p; p.loss_curve([]); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
