"""The joined network: packing has no influence, images are encoded once, a batch is learned."""

import pytest
import torch
from torch import Tensor, nn

from captioner.datasets.batches import Item, collate
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.inference.generator import CaptionGenerator
from captioner.model.captioner import Captioner
from captioner.model.cells import GRU, LSTM
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import DropoutSettings, RecurrenceSettings, WordSettings
from captioner.text.vocabulary import END, START


class CountingEncoder(nn.Module):
    """Stands for an encoder: averages each colour channel; counts the photos it is given."""

    photos = 0

    def forward(self, photos: Tensor) -> Tensor:
        self.photos += len(photos)
        return photos.float().mean((2, 3))


def generate(captioner: Captioner, images: Tensor, options: SearchOptions) -> Hypotheses:
    return CaptionGenerator([captioner], options)([captioner.encode(images)])


def make(kind: type = LSTM, feature_size: int = 3, dropout: float = 0.0) -> Captioner:
    torch.manual_seed(0)
    decoder = Decoder(
        12,
        feature_size,
        RecurrenceSettings(kind, 32),
        words=WordSettings(16),
        dropout=DropoutSettings(dropout),
    )
    return Captioner(CountingEncoder(), decoder)  # type: ignore[arg-type]


def items(n: int = 4) -> list[Item]:
    generator = torch.Generator().manual_seed(1)
    return [
        Item(
            image_id=i,
            image=torch.randint(0, 256, (3, 4, 4), generator=generator, dtype=torch.uint8),
            captions=[
                torch.randint(4, 12, (3 + (i + k) % 4,), generator=generator).tolist()
                for k in range(2)
            ],
        )
        for i in range(n)
    ]


def loss_of(captioner: Captioner, batch_items: list[Item]) -> Tensor:
    batch = collate(batch_items)
    return captioner.loss(
        captioner.encode(batch.images),
        batch.inputs,
        batch.targets,
        torch.tensor(batch.batch_sizes),
        batch.rows,
    )


def test_batch_holds_each_image_once_and_all_captions() -> None:
    batch = collate(items(2))
    assert batch.image_ids == [0, 1]
    assert batch.images.shape == (2, 3, 4, 4)
    steps = zip(
        batch.inputs.split(batch.batch_sizes), batch.targets.split(batch.batch_sizes), strict=True
    )
    fed: list[list[int]] = [[] for _ in batch.rows]
    wanted: list[list[int]] = [[] for _ in batch.rows]
    for inputs, targets in steps:
        for m, (before, after) in enumerate(zip(inputs.tolist(), targets.tolist(), strict=True)):
            fed[m].append(before)
            wanted[m].append(after)
    assert all(sequence[0] == START and sequence[-1] != END for sequence in fed)
    assert all(f[1:] == w[:-1] and w[-1] == END for f, w in zip(fed, wanted, strict=True))
    for row, item in enumerate(items(2)):
        of_image = [w[:-1] for w, r in zip(wanted, batch.rows.tolist(), strict=True) if r == row]
        assert sorted(of_image) == sorted(item.captions)


def test_image_is_encoded_once_for_all_its_captions() -> None:
    captioner = make()
    loss_of(captioner, items(4))
    assert captioner.encoder.photos == 4


def test_packing_changes_neither_loss_nor_gradient() -> None:
    """Loss and gradients of a batch are those of its captions one by one."""
    captioner = make()
    loss_of(captioner, items(3)).backward()
    together = {n: p.grad.clone() for n, p in captioner.named_parameters() if p.grad is not None}
    captioner.zero_grad()
    words = sum(len(c) + 1 for item in items(3) for c in item.captions)
    for item in items(3):
        for caption in item.captions:
            single = loss_of(captioner, [item._replace(captions=[caption])])
            (single * (len(caption) + 1) / words).backward()
    assert together
    for name, gradient in together.items():
        alone = captioner.get_parameter(name).grad
        torch.testing.assert_close(gradient, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_one_batch_is_learned_by_heart(kind: type) -> None:
    captioner = make(kind)
    batch_items = [item._replace(captions=item.captions[:1]) for item in items(4)]
    optimizer = torch.optim.Adam(captioner.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = loss_of(captioner, batch_items)
        loss.backward()
        optimizer.step()
    captioner.eval()
    photos = torch.stack([item.image for item in batch_items])
    found = generate(captioner, photos, SearchOptions(beam_size=1, max_length=10))
    assert [best[0] for best in found.captions()] == [item.captions[0] for item in batch_items]
