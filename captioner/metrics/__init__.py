"""BLEU, ROUGE-L, CIDEr-D and METEOR as functions of tokens, independent of models and data sets.

Each metric first counts per image (`ngrams`), and its score follows from the counts or their sums;
so processes can add them up and a bootstrap can resample them. `java` runs the official METEOR, for
comparison only.
"""
