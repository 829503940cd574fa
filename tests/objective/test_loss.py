"""The loss against its literal oracle in float64, its masks, its numerics, and two defects of the released code."""

import math
from typing import Any

import pytest
import torch
from objective_literal import literal, some_draws, unit

import syn2co.objective.synthetic_logits as synthetic_logits_module
from syn2co.objective import (
    KINDS,
    LossOutput,
    NegativeCounts,
    NegativeStrengths,
    Queue,
    Workspace,
    contrastive_loss,
    info_nce,
    same_group,
)
from syn2co.objective.synthetic_logits import _dots, _gathered_dots, _hardest, synthetic_logits

B, K, D, H = 6, 40, 16, 12
GROUPS = torch.arange(B)
QUEUE_GROUPS = torch.tensor([-1] * 3 + [0, 1, 2] + [3] * 30 + [-1] * 4)  # query 3 keeps 10 candidates, fewer than H
MASKED = same_group(GROUPS, QUEUE_GROUPS)
ALONE = [NegativeCounts(**{kind: 7}) for kind in KINDS]
TOGETHER = NegativeCounts(3, 4, 5, 6, 7, 8)
PAPER: dict[str, Any] = {"temperature": 0.2, "hardest": H, "sigma": 0.1, "delta": 0.01, "eta": 0.01}
STRONG: dict[str, Any] = {**PAPER, "sigma": 0.5, "delta": 3.0, "eta": 3.0}


def contrastive(*inputs: Any, temperature: float, workspace: Workspace | None = None, **strengths: Any) -> LossOutput:
    """The loss with its strengths named one by one, as the oracle takes them."""
    named = NegativeStrengths(**strengths)
    return contrastive_loss(*inputs, temperature=temperature, strengths=named, workspace=workspace)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return unit(B, D, 1).requires_grad_(), unit(B, D, 2), unit(K, D, 3)


@pytest.mark.parametrize("strengths", [PAPER, STRONG], ids=["paper", "strong"])
@pytest.mark.parametrize("counts", [*ALONE, TOGETHER], ids=[*KINDS, "together"])
def test_loss_and_gradient_agree_with_the_literal_form(counts: NegativeCounts, strengths: dict[str, Any]) -> None:
    query, key, queue = inputs()
    draws = some_draws(counts, B, D)
    ours = contrastive(query, key, queue, MASKED, draws, **strengths)
    oracle, _ = literal(query, key, queue, MASKED, draws, **strengths)
    outer = torch.linspace(0.5, 2.0, B, dtype=query.dtype)  # another weight for every query: a per-query gradient
    (gradient,) = torch.autograd.grad((ours.loss * outer).sum(), query)
    (expected,) = torch.autograd.grad((oracle * outer).sum(), query)
    assert (ours.loss - oracle).abs().max() < 1e-10
    assert (gradient - expected).abs().max() < 1e-10


@pytest.mark.parametrize("strengths", [PAPER, STRONG], ids=["paper", "strong"])
@pytest.mark.parametrize("counts", [*ALONE, TOGETHER], ids=[*KINDS, "together"])
def test_logits_agree_with_the_literal_form(counts: NegativeCounts, strengths: dict[str, Any]) -> None:
    query, key, queue = inputs()
    draws = some_draws(counts, B, D)
    masked = MASKED
    product = query.detach() @ queue.T
    settings = NegativeStrengths(**{name: strengths[name] for name in NegativeStrengths._fields})
    real, unmasked = product.masked_fill(masked, -math.inf), (~masked).sum(dim=1, keepdim=True)
    ours = synthetic_logits(query.detach(), queue, product, real, unmasked, draws, settings, Workspace())
    _, expected = literal(query, key, queue, masked, draws, **strengths)
    assert (ours.logits - torch.stack(expected)).abs().max() < 1e-10


def test_gradcheck_of_the_literal_form_with_its_vectors_fixed() -> None:
    query, key, queue = inputs()
    draws = some_draws(TOGETHER, B, D)
    masked, frozen = MASKED, query.detach().clone()
    assert torch.autograd.gradcheck(
        lambda q: literal(q, key, queue, masked, draws, **PAPER, frozen=frozen)[0], [query], atol=1e-6
    )


@pytest.mark.parametrize("draws", [None, some_draws(NegativeCounts(), B, D)], ids=["closed", "no counts"])
def test_without_synthetic_negatives_it_is_plain_info_nce(draws: Any) -> None:
    query, key, queue = inputs()
    ours = contrastive(query, key, queue, MASKED, draws, **{**PAPER, "hardest": K + 1})  # H is not looked at
    plain = info_nce(query, key, queue, temperature=0.2, masked=MASKED)
    (gradient,) = torch.autograd.grad(ours.loss.sum(), query)
    (expected,) = torch.autograd.grad(plain.sum(), query)
    assert (ours.loss - plain).abs().max() < 1e-12
    assert (gradient - expected).abs().max() < 1e-12
    assert torch.equal(ours.loss, ours.real_loss)
    assert ours.mass.sum() == 0
    assert ours.hardness.isnan().all()


@pytest.mark.parametrize("kind", range(6), ids=KINDS)
def test_released_defects_1_and_4_every_kind_runs_alone_and_by_its_own_count(kind: int) -> None:
    query, key, queue = inputs()
    plain = contrastive(query, key, queue, None, None, **PAPER)
    few, many = (
        contrastive(query, key, queue, None, some_draws(NegativeCounts(**{KINDS[kind]: n}), B, D), **PAPER)
        for n in (2, 20)
    )
    assert (plain.loss < few.loss).all()
    assert (few.loss < many.loss).all()
    assert torch.equal(plain.real_loss, many.real_loss)
    assert many.mass.nonzero().flatten().tolist() == [kind]
    assert many.mass[kind] > few.mass[kind]
    assert many.hardness.isfinite().nonzero().flatten().tolist() == [kind]


def test_masses_and_hardness_are_those_of_the_vectors() -> None:
    query, key, queue = inputs()
    draws = some_draws(TOGETHER, B, D)
    ours = contrastive(query, key, queue, None, draws, **STRONG)
    masked = torch.zeros(B, K, dtype=torch.bool)
    loss, logits = literal(query.detach(), key, queue, masked, draws, **STRONG)
    cosines = torch.stack(logits)
    share = (cosines / 0.2 - ((query.detach() * key).sum(dim=1) / 0.2 + loss)[:, None]).exp()
    for kind, (part, cosine) in enumerate(
        zip(share.split(TOGETHER, dim=1), cosines.split(TOGETHER, dim=1), strict=True)
    ):
        assert float(ours.mass[kind]) == pytest.approx(float(part.sum(dim=1).mean()), abs=1e-12)
        assert float(ours.hardness[kind]) == pytest.approx(float(cosine.mean()), abs=1e-12)


def test_uninformative_line_by_hand() -> None:
    q = torch.zeros(3, 8)
    q[:, 0] = 1
    k, queue = q.roll(1, dims=1), q.roll(2, dims=1)[:1].repeat(4096, 1)  # all products are 0
    plain = contrastive(q, k, queue, None, None, **PAPER)
    assert 2 * float(plain.loss[0]) == pytest.approx(16.64, abs=0.005)  # 2 ln(4097)
    assert float(plain.uninformative) == pytest.approx(math.log(4097))
    queue_groups = torch.zeros(4096, dtype=torch.int64)
    queue_groups[:96] = 5
    masked = contrastive(q, k, queue, same_group(torch.tensor([0, 5, 9]), queue_groups), None, **PAPER)
    assert masked.loss.tolist() == pytest.approx([math.log(97), math.log(4001), math.log(4097)])
    assert float(masked.uninformative) == pytest.approx(float(masked.loss.mean()))
    assert float(masked.masked_share) == pytest.approx(4096 / (3 * 4096))


def test_a_false_negative_changes_nothing() -> None:
    """The query itself among the keys, in its own group: neither in the sum nor among the hardest."""
    query, key, queue = inputs()
    draws = some_draws(TOGETHER, B, D)
    nobody = torch.full((K,), -1)
    before = contrastive(query, key, queue, same_group(GROUPS, nobody), draws, **PAPER)
    more = torch.cat([queue, query.detach()])
    after = contrastive(query, key, more, same_group(GROUPS, torch.cat([nobody, GROUPS])), draws, **PAPER)
    others = [
        contrastive(query[i : i + 1], key[i : i + 1], more[[*range(K), *(K + j for j in range(B) if j != i)]],
                 None, _row(draws, i), **PAPER).loss
        for i in range(B)
    ]  # fmt: skip
    assert (after.loss - torch.cat(others)).abs().max() < 1e-12
    assert (contrastive(query, key, more, None, draws, **PAPER).loss > before.loss + 0.1).all()


def _row(draws: Any, row: int) -> Any:
    from dataclasses import fields, replace

    arrays = {f.name: getattr(draws, f.name)[row : row + 1] for f in fields(draws) if f.name != "counts"}
    return replace(draws, **arrays)


@pytest.mark.parametrize("strengths", [PAPER, STRONG], ids=["paper", "strong"])
def test_a_fully_masked_query_has_no_loss_and_no_gradient(strengths: dict[str, Any]) -> None:
    query, key, queue = inputs()
    groups, queue_groups = torch.tensor([9, 1, 1, 1, 1, 1]), torch.full((K,), 9)
    ours = contrastive(query, key, queue, same_group(groups, queue_groups), some_draws(TOGETHER, B, D), **strengths)
    (gradient,) = torch.autograd.grad(ours.loss.sum(), query)
    assert ours.loss[0] == 0
    assert (gradient[0] == 0).all()
    assert (ours.loss[1:] > 0).all()
    assert gradient.isfinite().all()
    assert ours.hardness.isfinite().all()
    assert float(ours.uninformative) == pytest.approx(5 / 6 * math.log(K + 1))
    everywhere = contrastive(
        query, key, queue, same_group(queue_groups[:B], queue_groups), some_draws(TOGETHER, B, D), **strengths
    )
    assert (everywhere.loss == 0).all()
    assert everywhere.hardness.isnan().all()
    assert float(everywhere.masked_share) == 1


def test_group_minus_one_is_nobody_s() -> None:
    masked = same_group(torch.tensor([-1, 0, 7]), torch.tensor([-1, 0, 7, 7]))
    assert masked.tolist() == [[False] * 4, [False, True, False, False], [False, False, True, True]]


def test_antipodal_keys_at_weight_one_half_stay_finite() -> None:
    """Kinds 1 and 3 vanish there; the clamp of r^2 at 1e-6 is the same in both forms."""
    query = unit(1, D).requires_grad_()
    queue = torch.cat([-query.detach(), query.detach()])
    draws = some_draws(NegativeCounts(interpolated=40, mixup=40), 1, D)
    draws.interpolation[:], draws.mixing[:] = (
        [0.5, 0.49995] * 20,
        [0.5, 0.49995] * 20,
    )  # r = 0 and, before the clamp, 1e-4
    strengths = {**PAPER, "hardest": 2}
    ours = contrastive(query, queue[:1], queue, None, draws, **strengths)
    expected, _ = literal(query, queue[:1], queue, torch.zeros(1, 2, dtype=torch.bool), draws, **strengths)
    (gradient,) = torch.autograd.grad(ours.loss.sum(), query)
    assert (ours.loss - expected).abs().max() < 1e-10
    assert gradient.isfinite().all()


@pytest.mark.parametrize("temperature", [0.001, 0.01, 100.0])
def test_any_temperature_in_float32(temperature: float) -> None:
    query, key, queue = inputs()
    draws = some_draws(TOGETHER, B, D)
    strengths = {**PAPER, "temperature": temperature}
    exact, _ = literal(query, key, queue, MASKED, draws, **strengths)
    single = query.detach().float().requires_grad_()
    ours = contrastive(single, key.float(), queue.float(), MASKED, draws, **strengths)
    ours.loss.sum().backward()
    assert torch.allclose(ours.loss.double(), exact, rtol=1e-4, atol=1e-5)
    assert single.grad is not None
    assert single.grad.isfinite().all()
    assert ours.real_loss.isfinite().all()


def test_float32_whatever_the_autocast_and_the_callers_settings_stay() -> None:
    query, key, queue = (x.detach().float() for x in inputs())
    query.requires_grad_()
    draws = some_draws(TOGETHER, B, D)
    plain = contrastive(query, key, queue, None, draws, **PAPER)
    (expected,) = torch.autograd.grad(plain.loss.sum(), query)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = contrastive(query, key, queue, None, draws, **PAPER)
            (gradient,) = torch.autograd.grad(cast.loss.sum(), query)
            reference = info_nce(query, key, queue, temperature=0.2)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert cast.loss.dtype == reference.dtype == torch.float32
    assert torch.equal(cast.loss, plain.loss)
    assert torch.equal(gradient, expected)
    assert torch.allclose(reference, plain.real_loss, atol=1e-5)


def test_a_workspace_changes_nothing_and_backward_comes_after_both_directions() -> None:
    query, key, queue = inputs()
    other_query, other_queue = unit(B, D, 8).requires_grad_(), unit(K, D, 9)
    draws = some_draws(TOGETHER, B, D)
    workspace = Workspace()
    shared = [
        contrastive(query, key, queue, MASKED, draws, **PAPER, workspace=workspace),
        contrastive(other_query, key, other_queue, MASKED, draws, **PAPER, workspace=workspace),
    ]
    alone = [
        contrastive(query, key, queue, MASKED, draws, **PAPER),
        contrastive(other_query, key, other_queue, MASKED, draws, **PAPER),
    ]
    ours = torch.autograd.grad(shared[0].loss.sum() + shared[1].loss.sum(), [query, other_query])
    expected = torch.autograd.grad(alone[0].loss.sum() + alone[1].loss.sum(), [query, other_query])
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    for a, b in zip(shared, alone, strict=True):
        assert torch.equal(a.loss, b.loss)
        assert torch.equal(a.hardness, b.hardness)


def test_the_queue_may_move_on_before_backward() -> None:
    query, key, queue = inputs()
    (expected,) = torch.autograd.grad(contrastive(query, key, queue, None, None, **PAPER).loss.sum(), query)
    moving = Queue(queue.clone(), torch.full((K,), -1))
    loss = contrastive(query, key, moving.keys, None, None, **PAPER).loss
    moving.enqueue(key, GROUPS)
    assert torch.equal(torch.autograd.grad(loss.sum(), query)[0], expected)


def test_halves_of_a_batch_give_the_rows_of_the_whole() -> None:
    """Ranks: draws are counted by global position, so a query's negatives do not depend on who computes them."""
    query, key, queue = inputs()
    whole = contrastive(query, key, queue, MASKED, some_draws(TOGETHER, B, D), **PAPER)
    halves = [
        contrastive(query[rows], key[rows], queue, MASKED[rows],
                 some_draws(TOGETHER, B, D, start_row=rows.start, rows=3), **PAPER)
        for rows in (slice(0, 3), slice(3, 6))
    ]  # fmt: skip
    assert (torch.cat([half.loss for half in halves]) - whole.loss).abs().max() < 1e-12


def test_the_order_of_the_queue_does_not_matter_and_a_harder_key_costs_more() -> None:
    query, key, queue = inputs()
    draws = some_draws(TOGETHER, B, D)
    loss = contrastive(query, key, queue, None, draws, **PAPER).loss
    shuffled = contrastive(query, key, queue[torch.randperm(K)], None, draws, **PAPER).loss
    assert (loss - shuffled).abs().max() < 1e-12
    harder = queue.clone()
    harder[0] = query.detach()[2]
    assert contrastive(query, key, harder, None, draws, **PAPER).loss[2] > loss[2]


def test_no_gradient_is_computed_where_none_is_asked_for() -> None:
    query, key, queue = (x.detach() for x in inputs())
    assert not contrastive(query, key, queue, None, some_draws(TOGETHER, B, D), **PAPER).loss.requires_grad


def test_more_hardest_keys_than_the_queue_has() -> None:
    query, key, queue = inputs()
    message = r"hardest = 41: must be from 1 to 40, the keys of the queue"
    with pytest.raises(ValueError, match=message):
        contrastive(query, key, queue, None, some_draws(TOGETHER, B, D), **{**PAPER, "hardest": 41})


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive(temperature: float) -> None:
    query, key, queue = inputs()
    with pytest.raises(ValueError, match=r"temperature = .*: must be positive; the papers use 0.2"):
        contrastive(query, key, queue, None, None, **{**PAPER, "temperature": temperature})


def test_a_dtype_below_float32_or_mixed() -> None:
    query, key, queue = inputs()
    with pytest.raises(ValueError, match=r"are bfloat16, bfloat16, bfloat16: must all be float32 or all float64"):
        contrastive(query.bfloat16(), key.bfloat16(), queue.bfloat16(), None, None, **PAPER)
    with pytest.raises(ValueError, match=r"query, key, queue are float64, float64, float32: .* cast before normaliz"):
        contrastive(query, key, queue.float(), None, None, **PAPER)


def test_hardest_keys_are_in_order_and_of_equals_the_first_row_comes_first() -> None:
    products = torch.tensor([[0.5, -1.0, 0.5, 0.25, -0.5, 0.75, -torch.inf, 0.5], [-0.1, -0.2] * 4])
    for dtype in (torch.float32, torch.float64):
        assert _hardest(products.to(dtype), 5).tolist() == [[5, 0, 2, 7, 3], [0, 2, 4, 6, 1]]
    large = unit(50, D, 1).float() @ unit(400, D, 3).float().T
    assert torch.equal(_hardest(large, H), torch.topk(large, H, dim=1)[1])


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_products_of_pairs_are_those_of_the_vectors(count: int) -> None:
    left, right = unit(B, D, 1), unit(K, D, 3)
    rows = torch.arange(B)[:, None].expand(B, count)
    columns = torch.randint(K, (B, 2 * count), generator=torch.Generator().manual_seed(0))[:, ::2]
    expected = (left[rows] * right[columns]).sum(dim=2)
    for dots in (_dots, _gathered_dots):
        assert torch.allclose(dots(left, rows, right, columns, Workspace()), expected, atol=1e-12)
        assert torch.allclose(dots(right.T.contiguous().T, columns, left, rows, Workspace()), expected, atol=1e-12)


@pytest.mark.parametrize(("values", "calls"), [(1, 4), (2**24, 2)])
def test_pairs_off_the_cpu_are_gathered_at_once_as_memory_allows(
    values: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right, gathered = unit(32, D, 1), unit(K, D, 3), list[str]()
    rows, columns = torch.arange(32)[:, None].expand(32, 3), torch.arange(96).view(32, 3) % K
    gather = synthetic_logits_module._rows
    monkeypatch.setattr(synthetic_logits_module, "_VALUES", values)
    monkeypatch.setattr(synthetic_logits_module, "_rows", lambda *args: gathered.append(args[2]) or gather(*args))
    products = _gathered_dots(left, rows, right, columns, Workspace())
    assert torch.allclose(products, (left[rows] * right[columns]).sum(dim=2), atol=1e-12) and len(gathered) == calls
