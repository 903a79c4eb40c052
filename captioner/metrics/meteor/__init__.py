"""METEOR 1.5 for English without Java, with the data that the package pycocoevalcap ships.

- `score`: counts of each image, and the score that follows from them or from their sums;
- `data`, `paraphrases`, `phrase_hash`: what METEOR knows of English;
- `normalizer`, `stemmer`: its tokens and stems;
- `matches`, `alignment`: which words may be matched, and which are.
"""
