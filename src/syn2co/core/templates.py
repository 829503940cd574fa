"""Pages and cards from Jinja2 templates, which lie in a folder `templates` of the package that owns the text."""

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_SPECIAL = re.compile(r"[\\`*{}\[\]#|$]|(?<!\w)_|_(?!\w)|(?<=\S)~|~(?=\S)")
"""Characters that Markdown gives a meaning; underscores inside a word and a tilde alone have none. HTML's own become
entities, which every reader of Markdown keeps as text."""
_TAG = re.compile(r"<(?=\S)")
_PLAIN = re.compile(r"[\w ./:@+,=%-]+")


def render(template: str, **values: Any) -> str:
    """Return a rendered template.

    Args:
        template: its path below the package syn2co, such as "reports/templates/audit.html.j2". What goes into an HTML
            or Markdown template is escaped; `Markup` is not.
        values: what the template names.

    Raises:
        jinja2.UndefinedError: if the template names something that `values` lacks.
    """
    return _environment(template.endswith(".md.j2")).get_template(template).render(**values)


def markdown(value: object) -> Markup:
    r"""Return a text on one line in which nothing is Markdown or HTML; `Markup` is Markdown already and stays.

    Args:
        value: anything that `str` takes.

    Example:
        >>> print(markdown("birds_[2024] | <b>"), markdown(Markup("**bold**")))
        birds\_\[2024\] \| &lt;b> **bold**
    """
    if isinstance(value, Markup):
        return value
    text = _SPECIAL.sub(r"\\\g<0>", " ".join(str(value).split()))
    return Markup(_TAG.sub("&lt;", text.replace("&", "&amp;")))


def code(value: object) -> Markup:
    """Return a text in the type of code, or as `markdown` has it if it holds anything that could end that.

    Args:
        value: anything that `str` takes.

    Example:
        >>> print(code("owner/model-1.5"), code("a`b"))
        `owner/model-1.5` a\\`b
    """
    return Markup(f"`{value}`") if _PLAIN.fullmatch(str(value)) else markdown(value)


def cells(values: Iterable[object]) -> Markup:
    """Return texts as the cells of a row of a Markdown table.

    Args:
        values: texts, or anything that `str` takes.

    Example:
        >>> print(cells(["either | or", 3]))
        either \\| or | 3
    """
    return Markup(" | ".join(map(markdown, values)))


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
def _environment(is_markdown: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("syn2co", ""),
        autoescape=not is_markdown,
        finalize=markdown if is_markdown else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cells": cells, "code": code, "data_url": data_url}
    return environment
