"""The ladder of generators: procedural, fitted, flow, diffusion. Each module has `Options` and `open_generator`.

One whose images depend on more than options and real images also has `code(options)`: a text that changes with that.

A user's own function is named "path.py:function"; see `syn2co.synthesis.generators.registry.user_function`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.settings import Settings, nearest
from syn2co.synthesis.sets.spec import Context, Generator


@dataclass(frozen=True)
class Traits:
    """What the plan must know of a generator before it is opened."""

    subjects: frozenset[str]
    """Which of classes, captions and vary it can make images of."""
    needs_subjects: bool = False
    programs: bool = False
    """Whether an image without a subject is of a program with jittered parameters, not of nothing in particular."""
    learns: bool = False
    """Whether its images depend on the real images as a whole, not just on the one that is varied."""
    prompts: bool = False
    """Whether images of classes get prompts."""
    torch: bool = False
    quick: bool = False
    """Whether it opens and makes a few images in seconds, so that a dry run may try."""


ALL = frozenset({"classes", "captions", "vary"})
TRAITS = {
    "procedural": Traits(frozenset(), programs=True, quick=True),
    "fitted": Traits(frozenset({"classes"}), learns=True),
    "flow": Traits(frozenset({"classes", "vary"}), learns=True, torch=True),
    "diffusion": Traits(ALL, needs_subjects=True, prompts=True, torch=True),
}
"""Each is the module of its name in this package."""
OWN = Traits(ALL, programs=True, learns=True, prompts=True, quick=True)


@dataclass(frozen=True)
class Loaded:
    """A generator before it is opened."""

    name: str
    """As manifests call it."""
    options: type[Settings]
    open: Callable[[Any, Context], Generator]
    traits: Traits = field(default=OWN)
    code: str | None = None
    """Hash of the file of a user's own function; of a built-in generator, what its `code` says of the options."""
    code_of: Callable[[Any], str | None] | None = None


def load_generator(name: str) -> Loaded:
    """Return the generator of a name, or the user's own function of "path.py:function".

    Raises:
        ConfigError: if there is none of that name, or the file cannot be imported.
    """
    if name in TRAITS:
        module = import_module(f"syn2co.synthesis.generators.{name}")
        code_of = getattr(module, "code", None)
        return Loaded(name, module.Options, module.open_generator, TRAITS[name], code_of=code_of)
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        from syn2co.synthesis.generators.user_function import load_function

        return load_function(path, function)
    raise ConfigError(
        f"generator = {name}: there is no such generator{nearest(name, TRAITS)} (known are {', '.join(TRAITS)}; "
        "a function of yours is path.py:function)"
    )
