"""A user's own generator: one function in one file.

    def checkers(job, size, *, squares: int = 8):   # keyword parameters are options
        return image                                # uint8, [size, size, 3], a function of the job alone

One that holds a model or wants batches takes (options, context) instead and returns a `Generator`; the class `Options`
beside it says which options there are.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import create_model

from syn2co.core.errors import ConfigError, Syn2CoError
from syn2co.core.hints import nearest
from syn2co.core.paths import user_path
from syn2co.core.settings import Settings
from syn2co.core.versions import package_versions
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Context, Generator, GeneratorSpec

TRAITS: dict[str, Any] = {"programs": True, "learns": True, "prompts": True, "quick": True}


def load_function(path: str, function: str) -> GeneratorSpec:
    """Return the generator that a function in a file is; the hash of the file becomes part of the recipe's.

    Raises:
        ConfigError: if the file or function is missing, raises when imported, or takes other parameters.
    """
    file = user_path(path)
    name = f"{file.name}:{function}"
    try:
        code = blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise ConfigError(f"generator = {name}: the file cannot be read ({error.strerror}); correct the path") from None
    module = _import(file, code, name)
    attribute: Any = getattr(module, function, None)
    if not callable(attribute):
        names = [text for text, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"generator = {name}: the file has no such function{nearest(function, names)}")
    opened: Callable[..., Any] = attribute
    parameters = _parameters(opened, name)
    if [parameter.name for parameter in parameters[:2]] == ["options", "context"]:
        options = getattr(module, "Options", None)
        if not (isinstance(options, type) and issubclass(options, Settings)):
            raise ConfigError(f"generator = {name}: needs a class Options(syn2co.synthesis.Settings) in the same file")
        return GeneratorSpec(name, options, _guarded(opened, name), code=code, **TRAITS)
    return GeneratorSpec(name, _options(parameters[2:], name), _opener(opened, name), code=code, **TRAITS)


def _guarded(opened: Callable[..., Any], name: str) -> Callable[[Any, Context], Generator]:
    """Return a user's opener whose failure is one sentence."""

    def open_generator(options: Settings, context: Context) -> Generator:
        try:
            generator = opened(options, context)
        except Syn2CoError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"generator = {name}: it cannot be opened ({reason}); fix it") from error
        if not isinstance(generator, Generator):
            kind = type(generator).__name__
            raise ConfigError(f"generator = {name}: gives a {kind} and no syn2co.synthesis.Generator; return one")
        return generator

    return open_generator


def _import(file: Path, code: str, name: str) -> ModuleType:
    """Return the module of a file, under a name of its own, so that two files of one name do not meet."""
    module_name = f"syn2co_own_{code}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that ends by exit() is no module
        del sys.modules[module_name]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"generator = {name}: the file cannot be imported ({reason}); fix it") from error
    return module


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    named = [p for p in parameters[2:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if len(parameters) < 2 or len(named) != len(parameters) - 2:
        raise ConfigError(f"generator = {name}: must take (job, size) and then only named options; change that")
    return parameters


def _options(parameters: Sequence[inspect.Parameter], name: str) -> type[Settings]:
    """Return settings with a field for each parameter, of its annotated type and with its default."""
    fields: dict[str, Any] = {}
    for parameter in parameters:
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[parameter.name] = (kind, ... if parameter.default is parameter.empty else parameter.default)
    return create_model(f"Options of {name}", __base__=Settings, **fields)


def _opener(function: Callable[..., Any], name: str) -> Callable[[Any, Context], Generator]:
    """Return what opens a generator that calls `function` once for each job."""

    def open_generator(options: Settings, context: Context) -> Generator:
        chosen = {field: getattr(options, field) for field in type(options).model_fields}

        def make(jobs: Sequence[Job]) -> list[Any]:
            return [function(job, context.size, **chosen) for job in jobs]

        metadata = {
            "generator": name,
            "model": None,
            "revision": None,
            "license": None,
            "versions": package_versions("numpy"),
        }
        return Generator(make, metadata, batch=16)

    return open_generator
