from captioner.evaluation.recipe import package_version, recipe_of, signature


def test_recipe_and_its_line():
    recipe = recipe_of(1000, (5, 5), {"BLEU": "corpus, closest"}, split="test", beam_size=3)
    assert recipe["n_references"] == 5
    assert signature(recipe) == (
        "split:test|beam_size:3|images:1000|refs:5|tokenizer:PTB-3.4.1+no-punctuation|case:lower|"
        f"BLEU:corpus+closest|version:{package_version()}"
    )


def test_references_that_vary_are_a_range():
    assert recipe_of(3, (1, 4), {})["n_references"] == "1-4"


def test_separators_in_values_do_not_part_the_line():
    assert signature({"results": "a|b, c.json"}) == "results:a/b+c.json"
