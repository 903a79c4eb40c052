import json

import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.coco_objects import ANIMALS, OBJECTS
from captioner.evaluation.objects import mentions, plural, read_instances, score_objects


@pytest.mark.parametrize(
    ("caption", "categories"),
    [
        ("a man rides a horse", {"person", "horse"}),
        ("women and children on benches near buses", {"person", "bench", "bus"}),
        ("two puppies share a hot dog", {"dog", "hot dog"}),
        ("a baby elephant beside its mother", {"elephant", "person"}),
        ("baby elephants and mother bears", {"elephant", "bear"}),
        ("a teddy bear on a bed", {"teddy bear", "bed"}),
        ("people wait at the train station", {"person"}),
        ("a red double-decker bus", {"bus"}),
        ("a dirt bike and a bike", {"motorcycle", "bicycle"}),
        ("two glasses of wine and knives on a table", {"wine glass", "knife", "dining table"}),
        ("geese and mice and oxen", {"bird", "mouse", "cow"}),
        ("an orange cat with glasses", {"cat"}),
        ("three oranges", {"orange"}),
        ("a catcher 's mitt", {"baseball glove"}),
        ("a skier on a ski slope with his skis", {"person", "skis"}),
        ("a cat in a car park", {"cat"}),
        ("green grass under a blue sky", set()),
        ("", set()),
    ],
)
def test_mentions(caption, categories) -> None:
    assert mentions(caption.split()) == categories


def test_all_eighty_categories_mention_themselves() -> None:
    assert len(OBJECTS) == 80
    assert set(ANIMALS) < set(OBJECTS)
    for category in OBJECTS:
        # "orange" alone is mostly a colour
        words = "oranges" if category == "orange" else category
        assert category in mentions(words.split()), category


def test_no_word_mentions_two_categories() -> None:
    seen: dict[str, str] = {}
    for category, words in OBJECTS.items():
        for phrase in map(str.strip, words.replace("\n", " ").split(",")):
            assert seen.setdefault(phrase, category) == category
            assert phrase


def test_plurals() -> None:
    assert [plural(noun) for noun in ("dog", "bus", "box", "pony", "toy", "woman", "couch")] == [
        "dogs",
        "buses",
        "boxes",
        "ponies",
        "toys",
        "women",
        "couches",
    ]


def test_scores_by_hand() -> None:
    found = score_objects(
        {1: "a man with a dog", 2: "a cat on a bed", 3: "grass"},
        {1: ["a man walks", "a man in a hat"], 2: ["a kitten sleeps"], 3: ["a field"]},
        {1: frozenset({"person", "dog", "car"}), 2: frozenset({"couch"}), 3: frozenset()},
    )
    # Mentioned: person, dog | cat, bed | nothing. The cat is not annotated but in a reference.
    assert (found.n_images, found.n_annotated, found.n_mentioned) == (3, 4, 4)
    assert found.recall == 2 / 4
    assert found.recall_of_references == 2 / 7  # person twice, of 3 + 3 + 1 + 0
    assert found.precision == 3 / 4
    assert found.chair_i == 1 / 4
    assert found.chair_s == 1 / 3


def test_nothing_to_share() -> None:
    found = score_objects({1: "grass"}, {1: ["a field"]}, {1: frozenset()})
    assert found.recall is found.precision is found.chair_i is None
    assert found.chair_s == 0


def test_images_that_are_not_annotated() -> None:
    with pytest.raises(
        CaptionerError, match=r"1 of 2 captioned images are missing from .* image 9"
    ):
        score_objects({1: "a", 9: "b"}, {1: ["a"], 9: ["b"]}, {1: frozenset()})


def instances(**changes: object) -> dict[str, object]:
    return {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 18},
            {"id": 2, "image_id": 1, "category_id": 18, "iscrowd": 1},
            {"id": 3, "image_id": 1, "category_id": 1},
        ],
    } | changes


def test_instance_files(tmp_path) -> None:
    file = tmp_path / "i.json"
    file.write_text(json.dumps(instances()))
    assert read_instances(file) == {1: frozenset({"dog", "person"}), 2: frozenset()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'must be an object with a list "annotations"'),
        (instances(categories={}), 'must be an object with a list "categories"'),
        (
            instances(annotations=[{"image_id": 1, "caption": "a"}]),
            'no annotation has a "category_id": not a COCO instance file',
        ),
        (
            instances(categories=[{"id": 1, "name": "unicorn"}]),
            "none of its categories ('unicorn', …) is a COCO category",
        ),
        (
            instances(images=[{"id": 2}]),
            'image 1 is not in the list "images"',
        ),
        (
            instances(categories=[{"id": [1], "name": "dog"}]),
            'expected a category with an integer "id" and a "name", '
            "not {'id': [1], 'name': 'dog'}",
        ),
        (
            instances(categories=[{"id": 1, "name": {}}]),
            "expected a category with an integer \"id\" and a \"name\", not {'id': 1, 'name': {}}",
        ),
        (
            instances(annotations=[{"image_id": 1, "category_id": []}]),
            'category [] is not in the list "categories"',
        ),
        (
            instances(annotations=[{"image_id": 1, "category_id": 99}]),
            'category 99 is not in the list "categories"',
        ),
        (instances(images=[{}]), 'expected an object with "id", not {}'),
    ],
)
def test_bad_instance_files(content, message, tmp_path) -> None:
    file = tmp_path / "i.json"
    file.write_text(json.dumps(content))
    with pytest.raises(CaptionerError) as raised:
        read_instances(file)
    assert str(raised.value) == f"{file}: {message}"
    with pytest.raises(UsageError):
        read_instances(tmp_path / "none.json")
