"""Pages and cards from Jinja2 templates, which lie in a folder `templates` of the package that owns the text."""

from base64 import b64encode
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Return a rendered template.

    Args:
        template: its path below the package syn2co, such as "reports/templates/audit.html.j2". What goes into an HTML
            template is escaped; what goes into a cell of a Markdown table passes the filter `cell`.
        values: what the template names; a name that is missing is an error.
    """
    return _environment().get_template(template).render(**values)


def cell(text: object) -> str:
    """Return a text for a cell of a Markdown table: one line, without what would end the cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def data_url(data: bytes, kind: str) -> str:
    """Return an image as an address that holds it."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("syn2co", ""),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "data_url": data_url}
    return environment
