"""JPEGs decoded at the scale that their crops need: nearly the same views, a function of the file and the key."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from syn2co.core.errors import ConfigError
from syn2co.data.codec import Codec
from syn2co.data.loader import Schedule, batches
from syn2co.data.open import open_images
from syn2co.data.reduced import reduced_views, scale_of
from syn2co.data.settings import DataSettings, MixSettings, ViewsSettings
from syn2co.data.training_data import open_training_data
from syn2co.data.views import keyed_draw, two_views
from syn2co.images.decode import decode, decode_reduced, reducible_size
from syn2co.pretraining import auto
from syn2co.pretraining.auto import Auto, Surroundings, choose, chosen_config
from syn2co.pretraining.config import Config
from syn2co.pretraining.recipes import recipe

PLAIN = ViewsSettings(size=24, color_jitter_prob=0, grayscale=0, blur=(0, 0), solarize=(0, 0))
SIZES = ((301, 203), (64, 90), (1000, 27), (515, 768))


def photograph(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(height).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(image).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEGs of several sizes and orientations, and a PNG."""
    root = tmp_path_factory.mktemp("large")
    for number, size in enumerate(SIZES):
        for orientation in (1, 3, 6, 8):
            (root / f"{number}-{orientation}.jpg").write_bytes(jpeg(photograph(*size), orientation))
    Image.fromarray(photograph(400, 300)).save(root / "z.png")
    return root


def scales(images, index: int, settings: ViewsSettings, epoch: int) -> int:
    size = reducible_size(images.load(index))
    draws = [keyed_draw(*size[:2], settings, seed=1, epoch=epoch, index=index, view=view) for view in (0, 1)]
    return scale_of(draws, settings.size)


def test_views_are_those_of_the_whole_image_up_to_a_few_levels(folder):
    images = open_images([folder], cache="never")
    used = set()
    for index in range(len(images) - 1):
        for epoch in range(4):
            whole = two_views(images.read(index), PLAIN, seed=1, epoch=epoch, index=index)
            pair = reduced_views(images, index, (0, 1), PLAIN, seed=1, epoch=epoch, index=index)
            scale = scales(images, index, PLAIN, epoch)
            used.add(scale)
            for one, two in zip(whole, pair, strict=True):
                difference = np.abs(one.astype(float) - two).mean()
                assert difference == 0 if scale == 1 else difference < 10
    assert used == {1, 2, 4, 8}


def test_sizes_of_headers_and_of_reduced_images_are_those_of_decoded_ones(folder):
    for path in sorted(folder.glob("*.jpg")):
        data = path.read_bytes()
        height, width = decode(data).shape[:2]
        assert reducible_size(data)[:2] == (height, width)
        for scale in (2, 4, 8):
            assert decode_reduced(data, scale).shape == (-(-height // scale), -(-width // scale), 3)
    assert reducible_size((folder / "z.png").read_bytes()) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mirrored_image_is_cut_where_its_stored_pixels_are(orientation, tmp_path):
    """A ramp of 201 pixels, of which one is alone in its reduced pixel: crops move by at most 3/4 of such a pixel."""
    ramp = np.add.outer(np.arange(201) * 0.6, np.arange(201) * 0.6).astype(np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg(np.repeat(ramp[..., None], 3, axis=2), orientation))
    images = open_images([tmp_path], cache="never")
    settings, moved = ViewsSettings(**{**PLAIN.model_dump(), "size": 8}), list[float]()
    for epoch in range(60):
        whole = two_views(images.read(0), settings, seed=1, epoch=epoch, index=0)
        pair = reduced_views(images, 0, (0, 1), settings, seed=1, epoch=epoch, index=0)
        scale = scales(images, 0, settings, epoch)
        moved += [(one.mean() - two.mean()) / (0.6 * scale) for one, two in zip(whole, pair, strict=True)]
    assert np.abs(moved).max() < 2 * 0.75 + 0.1 and abs(np.mean(moved)) < 0.1, "of both sides together"


def test_crops_keep_the_size_of_a_view_and_what_is_no_jpeg_is_decoded_whole(folder, monkeypatch):
    images = open_images([folder], cache="never")
    png = len(images) - 1
    for one, two in zip(
        two_views(images.read(png), PLAIN, seed=1, epoch=0, index=png),
        reduced_views(images, png, (0, 1), PLAIN, seed=1, epoch=0, index=png),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
    boxes = []
    monkeypatch.setattr("syn2co.data.reduced.apply_view", lambda image, draw, settings: boxes.append((image, draw.box)))
    for index in range(png):
        for epoch in range(6):
            scale = scales(images, index, PLAIN, epoch)
            reduced_views(images, index, (0, 1), PLAIN, seed=1, epoch=epoch, index=index)
            for image, (top, left, height, width) in boxes[-2:]:
                assert top + height <= image.shape[0] and left + width <= image.shape[1]
                assert scale == 1 or min(height, width) >= PLAIN.size


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_what_is_kept_in_memory_or_on_processes(folder, workers):
    kept, read = open_images([folder], cache="always"), open_images([folder], cache="never")
    schedule = Schedule(len(kept), 4, 1, 1, seed=1)
    codec = Codec(reduced=True)
    one = batches(kept, PLAIN, schedule, range(0, 2), rank=0, workers=workers, codec=codec)
    two = batches(read, PLAIN, schedule, range(0, 2), rank=0, workers=0, codec=codec)
    plain = batches(read, PLAIN, schedule, range(0, 2), rank=0, workers=0)
    for left, right, whole in zip(one, two, plain, strict=True):
        assert torch.equal(left.views, right.views) and not torch.equal(left.views, whole.views)


def test_the_setting_is_part_of_the_hash_but_for_its_default(folder):
    config = recipe("moby-cifar10")
    assert config.with_settings(["data.decode=full"]).hash == config.hash
    assert config.with_settings(["data.decode=reduced"]).hash != config.hash
    assert Config().with_settings(["data.decode=reduced"]).data.decode == "reduced"
    data = DataSettings(real=(str(folder),), decode="reduced")
    opened = open_training_data(data, MixSettings(), seed=0, batch=4, size=24, cache="always")
    assert opened.codec.reduced and opened.images.nbytes_cache == 0 and not opened.images.cached
    with pytest.raises(ConfigError, match=r"data.decode = reduced: mix.canvas and mix.jpeg_quality need the whole"):
        open_training_data(data, MixSettings(canvas=24), seed=0, batch=4, size=24)


@pytest.mark.parametrize(
    ("images", "side", "decode"),
    [(100_000, 1000, "reduced"), (100_000, 999, "full"), (100, 4000, "reduced"), (40, 2000, "full")],
)
def test_auto_chooses_it_for_images_that_are_large_and_too_many_to_keep(images, side, decode):
    config, reasons = choose(Surroundings(images, side, "cpu", False))
    assert config.data.decode == decode
    assert any(reason.startswith("data.decode = reduced: JPEGs of 1000 px") for reason in reasons) == (decode != "full")


def test_an_orientation_that_readers_take_differently_gives_the_views_of_the_whole_image(tmp_path):
    """Only XMP says that it lies on its side: Pillow knows that, and OpenCV, which turns the pixels, does not."""
    plain = jpeg(photograph(515, 768))
    words = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    words += b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    words += b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    without = cv2.imencode(".jpg", photograph(515, 768))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(
        without[:2] + b"\xff\xe1" + (len(words) + 2).to_bytes(2, "big") + words + without[2:]
    )
    (tmp_path / "b.jpg").write_bytes(plain)
    images = open_images([tmp_path], cache="never")
    assert reducible_size(images.load(0))[:2] == (768, 515) and images.read(0).shape == (515, 768, 3)
    settings = ViewsSettings(**{**PLAIN.model_dump(), "size": 8})
    for epoch in range(5):
        whole = two_views(images.read(0), settings, seed=1, epoch=epoch, index=0)
        reduced = reduced_views(images, 0, (0, 1), settings, seed=1, epoch=epoch, index=0)
        assert all(np.array_equal(one, other) for one, other in zip(reduced, whole, strict=True))


def test_auto_decodes_whole_images_where_the_mix_needs_them(tmp_path, monkeypatch, capsys):
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(photograph(30, 40)))
    monkeypatch.setattr(auto, "_reduced", lambda around: True)
    settings = ["mix.canvas=64", "training.steps=2", "training.batch=2"]
    configs = []

    def trial(config, out):
        configs.append(config)
        raise ConfigError("seen")

    data = DataSettings(real=(str(tmp_path),))
    with pytest.raises(ConfigError, match="seen"):
        chosen_config(Auto(), data, settings, trial=trial)
    assert "data.decode" not in capsys.readouterr().err, "what is not done is not said"
    with pytest.raises(ConfigError, match="seen"):
        chosen_config(Auto(), data, settings[1:], trial=trial)
    assert "auto: data.decode = reduced: JPEGs of 1000 px" in capsys.readouterr().err
    assert [config.data.decode for config in configs] == ["full", "reduced"]
