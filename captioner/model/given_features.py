"""What stands in a captioner for the encoder if a detector's region features are given."""

from torch import Tensor, nn

from captioner.errors import UsageError


class GivenFeatures(nn.Module):
    """Takes the place of an encoder: features of regions (B, R, F) pass through unchanged.

    Args:
        feature_size: Numbers in a region's features, F.
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.grid = True
        self.tf32 = False
        self.trunk = nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, R, F)."""
        return features

    def fold_batch_norm(self) -> None:
        """Do nothing: there is no network."""

    def train_from(self, block: str) -> list[nn.Parameter]:
        """Refuse to fine-tune.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"encoder.train_from: {block}: there is no encoder to fine-tune, because data.regions "
            "names region features; set encoder.train_from null"
        )

    def fingerprint(self) -> str:
        """Return what identifies features of this size."""
        return f"given-{self.feature_size}"
