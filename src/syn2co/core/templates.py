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
        values: what the template names.

    Raises:
        jinja2.UndefinedError: if the template names something that `values` lacks.
    """
    return _environment().get_template(template).render(**values)


def cell(text: object) -> str:
    """Return a text for a cell of a Markdown table: one line, without what would end the cell.

    Args:
        text: anything that `str` takes.

    Example:
        >>> cell("either | or,\\n  on two lines")
        'either \\\\| or, on two lines'
    """
    return " ".join(str(text).split()).replace("|", "\\|")


def data_url(data: bytes, kind: str) -> str:
    """Return an image as an address that holds it, for pages of one file.

    Args:
        data: the encoded image.
        kind: its format as in its media type, such as "png" or "jpeg".

    Example:
        >>> data_url(b"pixels", "png")
        'data:image/png;base64,cGl4ZWxz'
    """
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
