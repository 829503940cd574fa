"""Templates: what is put into a page cannot break out of it, and what is missing is an error."""

from base64 import b64decode
from pathlib import Path

import pytest
from jinja2 import DictLoader, UndefinedError

from syn2co.core import templates
from syn2co.core.templates import cell, data_url, render

PAGE = "<p>{{ text }}</p>\n"
CARD = """| {{ text | cell }} |
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
    monkeypatch.setattr(templates._environment(), "loader", loader)


def test_every_template_of_the_package_is_found_and_compiles() -> None:
    package = Path(templates.__file__).parents[1]
    names = [path.relative_to(package).as_posix() for path in package.rglob("*.j2")]
    assert "reports/templates/audit.html.j2" in names
    for name in names:
        templates._environment().get_template(name)


@pytest.mark.usefixtures("own")
def test_html_is_escaped() -> None:
    assert render("page.html.j2", text="<b> & 'c'") == "<p>&lt;b&gt; &amp; &#39;c&#39;</p>\n"


@pytest.mark.usefixtures("own")
def test_markdown_is_not_but_its_cells_are_closed() -> None:
    assert render("card.md.j2", text="<a> | b\nc", rows=[]) == "| <a> \\| b c |\n"


@pytest.mark.usefixtures("own")
def test_tags_leave_no_blank_lines() -> None:
    assert render("card.md.j2", text="", rows=["one", "", "two"]) == "|  |\none\ntwo\n"


@pytest.mark.usefixtures("own")
def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        render("page.html.j2")


def test_a_cell_is_one_line_of_any_object() -> None:
    assert cell(" a \t|\n\n b ") == "a \\| b"
    assert cell(3.5) == "3.5"


def test_an_image_as_an_address() -> None:
    head, _, body = data_url(b"\x00\xffpixels", "jpeg").partition(",")
    assert head == "data:image/jpeg;base64"
    assert b64decode(body) == b"\x00\xffpixels"
