"""BLEU, ROUGE-L, CIDEr-D and METEOR as functions of strings; they know no network and no files."""
