"""Tables for the terminal, in which every name is text: rich would read `[/x]` as markup."""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text


def text_table(titles: Iterable[str], rows: Iterable[Iterable[str]], *, title: str, **looks: Any) -> Table:
    """Return a table whose titles and cells are shown as they stand.

    Args:
        titles: of the columns.
        rows: the cells of each row.
        title: of the table.
        looks: further arguments of `rich.table.Table`; a text among them may be markup.

    Example:
        >>> text_table(["class"], [["[/x]"]], title="one class").row_count
        1
    """
    columns = [Column(Text(text)) for text in titles]
    table = Table(*columns, title=Text(title, "table.title"), box=SIMPLE_HEAD, show_edge=False, **looks)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
