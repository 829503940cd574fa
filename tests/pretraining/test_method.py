"""One micro-batch: which query meets which queue, what learns, what is measured, and how micro-batches add up."""

import math
import random
import threading

import numpy as np
import pytest
import torch
from runs import assert_same_run, finish, metrics, start, train
from torch import Tensor

from syn2co import objective
from syn2co.data.batch import Batch
from syn2co.pretraining.health import effective_rank, embedding_std
from syn2co.pretraining.method import LossSettings, Syn2Co, training_step
from syn2co.pretraining.step import StepPosition, enqueue

DOUBLE = "training.precision=float64"


def _batch(rows: int = 6, seed: int = 0) -> Batch:
    draws = np.random.default_rng(seed)
    views = torch.from_numpy(draws.integers(0, 256, (2, rows, 16, 16, 3), dtype=np.uint8))
    indices = torch.arange(rows) + 100 * seed
    return Batch(views, indices, indices, indices, torch.zeros(2, rows, dtype=torch.bool))


def _step(model: Syn2Co, batch: Batch, config, *, synthetic: bool = False, step: int = 4, micro_batch: int = 0):
    place = StepPosition(step, 1, micro_batch, 0, len(batch.indices))
    workspace = objective.Workspace()
    return training_step(
        model, model.online, batch, place, LossSettings.of(config), negatives=synthetic, workspace=workspace
    )


def _model(config) -> Syn2Co:
    model = Syn2Co(config).train()
    with torch.no_grad():  # the target starts as a copy: move it away, so that mixing up branches shows
        for number, parameter in enumerate(model.target.parameters()):
            parameter.mul_(1 + 0.01 * (number % 3))
    return model


def _embeddings(model: Syn2Co, batch: Batch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Queries and keys of both views, one view after the other, with drop path switched off."""
    none = torch.zeros(0, 2, len(batch.indices))
    q1, q2, _ = model.online(batch.views, none)
    k1, k2, _ = model.target(batch.views, none)
    return (q1, q2), (k1, k2)


def test_the_loss_is_the_sum_of_both_directions_against_the_right_queues(tiny):
    """q1 meets k2 and the queue of view 2, q2 meets k1 and the queue of view 1; a sum, no factor of 2 t."""
    config = tiny(DOUBLE, "encoder.drop_path=0", "training.temperature=0.3")
    batch = _batch()
    (q1, q2), (k1, k2) = _embeddings(_model(config), batch)
    model = _model(config)

    def cross_entropy(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / 0.3
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))

    expected = cross_entropy(q1, k2, model.queues[1].keys) + cross_entropy(q2, k1, model.queues[0].keys)
    outcome = _step(model, batch, config)
    torch.testing.assert_close(outcome.loss, expected)
    assert float(outcome.measured["loss"]) == float(outcome.measured["real_loss"]) == pytest.approx(expected.item())
    torch.testing.assert_close(outcome.keys[0], k1)
    torch.testing.assert_close(outcome.keys[1], k2)


def test_gradients_are_those_of_autograd_through_the_plain_loss(tiny):
    config = tiny(DOUBLE, "encoder.drop_path=0")
    batch, literal, model = _batch(), _model(config), _model(config)
    (q1, q2), (k1, k2) = _embeddings(literal, batch)
    loss = sum(
        objective.info_nce(query, key.detach(), queue.keys, temperature=0.2).mean()
        for query, key, queue in ((q1, k2, literal.queues[1]), (q2, k1, literal.queues[0]))
    )
    loss.backward()
    _step(model, batch, config).loss.backward()
    for (name, one), two in zip(literal.online.named_parameters(), model.online.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, msg=name)
    assert all(parameter.grad is None for parameter in model.target.parameters())


def test_keys_of_a_view_go_into_the_queue_of_that_view(tiny):
    model = Syn2Co(tiny())
    keys = (torch.full((3, 16), 1.0), torch.full((3, 16), 2.0))
    enqueue(model.queues, keys, torch.tensor([7, 8, 9]))
    for queue, key in zip(model.queues, keys, strict=True):
        assert torch.equal(queue.keys[:3], key) and queue.pointer == 3
        assert queue.groups[:4].tolist() == [7, 8, 9, -1]


@pytest.mark.parametrize("masked", [True, False])
def test_images_of_ones_own_group_are_masked_if_asked(masked, tiny):
    config = tiny(DOUBLE, f"negatives.mask_groups={masked}")
    model, batch = _model(config), _batch()
    for queue in model.queues:
        queue.groups[:15] = batch.groups[0]
    found = _step(model, batch, config).measured
    assert float(found["masked_share"]) == pytest.approx(15 / 60 / 6 if masked else 0.0)
    level = 2 * (5 * math.log(61) + math.log(46)) / 6 if masked else 2 * math.log(61)
    assert float(found["uninformative"]) == pytest.approx(level)


MOVE = Syn2Co.update_target
KINDS = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
NONE = tuple(f"negatives.{kind}=0" for kind in KINDS)


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS])
def test_any_kinds_may_be_switched_on_alone(kinds, tiny):
    """Defect 1 of the released code: perturbed alone ran nothing, noise alone crashed."""
    config = tiny(DOUBLE, *NONE, *(f"negatives.{kind}=4" for kind in kinds))
    outcome = _step(_model(config), _batch(), config, synthetic=True)
    assert {name for name in outcome.measured if name.startswith("mass/")} == {f"mass/{kind}" for kind in kinds}
    for kind in kinds:
        assert 0 < float(outcome.measured[f"mass/{kind}"]) < 1
        assert -1 <= float(outcome.measured[f"hardness/{kind}"]) <= 1
    assert float(outcome.measured["loss"]) > float(outcome.measured["real_loss"])


def test_no_synthetic_negatives_is_plain_moby(tiny, tmp_path):
    from syn2co.pretraining.train import pretrain

    plain = tiny(*NONE, "negatives.hardest=256")  # H means nothing without negatives, so it may exceed the queue
    batch = _batch()
    closed = _step(_model(tiny()), batch, tiny())
    opened = _step(_model(plain), batch, plain, synthetic=True)
    assert torch.equal(opened.loss, closed.loss)
    assert not any("/" in name for name in opened.measured)
    pretrain(plain, out=tmp_path / "run", progress=False)
    assert all(record["loss"] == record["real_loss"] for record in metrics(tmp_path / "run"))


def test_draws_depend_on_step_micro_batch_and_direction(tiny):
    config, batch = tiny(DOUBLE), _batch()
    losses = [
        float(_step(_model(config), batch, config, synthetic=True, step=step, micro_batch=part).measured["loss"])
        for step, part in ((4, 0), (4, 1), (5, 0), (5, 1))
    ]
    assert len(set(losses)) == 4


def test_drop_path_depends_on_the_image_and_not_on_its_place(tiny):
    config, batch = tiny(DOUBLE), _batch()
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    turned = batch._replace(views=batch.views[:, order], sample_ids=batch.sample_ids[order])
    one, two = (_step(_model(config), each, config) for each in (batch, turned))
    torch.testing.assert_close(two.features, one.features[order])
    torch.testing.assert_close(two.loss, one.loss)
    other = batch._replace(sample_ids=batch.sample_ids + 1)
    assert not torch.equal(_step(_model(config), other, config).features, one.features)


def test_the_target_never_drops_and_trains_in_train_mode(tiny):
    config, batch = tiny(DOUBLE, "encoder.drop_path=0.9"), _batch()
    none = tiny(DOUBLE, "encoder.drop_path=0")
    one, two = (_step(_model(each), batch, each) for each in (config, none))
    torch.testing.assert_close(one.keys[0], two.keys[0])
    assert float((one.features - two.features).abs().max()) > 0.01
    model = _model(none)
    before = model.target.projector[1].running_mean.clone()
    _step(model, batch, none)
    assert not torch.equal(model.target.projector[1].running_mean, before)


def test_the_target_follows_parameters_and_keeps_its_buffers(tiny):
    model = Syn2Co(tiny())
    with torch.no_grad():
        for parameter in model.online.parameters():
            parameter.fill_(1.0)
        for parameter in model.target.parameters():
            parameter.fill_(0.0)
        model.online.projector[1].running_mean.fill_(5.0)
    model.update_target(0.75)
    assert all(torch.equal(parameter, torch.full_like(parameter, 0.25)) for parameter in model.target.parameters())
    assert float(model.target.projector[1].running_mean.abs().max()) == 0


def test_bfloat16_keeps_loss_keys_and_statistics_in_float32(tiny):
    config = tiny("training.precision=bfloat16")
    model, batch = _model(config), _batch()
    outcome = _step(model, batch, config, synthetic=True)
    assert outcome.loss.dtype == outcome.keys[0].dtype == model.queues[0].keys.dtype == torch.float32
    assert model.online.projector[1].running_mean.dtype == torch.float32
    outcome.loss.backward()
    expected = _step(_model(tiny()), batch, tiny(), synthetic=True).loss
    assert abs(float((outcome.loss - expected).detach())) < 0.05 * float(expected.detach())


# --- accumulation --------------------------------------------------------------------------------------------------


def _first_step(config, out):
    """Train one step; return the gradient that the optimizer met, by parameter name, and the tensors afterwards."""
    from syn2co.pretraining.train import pretrain
    from syn2co.runtime.checkpoint import load_checkpoint

    pretrain(config, out=out, progress=False)

    tensors = load_checkpoint(out).tensors
    suffix = ".exp_avg"
    gradients = {
        name.removeprefix("optimizer.").removesuffix(suffix): tensor / 0.1
        for name, tensor in tensors.items() if name.endswith(suffix)
    }  # fmt: skip
    return gradients, tensors


def test_defect_07_accumulation_accumulates(tiny, tmp_path):
    """The gradient is the mean over the micro-batches, each of which meets the keys of those before it."""
    from syn2co.data.loader import Schedule, batches
    from syn2co.data.open import open_images

    config = tiny(DOUBLE, "training.steps=1", "training.micro_batches=4", "optimizer.clip=null", "negatives.start=0")
    found, tensors = _first_step(config, tmp_path / "run")

    images = open_images(config.data.real)
    schedule = Schedule(len(images), 8, 4, 1, config.seed)
    parts = list(batches(images, config.views, schedule, range(0, 1), rank=0, workers=0))
    assert [len(part.indices) for part in parts] == [2, 2, 2, 2]
    model, gradients = Syn2Co(config).train(), []
    for number, part in enumerate(parts):
        outcome = training_step(
            model,
            model.online,
            part,
            StepPosition(0, 0, number, 0, 2),
            LossSettings.of(config),
            negatives=True,
            workspace=objective.Workspace(),
        )
        gradients.append(torch.autograd.grad(outcome.loss, list(model.online.parameters())))
        enqueue(model.queues, outcome.keys, part.groups)
    for number, name in enumerate(dict(model.online.named_parameters())):
        mean = sum(gradient[number] for gradient in gradients) / 4
        torch.testing.assert_close(found[name], mean, atol=1e-12, rtol=1e-9, msg=name)
    for number, queue in enumerate(model.queues, start=1):
        torch.testing.assert_close(tensors[f"queue{number}.keys"], queue.keys)
        assert int(tensors[f"queue{number}.pointer"]) == 8
    first = gradients[0]
    assert any(not torch.allclose(gradient, other) for gradient, other in zip(first, gradients[1], strict=True))


def test_defect_07_the_learning_rate_and_the_schedules_are_those_of_the_whole_batch(tiny, tmp_path, monkeypatch):
    import syn2co.pretraining.train as module

    runs = []
    for micro_batches in (1, 4):
        moved = []
        with monkeypatch.context() as patch:
            patch.setattr(Syn2Co, "update_target", lambda self, m, moved=moved: moved.append(m) or MOVE(self, m))
            out = tmp_path / str(micro_batches)
            module.pretrain(tiny(f"training.micro_batches={micro_batches}"), out=out, progress=False)
        runs.append((moved, [(record["lr"], record["synthetic"]) for record in metrics(out)]))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 12, "the target moves once an optimizer step"
    scale = 8 / 512  # of the whole batch, whatever the micro-batches
    expected = objective.cosine_lr(3, total=12, warmup=3, peak=0.02 * scale, start=5e-7 * scale, end=5e-6 * scale)
    assert runs[0][1][3][0] == pytest.approx(expected)


# --- ambient randomness --------------------------------------------------------------------------------------------


def _train_with_ambient_seed(config: str, out: str, seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    train(config, out)
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_neither_reads_nor_moves_ambient_random_state(workers, tiny, tmp_path):
    """In processes of their own: the type checker of the tests draws from the state of `random`."""
    config = tiny("training.steps=4", f"machine.workers={workers}").to_json()
    processes = [start(_train_with_ambient_seed, config, str(tmp_path / str(seed)), seed) for seed in (1, 2)]
    assert [finish(process) for process in processes] == [0, 0]
    assert_same_run(tmp_path / "1", tmp_path / "2")


# --- health --------------------------------------------------------------------------------------------------------


def test_embedding_std_is_zero_when_collapsed_and_one_when_spread():
    assert float(embedding_std(torch.ones(5, 4) / 2)) == 0
    spread = torch.nn.functional.normalize(
        torch.from_numpy(np.random.default_rng(0).standard_normal((4000, 64))), dim=1
    )
    assert float(embedding_std(spread)) == pytest.approx(1, abs=0.01)
    assert float(embedding_std(torch.ones(1, 4))) == 0


def test_effective_rank_by_hand():
    assert effective_rank(torch.eye(4) * 3 + 7) == pytest.approx(3)  # centered: three equal directions
    line = torch.arange(6.0)[:, None] * torch.tensor([[1.0, -2.0, 0.5]])
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1)


def test_every_draw_and_strength_reaches_its_place(tiny, monkeypatch):
    """Both directions and views have draws of their own, by step and epoch, and no strength takes another's place."""
    import syn2co.pretraining.method as module
    import syn2co.pretraining.step as step_module

    config = tiny(DOUBLE, "negatives.sigma=0.11", "negatives.delta=0.22", "negatives.eta=0.33")
    seen: dict[str, list[dict]] = {"draw_negatives": [], "drop_path_uniforms": [], "contrastive_loss": []}
    for name, calls in seen.items():
        owner = step_module if name == "drop_path_uniforms" else module
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, real=real, calls=calls, **k: calls.append((a, k)) or real(*a, **k))
    _step(_model(config), _batch(), config, synthetic=True, step=9, micro_batch=1)
    assert [a[1] for a, _ in seen["draw_negatives"]] == [(0, 9, 1, 1), (0, 9, 1, 2)]
    online, target = seen["drop_path_uniforms"][:2], seen["drop_path_uniforms"][2:]
    assert [(k["seed"], k["epoch"], k["view"]) for _, k in online] == [(0, 1, 1), (0, 1, 2)] and len(target) == 2
    assert [k["strengths"][1:] for _, k in seen["contrastive_loss"]] == [(0.11, 0.22, 0.33)] * 2


def test_negatives_are_drawn_beside_the_forward_pass(tiny, monkeypatch):
    import syn2co.pretraining.method as module

    config, forward, beside = tiny(), threading.Event(), list[bool]()
    monkeypatch.setattr(module, "draw_negatives", lambda *_, **__: beside.append(forward.wait(5)))
    model = _model(config)
    model.online.encoder.register_forward_pre_hook(lambda *_: forward.set())
    _step(model, _batch(), config, synthetic=True)
    assert beside == [True, True]
