"""The live hypotheses of a batch of images and their finished captions.

Dimensions: A images, G groups, J live hypotheses per group (1 before the first step, then the
group's width), V vocabulary. Here a "beam" is one group of one image, so there are A * G beams.
Without diverse search, G is 1.
"""

import torch
from torch import Tensor

from captioner.decoding.backpointers import BackPointers, Decision
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.length import LengthNormalisation
from captioner.decoding.options import SearchOptions
from captioner.decoding.required_phrases import RequiredPhrases
from captioner.decoding.selection import NEVER, Selection, select


class LiveBeam:
    """The state of a beam search between two steps.

    Args:
        images: Number of images, A.
        end_id: The word that ends a caption.
        options: Search options.
        device: Device of the log-probabilities.
        dtype: Dtype of the log-probabilities.
        may_ask: Whether reading values from the device is free (see `answers_at_once`).
    """

    def __init__(
        self,
        images: int,
        end_id: int,
        options: SearchOptions,
        device: torch.device,
        dtype: torch.dtype,
        *,
        may_ask: bool,
    ) -> None:
        self._end_id = end_id
        self._options = options
        self._groups = options.groups
        self._width = options.beam_size // options.groups
        self._length = LengthNormalisation(options, device, dtype)
        self._may_ask = may_ask
        self.images = torch.arange(images, device=device)
        beams = images * self._groups
        self._past = BackPointers(options.max_length)
        # (A * G, J), best first. All hypotheses start from the same word, so one is enough.
        self._log_probs = torch.zeros(beams, 1, dtype=dtype, device=device)
        # Finished captions, best first. A place encodes where to read one: number of words times
        # width, plus index in the beam.
        n_best = -(-options.n_best // self._groups)
        self._scores = torch.full((beams, n_best), NEVER, dtype=dtype, device=device)
        self._places = torch.zeros_like(self._scores, dtype=torch.int64)
        self.has_ends = False
        """Whether a hypothesis may have ended so far, or died after it was allowed to end."""

    def extend(
        self,
        t: int,
        log_probs: Tensor,
        required: RequiredPhrases | None = None,
        progress: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run step t = 1 .. T: finish hypotheses that end and extend the others.

        Args:
            t: Number of words including this one.
            log_probs: (M, V). Of the next word, with -inf for forbidden words; changed in place. M
                is A at the first step and A * K at later steps.
            required: Phrases that captions must contain.
            progress: (M, P). The state of `required`.
            attention: (M, R). Attention weights used to predict this word, to be stored.

        Returns:
            The words that continue the A * K hypotheses, and the row (of M) that each continues.
        """
        options, width = self._options, self._width
        ends = log_probs[:, self._end_id].clone()
        log_probs[:, self._end_id] = NEVER
        # First row of each beam, (A * G, 1). At the first step, all groups of an image share one
        # hypothesis.
        if t == 1:
            rows = torch.arange(len(log_probs), device=log_probs.device)
            rows = rows.repeat_interleave(self._groups).unsqueeze(1)
            ends = ends[rows]
        else:
            rows = torch.arange(0, len(log_probs), width, device=log_probs.device).unsqueeze(1)
            ends = ends.view(-1, width)

        if self._groups == 1:
            wanted = None
            if required is not None and progress is not None:
                wanted = required.requirement(progress)
            live = select(self._log_probs, log_probs, width, requirement=wanted)
        else:
            live = self._select_diverse(log_probs, rows, required, progress)
        if t > options.min_length:
            self._finish(t, ends, live)
        seen = None
        if attention is not None:
            before = torch.arange(self._log_probs.shape[1], device=rows.device)
            seen = attention[rows + before].expand(-1, width, -1)
        self._past.record(
            Decision(
                live.parents,
                live.words,
                live.word_log_probs,
                live.log_probs,
                ends.expand(-1, width),  # the first step has one column
                seen,
            )
        )
        self._log_probs = live.log_probs
        if t == options.max_length:  # truncated: live hypotheses become captions
            self._add(self._length.score(live.log_probs, t), t)
        return live.words.flatten(), (rows + live.parents).flatten()

    def _select_diverse(
        self,
        log_probs: Tensor,
        rows: Tensor,
        required: RequiredPhrases | None,
        progress: Tensor | None,
    ) -> Selection:
        """Select (A * G, K / G) group by group, penalising the words chosen by earlier groups."""
        images, groups = len(self.images), self._groups
        totals = self._log_probs.view(images, groups, -1)
        places = torch.arange(totals.shape[2], device=rows.device)
        rows = (rows + places).view(images, groups, -1)
        said = torch.zeros_like(log_probs[:images])  # (A, V), times chosen at this step
        selections = []
        for group in range(groups):
            own = rows[:, group].flatten()
            wanted = None
            if required is not None and progress is not None:
                wanted = required.requirement(progress[own])
            penalty = self._options.diversity * said
            chosen = select(totals[:, group], log_probs[own], self._width, penalty, wanted)
            said.scatter_add_(1, chosen.words, (chosen.log_probs > NEVER).to(said.dtype))
            selections.append(chosen)

        def joined(name: str) -> Tensor:
            return torch.stack([getattr(one, name) for one in selections], dim=1).flatten(0, 1)

        return Selection(
            joined("log_probs"),
            joined("parents"),
            joined("words"),
            joined("word_log_probs"),
            None if required is None else joined("complete"),
        )

    def _finish(self, t: int, ends: Tensor, live: Selection) -> None:
        """Finish the hypotheses whose ends (A * G, J) are among the best K continuations.

        With required phrases, ends compete only with complete continuations, for the places those
        take in the beam plus the empty ones.
        """
        totals = self._log_probs + ends
        if self._may_ask and live.complete is None:
            worst = live.log_probs.amin(dim=1, keepdim=True)
            if not bool((totals >= worst).any()):  # most steps finish nothing
                return
        totals = totals.masked_fill(self._log_probs == NEVER, NEVER)
        if live.complete is None:
            ranked = torch.cat([live.log_probs, totals], dim=1).topk(self._width, dim=1).values
            worst = ranked[:, -1:]
        else:
            rivals = live.log_probs.masked_fill(~live.complete, NEVER)
            ranked = torch.cat([rivals, totals], dim=1).sort(dim=1, descending=True).values
            open_to_ends = live.complete | (live.log_probs == NEVER)
            places = open_to_ends.sum(dim=1, keepdim=True).clamp(min=1)
            worst = ranked.gather(1, places - 1)
        self._add(self._length.score(totals, t).masked_fill(totals < worst, NEVER), t - 1)

    def _add(self, scores: Tensor, words: int) -> None:
        """Merge captions with `words` words and scores (A * G, N) into the best finished ones."""
        self.has_ends = True
        if self._width == 1:  # greedy search keeps its first end
            scores = scores.masked_fill(self._scores > NEVER, NEVER)
        n_best = self._scores.shape[1]
        places = words * self._width + torch.arange(scores.shape[1], device=scores.device)
        places = torch.cat([self._places, places.expand(len(scores), -1)], dim=1)
        self._scores, best = torch.cat([self._scores, scores], dim=1).topk(n_best, dim=1)
        self._places = places.gather(1, best)

    def is_broken(self) -> Tensor:
        """Return whether any value is NaN, as a single bool tensor."""
        return (self._log_probs[:, 0] + self._scores[:, 0]).isnan().any()

    def done(self, t: int) -> Tensor:
        """Return which images (A,) cannot find a better caption after step t."""
        if t == self._options.max_length:
            return torch.ones_like(self.images, dtype=torch.bool)
        worst = self._scores[:, -1]
        # Diverse beams are sorted by penalised log-probability, so the maximum may be anywhere.
        best = self._log_probs[:, 0] if self._groups == 1 else self._log_probs.amax(dim=1)
        done = worst >= self._length.bound(best, t)
        if self._width == 1:
            done |= worst > NEVER
        # A done group still penalises later groups, so it continues until the whole image is done.
        return done if self._groups == 1 else done.view(-1, self._groups).all(dim=1)

    def stop(self, which: Tensor) -> None:
        """Stop extending the images in the mask (A,), which stay in the batch."""
        stopped = which.repeat_interleave(self._groups).unsqueeze(1)
        self._log_probs = self._log_probs.masked_fill(stopped, NEVER)

    def without_caption(self, which: Tensor) -> Tensor:
        """Return which images (A,) in the mask have no caption."""
        return which & (self._scores.view(len(which), -1) == NEVER).all(dim=1)

    def read(self, which: Tensor) -> Hypotheses:
        """Return the captions of the images in the mask (A,)."""
        return self._read(which.repeat_interleave(self._groups).nonzero().squeeze(1))

    def read_all(self) -> Hypotheses:
        """Return the captions of all images."""
        return self._read(torch.arange(len(self._scores), device=self._scores.device))

    def _read(self, beams: Tensor) -> Hypotheses:
        scores = self._scores[beams]
        missing = scores == NEVER
        lengths = self._places[beams].div(self._width, rounding_mode="floor")
        lengths = lengths.masked_fill(missing, 0)
        places = (self._places[beams] % self._width).masked_fill(missing, 0)
        words, log_probs, word_log_probs, attention = self._past.read(
            beams, lengths, places, self._end_id
        )
        found = Hypotheses(
            words,
            lengths,
            scores,
            log_probs.masked_fill(missing, NEVER),
            word_log_probs.masked_fill(missing.unsqueeze(2), 0.0),
            None if attention is None else attention.masked_fill(missing[:, :, None, None], 0.0),
        )
        if self._groups == 1:
            return found
        return found.grouped(self._groups).best(self._options.n_best)

    def keep(self, which: Tensor) -> None:
        """Keep only the images in the mask (A,)."""
        beams = which.repeat_interleave(self._groups).nonzero().squeeze(1)
        self.images = self.images[which]
        self._log_probs = self._log_probs[beams]
        self._scores = self._scores[beams]
        self._places = self._places[beams]
        self._past.keep(beams)
