"""The ladder of generators: procedural, fitted, flow, diffusion; each a package of `NameOptions` and `open_generator`.

One whose images depend on more than options and real images also has `code(options)`: a text that changes with that.
One whose options leave something to the size has `complete(options, size)`, which returns them complete.
One that cannot draw every subject that it takes also has `check_subjects(options, subjects)`, which raises.

A user's own function is named "path.py:function"; see `syn2co.synthesis.generators.user_function`.
"""

from importlib import import_module
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.synthesis.sets.spec import BUILTIN, SUBJECTS, GeneratorSpec

TRAITS: dict[str, dict[str, Any]] = {
    "procedural": {"subjects": frozenset(), "programs": True, "quick": True},
    "fitted": {"subjects": frozenset({"classes"}), "learns": True},
    "flow": {"subjects": frozenset({"classes", "vary"}), "learns": True, "torch": True},
    "diffusion": {"subjects": SUBJECTS, "prompts": True, "torch": True},
}
"""Fields of `GeneratorSpec`; each generator is the package of its name."""


def load_generator(name: str) -> GeneratorSpec:
    """Return the generator of a name, or the user's own function of "path.py:function".

    Raises:
        ConfigError: if there is none of that name, or the file cannot be imported.
    """
    if name in BUILTIN:
        module = import_module(f"syn2co.synthesis.generators.{name}")
        named = {"code_of": "code", "complete": "complete", "check_subjects": "check_subjects"}
        hooks = {field: getattr(module, function, None) for field, function in named.items()}
        return GeneratorSpec(
            name, getattr(module, f"{name.title()}Options"), module.open_generator, **hooks, **TRAITS[name]
        )
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        from syn2co.synthesis.generators.user_function import load_function

        return load_function(path, function)
    raise ConfigError(
        f"generator = {name}: there is no such generator{nearest(name, BUILTIN)} (known are {', '.join(BUILTIN)}; "
        "a function of yours is path.py:function)"
    )
