"""Classes of ImageNet-1k and of its subsets: WordNet ids, which are the names of class folders."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from syn2co.core.errors import DataError
from syn2co.core.hints import first_names
from syn2co.core.json_files import parse_json
from syn2co.core.paths import user_path

_TIMM_FILES = {"imagenet-a": "imagenet_a_synsets.txt", "imagenet-r": "imagenet_r_synsets.txt"}


@cache
def imagenet_classes(name: str = "imagenet-1k") -> tuple[str, ...]:
    """Return the sorted WordNet ids of ImageNet-1k, or of the 200 classes of ImageNet-A or -R.

    Args:
        name: imagenet-1k, imagenet-a or imagenet-r; timm has the lists.

    Returns:
        1,000 or 200 ids.

    Raises:
        DataError: if the installed timm has no such list.

    Example:
        >>> imagenet_classes()[0], len(imagenet_classes("imagenet-r"))
        ('n01440764', 200)
    """
    if name == "imagenet-1k":
        from timm.data.imagenet_info import ImageNetInfo

        return tuple(sorted(ImageNetInfo().label_names()))
    path = files("timm.data") / "_info" / _TIMM_FILES.get(name, name)
    if not path.is_file():
        raise DataError(f"{name}: the installed timm has no list of its classes; correct the name or upgrade timm.")
    return tuple(sorted(path.read_text(encoding="utf-8").split()))


def read_class_list(path: str | Path) -> tuple[str, ...]:
    """Return the WordNet ids of a subset of ImageNet, such as ImageNet-100.

    Args:
        path: a JSON list of ids, a JSON object from id to name (`Labels.json`), or a text file with an id at the
            beginning of each line.

    Returns:
        The ids, sorted: the order of the classes of a head that was trained on folders with these names.

    Raises:
        DataError: if the file cannot be read, is empty, or names anything but classes of ImageNet-1k.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "Labels.json")
        ...     _ = path.write_text('{"n01443537": "goldfish", "n01440764": "tench"}')
        ...     read_class_list(path)
        ('n01440764', 'n01443537')
    """
    try:
        text = user_path(path).read_text(encoding="utf-8")
        listed = parse_json(text) if text.lstrip()[:1] in ("{", "[") else _first_words(text)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: this list of classes cannot be read ({error}); give JSON or one id a line."
        ) from error
    ids = {str(entry) for entry in (listed.keys() if isinstance(listed, Mapping) else listed)}
    wrong = sorted(ids - set(imagenet_classes()))
    if not ids:
        raise DataError(f"{path}: this list of classes is empty; list WordNet ids such as n01440764.")
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} of its {len(ids)} entries are no class of ImageNet-1k ({first_names(wrong)}); list "
            "WordNet ids such as n01440764."
        )
    return tuple(sorted(ids))


def _first_words(text: str) -> list[str]:
    """Return the first word of each line that has one."""
    return [line.split()[0] for line in text.splitlines() if line.strip()]
