"""Text processing: tokenizers, including the COCO evaluation's, vocabulary and word vectors."""
