"""The loop against an oracle: the same steps in plain torch, one tensor after the other, as the method's page has them.

Shared with the package are timm's network, the first weights, the images of each micro-batch and the keyed draws.
"""

import math
from functools import partial

import pytest
import torch
from objective_literal import literal
from runs import metrics
from torch import Tensor
from torch.nn.functional import batch_norm, linear, normalize, relu

from syn2co.data.loader import Schedule, batches
from syn2co.data.open import open_images
from syn2co.objective import DrawKey, NegativeCounts, draw_negatives
from syn2co.pretraining.config import Config
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.train import pretrain
from syn2co.runtime.checkpoint import load_checkpoint

STEPS, PER_EPOCH, MICRO = 5, 3, 2
POSITIONS = ("encoder.backbone.pos_embed", "encoder.backbone.cls_token")
NONE = NegativeCounts()


class Oracle:
    """Weights, statistics, moments and queues as plain tensors by name, and the step that moves them."""

    def __init__(self, config: Config) -> None:
        model = Syn2Co(config)
        self.config, self.backbone = config, model.target.encoder.backbone
        self.trained = [name for name, _ in model.online.named_parameters()]
        self.online, self.target = (
            {name: tensor.clone() for name, tensor in branch.state_dict().items()}
            for branch in (model.online, model.target)
        )
        self.first, self.second = ({name: torch.zeros_like(self.online[name]) for name in self.trained} for _ in "mv")
        self.queues = [queue.keys.clone() for queue in model.queues]
        self.groups, self.pointer = torch.full((config.queue.size,), -1), 0

    def forward(self, branch: dict[str, Tensor], view: Tensor) -> Tensor:
        """Return the embedding of one view, [B, D]; batch norm takes this view's statistics and follows them."""
        spec = self.config.encoder_spec
        # Both constants are stored in float32.
        mean, std = (torch.tensor(values).double().view(3, 1, 1) for values in (spec.mean, spec.std))
        images = (view.permute(0, 3, 1, 2).double() / 255 - mean) / std
        prefix = "encoder.backbone."
        weights = {name.removeprefix(prefix): value for name, value in branch.items() if name.startswith(prefix)}
        rows = torch.func.functional_call(self.backbone, weights, (images,))
        for head in ("projector", "predictor") if branch is not self.target else ("projector",):
            part = partial("{}.{}.{}".format, head)
            rows = linear(rows, branch[part(0, "weight")], branch[part(0, "bias")])
            statistics = branch[part(1, "running_mean")], branch[part(1, "running_var")]
            rows = batch_norm(rows, *statistics, branch[part(1, "weight")], branch[part(1, "bias")], training=True)
            branch[part(1, "num_batches_tracked")] += 1
            rows = linear(relu(rows), branch[part(3, "weight")], branch[part(3, "bias")])
        return normalize(rows, dim=1)

    def direction(self, query: Tensor, key: Tensor, queue: Tensor, groups: Tensor, draw: DrawKey | None) -> Tensor:
        """Return the mean of -log softmax of the positive among keys and synthetic negatives, one query at a time."""
        settings, rows, width = self.config.negatives, *query.shape
        counts = NONE if draw is None else NegativeCounts(**settings.counts)
        draws = draw_negatives(counts, draw or DrawKey(0, 0), global_batch=rows, width=width)
        masked = groups[:, None] == self.groups[None, :]
        strengths = {"sigma": settings.sigma, "delta": settings.delta, "eta": settings.eta, "hardest": settings.hardest}
        losses, _ = literal(query, key, queue, masked, draws, temperature=self.config.training.temperature, **strengths)
        return losses.mean()

    def enqueue(self, keys: tuple[Tensor, Tensor], groups: Tensor) -> None:
        """Write one row after the other over the oldest."""
        for row in range(len(groups)):
            for queue, key in zip(self.queues, keys, strict=True):
                queue[self.pointer] = key[row]
            self.groups[self.pointer] = groups[row]
            self.pointer = (self.pointer + 1) % len(self.groups)

    def step(self, step: int, micro_batches: list) -> dict[str, float]:
        """Take one optimizer step and return loss, norm of the gradient and learning rate."""
        training, window = self.config.training, self.config.negatives
        momentum = 1 - (1 - training.momentum) * (math.cos(math.pi * step / STEPS) + 1) / 2
        for name in set(self.trained) & self.target.keys():  # before the forward passes, once a step
            self.target[name] = momentum * self.target[name] + (1 - momentum) * self.online[name]
        gradient, loss = dict.fromkeys(self.trained, 0.0), 0.0
        for number, batch in enumerate(micro_batches):
            leaves = {name: self.online[name].requires_grad_() for name in self.trained}
            q1, q2 = (self.forward(self.online, view) for view in batch.views)
            with torch.no_grad():
                k1, k2 = (self.forward(self.target, view) for view in batch.views)
            keyed = step / PER_EPOCH >= window.start
            one, two = (DrawKey(self.config.seed, step, number, side) if keyed else None for side in (1, 2))
            value = self.direction(q1, k2, self.queues[1], batch.groups, one)
            value = value + self.direction(q2, k1, self.queues[0], batch.groups, two)
            for name, part in zip(leaves, torch.autograd.grad(value / MICRO, list(leaves.values())), strict=True):
                gradient[name] = gradient[name] + part
            self.online = {name: tensor.detach() for name, tensor in self.online.items()}
            self.enqueue((k1, k2), batch.groups)
            loss += value.item() / MICRO
        norm = math.sqrt(sum(float((part**2).sum()) for part in gradient.values()))
        return {"loss": loss, "gradient_norm": norm, "lr": self.adamw(step, gradient, norm)}

    def adamw(self, step: int, gradient: dict[str, Tensor], norm: float) -> float:
        """Clip by the norm of the whole gradient, then one step of AdamW; return its learning rate."""
        settings, scale = self.config.optimizer, self.config.training.batch / 512
        lr = scale * (settings.warmup_lr + (settings.base_lr - settings.warmup_lr) * step / PER_EPOCH)
        if step >= PER_EPOCH * settings.warmup_epochs:
            cosine = (1 + math.cos(math.pi * step / STEPS)) / 2
            lr = scale * (settings.final_lr + (settings.base_lr - settings.final_lr) * cosine)
        shrink, (beta1, beta2) = min(1.0, settings.clip / (norm + 1e-6)), settings.betas
        for name in self.trained:
            part, weight = shrink * gradient[name], self.online[name]
            if weight.ndim > 1 and (settings.decay_positions or name not in POSITIONS):
                weight = weight * (1 - lr * settings.weight_decay)
            self.first[name] = beta1 * self.first[name] + (1 - beta1) * part
            self.second[name] = beta2 * self.second[name] + (1 - beta2) * part**2
            mean, square = self.first[name] / (1 - beta1 ** (step + 1)), self.second[name] / (1 - beta2 ** (step + 1))
            self.online[name] = weight - lr * mean / (square.sqrt() + settings.eps)
        return lr

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by the names of a checkpoint."""
        named = {f"{branch}.{n}": t for branch in ("online", "target") for n, t in getattr(self, branch).items()}
        for number, queue in enumerate(self.queues, start=1):
            named |= {f"queue{number}.keys": queue, f"queue{number}.groups": self.groups}
            named |= {f"queue{number}.pointer": torch.tensor(self.pointer)}
        for name in self.trained:
            named |= {f"optimizer.{name}.exp_avg": self.first[name], f"optimizer.{name}.exp_avg_sq": self.second[name]}
            named |= {f"optimizer.{name}.step": torch.tensor(STEPS)}
        return named


@pytest.mark.parametrize("decay_positions", [False, True])
def test_the_loop_equals_plain_torch(decay_positions, tiny, tmp_path):
    """Accumulation, a clip that bites, the opening of the window, EMA, order of the queues, and groups of decay.

    The eps of AdamW is large, since a bias before batch norm has no gradient but rounding, which 1e-8 would raise.
    """
    config = tiny(
        "training.precision=float64", f"training.steps={STEPS}", f"training.micro_batches={MICRO}", "queue.size=21",
        "training.momentum=0.8", "encoder.drop_path=0", "optimizer.clip=100.0", "optimizer.weight_decay=2.0",
        "optimizer.eps=1e-5", f"optimizer.decay_positions={decay_positions}",
    )  # fmt: skip
    pretrain(config, out=tmp_path / "run", progress=False)
    images = open_images(config.data.real)
    schedule = Schedule(len(images), config.training.batch, MICRO, 1, config.seed)
    stream = batches(images, config.views, schedule, range(STEPS), rank=0, workers=0)
    oracle, norms, records = Oracle(config), [], metrics(tmp_path / "run")
    for step, record in enumerate(records):
        expected = oracle.step(step, [next(stream) for _ in range(MICRO)])
        norms.append(expected["gradient_norm"])
        assert {name: record[name] for name in expected} == pytest.approx(expected, abs=1e-12, rel=1e-12)
    saved, expected = load_checkpoint(tmp_path / "run").tensors, oracle.tensors()
    assert saved.keys() == expected.keys()
    apart = {name: float((saved[name].double() - expected[name].double()).abs().max()) for name in saved}
    assert max(apart.values()) < 1e-12, max(apart, key=lambda name: apart[name])
    assert min(norms) < config.optimizer.clip < max(norms), "the clip bites in some steps and not in others"
    assert any(record["masked_share"] > 0 for record in records), "keys of a query's own group are in the queue"
