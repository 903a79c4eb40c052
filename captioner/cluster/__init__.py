"""Captions, features and studies on a Ray cluster; nothing else in the package imports Ray.

    import ray
    from captioner.cluster import captions

    photos = ray.data.read_binary_files("s3://bucket/photos", include_paths=True)
    captions(photos, "best.ckpt", beam_size=5).write_parquet("s3://bucket/captions")

`captioner caption`, `prepare` and `study` use the same code with `--engine ray`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.cluster.pipeline import captions

__all__ = ["captions"]


def __getattr__(name: str) -> Any:
    """Import `captions` when it is first used: decoding tasks do without torch."""
    if name == "captions":
        try:
            from captioner.cluster.pipeline import captions
        except ModuleNotFoundError as error:
            if error.name not in ("ray", "pyarrow"):
                raise
            raise ImportError(
                f"captioner.cluster: {error.name} is not installed; pip install 'captioner[ray]'"
            ) from error
        return captions
    raise AttributeError(f"module 'captioner.cluster' has no attribute {name!r}")
