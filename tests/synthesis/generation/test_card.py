"""The data card says who made the images: a generator of syn2co, or a file of the user's."""

from pathlib import Path

from synthesis_sets import settings, write_generator
from tiny_images import write_images

from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.sets.settings import SynthesisSettings

FILE = "The generator is a file of its own"


def test_a_fitted_set_is_of_no_file_and_from_real_images(tmp_path: Path) -> None:
    fitted = SynthesisSettings.parse({"generator": "fitted", "size": 16, "options": {"clusters": 2}})
    generate(fitted, tmp_path / "set", count=4, real=[write_images(tmp_path / "real")])
    card = (tmp_path / "set" / "README.md").read_text()
    assert FILE not in card and "It was made from real images" in card
    assert "| Images | 4 of 16 x 16 px, png |" in card and "--generator fitted --count 4" in card


def test_a_set_of_a_users_function_names_its_file_and_hash(tmp_path: Path) -> None:
    own = settings(write_generator(tmp_path))
    generate(own, tmp_path / "set", count=4)
    card = (tmp_path / "set" / "README.md").read_text()
    assert FILE in card and "with blake2b `" in card and "It was made from real images" not in card
