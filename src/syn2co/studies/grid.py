"""A study as a value: factors with levels, the cells of their grid, the baseline, and contrasts fixed beforehand."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from syn2co.core.hints import first_names, nearest
from syn2co.core.settings import Settings, Share

Levels = dict[str, str]
"""Name of the level of each factor."""
GENERATORS = ("procedural", "fitted", "flow")
"""Generators that a level may name; each set is made for the real images and the seed of its cell."""
Question = Literal["random", "enough", "ratio", "negatives", "views", "fake"]


class Level(Settings):
    """What one level of a factor sets of a run; null leaves it to the other factors."""

    images: Literal["untrained", "real", "synthetic", "mixed", "then", "replace"] | None = None
    """untrained is the random encoder; mixed: a share of each epoch; then: synthetic first, real afterwards; replace: a
    view of a real image is taken from a synthetic variation of it."""
    real_images: Annotated[int, Field(gt=0)] | None = None
    """Distinct real images, subsets by seed; those of 500 are among those of 2,000."""
    source: str | None = None
    """Synthetic images: procedural, fitted or flow (trained on exactly the real images of the cell), or a source as
    --synthetic takes it."""
    share: Share | None = None
    """Share of synthetic images (mixed), of steps on synthetic images (then), of views that are replaced (replace)."""
    settings: tuple[str, ...] = ()
    """Settings of the run, such as "negatives.noise=0"."""


class Contrast(Settings):
    """Two cells that are compared at equal seeds; factors that they do not name have the baseline's level."""

    name: str
    """The difference in words, such as "half of the images made by the flow, 500 real ones"."""
    question: Question
    """The question that it answers on the page."""
    one: Levels
    other: Levels


class Study(Settings):
    """A grid of runs and the questions that it answers; `load_study` reads one from a Python file.

    Example:
        >>> study = Study(
        ...     name="seeds",
        ...     title="Do synthetic negatives help?",
        ...     recipe="demo",
        ...     factors={"negatives": {"none": Level(settings=("negatives=none",)), "all six": Level()}},
        ...     baseline={"negatives": "none"},
        ... )
        >>> [cell.levels["negatives"] for cell in study.cells(seeds=[0])]
        ['none', 'all six']
    """

    name: str
    """Short name of the study."""
    title: str
    """The question that it asks."""
    recipe: str
    """Recipe that every run begins with."""
    factors: dict[str, dict[str, Level]]
    """Levels of each factor by name, the factors in order of precedence: a later one's level overrides."""
    baseline: Levels
    """Level of each factor that a contrast has unless it names another."""
    contrasts: tuple[Contrast, ...] = ()
    """Primary contrasts, fixed before anything runs; every other difference is exploratory."""
    only: tuple[dict[str, tuple[str, ...]], ...] = ()
    """Patterns, such as {"images": ["real only"], "real images": ["500", "2000"]}; a cell that fits none of them is
    left out; empty leaves out none."""
    settings: tuple[str, ...] = ()
    """Settings of all runs, such as "training.steps=2000"."""
    generators: dict[str, dict[str, Any]] = {}
    """Settings of synthetic images by source, such as {"flow": {"options": {"steps": 500}}}."""
    generated: int = Field(default=10_000, gt=0)
    """Synthetic images of each set whose generator names no "work.count"."""
    variations: int = Field(default=4, gt=0)
    """Variations of each real image (replace)."""
    protocols: tuple[str, ...] = ("knn", "linear")
    """Scores; the first decides which contrasts are resolved."""
    evaluation: tuple[str, ...] = ()
    """Settings of the evaluation, such as "robustness.max_images=1000"."""
    seeds: int = Field(default=3, ge=1)
    """Seeds 0, 1, ..: weights, order, views, subset of real images and the generator's draws, all at once."""
    axis: str | None = None
    """Factor with numbers as levels that the headline figure is drawn against, such as "real images"."""
    versus: str | None = None
    """Factor whose levels are the curves of that figure."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for where, levels in (
            ("baseline", self.baseline),
            *(
                (f"contrast {contrast.name!r}", side)
                for contrast in self.contrasts
                for side in (contrast.one, contrast.other)
            ),
            *(("only", {factor: level}) for pattern in self.only for factor in pattern for level in pattern[factor]),
        ):
            self._check_levels(where, levels)
        if missing := [factor for factor in self.factors if factor not in self.baseline]:
            raise ValueError(f"baseline: names no level of {missing[0]}; name one")
        for name in (self.axis, self.versus):
            if name is not None and name not in self.factors:
                raise ValueError(f"{name}: is no factor of the study; it has {', '.join(self.factors)}")
        names = [contrast.name for contrast in self.contrasts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"contrasts: {twice!r} is named twice; give each a name of its own")
        combinations = {tuple(levels.values()) for levels in self.combinations()}
        if not combinations:
            raise ValueError("only: leaves out every cell; name levels that go together")
        for contrast in self.contrasts:
            if self.complete(contrast.one) == self.complete(contrast.other):
                raise ValueError(
                    f"contrast {contrast.name!r}: compares a cell with itself; name another level in `one`"
                )
            for side in (contrast.one, contrast.other):
                if tuple(self.complete(side).values()) not in combinations:
                    raise ValueError(f"contrast {contrast.name!r}: {text(self.complete(side))} is left out by `only`")
        return self

    def _check_levels(self, where: str, levels: Levels) -> None:
        for factor, level in levels.items():
            if factor not in self.factors:
                raise ValueError(f"{where}: there is no factor {factor!r}{_hint(factor, self.factors)}")
            if level not in self.factors[factor]:
                raise ValueError(f"{where}: {factor} has no level {level!r}{_hint(level, self.factors[factor])}")

    def complete(self, levels: Mapping[str, str]) -> Levels:
        """Return a level of every factor: those given, else the baseline's."""
        return {factor: levels.get(factor, self.baseline[factor]) for factor in self.factors}

    @property
    def is_alone(self) -> bool:
        """Whether the baseline trains on real images alone, so that its curve tells how many of them are enough."""
        return Cell(self, self.complete({}), 0).level.images == "real"

    def combinations(self) -> Iterator[Levels]:
        """Yield the levels of every cell that is not left out, in the order of the factors."""
        for names in product(*self.factors.values()):
            levels = dict(zip(self.factors, names, strict=True))
            fits = (all(levels[factor] in names for factor, names in pattern.items()) for pattern in self.only)
            if not self.only or any(fits):
                yield levels

    def cells(self, seeds: "list[int] | range | None" = None) -> list["Cell"]:
        """Return the cells in the order in which they run.

        The baseline and the primary contrasts come first, seed by seed, then the others, seed by seed; so a study that
        is cut short has whole comparisons.

        Args:
            seeds: seeds of the cells; None is 0 .. `seeds` - 1.
        """
        seeds = range(self.seeds) if seeds is None else seeds
        every = list(self.combinations())
        primary = [levels for levels in every if levels == self.baseline]
        for contrast in self.contrasts:
            primary += [self.complete(contrast.other), self.complete(contrast.one)]
        first = [levels for number, levels in enumerate(primary) if levels not in primary[:number]]
        later = [levels for levels in every if levels not in first]
        return [Cell(self, levels, seed) for part in (first, later) for seed in seeds for levels in part]


LONGEST_SLUG = 80
"""Bytes of the name of a cell's folder before its hash."""


class Cell(NamedTuple):
    """One run of a study: levels and a seed."""

    study: Study
    levels: Levels
    seed: int

    @property
    def level(self) -> Level:
        """What all levels together set; of a later factor what it sets, and the settings of all in order."""
        merged: dict[str, Any] = {"settings": ()}
        for factor, name in self.levels.items():
            level = self.study.factors[factor][name]
            settings = merged["settings"] + level.settings
            merged |= {key: value for key, value in level.model_dump().items() if value is not None}
            merged["settings"] = settings
        return Level(**{"images": "real", **merged})

    @property
    def level_names(self) -> list[str]:
        """Names of the levels, each with its factor where another factor has a level of that name."""
        factors = self.study.factors
        return [
            level if sum(level in levels for levels in factors.values()) == 1 else f"{factor} {level}"
            for factor, level in self.levels.items()
        ]

    @property
    def slug(self) -> str:
        """The levels and the seed as the name of a folder, without the hash; at most 80 bytes."""
        words, seed = "-".join(self.level_names).lower().replace(", ", " "), f"-s{self.seed}"
        signs = "".join(sign if sign.isalnum() or sign in ".-" else "-" for sign in words).encode()
        return signs[: LONGEST_SLUG - len(seed)].decode(errors="ignore") + seed

    @property
    def text(self) -> str:
        """The levels and the seed in words."""
        return f"{text(self.levels)}, seed {self.seed}"


def axis_numbers(study: Study) -> dict[str, float]:
    """Return the levels of the axis with their numbers, ascending; empty if one is no positive number."""
    try:
        numbers = {name: float(name.replace(",", "").replace("_", "")) for name in study.factors[study.axis or ""]}
    except (KeyError, ValueError):
        return {}
    return dict(sorted(numbers.items(), key=lambda item: item[1])) if min(numbers.values()) > 0 else {}


def _hint(name: str, known: Collection[str]) -> str:
    return nearest(name, known, separator="/") or f"; it is one of {first_names(known)}"  # dots part nothing: 0.5


def text(levels: Mapping[str, str]) -> str:
    """Return levels in words, such as "images half flow, real images 500"."""
    return ", ".join(f"{factor} {level}" for factor, level in levels.items())
