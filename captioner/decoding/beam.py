"""The live hypotheses of a batch of images and the captions they have finished.

Letters: A images, G groups, J live hypotheses of a group (1 before the first step, then the group's
width), V vocabulary. A "beam" here is one group of one image, A * G of them; without diversity G is
1 and a beam is an image.
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
    """What a beam search knows between two steps."""

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
        # (A * G, J), best first. All start from the same word: one hypothesis says it all.
        self._log_probs = torch.zeros(beams, 1, dtype=dtype, device=device)
        # The finished captions, best first: their score, and where to read them, as the number of
        # words times the width plus the place in the beam.
        n_best = -(-options.n_best // self._groups)
        self._scores = torch.full((beams, n_best), NEVER, dtype=dtype, device=device)
        self._places = torch.zeros_like(self._scores, dtype=torch.int64)
        self.has_ends = False
        """Whether anything may have ended so far, or is dead and had its chance to."""

    def extend(
        self,
        t: int,
        log_probs: Tensor,
        required: RequiredPhrases | None = None,
        progress: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Step t = 1 .. T: finishes hypotheses and extends the others.

        Args:
            t: Number of words with this one.
            log_probs: (M, V), of the next word, forbidden words -inf; changed in place. M is A at
                the first step and A * K after it.
            required: What captions must say, or None.
            progress: (M, P), the state of ``required``.
            attention: (M, R), the weights with which this word is looked for, to be kept; or None.

        Returns:
            The words that continue the A * K hypotheses and the row out of M that each continues.
        """
        options, width = self._options, self._width
        ends = log_probs[:, self._end_id].clone()
        log_probs[:, self._end_id] = NEVER
        # The first row of each beam's hypotheses, (A * G, 1). All groups of an image share the one
        # hypothesis of the first step.
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
                ends.expand(-1, width),  # at the first step, one is all
                seen,
            )
        )
        self._log_probs = live.log_probs
        if t == options.max_length:  # cut: what still lives is a caption as it stands
            self._add(self._length.score(live.log_probs, t), t)
        return live.words.flatten(), (rows + live.parents).flatten()

    def _select_diverse(
        self,
        log_probs: Tensor,
        rows: Tensor,
        required: RequiredPhrases | None,
        progress: Tensor | None,
    ) -> Selection:
        """One group after the other, each shunning the words of those before it (A * G, K / G)."""
        images, groups = len(self.images), self._groups
        totals = self._log_probs.view(images, groups, -1)
        places = torch.arange(totals.shape[2], device=rows.device)
        rows = (rows + places).view(images, groups, -1)
        said = torch.zeros_like(log_probs[:images])  # (A, V), how often at this step
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
        """Takes the ends (A * G, J) that are among the best K continuations.

        Where something is required, an end competes with the continuations that lack nothing, for
        as many places as those have in the beam and as are empty.
        """
        totals = self._log_probs + ends
        if self._may_ask and live.complete is None:
            worst = live.log_probs.amin(dim=1, keepdim=True)
            if not bool((totals >= worst).any()):  # most steps end nothing
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
        """Merges captions of so many words, scores (A * G, N), into the best finished ones."""
        self.has_ends = True
        if self._width == 1:  # greedy: the first end is the end
            scores = scores.masked_fill(self._scores > NEVER, NEVER)
        n_best = self._scores.shape[1]
        places = words * self._width + torch.arange(scores.shape[1], device=scores.device)
        places = torch.cat([self._places, places.expand(len(scores), -1)], dim=1)
        self._scores, best = torch.cat([self._scores, scores], dim=1).topk(n_best, dim=1)
        self._places = places.gather(1, best)

    def is_broken(self) -> Tensor:
        """Whether a NaN has come in: one bool."""
        return (self._log_probs[:, 0] + self._scores[:, 0]).isnan().any()

    def done(self, t: int) -> Tensor:
        """Which images (A,) can find nothing better after step t."""
        if t == self._options.max_length:
            return torch.ones_like(self.images, dtype=torch.bool)
        worst = self._scores[:, -1]
        # Diverse beams are in the order of their penalised log-probabilities.
        best = self._log_probs[:, 0] if self._groups == 1 else self._log_probs.amax(dim=1)
        done = worst >= self._length.bound(best, t)
        if self._width == 1:
            done |= worst > NEVER
        # A group that is done still guides the groups after it, until the whole image is done.
        return done if self._groups == 1 else done.view(-1, self._groups).all(dim=1)

    def stop(self, which: Tensor) -> None:
        """Extends the images of the mask (A,) no longer, while they still are in the batch."""
        stopped = which.repeat_interleave(self._groups).unsqueeze(1)
        self._log_probs = self._log_probs.masked_fill(stopped, NEVER)

    def without_caption(self, which: Tensor) -> Tensor:
        """Which of the images (A,) have not a single caption."""
        return which & (self._scores.view(len(which), -1) == NEVER).all(dim=1)

    def read(self, which: Tensor) -> Hypotheses:
        """The captions of the images of the mask (A,)."""
        return self._read(which.repeat_interleave(self._groups).nonzero().squeeze(1))

    def read_all(self) -> Hypotheses:
        """The captions of all images."""
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
        """Goes on with the images of the mask (A,) only."""
        beams = which.repeat_interleave(self._groups).nonzero().squeeze(1)
        self.images = self.images[which]
        self._log_probs = self._log_probs[beams]
        self._scores = self._scores[beams]
        self._places = self._places[beams]
        self._past.keep(beams)
