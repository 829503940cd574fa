"""The table of encoders in docs/concepts/encoders.md: one small network of each family of timm, trained for one step.

    python tools/encoder_table.py                 # all families, a quarter of an hour on one core; writes the table
    python tools/encoder_table.py swin coat       # some families, printed alone

A family is a module of `timm.models`. Its network is the smallest by parameters of those that take images of at most
256 pixels. Both branches are built, one micro-batch is trained on, forward and backward, and the weights are saved and
loaded again.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from timm.models import list_modules

from syn2co.core.errors import Syn2CoError
from syn2co.data.batch import Batch
from syn2co.models.state import load_exactly
from syn2co.pretraining.config import Config
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.run import training_step
from syn2co.pretraining.step import StepPosition
from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

PAGE = Path(__file__).resolve().parents[1] / "docs" / "concepts" / "encoders.md"
MOST_PIXELS, MOST_PARAMETERS = 256, 100e6
SMALL = ("queue.size=16", "heads.hidden=16", "heads.width=8", "training.batch=4")


class Row(NamedTuple):
    """One family: its smallest network, millions of parameters, side in pixels, and what became of the step."""

    family: str
    network: str
    millions: float
    side: int
    outcome: str

    def __str__(self) -> str:
        return f"| {self.family} | {self.network} | {self.millions:.1f} M | {self.side} | {self.outcome} |"


def smallest(family: str) -> tuple[str, float, int] | None:
    """Return the smallest network of a family with millions of parameters and side, None if all are too large."""
    sizes: list[tuple[float, str, int]] = []
    for name in timm.list_models(module=family):
        config = timm.get_pretrained_cfg(name)
        side = config.input_size[-1] if config else 224
        if side <= MOST_PIXELS:
            with torch.device("meta"):
                network = timm.create_model(name, num_classes=0)
            sizes.append((sum(parameter.numel() for parameter in network.parameters()), name, side))
    count, name, side = min(sizes, default=(float("inf"), "", 0))
    return (name, count / 1e6, side) if count < MOST_PARAMETERS else None


def outcome(network: str, side: int) -> str:
    """Return "runs", or the sentence that refuses the network; what is raw begins with RAW."""
    settings = [*SMALL, f"encoder.name={network}", f"views.size={side}"]
    try:
        try:
            return _step(settings)
        except Syn2CoError as error:
            if "encoder.drop_path=0" not in str(error):
                raise
            return f"{_step([*settings, 'encoder.drop_path=0'])} with encoder.drop_path=0"
    except Syn2CoError as error:
        return str(error).replace("|", "\\|").replace("*", "\\*")
    except Exception as error:
        return f"RAW {type(error).__name__}: {error}".partition("\n")[0]


def _step(settings: list[str]) -> str:
    """Take one step, save the weights, and load them."""
    config = Config().with_settings(settings)
    model = Syn2Co(config).train()
    rows, side = 2, config.views.size
    views = torch.randint(256, (2, rows, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(rows)
    batch = Batch(views, numbers, numbers, numbers, torch.zeros(2, rows, dtype=torch.bool))
    output = training_step(model, model.online, batch, StepPosition(0, 0, 0, 0, rows), negatives=False)
    output.loss.backward()
    with tempfile.TemporaryDirectory() as folder:
        path = save_checkpoint(Path(folder), 1, model.state_dict(), {}, keep=2)
        load_exactly(model, load_checkpoint(path).tensors, config.encoder.name)
    return "runs"


def main() -> None:
    """Print a line per family, and write the page's table if all of them were asked for."""
    lines = ["| family | network | parameters | side | one step |", "|---|---|---|---|---|"]
    for family in sys.argv[1:] or list_modules():
        network = smallest(family)
        row = f"| {family} | none of this size | | | not tried |"
        if network is not None:
            row = str(Row(family, *network, outcome(network[0], network[2])))
        lines.append(row)
        print(row, flush=True)
    if not sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        table = "\n".join(lines) + "\n"
        PAGE.write_text(re.sub(r"\| family .*\n(\|.*\n)*", lambda _: table, text), encoding="utf-8")


if __name__ == "__main__":
    main()
