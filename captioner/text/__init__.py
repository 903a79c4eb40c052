"""Text processing: from captions to word ids and back.

`tokenizer` is the one of the COCO evaluation, built on `lexer` and `treebank`; `word_tokenizers`
adds those of other languages. `vocabulary` maps words to ids, and `word_vectors` reads pretrained
embeddings.
"""
