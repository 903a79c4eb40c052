"""Pretrained networks as encoders, one module per library.

`torchvision`, `timm` and `efficientnet_lite` each build a network by name, `cut` removes the
classifier of any of them, and `weights` finds and checks their files. A further library is one more
module here and one more case in `captioner.model.encoder`.
"""
