"""Three ways to draw noise negatives (kind 4), by the variance of the gradient that they give and by their time.

    python benchmarks/noise_negatives.py [--json] [--threads 1] [--repeats 200]

honest    every negative has its own D-dimensional noise vector (the papers; B x S x D)
shared    one set of S noise vectors for all queries of the micro-batch; products only
scalars   three scalars for each negative, the part orthogonal to query and key left out of the gradient (ours)

Keys stay as picked once; only the noise is drawn anew. Variances are sums over components, relative to `honest`: of one
query's gradient, and of the sum over the batch, which is what shared parameters feel when the queries agree.

Axes: B queries, K keys in the queue, D embedding width, H hardest keys, S synthetic negatives per query.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from syn2co.objective.negatives import noise

B, K, D, H, S, T = 128, 4096, 256, 256, 128, 0.2


class Setting:
    """Queries drawn around one direction, as a trained encoder's are, their hardest keys, and the real logits."""

    def __init__(self, sigma: float) -> None:
        random = torch.Generator().manual_seed(0)
        center = normalize(torch.randn(1, D, generator=random))
        self.query = normalize(center + normalize(torch.randn(B, D, generator=random)))
        self.queue = normalize(0.5 * center + normalize(torch.randn(K, D, generator=random)))
        product = self.query @ self.queue.T
        hard = product.topk(H, dim=1)[1]
        self.picks: Int64[Tensor, "B S"] = hard.gather(1, torch.randint(H, (B, S), generator=random))
        self.c: Float[Tensor, "B S"] = product.gather(1, self.picks)
        self.real: Float[Tensor, " B"] = (product / T).exp().sum(dim=1) + torch.e ** (0.9 / T)
        self.sigma = sigma

    def shares(self, cosine: Float[Tensor, "B S"]) -> Float[Tensor, "B S"]:
        """Return the softmax weights of the synthetic negatives, over T."""
        weights = (cosine / T).exp()
        return weights / (self.real + weights.sum(dim=1))[:, None] / T

    def on_keys(self, weights: Float[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """Return the sum of the picked keys with these weights."""
        return torch.zeros(B, K).scatter_add_(1, self.picks, weights) @ self.queue


def honest(setting: Setting) -> Float[Tensor, "B D"]:
    """Return the noise negatives' part of the gradient, from vectors."""
    vectors = normalize(setting.queue[setting.picks] + setting.sigma * torch.randn(B, S, D), dim=2)
    cosine = torch.einsum("bd,bsd->bs", setting.query, vectors)
    return torch.einsum("bs,bsd->bd", setting.shares(cosine), vectors)


def shared(setting: Setting) -> Float[Tensor, "B D"]:
    """Return the same with noise that is common to the micro-batch."""
    e = setting.sigma * torch.randn(S, D)
    key_noise = torch.empty(B, S)
    for rows in torch.arange(B).split(16):
        key_noise[rows] = (setting.queue[setting.picks[rows]] * e).sum(dim=2)
    inverse = (1 + 2 * key_noise + e.square().sum(dim=1)).rsqrt()
    weights = setting.shares((setting.c + setting.query @ e.T) * inverse) * inverse
    return setting.on_keys(weights) + weights @ e


def scalars(setting: Setting) -> Float[Tensor, "B D"]:
    """Return the same from three scalars for each negative."""
    x, y = torch.randn(2, B, S)
    rest = torch.distributions.Chi2(torch.tensor(float(D - 2))).sample((B, S))
    blend = noise(setting.c, x, y, rest, setting.sigma)
    inverse = blend.square.rsqrt()
    weights = setting.shares(blend.product * inverse) * inverse
    return setting.on_keys(weights * blend.key) + (weights * blend.query).sum(dim=1, keepdim=True) * setting.query


def measure(draw: Callable[[Setting], Tensor], setting: Setting, repeats: int) -> dict[str, float]:
    """Return the variance of one query's gradient and of the batch's sum, the fastest time, and the mean's norm."""
    total, sums = torch.zeros(B, D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
    squares, squared_sums, best = 0.0, 0.0, float("inf")
    torch.manual_seed(1)
    for _ in range(repeats):
        start = time.perf_counter()
        gradient = draw(setting)
        best = min(best, time.perf_counter() - start)
        gradient = gradient.double()
        total += gradient
        squares += float(gradient.square().sum()) / B
        sums += gradient.sum(dim=0)
        squared_sums += float(gradient.sum(dim=0).square().sum())
    mean, mean_sum = total / repeats, sums / repeats
    return {
        "query variance": (squares / repeats - float(mean.square().sum()) / B) * repeats / (repeats - 1),
        "batch variance": (squared_sums / repeats - float(mean_sum.square().sum())) * repeats / (repeats - 1),
        "mean norm": float(mean.norm(dim=1).mean()),
        "ms": 1e3 * best,
    }


def main() -> None:
    """Print one table for each published noise level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=200, help="draws of the noise")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {
        f"sigma {sigma}": {
            draw.__name__: measure(draw, Setting(sigma), options.repeats) for draw in (honest, shared, scalars)
        }
        for sigma in (0.1, 0.01)
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for title, rows in results.items():
        print(f"\n{title:10}{'query variance':>18}{'batch variance':>18}{'mean norm':>12}{'ms':>8}")
        for name, row in rows.items():
            query, batch = (row[key] / rows["honest"][key] for key in ("query variance", "batch variance"))
            print(f"{name:10}{query:18.3f}{batch:18.3f}{row['mean norm']:12.5f}{row['ms']:8.2f}")


if __name__ == "__main__":
    main()
