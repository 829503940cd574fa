"""Versions that checkpoints, manifests and reports carry: of syn2co, and of the packages that decide the last bits.

Example:
    >>> package_versions()["syn2co"] == __version__
    True
"""

import contextlib
import sys
from functools import cache
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

__version__ = "0.2.0.dev0"
"""Version of syn2co, as checkpoints, manifests and reports carry it; `package_versions()["syn2co"]` is the same."""

_CALLED = {"cv2": "opencv"}


def package_versions(*modules: str) -> dict[str, str]:
    """Return the version of syn2co and of each imported module, by the name of its project.

    Args:
        modules: names as they are imported, such as "numpy" or "cv2"; each is imported.

    Returns:
        A mapping from the name of each project to its version.

    Example:
        >>> sorted(package_versions("numpy", "cv2"))
        ['numpy', 'opencv', 'syn2co']
    """
    versions = {_CALLED.get(name, name): str(import_module(name).__version__) for name in modules}
    return {"syn2co": __version__, **versions}


def python_version() -> str:
    """Return the version of Python.

    Example:
        >>> python_version().count(".")
        2
    """
    return ".".join(map(str, sys.version_info[:3]))


@cache
def source_hash() -> str:
    """Return a hash of syn2co's own Python files, which tells states of one development version apart.

    Example:
        >>> len(source_hash())
        12
    """
    package, digest = Path(__file__).parents[1], blake2b(digest_size=6)
    names = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for name in sorted(name for name, path in names.items() if not path.name.startswith(".")):  # locks of editors
        with contextlib.suppress(OSError):
            content = names[name].read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
