"""Data sets by name: which split the field trains and tests on, which metric it reports, and what the license says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from syn2co.core.errors import DataError
from syn2co.core.hints import first_names, nearest
from syn2co.core.paths import is_folder, user_path
from syn2co.data.named_source import open_source
from syn2co.images.image_set import ImageSet
from syn2co.images.index_cache import default_cache_dir
from syn2co.images.source import Source
from syn2co.images.sources.torchvision import data_root, download_folder

Metric = Literal["top-1", "mean per class"]


@dataclass(frozen=True)
class NamedDataSet:
    """One data set as the field scores it: two sources for `open_images`, a metric, and what to cite.

    Attributes: `folder`, which torchvision expects below the data root, or the path of a folder with train/ and test/;
    `train_size` and `test_size` in images; `source`, the paper; `notes`, for the reader of a table.
    """

    name: str
    train: str
    test: str
    metric: Metric
    classes: int
    train_size: int
    test_size: int
    folder: str
    source: str
    license: str
    notes: tuple[str, ...] = ()

    def at(self, root: Path) -> "NamedDataSet":
        """Return the data set with sources below `place`, which are read and never downloaded."""
        train, test = (spec.replace(":", f":{root.absolute()}/", 1) for spec in (self.train, self.test))
        return replace(self, train=train, test=test)


# Splits, sizes and metrics are those of Kornblith et al., arXiv:1805.08974, Table 1; STL-10's are its authors' own.
# fmt: off
_TORCHVISION = (
    NamedDataSet(
        name="cifar10", train="torchvision:CIFAR10:train", test="torchvision:CIFAR10:test", metric="top-1",
        classes=10, train_size=50_000, test_size=10_000, folder="cifar-10-batches-py", license="none stated",
        source="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    ),
    NamedDataSet(
        name="cifar100", train="torchvision:CIFAR100:train", test="torchvision:CIFAR100:test", metric="top-1",
        classes=100, train_size=50_000, test_size=10_000, folder="cifar-100-python", license="none stated",
        source="Krizhevsky, Learning multiple layers of features from tiny images, 2009", notes=("fine labels",),
    ),
    NamedDataSet(
        name="stl10", train="torchvision:STL10:train", test="torchvision:STL10:test", metric="top-1",
        classes=10, train_size=5_000, test_size=8_000, folder="stl10_binary",
        license="none stated; the images come from ImageNet, which is for non-commercial research",
        source="Coates, Ng, Lee, An analysis of single-layer networks in unsupervised feature learning, AISTATS 2011",
        notes=("all 5,000 training images at once, not the ten folds of 1,000 of the authors' protocol",),
    ),
    NamedDataSet(
        name="flowers102", train="torchvision:Flowers102:train+val", test="torchvision:Flowers102:test",
        metric="mean per class", classes=102, train_size=2_040, test_size=6_149, folder="flowers-102",
        license="none stated",
        source="Nilsback, Zisserman, Automated flower classification over a large number of classes, ICVGIP 2008",
    ),
    NamedDataSet(
        name="pets", train="torchvision:OxfordIIITPet:trainval", test="torchvision:OxfordIIITPet:test",
        metric="mean per class", classes=37, train_size=3_680, test_size=3_669, folder="oxford-iiit-pet",
        license="CC BY-SA 4.0; the images belong to their owners",
        source="Parkhi, Vedaldi, Zisserman, Jawahar, Cats and dogs, CVPR 2012",
    ),
    NamedDataSet(
        name="food101", train="torchvision:Food101:train", test="torchvision:Food101:test", metric="top-1",
        classes=101, train_size=75_750, test_size=25_250, folder="food-101",
        license="scientific fair use only; the images come from Foodspotting and belong to their owners",
        source="Bossard, Guillaumin, Van Gool, Food-101: mining discriminative components, ECCV 2014",
    ),
    NamedDataSet(
        name="dtd", train="torchvision:DTD:train+val", test="torchvision:DTD:test", metric="top-1",
        classes=47, train_size=3_760, test_size=1_880, folder="dtd", license="for research",
        source="Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi, Describing textures in the wild, CVPR 2014",
        notes=("partition 1 of 10",),
    ),
)
# fmt: on
DATA_SETS = {data_set.name: data_set for data_set in _TORCHVISION}


def named(name: str) -> NamedDataSet:
    """Return the data set of this name, with sources that torchvision downloads where it does not find them.

    Args:
        name: a key of `DATA_SETS`.

    Returns:
        Its sources, metric, sizes, paper and license.

    Raises:
        DataError: if there is none of this name.

    Example:
        >>> flowers = named("flowers102")
        >>> flowers.train, flowers.test, flowers.metric
        ('torchvision:Flowers102:train+val', 'torchvision:Flowers102:test', 'mean per class')
    """
    if name not in DATA_SETS:
        known = ", ".join(DATA_SETS)
        hint = nearest(name, DATA_SETS) or "; choose among these, or give a folder with train/ and test/"
        raise DataError(f"{name}: there is no data set of this name, known are {known}{hint}")
    return DATA_SETS[name]


class Available(NamedTuple):
    """Data sets of a list: those on this machine, with sources that are never downloaded, and the missing ones."""

    have: tuple[NamedDataSet, ...]
    missing: tuple[NamedDataSet, ...]

    @property
    def note(self) -> str:
        """Return one sentence on the missing data sets and how to get them; empty if none is missing."""
        if not self.missing:
            return ""
        names = ", ".join(data_set.name for data_set in self.missing)
        folders = ", ".join(data_set.folder for data_set in self.missing)
        return (
            f"not on this machine and not scored: {names}; put torchvision's folders ({folders}) into $SYN2CO_DATA, or "
            "ask for a download"
        )


def available(
    names: Sequence[str],
    root: str | Path | None = None,
    *,
    download: bool = False,
    cache_dir: str | Path | None = None,
) -> Available:
    """Return which data sets of a list lie on this machine; nothing is downloaded here, nor by the sources returned.

    A data set is there if its folder of torchvision's layout lies in `root` or among torchvision's earlier downloads;
    whether the folder is whole shows when it is opened.

    Args:
        names: keys of `DATA_SETS`, and paths of folders with train/ and test/ or val/.
        root: folder with the data sets as torchvision lays them out; None is $SYN2CO_DATA.
        download: count missing data sets as there, with sources that torchvision downloads when they are opened.
        cache_dir: folder whose torchvision/ holds earlier downloads; None is $SYN2CO_CACHE or the user's cache folder.

    Returns:
        The data sets that are there and those that are not, both in the order of `names`.

    Raises:
        DataError: if a name is unknown or given twice, or if `root` or $SYN2CO_DATA is no folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as empty:
        ...     found = available(["pets", "dtd"], empty, cache_dir=empty)
        >>> len(found.have), [data_set.name for data_set in found.missing]
        (0, ['pets', 'dtd'])
    """
    places = _places(root, user_path(cache_dir) if cache_dir is not None else default_cache_dir())
    have: list[NamedDataSet] = []
    missing: list[NamedDataSet] = []
    for name in names:
        if name not in DATA_SETS and is_folder(user_path(name)):
            data_set, is_there = folder_data_set(name, cache_dir=cache_dir), True
        else:
            data_set = named(name)
            lies_in = next((folder for folder in places if is_folder(folder / data_set.folder)), None)
            data_set, is_there = data_set if lies_in is None else data_set.at(lies_in), lies_in is not None
        if any(data_set.name == other.name for other in (*have, *missing)):
            raise DataError(f"{name}: two data sets of the list have the name {data_set.name}; name each one once.")
        (have if is_there or download else missing).append(data_set)
    return Available(tuple(have), tuple(missing))


def _places(root: str | Path | None, cache_dir: Path) -> list[Path]:
    """Return the folders in which data sets may lie, in order."""
    chosen = data_root() if root is None else user_path(root)
    if chosen is not None and not is_folder(chosen):
        raise DataError(f"{root}: there is no such folder of data sets; correct the path.")
    return [folder for folder in (chosen, download_folder(cache_dir)) if folder is not None]


def folder_data_set(path: str | Path, *, cache_dir: str | Path | None = None) -> NamedDataSet:
    """Return a folder with train/ and test/, or train/ and val/, as a data set; the metric is top-1.

    Args:
        path: the folder; train/ and test/ hold one subfolder of images a class.
        cache_dir: folder for indexes; None is $SYN2CO_CACHE or the user's cache folder.

    Returns:
        Its sources and sizes; a note says that val/ is not used beside test/.

    Raises:
        DataError: if a side is missing, has no image or no classes, or if a class of the test side is not in train/.

    Example:
        >>> import tempfile, cv2, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part in ("train/cat", "train/dog", "val/cat", "val/dog"):
        ...         (Path(folder) / "pair" / part).mkdir(parents=True)
        ...         _ = cv2.imwrite(f"{folder}/pair/{part}/1.png", np.zeros((8, 8, 3), np.uint8))
        ...     pair = folder_data_set(f"{folder}/pair")
        >>> pair.name, pair.metric, pair.classes, pair.train_size, Path(pair.test).name
        ('pair', 'top-1', 2, 2, 'val')
    """
    root = user_path(path)
    tested = next((side for side in ("test", "val") if is_folder(root / side)), None)
    if not is_folder(root / "train") or tested is None:
        raise DataError(f"{path}: a folder as data set must have train/ and test/ or val/ in it; give it these.")
    cache = user_path(cache_dir) if cache_dir is not None else default_cache_dir()
    train, test = (_side(root / side, cache) for side in ("train", tested))
    _refuse_unknown(root / tested, train.classes, test.classes)
    unused = tested == "test" and (root / "val").is_dir()
    return NamedDataSet(
        name=root.resolve().name,
        train=str(root / "train"),
        test=str(root / tested),
        metric="top-1",
        classes=len(train.classes),
        train_size=len(train),
        test_size=len(test),
        folder=str(root),
        source="a folder of the user's",
        license="the user's",
        notes=("test/ is scored; val/ is not used",) if unused else (),
    )


def _side(folder: Path, cache_dir: Path) -> Source:
    """Return one side of a folder, with classes."""
    side = open_source(folder, cache_dir=cache_dir)
    if not side.classes:
        raise DataError(f"{folder}: no image lies in a class folder; give it one subfolder a class, such as cat/1.jpg.")
    return side


def _refuse_unknown(test: Path, trained: Sequence[str], tested: Sequence[str]) -> None:
    """Refuse test images of classes without training images; classes without test images are noted with the scores."""
    unknown = [name for name in tested if name not in trained]
    if unknown:
        raise DataError(
            f"{test}: {len(unknown)} of {len(tested)} classes have no training images ({first_names(unknown)}; train/ "
            f"has {first_names(trained)}); name the class folders of both sides alike."
        )


def size_notes(data_set: NamedDataSet, train: ImageSet, test: ImageSet) -> tuple[str, ...]:
    """Return one note per side whose images are more or fewer than the field's: its scores compare with no table.

    Args:
        data_set: the data set as it is published.
        train: its training images as opened.
        test: its test images as opened.

    Returns:
        Such as "pets: 3,600 of 3,669 test images"; nothing if both sides are whole.

    Example:
        >>> from syn2co.data.open import open_images
        >>> digits = open_images("builtin:digits:test")
        >>> size_notes(named("pets"), digits, digits)
        ('pets: 355 of 3,680 training images', 'pets: 355 of 3,669 test images')
    """
    sides = (("training", len(train), data_set.train_size), ("test", len(test), data_set.test_size))
    return tuple(
        f"{data_set.name}: {count:,} of {size:,} {side} images" for side, count, size in sides if count != size
    )
