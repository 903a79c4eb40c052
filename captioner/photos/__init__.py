"""From names and bytes to pixels: find photos, decode them safely, resize them for the encoder."""
