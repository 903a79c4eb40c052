"""METEOR 1.5 for English without Java, using the data files in the package pycocoevalcap.

- `score`: counts per image, and the score computed from them or from their sums;
- `data`, `paraphrases`, `phrase_hash`: word lists and the paraphrase table;
- `normalizer`, `stemmer`: tokens and stems;
- `matches`, `alignment`: candidate matches between words, and the matches chosen.
"""
