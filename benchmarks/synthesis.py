"""Images/s of each procedural program beside the plain loop written from its definition, on one core, in one run.

    python benchmarks/synthesis.py [--json] [--sizes 32,128,224] [--images 64] [--rounds 3] [--cpu-time] [--no-scaling]
                                   [--flow]

--flow adds the training images/s and the samples/s of the flow at 32 px, its default network, on one thread.

The plain loops are what one writes from the definitions in NumPy: leaf after leaf with a boolean mask of the whole
canvas; a complex128 FFT a channel, the amplitude row by row; the chaos game point by point in Python; the warps in
float64. They make the same programs (the same drawn parameters), so the statistics beside them should agree:

share    of the canvas covered by leaves; of the pixels that the fractal's points fall on
slope    of log amplitude over log frequency of the luma, from 2 cycles an image to a third of the sampling rate
std      of the luma, in gray levels

Times are the best of the rounds, each the mean over the images. Axis letters: S side in pixels, P points.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, UInt8

from syn2co.synthesis.generators import procedural
from syn2co.synthesis.generators.procedural import blend, fractals, leaves, spectrum, textures, warps
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.spec import Context, GeneratedImage

Image = UInt8[np.ndarray, "S S 3"]
Rng = np.random.Generator
LUMA = np.array([0.299, 0.587, 0.114])


class Drawn(NamedTuple):
    """A picture, and the share that its program speaks of (nan where it speaks of none)."""

    image: Image
    share: float = math.nan


def plain_leaves(program: leaves.Leaves, rng: Rng, size: int) -> Drawn:
    """Put leaf after leaf below the earlier ones, with masks of the whole canvas, until it is covered.

    The leaves' numbers are drawn in bulk (one by one they would cost more than the masks), and a texture is looked up
    only where it shows, so that the loop is not slower than it has to be.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    image = np.zeros((size, size, 3))
    covered = np.zeros((size, size), bool)
    table = program.style.palette.table()[:, 0].astype(float)
    while not covered.all():
        fallen = leaves.draw_leaves(rng, program.style, 500)
        for number in range(500):
            new = plain_mask(fallen, number, x, y) & ~covered
            image[new] = table[round(255 * fallen.tone[number])]
            if fallen.tint[number].any():
                image[new] += fallen.tint[number] * plain_texture(fallen.texture[number], *np.nonzero(new))[:, None]
            covered |= new
            if covered.all():
                break
    return Drawn(np.clip(image, 0, 255).astype(np.uint8), float(covered.mean()))


def plain_mask(
    fallen: leaves.Leaves, number: int, x: Float[np.ndarray, "S S"], y: Float[np.ndarray, "S S"]
) -> Bool[np.ndarray, "S S"]:
    """Return which pixels one leaf covers."""
    (center_x, center_y), radius, shape = fallen.center[number], fallen.radius[number], fallen.shape[number]
    if shape < leaves.VARIANTS:
        return (x - center_x) ** 2 + (y - center_y) ** 2 <= radius**2
    corners = (
        leaves.shapes().corners[shape][: leaves.shapes().count[shape]] * radius * np.exp(1j * fallen.angle[number])
    )
    inside = np.ones(x.shape, bool)
    for start, end in zip(corners, np.roll(corners, -1), strict=True):
        edge = end - start
        inside &= edge.real * (y - center_y - start.imag) >= edge.imag * (x - center_x - start.real)
    return inside


def plain_texture(start: int, row: Int[np.ndarray, "..."], column: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the texture at some pixels."""
    return textures.bank()[start >> 16, ((start >> 8) + row) % 256, (start + column) % 256].astype(float)


def plain_spectrum(program: spectrum.Spectrum, rng: Rng, size: int) -> Drawn:
    """Give white noise the amplitude 1 / (|fx|^(s+d) + |fy|^(s-d)), channel by channel, and mix the colors."""
    frequency = np.abs(np.fft.fftfreq(size, 1 / size))
    amplitude = np.zeros((size, size))
    for row, fy in enumerate(frequency):
        total = frequency ** (program.s + program.d) + fy ** (program.s - program.d)
        amplitude[row] = np.divide(1, total, out=np.zeros(size), where=total > 0)
    channels = []
    for _ in range(3):
        noise = np.fft.fft2(rng.standard_normal((size, size)))
        field = np.fft.ifft2(amplitude * np.exp(1j * np.angle(noise))).real
        channels.append((field - field.mean()) / field.std())
    mean, axes = spectrum.color_axes(program.palette)
    return Drawn(np.clip(mean + np.stack(channels, axis=2) @ axes.T, 0, 255).astype(np.uint8))


def plain_fractals(program: fractals.Fractal, rng: Rng, size: int) -> Drawn:
    """Play the chaos game point by point, count the points, color by log density."""
    maps = [tuple(complex(value) for value in numbers) for numbers in zip(*program.maps(), strict=True)]
    points = fractals.points_of(size)
    choice = rng.choice(len(maps), points, p=program.probabilities()).tolist()
    z = fractals.fixed_point(*maps[0])
    visited = []
    for which in choice:
        a, b, c = maps[which]
        z = a * z + b * z.conjugate() + c
        visited.append(z)
    hits = plain_counts(visited, program.margin, size)
    level = np.log(hits + 1)
    level = np.minimum(128 * level / level[hits > 0].mean(), 255).astype(int)
    noise = plain_texture(program.texture, *np.indices((size, size))).astype(int) // 2 + 128
    palette, background = program.palette.table()[:, 0], program.background.table()[:, 0]
    return Drawn(np.where(hits[..., None] > 0, palette[level], background[noise]), float((hits > 0).mean()))


def plain_counts(visited: Sequence[complex], margin: float, size: int) -> Int[np.ndarray, "S S"]:
    """Return the points on each pixel, one point after the other."""
    low_x, high_x = min(z.real for z in visited), max(z.real for z in visited)
    low_y, high_y = min(z.imag for z in visited), max(z.imag for z in visited)
    span = size * (1 - 2 * margin) - 0.01
    hits = [[0] * size for _ in range(size)]
    for z in visited:
        column = int(size * margin + span * (z.real - low_x) / (high_x - low_x))
        row = int(size * margin + span * (z.imag - low_y) / (high_y - low_y))
        hits[row][column] += 1
    return np.array(hits)


def plain_warps(program: warps.Warp, rng: Rng, size: int) -> Drawn:
    """Bend the plane wave by wave and color it, in float64."""
    y, x = np.meshgrid(*2 * [np.linspace(-program.zoom, program.zoom, size)], indexing="ij")
    x, y = (
        np.cos(program.angle) * x - np.sin(program.angle) * y,
        np.sin(program.angle) * x + np.cos(program.angle) * y,
    )
    for frequency, amplitude, turn, phase in zip(
        program.frequency, program.amplitude, program.turn, program.phase, strict=True
    ):
        turned_x, turned_y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
        x = x + amplitude * np.sin(frequency * turned_x + phase[0])
        y = y + amplitude * np.sin(frequency * turned_y + phase[1])
    first, second = program.waves
    shade = np.sin(second[0] * x + second[1] * y + second[2])
    color = {
        "stripes": lambda: first[0] * x + first[1] * y + first[2],
        "rings": lambda: np.hypot(first[0], first[1]) * np.hypot(x, y),
        "cells": lambda: np.pi * np.sin(first[0] * x + first[1] * y + first[2]) * shade,
        "marble": lambda: first[0] * x + first[1] * y + first[2] + 2 * shade,
    }[program.kind]()
    level = (127.5 + 127.5 * np.sin(program.bands * color)).astype(int)
    light = 1 - program.shade * (1 + shade) / 2
    return Drawn((program.palette.table()[:, 0][level] * light[..., None]).astype(np.uint8))


def plain_blend(program: blend.Blend, rng: Rng, size: int) -> Drawn:
    """Mix the plain pictures of the parts and give back the contrast that a mean loses."""
    parts = [PLAIN[name](part, rng, size).image for name, part in zip(program.names, program.parts, strict=True)]
    mixed = sum(weight * part.astype(float) for weight, part in zip(program.weights, parts, strict=True))
    mean = np.mean(mixed, axis=(0, 1))
    return Drawn(np.clip(mean + (mixed - mean) / np.sqrt(np.square(program.weights).sum()), 0, 255).astype(np.uint8))


PLAIN: dict[str, Callable[[Any, Rng, int], Drawn]] = {
    "leaves": plain_leaves,
    "spectrum": plain_spectrum,
    "fractals": plain_fractals,
    "warps": plain_warps,
    "blend": plain_blend,
}


def our_share(name: str, program: Any, rng: Rng, size: int) -> float:
    """Return the share of the canvas that our version covers, where the program speaks of one."""
    if name == "leaves":
        return float((leaves.cover(program, rng, size)[0] >= 0).mean())
    if name == "fractals":
        points = fractals.chaos_game(program, rng, fractals.points_of(size))
        return float((fractals.density(points, program.margin, size) > 0).mean())
    return math.nan


def statistics(images: Sequence[Image], shares: Sequence[float]) -> dict[str, float]:
    """Return the means over the images."""
    lumas = [image @ LUMA for image in images]
    return {
        "share": float(np.mean(shares)),
        "slope": float(np.mean([slope(luma) for luma in lumas])),
        "std": float(np.mean([luma.std() for luma in lumas])),
    }


def slope(luma: Float[np.ndarray, "S S"]) -> float:
    """Return the slope of log mean amplitude over log frequency, under a Hann window (borders would make it -1)."""
    size = len(luma)
    window = np.hanning(size)
    amplitude = np.abs(np.fft.fft2((luma - luma.mean()) * window * window[:, None]))
    ring = np.rint(np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(size, 1 / size)]))).astype(int)
    used = np.arange(2, size // 3)
    means = np.bincount(ring.ravel(), amplitude.ravel())[used] / np.bincount(ring.ravel())[used]
    return float(np.polyfit(np.log(used), np.log(means + 1e-9), 1)[0])


class Row(NamedTuple):
    """One program at one size."""

    program: str
    size: int
    images_per_second: float
    plain_per_second: float
    times_plain: float
    ours: dict[str, float]
    plain: dict[str, float]


def measure(name: str, size: int, images: int, rounds: int, clock: Callable[[], float]) -> Row:
    """Return both speeds and both pictures' statistics; the plain loop makes a quarter of the images."""
    jobs = [make_job("benchmark", f"{name} {number}", 0) for number in range(images)]
    few = jobs[: max(1, images // 4)]
    known = procedural.programs()
    options = procedural.ProceduralOptions.model_validate({"program": name, "jitter": 0})
    make = procedural.open_generator(options, Context(size=size)).make

    def plainly(some: Sequence[Job]) -> list[Drawn]:
        drawn = []
        for job in some:
            _, program, rng = procedural.program_of(job, [name], known, 0.0)
            drawn.append(PLAIN[name](program, rng, size))
        return drawn

    textures.bank()  # made once a process: not an image's cost
    leaves.shapes()
    best, plain_best = math.inf, math.inf
    for _ in range(rounds):
        best = min(best, seconds(lambda: make(jobs), clock) / len(jobs))
        plain_best = min(plain_best, seconds(lambda: plainly(few), clock) / len(few))
    shares = []
    for job in few:
        _, program, rng = procedural.program_of(job, [name], known, 0.0)
        shares.append(our_share(name, program, rng, size))
    drawn = plainly(few)
    pictures = [made.image for made in make(few) if isinstance(made, GeneratedImage)]
    return Row(
        name,
        size,
        1 / best,
        1 / plain_best,
        plain_best / best,
        statistics(pictures, shares),
        statistics([one.image for one in drawn], [one.share for one in drawn]),
    )


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long the work takes."""
    start = clock()
    work()
    return clock() - start


def make_some(start: int, count: int, size: int) -> int:
    """Make images of all programs in a process; return how many."""
    cv2.setNumThreads(1)
    jobs = [make_job("scaling", str(number), 0) for number in range(start, start + count)]
    return len(procedural.open_generator(procedural.ProceduralOptions(), Context(size=size)).make(jobs))


def scaling(count: int, size: int = 128) -> dict[str, float]:
    """Return images/s of the mix of all programs by one process and by two, start of the processes left out."""
    found = {}
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            chunk = count // 16
            list(pool.map(make_some, [0] * 8 * processes, [4] * 8 * processes, [size] * 8 * processes))
            start = time.perf_counter()
            done = sum(pool.map(make_some, range(0, 16 * chunk, chunk), [chunk] * 16, [size] * 16))
            found[str(processes)] = done / (time.perf_counter() - start)
    return {**found, "gain": found["2"] / found["1"]}


def flow(clock: Callable[[], float], steps: int = 12, samples: int = 64) -> dict[str, float]:
    """Return training images/s in float32 and bfloat16 (start and end of a training left out) and samples/s."""
    import torch

    from syn2co.data.open import open_images
    from syn2co.synthesis.generators.flow import FlowOptions
    from syn2co.synthesis.generators.flow import generator as generator

    torch.set_num_threads(1)
    images = open_images(["builtin:photos:train"])
    context, found = Context(size=32, real=images), {}
    generator.open_generator(FlowOptions(steps=1, warmup=0), context)  # imports are no part of a training
    for precision in ("float32", "bfloat16"):
        times = []
        for count in (2, 2 + steps):
            options = FlowOptions.model_validate({"steps": count, "warmup": 0, "precision": precision})
            times.append(seconds(lambda options=options: generator.open_generator(options, context), clock))
        found[f"training {precision}"] = steps * options.batch / (times[1] - times[0])
    made = generator.open_generator(options, context)
    jobs = [make_job("benchmark", str(number), 0) for number in range(samples)]
    found["samples"] = samples / seconds(lambda: made.make(jobs), clock)
    return found


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table: speeds, their ratio, and our | the plain loop's statistics."""
    heads = f"{'program':10}{'px':>5}{'images/s':>10}{'plain':>9}{'ratio':>8}{'share':>16}{'slope':>16}{'std':>15}"
    print(f"{heads}   (ours | plain)")
    for row in rows:
        pairs = [f"{row.ours[key]:.2f} | {row.plain[key]:.2f}" for key in ("share", "slope")]
        pairs.append(f"{row.ours['std']:.1f} | {row.plain['std']:.1f}")
        pairs = ["-" if "nan" in pair else pair for pair in pairs]
        print(
            f"{row.program:10}{row.size:5}{row.images_per_second:10.0f}{row.plain_per_second:9.1f}{row.times_plain:7.1f}x"
            f"{pairs[0]:>16}{pairs[1]:>16}{pairs[2]:>15}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--sizes", default="32,128,224")
    parser.add_argument("--images", type=int, default=64, help="images a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="CPU time, not wall time: for a busy machine")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the two processes")
    parser.add_argument("--flow", action="store_true", help="measure the flow too (needs the extra `diffusion`)")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    clock = time.process_time if asked.cpu_time else time.perf_counter
    sizes = [int(size) for size in asked.sizes.split(",")]
    rows = [measure(name, size, asked.images, asked.rounds, clock) for name in PLAIN for size in sizes]
    scaled = None if asked.no_scaling else scaling(16 * asked.images)
    flowing = flow(clock) if asked.flow else None
    versions = {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "opencv": cv2.__version__,
        "cores": os.cpu_count(),
        "cpu_time": asked.cpu_time,
    }
    if asked.json:
        without_nan = [
            {**row._asdict(), **{key: plain_json(getattr(row, key)) for key in ("ours", "plain")}} for row in rows
        ]
        print(json.dumps({"procedural": without_nan, "processes": scaled, "flow": flowing, **versions}, indent=1))
        return
    print(f"procedural images on one core; {versions}")
    print_rows(rows)
    if flowing:
        print("flow at 32 px, images/s: " + ", ".join(f"{name} {value:.1f}" for name, value in flowing.items()))
    if scaled:
        print(
            f"mix at 128 px: {scaled['1']:.0f} images/s in one process, {scaled['2']:.0f} in two, {scaled['gain']:.2f}x"
        )


def plain_json(values: dict[str, float]) -> dict[str, float | None]:
    """Return the values with None for nan, which JSON does not know."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}


if __name__ == "__main__":
    main()
