"""Templates: what is put into a page cannot break out of it, and what is missing is an error."""

import re
from base64 import b64decode
from html import unescape
from pathlib import Path

import pytest
from jinja2 import DictLoader, UndefinedError
from markdown_it import MarkdownIt

from syn2co.core import templates
from syn2co.core.templates import cells, code, data_url, markdown, render

HOSTILE = (
    "<script>alert(1)</script>", "a | b | c", "[text](javascript:alert(1))", "![x](http://example.org/y)", "`code`",
    "**bold** _it_ ~~gone~~", "# title", "&lt;b&gt;", "[/x]", "<img src=x onerror=alert(1)//", "a \\| b", "$x$ {y}",
    "``` sh", "<!-- --> <?php ?>", "<http://example.org>",
)  # fmt: skip
PAGE = "<p>{{ text }}</p>\n"
CARD = """| {{ text }} |
{% for row in rows %}
  {% if row %}
{{ row }}
  {% endif %}
{% endfor %}
"""


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short templates in the place of the package's own."""
    loader = DictLoader({"page.html.j2": PAGE, "card.md.j2": CARD})
    for is_markdown in (False, True):
        monkeypatch.setattr(templates._environment(is_markdown), "loader", loader)


def test_every_template_of_the_package_is_found_and_compiles() -> None:
    package = Path(templates.__file__).parents[1]
    names = [path.relative_to(package).as_posix() for path in package.rglob("*.j2")]
    assert "reports/templates/audit.html.j2" in names
    for name in names:
        templates._environment(name.endswith(".md.j2")).get_template(name)


@pytest.mark.usefixtures("own")
def test_html_is_escaped() -> None:
    assert render("page.html.j2", text="<b> & 'c'") == "<p>&lt;b&gt; &amp; &#39;c&#39;</p>\n"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_markdown_template_is_markdown_or_html(text: str) -> None:
    page = render("card.md.j2", text=text, rows=[text])
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"|  |\n|---|\n{page}")
    assert set(re.findall(r"<(/?\w+)", rendered)) <= {
        f"{slash}{tag}" for tag in ("table", "thead", "tbody", "tr", "th", "td", "p") for slash in ("", "/")
    }
    shown = unescape(re.sub("<[^>]*>", " ", rendered)).split()
    assert shown == 2 * text.split()  # all of it, as text


@pytest.mark.usefixtures("own")
def test_tags_leave_no_blank_lines() -> None:
    assert render("card.md.j2", text="", rows=["one", "", "two"]) == "|  |\none\ntwo\n"


@pytest.mark.usefixtures("own")
def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        render("page.html.j2")


def test_markdown_is_one_line_of_any_object() -> None:
    assert markdown(" a \t|\n\n b ") == "a \\| b"
    assert markdown(3.5) == "3.5" and markdown("vit_tiny_patch16") == "vit_tiny_patch16"
    assert markdown(markdown("<b>")) == "&lt;b>"
    assert cells(["a|b", 1]) == "a\\|b | 1" and code("a/b.py:f") == "`a/b.py:f`" and code("`<b>") == "\\`&lt;b>"


def test_an_image_as_an_address() -> None:
    head, _, body = data_url(b"\x00\xffpixels", "jpeg").partition(",")
    assert head == "data:image/jpeg;base64"
    assert b64decode(body) == b"\x00\xffpixels"
