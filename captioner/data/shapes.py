r"""The built-in data set: rendered scenes of one or two shapes, each with five references.

It exists so that a freshly cloned project has something to learn in two minutes, without a
download; on disk it is an ordinary COCO caption data set and takes the same road as COCO does.

A *scene* is a set of discrete attributes: one or two *looks* (size x colour x shape) and where they
stand: one shape in a cell of a 3x3 grid, or two shapes beside or above one another. No scene occurs
twice, so the training, validation and test splits share none, and a model must put together what
it saw apart. What varies without a name (exact place and size, tilt, shade, background tint, noise)
is jitter, small enough that every caption stays true.

The grammar, in which ``|`` separates alternatives and brackets hold what depends on the scene::

    look     -> [small|large] [colour] [shape]          bare -> [colour] [shape]
    synonym  -> [little|big] [colour] [shape]           only -> [colour] [shape], or [shape] ...
    colour   -> red | green | blue | yellow | purple | orange
    shape    -> circle | square | triangle | star | heart | ring
    ground   -> light | dark
    where    -> in the top left corner | at the top | in the top right corner
              | on the left | in the middle | on the right
              | in the bottom left corner | at the bottom | in the bottom right corner

    one shape, the first two always, three of the others:
      a LOOK WHERE
      there is a LOOK WHERE
      WHERE there is a LOOK
      a LOOK on a GROUND background
      the picture shows a SYNONYM WHERE
      we see one BARE WHERE
      a single BARE and nothing else

    two shapes, A left of B (or A above B), the first two always, three of the others:
      a LOOK(A) to the left of a LOOK(B)           | a LOOK(A) above a LOOK(B)
      a LOOK(B) to the right of a LOOK(A)          | a LOOK(B) below a LOOK(A)
      there is a LOOK(A) on the left and a LOOK(B) on the right
                                                   | ... at the top and a LOOK(B) at the bottom
      a LOOK(A) and a LOOK(B) on a GROUND background
      the picture shows a SYNONYM(A) next to a SYNONYM(B)   | ... over a SYNONYM(B)
      we see a BARE(B) with a BARE(A) on its left  | ... under a BARE(A)
      two shapes, a BARE(A) and a BARE(B)

Each form always uses the same words for the same thing (``big`` only after ``the picture shows``),
as one person keeps to one manner of speaking; a caption in any of the forms is therefore close to
some reference, and what a score below 1 shows is an attribute seen wrongly.
"""

import json
import math
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from captioner.errors import CaptionerError, UsageError

Point = tuple[float, float]
Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (38, 98, 214),
    "yellow": (246, 211, 45),
    "purple": (136, 62, 180),
    "orange": (243, 134, 32),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
RADII = {"small": 0.105, "large": 0.185}  # as fractions of the picture's side
SYNONYMS = {"small": "little", "large": "big"}
GROUNDS: dict[str, Rgb] = {"light": (238, 236, 229), "dark": (48, 53, 66)}

ARRANGEMENTS = ("beside", "above")
CELLS: dict[str, Point] = {
    "in the top left corner": (0.25, 0.25),
    "at the top": (0.5, 0.25),
    "in the top right corner": (0.75, 0.25),
    "on the left": (0.25, 0.5),
    "in the middle": (0.5, 0.5),
    "on the right": (0.75, 0.5),
    "in the bottom left corner": (0.25, 0.75),
    "at the bottom": (0.5, 0.75),
    "in the bottom right corner": (0.75, 0.75),
}

# Drawn this many times larger and averaged down: smooth edges.
_SUPERSAMPLE = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What one shape looks like."""

    size: Literal["small", "large"]
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in one picture, and where.

    Attributes:
        looks: One look, or two different ones: the first is left of, or above, the second.
        place: For one look a key of ``CELLS``, for two one of ``ARRANGEMENTS``.
    """

    looks: tuple[Look, ...]
    place: str


def render(
    root: Path,
    *,
    images: int = 3_800,
    val: int = 400,
    test: int = 400,
    size: int = 64,
    seed: int = 0,
) -> None:
    """Write the whole data set under ``root``, all of it or nothing.

    It is written into a sibling folder that is renamed at the end, so a killed run leaves nothing
    that looks finished. The same arguments give the same pixels and captions. About 0.7 ms and
    8 kB a picture.

    Args:
        root: The folder to make; it may exist if it is empty.
        images: Pictures in all three splits together.
        val: How many of them validate.
        test: How many of them test.
        size: Side of a picture in pixels.
        seed: Seed of everything drawn at random.

    Raises:
        UsageError: ``root`` holds something else, or the numbers cannot be met.
        CaptionerError: The files could not be written.
    """
    train = images - val - test
    if min(train, val, test) < 0:
        raise UsageError(f"shapes: {images} images cannot hold {val} for val and {test} for test")
    if size < 32:
        raise UsageError(f"shapes: pictures of {size} pixels are too small to see: 32 or more")
    rng = random.Random(seed)
    scenes = draw_scenes(images, rng)
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.exists() and any(root.iterdir()):
            raise UsageError(f"shapes: {root} is not empty: name a new folder, or empty this one")
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            draft.chmod(0o755)  # mkdtemp's folders are private
            _write(draft, scenes, splits, size, rng, description=f"{images=} {size=} {seed=}")
            _put_in_place(draft, root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise CaptionerError(f"shapes: cannot write to {root}: {error.strerror}") from error


def is_finished(root: Path) -> bool:
    """Whether ``render`` ran to its end in ``root``."""
    return all(annotation_file(root, split).is_file() for split in ("train", "val", "test"))


def annotation_file(root: Path, split: str) -> Path:
    """The COCO caption file of one split."""
    return root / "annotations" / f"captions_{split}.json"


def draw_scenes(count: int, rng: random.Random) -> list[Scene]:
    """Draw ``count`` different scenes, in random order; about one in six has a single shape.

    Raises:
        UsageError: There are not that many scenes.
    """
    looks = [Look(*look) for look in product(RADII, COLOURS, SHAPES)]  # type: ignore[arg-type]
    singles = [Scene((look,), cell) for look, cell in product(looks, CELLS)]
    pairs = [Scene(pair, place) for pair, place in product(permutations(looks, 2), ARRANGEMENTS)]
    if count > len(singles) + len(pairs):
        raise UsageError(
            f"shapes: {count} images asked for, and there are {len(singles) + len(pairs)} scenes"
        )
    alone = max(min(count // 6, len(singles)), count - len(pairs))
    scenes = rng.sample(singles, alone) + rng.sample(pairs, count - alone)
    rng.shuffle(scenes)
    return scenes


# -- words ---------------------------------------------------------------------------------------


def describe(scene: Scene, ground: str, rng: random.Random) -> list[str]:
    """Five true captions of a scene, in random order (the grammar is in the module docstring)."""
    forms = _forms_of_one(scene, ground) if len(scene.looks) == 1 else _forms_of_two(scene, ground)
    captions = forms[:2] + rng.sample(forms[2:], 3)
    rng.shuffle(captions)
    return [caption[0].upper() + caption[1:] + "." for caption in captions]


def _forms_of_one(scene: Scene, ground: str) -> list[str]:
    (look,) = scene.looks
    where = scene.place
    bare = f"{look.colour} {look.shape}"
    return [
        f"a {look} {where}",
        f"there is a {look} {where}",
        f"{where} there is a {look}",
        f"a {look} on a {ground} background",
        f"the picture shows a {SYNONYMS[look.size]} {bare} {where}",
        f"we see one {bare} {where}",
        f"a single {bare} and nothing else",
    ]


def _forms_of_two(scene: Scene, ground: str) -> list[str]:
    a, b = scene.looks
    beside = scene.place == "beside"
    bare_a, bare_b = (f"{look.colour} {look.shape}" for look in scene.looks)
    some_a, some_b = (_with_article(bare) for bare in (bare_a, bare_b))
    synonym_a, synonym_b = f"{SYNONYMS[a.size]} {bare_a}", f"{SYNONYMS[b.size]} {bare_b}"
    here, there = ("on the left", "on the right") if beside else ("at the top", "at the bottom")
    return [
        f"a {a} {'to the left of' if beside else 'above'} a {b}",
        f"a {b} {'to the right of' if beside else 'below'} a {a}",
        f"there is a {a} {here} and a {b} {there}",
        f"a {a} and a {b} on a {ground} background",
        f"the picture shows a {synonym_a} {'next to' if beside else 'over'} a {synonym_b}",
        f"we see {some_b} with {some_a} on its left"
        if beside
        else f"we see {some_b} under {some_a}",
        f"two shapes, {some_a} and {some_b}",
    ]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# -- pixels --------------------------------------------------------------------------------------


def paint(scene: Scene, ground: str, size: int, rng: random.Random) -> Image.Image:
    """Paint a scene: an RGB picture of ``size`` x ``size`` pixels."""
    picture = _paint_ground(GROUNDS[ground], size, rng)
    shadow = 0.16 if ground == "light" else 0.4
    for look, (x, y) in zip(scene.looks, _centres(scene, rng), strict=True):
        radius = RADII[look.size] * rng.uniform(0.94, 1.06)
        mask = _mask(look.shape, x, y, radius, rng.uniform(-14, 14), size)
        shade = rng.uniform(-14, 14)
        colour = tuple(_clip(channel + shade) for channel in COLOURS[look.colour])
        below = Image.new("L", (size, size))
        below.paste(mask.point(lambda a: int(a * shadow)), (max(1, size // 64), max(1, size // 48)))
        picture.paste((0, 0, 0), mask=below)
        picture.paste(colour, mask=mask)
    return _add_noise(picture, rng)


def _paint_ground(base: Rgb, size: int, rng: random.Random) -> Image.Image:
    """A vertical gradient between two near tints of ``base``."""
    top, bottom = ([_clip(c + rng.uniform(-12, 12)) for c in base] for _ in range(2))
    weight = np.linspace(0, 1, size)[:, None]
    column = (1 - weight) * np.array(top) + weight * np.array(bottom)
    return Image.fromarray(np.repeat(column[:, None, :], size, axis=1).astype(np.uint8))


def _centres(scene: Scene, rng: random.Random) -> Iterator[Point]:
    """Centres of the shapes, jittered, as fractions of the picture's side."""
    if len(scene.looks) == 1:
        x, y = CELLS[scene.place]
        yield x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03)
        return
    across = 0.5 + rng.uniform(-0.1, 0.1)
    for along in (0.26, 0.74):
        near = along + rng.uniform(-0.04, 0.04), across + rng.uniform(-0.04, 0.04)
        yield near if scene.place == "beside" else (near[1], near[0])


def _mask(shape: str, x: float, y: float, radius: float, tilt: float, size: int) -> Image.Image:
    """Coverage (0 to 255) of a shape with a centre, radius (fractions) and tilt (degrees)."""
    scale = size * _SUPERSAMPLE
    canvas = Image.new("L", (scale, scale))
    draw = ImageDraw.Draw(canvas)
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))

    def placed(outline: list[Point], grow: float = 1.0) -> list[Point]:
        r = radius * grow
        return [
            ((x + r * (u * cos - v * sin)) * scale, (y + r * (u * sin + v * cos)) * scale)
            for u, v in outline
        ]

    draw.polygon(placed(_OUTLINES[shape]), fill=255)
    if shape == "ring":
        draw.polygon(placed(_OUTLINES["circle"], grow=0.55), fill=0)
    return canvas.reduce(_SUPERSAMPLE)


def _polar(*corners: tuple[float, float]) -> list[Point]:
    """Points from (radius, degrees clockwise from straight up)."""
    return [
        (r * math.sin(math.radians(angle)), -r * math.cos(math.radians(angle)))
        for r, angle in corners
    ]


def _heart() -> list[Point]:
    angles = [2 * math.pi * step / 60 for step in range(60)]
    return [
        (
            math.sin(t) ** 3 * 1.02,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15
            - 0.12,
        )
        for t in angles
    ]


_CIRCLE = _polar(*((0.97, 6 * step) for step in range(60)))
# Outlines around the origin, y downwards, of about equal weight to the eye.
_OUTLINES: dict[str, list[Point]] = {
    "circle": _CIRCLE,
    "ring": _CIRCLE,
    "square": _polar(*((1.18, angle) for angle in (45, 135, 225, 315))),
    "triangle": [(u, v + 0.2) for u, v in _polar((1.22, 0), (1.22, 120), (1.22, 240))],
    "star": _polar(*((1.2 if step % 2 == 0 else 0.5, 36 * step) for step in range(10))),
    "heart": _heart(),
}


def _add_noise(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Add grey sensor noise of a few levels, from bytes that are the same on every platform."""
    pixels = np.asarray(picture).astype(np.int16)
    count = pixels.shape[0] * pixels.shape[1]
    dice = np.frombuffer(rng.randbytes(2 * count), dtype=np.uint8).reshape(2, *pixels.shape[:2], 1)
    noise = dice.astype(np.int16).sum(axis=0) // 52 - 4  # triangular, -4 to 5
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _clip(level: float) -> int:
    return max(0, min(255, round(level)))


# -- files ---------------------------------------------------------------------------------------


def _write(
    folder: Path,
    scenes: list[Scene],
    splits: list[str],
    size: int,
    rng: random.Random,
    description: str,
) -> None:
    """Write the pictures, and the COCO caption file of each split."""
    files: dict[str, dict[str, Any]] = {}
    for split in ("train", "val", "test"):
        (folder / split).mkdir()
        info = {"description": f"captioner shapes, {split}: {description}"}
        files[split] = {"info": info, "images": [], "annotations": []}
    for image_id, (scene, split) in enumerate(zip(scenes, splits, strict=True), start=1):
        ground = rng.choice(sorted(GROUNDS))
        name = f"{image_id:06}.png"
        paint(scene, ground, size, rng).save(folder / split / name, compress_level=1)
        files[split]["images"].append(
            # The scene goes along for tests and studies; COCO's readers ignore unknown keys.
            {
                "id": image_id,
                "file_name": name,
                "width": size,
                "height": size,
                "scene": asdict(scene) | {"ground": ground},
            }
        )
        for number, caption in enumerate(describe(scene, ground, rng)):
            files[split]["annotations"].append(
                {"id": image_id * 10 + number, "image_id": image_id, "caption": caption}
            )
    (folder / "annotations").mkdir()
    for split, content in files.items():
        annotation_file(folder, split).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _put_in_place(draft: Path, root: Path) -> None:
    """Give a finished draft its name, unless another process was faster."""
    if root.exists():
        root.rmdir()  # known to be empty; not every platform renames onto an empty folder
    try:
        draft.rename(root)
    except OSError:
        if not is_finished(root):
            raise
