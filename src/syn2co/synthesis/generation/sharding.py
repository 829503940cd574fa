"""Parts of a set for several machines: "i/n", or the rank of torchrun, or the task of a SLURM array."""

import re

from syn2co.core.errors import ConfigError


def parse_shard(text: str | None, environment: dict[str, str]) -> tuple[int, int]:
    """Return (index from 0, number of parts) of "i/n" with i from 1, or of "auto"; None is the whole.

    auto takes the rank of torchrun (RANK of WORLD_SIZE), or else the task of a SLURM array, or else the whole.

    Raises:
        ConfigError: if the text is no such part, a variable is no whole number, or the tasks of the SLURM array are no
            plain range.
    """
    if text is None:
        return 0, 1
    if text == "auto":
        return _shard_of(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {text}: must be i/n with 1 <= i <= n, such as 3/8, or auto")
    return int(match[1]) - 1, int(match[2])


def _shard_of(environment: dict[str, str]) -> tuple[int, int]:
    """Return the part of this process by torchrun or SLURM, or the whole."""
    if "WORLD_SIZE" in environment and "RANK" in environment:
        rank, size = _whole_number(environment, "RANK"), _whole_number(environment, "WORLD_SIZE")
        if not 0 <= rank < size:
            raise ConfigError(f"--shard auto: RANK = {rank} must be from 0 to {size - 1} (WORLD_SIZE - 1); correct it")
        return rank, size
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    prefix = "SLURM_ARRAY_TASK_"
    number, first, step, count = (
        _whole_number(environment, prefix + name, default)
        for name, default in (("ID", None), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
    )
    last = _whole_number(environment, f"{prefix}MAX", str(first + step * (count - 1)))
    index, rest = divmod(number - first, max(1, step))
    if step < 1 or rest or not 0 <= index < count or count != (last - first) // step + 1:
        raise ConfigError(
            f"--shard auto: task {number} of a SLURM array of {count} from {first} to {last} in steps of {step} is not "
            "in a plain range; use one such as --array=1-8, or --shard i/n"
        )
    return index, count


def _whole_number(environment: dict[str, str], name: str, default: str | None = None) -> int:
    text = environment[name] if default is None else environment.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--shard auto: {name} = {text}: must be a whole number; correct it or give i/n") from None
