"""What a trained network has learned: gradients through time, and word embeddings.

These modules look at a network and draw or list what they find. They never train and never score.
"""
