"""Words: the tokenizer of the COCO evaluation, the vocabulary, and pretrained word vectors."""
