r"""The built-in toy data set: rendered scenes of one to three shapes, each with five references.

It lets a fresh clone train a model in two minutes without a download. On disk, it is an ordinary
COCO caption data set and is read like COCO.

A *scene* is a set of discrete attributes: the number of shapes, their *look* (size x colour x
shape), their position and the background. Scenes are divided among the splits before rendering, so
the splits share no scene and a model must generalise to new combinations. Pictures of one scene
vary in unnamed properties (exact position and size, tilt, shade, light, noise), but so little that
every caption stays true.

The grammar, in which `|` separates alternatives:

    look     -> [small|large] [colour] [shape]          bare -> [colour] [shape]
    synonym  -> [little|big] [colour] [shape]
    colour   -> red | green | blue | yellow | purple | orange
    shape    -> square | ring | cross | triangle
    ground   -> light | dark
    where    -> in the top left corner | at the top | in the top right corner
              | on the left | in the middle | on the right
              | in the bottom left corner | at the bottom | in the bottom right corner
    order    -> side by side | one above the other                       (two shapes)
              | in a row | in a column | in a triangle                   (three shapes)

    one shape, the first two always, three of the others:
      a LOOK WHERE
      there is a LOOK WHERE
      WHERE there is a LOOK
      a LOOK on a GROUND background
      the picture shows a SYNONYM WHERE
      we see one BARE WHERE
      a single BARE and nothing else

    two or three, the first two always, three of the others:
      N LOOKs ORDER
      there are N LOOKs ORDER
      N LOOKs on a GROUND background
      the picture shows N SYNONYMs ORDER
      we see a group of N BAREs ORDER
      N BAREs and nothing else

Each form always uses the same words for the same thing (`big` only after `the picture shows`). So a
caption in any form is close to some reference, and a score below 1 indicates a wrong attribute.
"""

import json
import math
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from captioner.datasets.records import SPLITS
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
SHAPES = ("square", "ring", "cross", "triangle")
# As fractions of the picture's side. Shapes of a group are smaller, so that they do not overlap.
RADII = {"small": 0.13, "large": 0.23}
GROUP_RADII = {"small": 0.1, "large": 0.145}
SYNONYMS = {"small": "little", "large": "big"}
GROUNDS: dict[str, Rgb] = {"light": (196, 200, 204), "dark": (52, 52, 58)}
NUMBERS = ("", "one", "two", "three")

PLACES: dict[str, tuple[Point, ...]] = {
    "in the top left corner": ((0.25, 0.25),),
    "at the top": ((0.5, 0.25),),
    "in the top right corner": ((0.75, 0.25),),
    "on the left": ((0.25, 0.5),),
    "in the middle": ((0.5, 0.5),),
    "on the right": ((0.75, 0.5),),
    "in the bottom left corner": ((0.25, 0.75),),
    "at the bottom": ((0.5, 0.75),),
    "in the bottom right corner": ((0.75, 0.75),),
    "side by side": ((0.3, 0.5), (0.7, 0.5)),
    "one above the other": ((0.5, 0.3), (0.5, 0.7)),
    "in a row": ((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)),
    "in a column": ((0.5, 0.2), (0.5, 0.5), (0.5, 0.8)),
    "in a triangle": ((0.5, 0.28), (0.28, 0.7), (0.72, 0.7)),
}
"""Centres of the shapes of a scene, as fractions of the picture's side."""

# Render this many times larger and average down, for smooth edges.
_SUPERSAMPLE = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """The attributes of one picture.

    Attributes:
        size: "small" or "large".
        colour: A key of `COLOURS`.
        shape: One of `SHAPES`.
        place: A key of `PLACES`, which also determines the number of shapes.
        ground: "light" or "dark".
    """

    size: Literal["small", "large"]
    colour: str
    shape: str
    place: str
    ground: str

    @property
    def count(self) -> int:
        """Number of shapes."""
        return len(PLACES[self.place])


def render(
    root: Path,
    *,
    train: int = 3_600,
    val: int = 300,
    test: int = 300,
    size: int = 64,
    seed: int = 0,
) -> None:
    """Render the data set to `root` atomically.

    The files are written to a sibling folder that is renamed at the end, so a killed run leaves no
    incomplete data set. Equal arguments give equal pixels and captions. A picture takes about
    1.2 ms and 9 kB.

    Args:
        root: The folder to create. It may exist if it is empty.
        train: Number of training pictures.
        val: Number of validation pictures.
        test: Number of test pictures.
        size: Side of a picture, in pixels.
        seed: Seed of the random numbers.

    Raises:
        UsageError: `root` is not empty, or a number is out of range.
        CaptionerError: The files could not be written.
    """
    if min(train, val, test) < 1:
        raise UsageError("shapes: each split needs at least one picture")
    if size < 32:
        raise UsageError(f"shapes: size {size} is too small; at least 32 pixels")
    rng = random.Random(seed)
    scenes = divide_scenes(rng)
    counts = {"train": train, "val": val, "test": test}
    pictures = {split: list(islice(cycle(scenes[split]), counts[split])) for split in SPLITS}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.exists() and any(root.iterdir()):
            raise UsageError(f"shapes: {root} is not empty; choose a new folder or empty this one")
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            draft.chmod(0o755)  # mkdtemp's folders are private
            _write(draft, pictures, size, rng, description=f"{size=} {seed=}")
            _put_in_place(draft, root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise CaptionerError(f"shapes: cannot write to {root}: {error.strerror}") from error


def is_finished(root: Path) -> bool:
    """Return whether `render` has completed in `root`."""
    return all(annotation_file(root, split).is_file() for split in SPLITS)


def annotation_file(root: Path, split: str) -> Path:
    """Return the COCO caption file of one split."""
    return root / "annotations" / f"captions_{split}.json"


def divide_scenes(rng: random.Random) -> dict[str, list[Scene]]:
    """Divide all 1,344 scenes at random: 70 % train, 15 % val and 15 % test."""
    attributes = product(RADII, COLOURS, SHAPES, PLACES, GROUNDS)
    scenes = [Scene(*values) for values in attributes]  # type: ignore[arg-type]
    rng.shuffle(scenes)
    held_out = len(scenes) * 15 // 100
    return {
        "train": scenes[2 * held_out :],
        "val": scenes[:held_out],
        "test": scenes[held_out : 2 * held_out],
    }


# -- words ---------------------------------------------------------------------------------------


def describe(scene: Scene, rng: random.Random) -> list[str]:
    """Return five true captions of a scene in random order, by the grammar above.

    Example:
        >>> scene = Scene("small", "red", "ring", "on the left", "dark")
        >>> sorted(describe(scene, random.Random(0)))[0]
        'A single red ring and nothing else.'
    """
    forms = _forms_of_one(scene) if scene.count == 1 else _forms_of_more(scene)
    captions = forms[:2] + rng.sample(forms[2:], 3)
    rng.shuffle(captions)
    return [caption[0].upper() + caption[1:] + "." for caption in captions]


def _forms_of_one(scene: Scene) -> list[str]:
    bare = f"{scene.colour} {scene.shape}"
    look, where = f"{scene.size} {bare}", scene.place
    return [
        f"a {look} {where}",
        f"there is a {look} {where}",
        f"{where} there is a {look}",
        f"a {look} on a {scene.ground} background",
        f"the picture shows a {SYNONYMS[scene.size]} {bare} {where}",
        f"we see one {bare} {where}",
        f"a single {bare} and nothing else",
    ]


def _forms_of_more(scene: Scene) -> list[str]:
    bare = f"{scene.colour} {scene.shape}{'es' if scene.shape.endswith('s') else 's'}"
    number, looks, order = NUMBERS[scene.count], f"{scene.size} {bare}", scene.place
    return [
        f"{number} {looks} {order}",
        f"there are {number} {looks} {order}",
        f"{number} {looks} on a {scene.ground} background",
        f"the picture shows {number} {SYNONYMS[scene.size]} {bare} {order}",
        f"we see a group of {number} {bare} {order}",
        f"{number} {bare} and nothing else",
    ]


# -- pixels --------------------------------------------------------------------------------------


def paint(scene: Scene, size: int, rng: random.Random) -> Image.Image:
    """Render a scene as an RGB picture of `size` x `size` pixels."""
    picture = _paint_ground(GROUNDS[scene.ground], size, rng)
    radii = RADII if scene.count == 1 else GROUP_RADII
    for x, y in _centres(scene, rng):
        radius = radii[scene.size] * rng.uniform(0.95, 1.05)
        tilt = rng.uniform(-8, 8)
        shade = rng.uniform(-14, 14)
        colour = tuple(_clip(channel + shade) for channel in COLOURS[scene.colour])
        mask = _mask(scene.shape, x, y, radius, tilt, size)
        shadow = Image.new("L", (size, size))
        shadow.paste(mask.point(lambda level: level * 2 // 5), (max(1, size // 64), size // 48))
        picture.paste((0, 0, 0), mask=shadow)
        picture.paste(colour, mask=mask)
    return _add_noise(picture, rng)


def _paint_ground(base: Rgb, size: int, rng: random.Random) -> Image.Image:
    """Render the background, with a warm light from the left and a cool light from above.

    Each patch then shows its position, as in photos with the sky above. So a network with average
    pooling can distinguish left from right early in training.
    """
    tint = np.array([c + rng.uniform(-8, 8) for c in base])
    fall = np.linspace(1, -1, size)
    warm = fall[None, :, None] * np.array([26, 4, -16]) * rng.uniform(0.8, 1.2)
    cool = fall[:, None, None] * np.array([-10, 14, 22]) * rng.uniform(0.8, 1.2)
    return Image.fromarray(np.clip(tint + warm + cool, 0, 255).astype(np.uint8))


def _centres(scene: Scene, rng: random.Random) -> Iterator[Point]:
    """Yield the centres of the shapes, with a common and an individual random offset."""
    x_all, y_all = rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02)
    for x, y in PLACES[scene.place]:
        yield x + x_all + rng.uniform(-0.015, 0.015), y + y_all + rng.uniform(-0.015, 0.015)


def _mask(shape: str, x: float, y: float, radius: float, tilt: float, size: int) -> Image.Image:
    """Return the coverage (0 to 255) of a shape with a centre, radius (fractions) and tilt (°)."""
    scale = size * _SUPERSAMPLE
    canvas = Image.new("L", (scale, scale))
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))

    outline = [
        ((x + radius * (u * cos - v * sin)) * scale, (y + radius * (u * sin + v * cos)) * scale)
        for u, v in _OUTLINES[shape]
    ]
    ImageDraw.Draw(canvas).polygon(outline, fill=255)
    return canvas.reduce(_SUPERSAMPLE)


def _polar(*corners: tuple[float, float]) -> list[Point]:
    """Convert corners (radius, degrees clockwise from the top) to points."""
    return [
        (r * math.sin(math.radians(angle)), -r * math.cos(math.radians(angle)))
        for r, angle in corners
    ]


# Outlines around the origin, y pointing down, of about equal visual weight.
_OUTLINES: dict[str, list[Point]] = {
    "square": _polar(*((1.2, angle) for angle in (45, 135, 225, 315))),
    # Around the outside, then back around the inside; the seam has no width.
    "ring": _polar(*((1.05, 6 * step) for step in range(61)))
    + _polar(*((0.55, -6 * step) for step in range(61))),
    "cross": [
        (0.3, -1.1),
        (0.3, -0.3),
        (1.1, -0.3),
        (1.1, 0.3),
        (0.3, 0.3),
        (0.3, 1.1),
        (-0.3, 1.1),
        (-0.3, 0.3),
        (-1.1, 0.3),
        (-1.1, -0.3),
        (-0.3, -0.3),
        (-0.3, -1.1),
    ],
    "triangle": [(u, v + 0.2) for u, v in _polar((1.3, 0), (1.3, 120), (1.3, 240))],
}


def _add_noise(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Add grey noise of a few levels, from random bytes that are equal on every platform."""
    pixels = np.asarray(picture).astype(np.int16)
    count = pixels.shape[0] * pixels.shape[1]
    dice = np.frombuffer(rng.randbytes(2 * count), dtype=np.uint8).reshape(2, *pixels.shape[:2], 1)
    noise = dice.astype(np.int16).sum(axis=0) // 52 - 4  # triangular, -4 to 5
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _clip(level: float) -> int:
    return max(0, min(255, round(level)))


# -- files ---------------------------------------------------------------------------------------


def _write(
    folder: Path, scenes: dict[str, list[Scene]], size: int, rng: random.Random, description: str
) -> None:
    """Write the pictures, and the COCO caption file of each split."""
    (folder / "annotations").mkdir()
    image_id = 0
    for split in SPLITS:
        (folder / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for scene in scenes[split]:
            image_id += 1
            name = f"{image_id:06}.png"
            paint(scene, size, rng).save(folder / split / name, compress_level=1)
            # Store the scene for tests and studies; readers of COCO ignore unknown keys.
            images.append(
                {
                    "id": image_id,
                    "file_name": name,
                    "width": size,
                    "height": size,
                    "scene": asdict(scene),
                }
            )
            annotations += (
                {"id": 10 * image_id + number, "image_id": image_id, "caption": caption}
                for number, caption in enumerate(describe(scene, rng))
            )
        info = {"description": f"captioner shapes, {split}: {description}"}
        file = {"info": info, "images": images, "annotations": annotations}
        annotation_file(folder, split).write_text(json.dumps(file, indent=1), encoding="utf-8")


def _put_in_place(draft: Path, root: Path) -> None:
    """Rename the completed folder to its final name, unless another process did so first."""
    try:
        if root.exists():
            root.rmdir()  # it is empty; some platforms cannot rename onto an existing folder
        draft.rename(root)
    except OSError:
        if not is_finished(root):
            raise
