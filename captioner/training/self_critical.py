r"""Self-critical training (Rennie et al. 2017): gradient ascent on the reward of drawn captions.

`SelfCritical` raises the expected reward of the captions that the decoder itself draws. With
c_1 … c_K the samples of an image, R their rewards and b_k a baseline,

    A_k = R(c_k) - b_k
    L = 1/W \sum_images \sum_k -A_k \sum_t log p(w_kt | words before, image)

where W is the number of words drawn, end words included. The baseline is the mean reward of the
image's other samples, or the reward of its greedy caption. Neither depends on c_k, so W times the
gradient of L is K times an unbiased estimate of minus the gradient of the expected reward.

This holds only if the words are drawn from the very distribution p whose gradient is taken:

- dropout is off in both;
- PAD, START and UNKNOWN have probability 0 in both, and the temperature is the same;
- words after the end word do not count.

Drawing needs no gradient and goes step by step. One packed `unroll` over the samples then gives all
log-probabilities, as in teacher forcing, so that the loss is a weighted cross-entropy.

Letters: B images, K samples of each, M captions, W words of all, T time steps, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioner.datasets.batches import Batch
from captioner.datasets.records import ImageId
from captioner.decoding.beam_search import beam_search
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SampleOptions, SearchOptions
from captioner.decoding.pytree import select_rows
from captioner.decoding.sampling import sample
from captioner.inference.generator import NEVER_WRITTEN
from captioner.model.attention import Regions
from captioner.model.captioner import Captioner
from captioner.model.decoder import Decoder, DecoderState
from captioner.model.kernels.cross_entropy import cross_entropy
from captioner.text.vocabulary import END, START
from captioner.training.gather import total
from captioner.training.objectives import CrossEntropy, Loss, allowed_logits, without_dropout
from captioner.training.reward import Reward

Baseline = Literal["others", "greedy"]


@dataclass(frozen=True)
class Sampling:
    """How captions are drawn for a reward.

    Attributes:
        samples: captions of each image, K.
        temperature: divides the logits.
        max_length: words of a caption at most; one that is cut there gets no reward.
        seed: another seed, other captions.
    """

    samples: int = 5
    temperature: float = 1.0
    max_length: int = 20
    seed: int = 0

    def options(self, step: int) -> SampleOptions:
        """Options of the sampler; the captions of each step are others."""
        return SampleOptions(
            samples=self.samples,
            temperature=self.temperature,
            max_length=self.max_length,
            seed=(self.seed << 30) + step,
        )


@dataclass(frozen=True)
class SelfCritical:
    """The expected reward of drawn captions, by its policy gradient.

    The captions are a function of the seed, the step, and the image: they are the same for any
    number of processes, and there is no generator whose state a checkpoint would have to hold.

    Attributes:
        reward: of a caption.
        keys: a number of each image's own.
        sampling: how captions are drawn.
        baseline: "others", the mean reward of the image's other samples (the advantages of an image
            sum to 0), or "greedy", the reward of its greedy caption.
    """

    reward: Reward
    keys: Mapping[ImageId, int]
    sampling: Sampling = field(default_factory=Sampling)
    baseline: Baseline = "others"

    def __call__(self, captioner: Captioner, batch: Batch, *, epoch: int, step: int) -> Loss:
        """The loss of a batch; its captions are not looked at."""
        if not batch.image_ids:  # fills a process' place in a step, and counts nothing
            return CrossEntropy()(captioner, batch, epoch=epoch, step=step)
        with without_dropout(captioner.decoder):
            state, regions = captioner.decoder.begin(batch.images)
            keys = self.keys_of(batch)
            found = draw(captioner, state, keys, self.sampling.options(step), regions)
            rewards = rewards_of(self.reward, batch.image_ids, found, captioner.backward)
            advantages = self._advantages(captioner, state, regions, batch, rewards)
            mean, words = policy_loss(
                captioner.decoder, state, found, advantages, self.sampling.temperature, regions
            )
        logged = {
            "train/sampled_reward": float(rewards.mean()),
            "train/sampled_length": float(found.lengths.double().mean()),
            "train/entropy": -float(found.log_probs.double().sum()) / words,
        }
        return Loss(mean, words, logged)

    def keys_of(self, batch: Batch) -> Tensor:
        """The numbers of the batch's images (B,)."""
        numbers = [self.keys[image_id] for image_id in batch.image_ids]
        return torch.tensor(numbers, device=batch.images.device)

    def _advantages(
        self,
        captioner: Captioner,
        state: DecoderState,
        regions: Regions | None,
        batch: Batch,
        rewards: np.ndarray,
    ) -> Tensor:
        if self.baseline == "others":
            advantages = beside_the_others(rewards)
        else:
            options = SearchOptions(beam_size=1, max_length=self.sampling.max_length)
            start = torch.full((len(rewards),), START, device=batch.images.device)
            greedy = beam_search(
                start,
                state,
                captioner.decoder.step,
                END,
                options,
                shared=regions,
                constraints=[NEVER_WRITTEN],
            )
            baseline = rewards_of(self.reward, batch.image_ids, greedy, captioner.backward)
            advantages = rewards - baseline
        return torch.from_numpy(advantages).to(batch.images.device, torch.float32)


class ValidationSamples:
    """Captions drawn for the validation images, one each: their reward and entropy.

    The same random numbers at each validation, so that two of them differ by the weights alone.

    Args:
        reward: of a caption, its document frequencies those of the training references.
        keys: a number of each validation image's own.
        sampling: how captions are drawn; of one sample.
    """

    def __init__(self, reward: Reward, keys: Mapping[ImageId, int], sampling: Sampling) -> None:
        self.reward = reward
        self.keys = keys
        self.options = replace(sampling, samples=1).options(0)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._reward = self._nats = self._words = self._captions = 0.0

    @torch.no_grad()
    def add(self, captioner: Captioner, batch: Batch) -> None:
        """Draw a caption for each image of a batch."""
        numbers = [self.keys[image_id] for image_id in batch.image_ids]
        keys = torch.tensor(numbers, device=batch.images.device)
        state, regions = captioner.decoder.begin(batch.images)
        found = draw(captioner, state, keys, self.options, regions)
        rewards = rewards_of(self.reward, batch.image_ids, found, captioner.backward)
        self._reward += float(rewards.sum())
        self._nats -= float(found.log_probs.double().sum())
        self._words += float((found.lengths + 1).clamp(max=found.words.shape[2]).sum())
        self._captions += len(numbers)

    def numbers(self, device: torch.device) -> dict[str, float]:
        """Mean reward of a caption, and nats of entropy a word, over all processes."""
        sums = [self._reward, self._nats, self._words, self._captions]
        reward, nats, words, captions = total(sums, device)
        return {
            "val/sampled_reward": reward / max(captions, 1.0),
            "val/entropy": nats / max(words, 1.0),
        }


def beside_the_others(rewards: np.ndarray) -> np.ndarray:
    """Each reward (B, K) less the mean of the image's other samples."""
    samples = rewards.shape[1]
    return (rewards - rewards.mean(axis=1, keepdims=True)) * (samples / (samples - 1))


def draw(
    captioner: Captioner,
    state: DecoderState,
    keys: Tensor,
    options: SampleOptions,
    regions: Regions | None = None,
) -> Hypotheses:
    """Captions of each image in the order in which the decoder writes them; no gradient.

    Args:
        captioner: the network, without dropout.
        state: before the first word, one row an image.
        keys: a number of each image's own (B,).
        options: how to draw.
        regions: with attention, those of the images.
    """
    start = torch.full((len(keys),), START, device=keys.device)
    step = captioner.decoder.step
    never = [NEVER_WRITTEN]
    return sample(
        start, state, step, END, options, image_keys=keys, shared=regions, constraints=never
    )


def rewards_of(
    reward: Reward, image_ids: Sequence[ImageId], found: Hypotheses, backward: bool = False
) -> np.ndarray:
    """Rewards of the captions found for each image (B, K)."""
    images, samples, most = found.words.shape
    flat = [caption for of_image in found.captions() for caption in of_image]
    if backward:
        flat = [caption[::-1] for caption in flat]
    of_captions = [image_id for image_id in image_ids for _ in range(samples)]
    ended = [len(caption) < most for caption in flat]
    return reward(of_captions, flat, ended).reshape(images, samples)


def policy_loss(
    decoder: Decoder,
    state: DecoderState,
    found: Hypotheses,
    advantages: Tensor,
    temperature: float = 1.0,
    regions: Regions | None = None,
) -> tuple[Tensor, int]:
    """Mean over words of -A log p of the captions' words, and the number of words.

    Args:
        decoder: without dropout.
        state: before the first word, one row an image; its gradient is taken.
        found: the captions drawn; what stands after a caption's end is not read.
        advantages: of each caption (B, K).
        temperature: that they were drawn at.
        regions: with attention, those of the images.
    """
    packed = pack_drawn(found)
    sizes = torch.tensor(packed.batch_sizes, device="cpu")
    state = select_rows(state, packed.rows)
    unrolled = decoder.unroll(packed.inputs, sizes, state, regions, packed.rows)
    logits = allowed_logits(decoder.logits(unrolled).float() / temperature)
    weights = advantages.flatten()[packed.caption]
    words = len(packed.targets)
    return cross_entropy(logits, packed.targets, weights=weights), words


class Drawn(NamedTuple):
    """Drawn captions, packed from long to short (see `captioner.datasets.batches`)."""

    inputs: Tensor
    """Words fed (W,), the start word first."""
    targets: Tensor
    """Words drawn (W,), the end word last where there is one."""
    batch_sizes: list[int]
    """Captions that still run at each of the T steps."""
    rows: Tensor
    """The image of each caption (M,), in packed order."""
    caption: Tensor
    """The caption (W,) of each word, counted image by image as they were drawn."""


def pack_drawn(found: Hypotheses) -> Drawn:
    """Drawn captions packed, without a loop over words."""
    images, samples, most = found.words.shape
    words, device = found.words.flatten(0, 1), found.words.device
    steps = (found.lengths.flatten() + 1).clamp(max=most)  # the end word too, where there is one
    order = steps.argsort(descending=True, stable=True)
    running = torch.arange(most, device=device).unsqueeze(1) < steps[order]  # (T, M)
    start = torch.full((images * samples, 1), START, device=device)
    fed = torch.cat((start, words[:, :-1]), 1)
    return Drawn(
        inputs=fed[order].t()[running],
        targets=words[order].t()[running],
        batch_sizes=[n for n in running.sum(1).tolist() if n],
        rows=order // samples,
        caption=order.expand(most, -1)[running],
    )
