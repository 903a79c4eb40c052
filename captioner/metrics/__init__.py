"""BLEU, ROUGE-L, CIDEr-D and METEOR as functions of tokens, independent of models and data sets."""
