"""Features to captions: where the model meets the search.

Letters: B images, K captions of each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.constraints import BannedWords, Constraint
from captioner.decoding.cuda_graphs import RecordedSearch
from captioner.decoding.ensemble import ensemble
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import Rerank, SampleOptions, SearchOptions
from captioner.decoding.pytree import State, leaves
from captioner.decoding.required_phrases import RequiredPhrases
from captioner.decoding.sampling import rerank, sample
from captioner.decoding.step import Looked
from captioner.errors import UsageError
from captioner.metrics.rouge import rouge_l
from captioner.model.captioner import Captioner
from captioner.text.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

NEVER_WRITTEN = BannedWords([PAD, START, UNKNOWN])
"""Words that no caption may contain; the others keep the model's probabilities."""


class CaptionGenerator:
    """Captions batches of images by search or sampling, with one captioner or an ensemble.

    Reuse one for many batches: on a CPU it caches the products of words with the decoder's weights
    (`captioner.model.kernels.input_cache`); on a GPU it captures the search as CUDA graphs after
    some batches (`captioner.decoding.cuda_graphs`).

    Args:
        captioners: in evaluation mode, on their device, all with the same vocabulary and direction;
            their weights must not change meanwhile. Not thread-safe.
        options: of a beam search, or of sampling.
        average: what an ensemble averages; see `captioner.decoding.ensemble.ensemble`.
        constraints: beside `NEVER_WRITTEN`, which always holds.
        required: what every caption says; for beam search alone.
        attention: whether captions carry their attention weights: the mean of those of all
            captioners that attend, which must look at equally many regions.

    Raises:
        UsageError: attention is asked for, and no captioner attends.
    """

    def __init__(
        self,
        captioners: Sequence[Captioner],
        options: SearchOptions | SampleOptions,
        *,
        average: str = "probability",
        constraints: Sequence[Constraint] = (),
        required: RequiredPhrases | None = None,
        attention: bool = False,
    ) -> None:
        self._captioners = captioners
        self._options = options
        self._constraints = [NEVER_WRITTEN, *constraints]
        steps = [captioner.decoder.search_step() for captioner in captioners]
        self._step = steps[0] if len(steps) == 1 else ensemble(steps, average)
        looked = attention_of(captioners) if attention else None
        self._looked = looked
        self._search = None
        if isinstance(options, SearchOptions):
            self._search = RecordedSearch(
                self._step,
                END,
                options,
                constraints=self._constraints,
                required=required,
                looked=looked,
            )

    @torch.inference_mode()
    def __call__(self, features: Sequence[Tensor], image_keys: Tensor | None = None) -> Hypotheses:
        """Caption a batch; return word ids in reading order, whatever the decoder's direction.

        Args:
            features: of the images for each captioner, (B, F) or (B, R, F); captioners with one
                encoder may share them.
            image_keys: (B,) int64, a number that identifies each image; only sampling needs it.
        """
        begun = [
            captioner.decoder.begin(own)
            for captioner, own in zip(self._captioners, features, strict=True)
        ]
        state: State = tuple(own for own, _ in begun)
        shared: Any = tuple(regions for _, regions in begun)
        if len(begun) == 1:
            ((state, shared),) = begun
        elif not leaves(shared):
            shared = None
        start = torch.full((len(features[0]),), START, device=features[0].device)
        if self._search is not None:
            found = self._search(start, state, shared)
        else:
            assert isinstance(self._options, SampleOptions)
            if image_keys is None:
                raise UsageError("image_keys: sampling needs a number that identifies each image")
            found = sample(
                start,
                state,
                self._step,
                END,
                self._options,
                image_keys=image_keys,
                shared=shared,
                constraints=self._constraints,
                looked=self._looked,
            )
        return found.reversed() if self._captioners[0].backward else found


def attention_of(captioners: Sequence[Captioner]) -> Looked:
    """Return a function from the state of a captioner or ensemble to attention weights (M, R).

    Raises:
        UsageError: none of them attends.
    """
    decoders = [captioner.decoder for captioner in captioners]
    attending = [i for i, decoder in enumerate(decoders) if decoder.kind != "none"]
    if not attending:
        raise UsageError(
            "attention: the checkpoint has none; train one with decoder.attention spatial"
        )

    def looked(state: State) -> Tensor:
        if len(decoders) == 1:
            return decoders[0].weights(state)
        of_members = []
        for i in attending:  # of the regions alone, where there is a sentinel too
            weights = decoders[i].weights(state[i])
            of_members.append(weights[:, :-1] if decoders[i].kind == "adaptive" else weights)
        sizes = sorted({weights.shape[1] for weights in of_members})
        if len(sizes) > 1:
            raise UsageError(
                f"attention: the checkpoints look at different numbers of regions ({sizes[0]} and "
                f"{sizes[1]}), whose weights cannot be averaged; give only one of them"
            )
        return torch.stack(of_members).mean(0)

    return looked


def reranked(found: Hypotheses, how: Rerank) -> Hypotheses:
    """Return the best samples of each image, each caption once."""
    by = found.scores if how.by == "score" else consensus(found).to(found.scores)
    return rerank(found, how.n_best, by)


def consensus(found: Hypotheses) -> Tensor:
    """Return the mean ROUGE-L of each caption against the others of its image, (B, K), 0 to 1.

    The caption that agrees most with the rest has the least Bayes risk (Kumar & Byrne
    2004, "Minimum Bayes-risk decoding"), with the samples standing for the distribution. One that
    was drawn twice counts twice.
    """
    agreements = []
    for captions in found.captions():
        texts = [[str(word) for word in caption] for caption in captions]
        others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
        pairs = [
            (text, [other]) for text, rest in zip(texts, others, strict=True) for other in rest
        ]
        values = rouge_l([text for text, _ in pairs], [rest for _, rest in pairs])
        agreements.append(torch.from_numpy(values).view(len(texts), -1).sum(dim=1))
    return torch.stack(agreements) / max(found.scores.shape[1] - 1, 1)


def write_captions(hypotheses: Hypotheses, vocabulary: Vocabulary) -> list[str]:
    """Return the best caption of each image as text."""
    return [vocabulary.decode(best[0]) for best in hypotheses.captions()]
