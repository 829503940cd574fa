# ruff: noqa: E501 - a mutant in one piece
"""Mutants of the core: one-place changes of the code, each with the tests that must see it.

    make mutants                        # all of them, a few minutes
    python tools/mutants.py queue       # those whose module or description holds the word

A mutant lives in a copy of the package in a temporary folder, first on the path of the tests; the working tree is never
touched. A mutant that no named test sees is printed, and the exit status is 1: write the test that sees it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ORACLE = "tests/pretraining/test_oracle.py"
SCHEDULES = "tests/objective/test_schedules.py"
QUEUE = "tests/objective/test_queue.py"
NORM = "tests/models/test_batch_norm.py::test_two_ranks_equal_batch_norm_of_the_global_batch"
RESUME = "tests/pretraining/test_resume.py::test_stopping_after_every_step_changes_nothing"
AVERAGES = "tests/pretraining/test_resume.py::test_a_stop_between_two_log_lines_keeps_the_open_averages"
CHECKPOINT = "tests/runtime/test_checkpoint.py::test_a_flipped_bit_anywhere_is_found"


class Mutant(NamedTuple):
    """One change of one module, and the tests that must fail with it."""

    module: str
    what: str
    before: str
    after: str
    tests: str
    moved: str = ""
    """Text that goes from where it stands, for a change that moves it."""


LOOP, STEP, METHOD = "pretraining/loop.py", "pretraining/step.py", "pretraining/method.py"
RUN, OPTIMIZER, HEADS = "pretraining/run.py", "runtime/optimizer.py", "models/heads.py"
NEGATIVES, LOGITS = "objective/negatives.py", "objective/synthetic_logits.py"

_EMA = "        state.model.update_target(now.momentum)  # before its forward pass, once per optimizer step (MoBY)\n"
_INNER = "        for number, batch in enumerate(batches):\n"
_STEP = "        state.optimizer_step(now.lr)\n"

MUTANTS = (
    Mutant(LOOP, "no EMA", _EMA, "", ORACLE),
    Mutant(LOOP, "EMA after the optimizer step", _STEP, _STEP + _EMA, ORACLE, moved=_EMA),
    Mutant(LOOP, "EMA before each micro-batch", _INNER, _INNER + "    " + _EMA, ORACLE, moved=_EMA),
    Mutant(LOOP, "loss not divided", "(output.loss / run.micro_batches).backward()", "output.loss.backward()", ORACLE),
    Mutant(
        LOOP, "gradient never clipped", "clip_gradient(state.model.online, run.clip)",
        "clip_gradient(state.model.online, None)", ORACLE,
    ),
    Mutant(
        LOOP, "clipping of the encoder alone", "clip_gradient(state.model.online, run.clip)",
        "clip_gradient(state.model.online.encoder, run.clip)", ORACLE,
    ),
    Mutant(LOOP, "clipped after each micro-batch", "            if last:  #", "            if True:  #", ORACLE),
    Mutant(LOOP, "nothing enqueued", "            state.enqueue(output.keys, batch.groups)\n", "", ORACLE),
    Mutant(
        LOOP, "last micro-batch alone enqueued", "            state.enqueue(output.keys, batch.groups)\n",
        "            state.enqueue(output.keys, batch.groups) if last else None\n", ORACLE,
    ),
    Mutant(LOOP, "averages of the last micro-batch", "state.averages.add(measured)", "state.averages.sums.clear() if last else None; state.averages.add(measured)", ORACLE),
    Mutant(LOOP, "window always open", "negatives=now.negatives", "negatives=True", ORACLE),
    Mutant(LOOP, "window never open", "negatives=now.negatives", "negatives=False", ORACLE),
    Mutant(LOOP, "schedules one step late", "run.schedules.at(state.step)", "run.schedules.at(max(0, state.step - 1))", ORACLE),
    Mutant(STEP, "queues of the views exchanged", "zip(queues, keys, strict=True)", "zip(queues, keys[::-1], strict=True)", ORACLE),
    Mutant(METHOD, "query against the queue of its own view", "(k2, k1), model.queues[::-1]", "(k2, k1), model.queues", ORACLE),
    Mutant(METHOD, "query with the key of its own view", "(k2, k1), model.queues[::-1]", "(k1, k2), model.queues[::-1]", ORACLE),
    Mutant(METHOD, "one direction alone", "parts[0].loss.mean() + parts[1].loss.mean()", "2 * parts[0].loss.mean()", ORACLE),
    Mutant(METHOD, "mean of the directions", "parts[0].loss.mean() + parts[1].loss.mean()", "(parts[0].loss.mean() + parts[1].loss.mean()) / 2", ORACLE),
    Mutant(METHOD, "draws without the micro-batch", "position.step, position.micro_batch, direction", "position.step, 0, direction", ORACLE),
    Mutant(METHOD, "draws without the direction", "position.micro_batch, direction)", "position.micro_batch, 1)", ORACLE),
    Mutant(METHOD, "no mask of groups", "if loss.mask_groups else None", "if not loss.mask_groups else None", ORACLE),
    Mutant(METHOD, "EMA of the target's own weights", "online = dict(self.online.named_parameters())", "online = dict(self.target.named_parameters())", ORACLE),
    Mutant(OPTIMIZER, "biases and norms decayed", 'free, "weight_decay": 0.0}', 'free, "weight_decay": settings.weight_decay}', ORACLE),
    Mutant(OPTIMIZER, "nothing decayed", 'decayed, "weight_decay": settings.weight_decay}', 'decayed, "weight_decay": 0.0}', ORACLE),
    Mutant(OPTIMIZER, "positions decayed", "set() if settings.decay_positions else undecayed(online)", "set()", ORACLE),
    Mutant(OPTIMIZER, "positions never decayed", "set() if settings.decay_positions else undecayed(online)", "undecayed(online)", ORACLE),
    Mutant(OPTIMIZER, "default betas", "betas=settings.betas", "betas=(0.9, 0.99)", ORACLE),
    Mutant(OPTIMIZER, "learning rate of the first group alone", "for group in optimizer.param_groups:", "for group in optimizer.param_groups[:1]:", ORACLE),
    Mutant(RUN, "learning rate not scaled", "objective.scaled_lr(rate, batch)", "rate", ORACLE),
    Mutant(RUN, "gradients kept from step to step", "        self.optimizer.zero_grad(set_to_none=True)\n", "", ORACLE),
    Mutant(HEADS, "views in one batch norm", "one, two = (self._embed(part) for part in features)", "import torch; one, two = self._embed(torch.cat(features)).chunk(2)", ORACLE),
    Mutant(HEADS, "no predictor", "unit_rows(self.predictor(self.projector(features)))", "unit_rows(self.projector(features))", ORACLE),
    Mutant("objective/ema.py", "momentum turned round", "onlines, 1 - momentum)", "onlines, momentum)", ORACLE),
    Mutant("objective/queue.py", "keys in another order", "] = rows[:end]", "] = rows[:end].flip(0)", ORACLE),
    Mutant("objective/queue.py", "pointer stands still", "self.pointer = (self.pointer + batch) % size", "self.pointer = 0", ORACLE),
    Mutant("objective/queue.py", "the first of too many keys stay", "keys[first:]), (self.groups, groups[first:])", "keys[: batch - first]), (self.groups, groups[: batch - first])", QUEUE),
    Mutant("objective/schedules.py", "window to the end of its last epoch", "steps_per_epoch < stop", "steps_per_epoch <= stop", SCHEDULES),
    Mutant("objective/schedules.py", "warm-up subtracted", "math.cos(math.pi * step / total)) / 2\n\n\ndef ema", "math.cos(math.pi * (step - warmup) / total)) / 2\n\n\ndef ema", ORACLE),
    Mutant("objective/schedules.py", "momentum one step late", "math.cos(math.pi * step / total) + 1", "math.cos(math.pi * (step + 1) / total) + 1", ORACLE),
    Mutant("objective/loss.py", "positive missing in the sum", "total = reals + margin.exp()", "total = reals + 0 * margin", ORACLE),
    Mutant("objective/loss.py", "synthetic weights not in the gradient", "on_keys.scatter_add_(1, synthetic.keys, p * synthetic.key_weight)", "pass", ORACLE),
    Mutant("objective/loss.py", "gradient without the temperature", ") / temperature\n        mass", ")\n        mass", ORACLE),
    Mutant(LOGITS, "masked keys among the hardest", "hard = _hardest(real, strengths.hardest)", "hard = _hardest(product, strengths.hardest)", ORACLE),
    Mutant(LOGITS, "partner is the key", "partners = _picked(hard, candidates, draws.tensor(\"partners\", unmasked.float()))", "partners = keys[:, slots[\"mixup\"]]", ORACLE),
    Mutant(NEGATIVES, "perturbed away from the query", "c + delta, 1 + delta * delta + 2 * delta * c, delta", "c - delta, 1 + delta * delta - 2 * delta * c, -delta", ORACLE),
    Mutant(NEGATIVES, "adversarial by the length of the query", "c + eta * norm1", "c + eta", ORACLE),
    Mutant("objective/infonce.py", "nobody's group masked", "groups.where(groups >= 0, -2)", "groups", "tests/objective/test_infonce.py"),
    Mutant("models/batch_norm.py", "biased running variance", "variance.detach() * count / (count - 1)", "variance.detach()", NORM),
    Mutant("runtime/checkpoint.py", "checksum not looked at", 'if int(metadata["crc32"]) != _checksum(tensors, metadata["state"]):', "if False:", CHECKPOINT),
    Mutant("runtime/optimizer.py", "moments not restored", "if state:  #", "if False:  #", RESUME),
    Mutant("pretraining/run_folder.py", "averages not restored", 'Averages(state["averages"])', "Averages()", AVERAGES),
    Mutant("pretraining/run_folder.py", "queues not restored", "        queue.load_state_dict(queue_state)\n", "", RESUME),
)  # fmt: skip


def main() -> None:
    """Run the tests of each mutant and print those that survive."""
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if all(word in f"{mutant.module} {mutant.what}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="syn2co-mutants-") as folder:
        shutil.copytree(ROOT / "src", Path(folder, "src"), ignore=shutil.ignore_patterns("__pycache__"))
        for tests in sorted({mutant.tests for mutant in chosen}):
            if not passes(folder, tests):
                sys.exit(f"{tests}: fails without a mutant; mend that first")
        survivors = [mutant for mutant in chosen if survives(folder, mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants are seen by their tests")
    sys.exit(bool(survivors))


def survives(folder: str, mutant: Mutant) -> bool:
    """Return whether the mutant's tests pass with it; the copy is whole again afterwards."""
    path = Path(folder, "src", "syn2co", mutant.module)
    whole = path.read_text(encoding="utf-8")
    rest = whole.replace(mutant.moved, "", 1) if mutant.moved else whole
    if rest.count(mutant.before) != 1 or mutant.moved not in whole:
        sys.exit(f"{mutant.module}: {mutant.what}: the text to change stands there {rest.count(mutant.before)} times")
    path.write_text(rest.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        survived = passes(folder, mutant.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    print(f"{'SURVIVES' if survived else 'seen    '} {mutant.module}: {mutant.what} ({mutant.tests})", flush=True)
    return survived


def passes(folder: str, tests: str) -> bool:
    """Return whether the tests pass with the package of the folder."""
    environment = {
        **os.environ, "PYTHONPATH": str(Path(folder, "src")), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    return not subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=600).returncode


if __name__ == "__main__":
    main()
