"""The data card says who made the images: a generator of syn2co, or a file of the user's."""

import json
import re
import shlex
from pathlib import Path

from markdown_it import MarkdownIt
from synthesis_sets import settings, write_generator
from synthetic_folders import picture, write_set
from tiny_images import write_images

from syn2co.synthesis.generation.card import write_card
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


def test_the_card_says_what_the_manifests_say(tmp_path: Path) -> None:
    """Each fact of the lines has its row; facts that differ within a set are all said, with their numbers of images."""
    model = {
        "generator": "diffusion",
        "model": "tiny",
        "revision": "ab12",
        "guidance": 2.0,
        "steps": 4,
        "sampler": "DDIM",
    }
    lines = [
        {**model, "license": "mit", "safety": {"checker": "on"}, "labels": "used", "class": "cat"},
        {**model, "license": "mit", "safety": {"checker": "on"}, "attempt": 1, "class": "dog"},
        {**model, "license": None, "safety": {"checker": "none"}, "prompt": "a dog", "class": "dog"},
    ]
    write_set(tmp_path / "set", [picture(number) for number in range(3)], lines)
    write_card(tmp_path / "set")
    rows = (row.strip("| ").split(" | ", 1) for row in (tmp_path / "set" / "README.md").read_text().splitlines())
    table = {row[0]: row[1] for row in rows if len(row) == 2}
    assert table["Generator"] == "`diffusion`" and table["Model"] == "`tiny`, revision `ab12`"
    assert table["License of the model"].startswith("mit (2 images); **UNKNOWN. Nobody can tell")
    assert table["Safety checker"] == (
        "the model's own looked at every image (2 images); **the model has none: no checker looked at the images** "
        "(1 images)"
    )
    assert table["Guidance, steps, sampler"] == "2.0, 4, DDIM" and table["Labels"].startswith("used")
    assert table["Subjects"] == "2 classes, 1 to 2 images each" and table["Made again"].startswith("1 images took")


def test_the_card_of_a_set_without_a_model_says_nothing_of_a_checker(tmp_path: Path) -> None:
    write_set(tmp_path / "set", [picture(0)], [{}])
    write_card(tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text()
    assert "Safety" not in card and "| Model | none |" in card
    write_set(tmp_path / "off", [picture(0)], [{"model": "tiny", "safety": {"checker": "off"}}])
    write_card(tmp_path / "off")
    assert "**switched off: no checker looked at the images**" in (tmp_path / "off" / "README.md").read_text()


def test_names_from_outside_are_text_in_the_card(tmp_path: Path) -> None:
    """Rendered with HTML switched on, no tag and no link is anybody's but the card's own."""
    hostile = (
        "<script>alert(1)</script>", "[a](javascript:alert(1))", "a | b", "``` </code></pre><script>x</script>",
        "<img src=x onerror=alert(1)//", "![x](http://example.org)", "`<b>`",
    )  # fmt: skip
    lines = [
        {
            "class": name, "prompt": f"{name} {name}", "license": name, "model": name, "revision": name, "lora": name,
            "sampler": name, "versions": {name: name}, "safety": {"checker": name},
        }
        for name in hostile
    ]  # fmt: skip
    write_set(tmp_path / "set", [picture(number) for number in range(len(lines))], lines)
    path = tmp_path / "set" / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe |= {"generator": f"{hostile[3]}.py:f", "classes": [*hostile], "options": {"x": hostile[3]}, "hash": "`<b>`"}
    recipe["set"] |= {"code": hostile[0], "subjects": {"kind": hostile[0], "number": None, "digest": ""}}
    path.write_text(json.dumps(recipe))
    write_card(tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text()
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(card)
    tags = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "img", "strong"}
    assert set(re.findall(r"<(\w+)", rendered)) <= tags and rendered.count("<img") == 1
    rows = [row for row in card.splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    [block] = re.findall(r"```sh\n(.*?)\n```", card, re.DOTALL)
    assert not set(block) & set("<>`&\n")
    words = dict(word.split("=", 1) for word in shlex.split(block) if "=" in word)
    assert json.loads(words["classes"]) == [*hostile] and json.loads(words["options.x"]) == hostile[3]
