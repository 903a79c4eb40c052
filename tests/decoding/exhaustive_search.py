"""Independent references: brute force, and a simple, slow beam search.

A model here is a plain function from a tuple of words to a list of probabilities of the next word.
"""

import math

END = 0


def score(log_prob, n, norm, alpha, reward):
    """Return the score of a caption with n predicted words, including the end word."""
    penalty = {"none": 1.0, "average": n, "gnmt": ((5 + n) / 6) ** alpha}[norm]
    return log_prob / penalty + reward * n


def all_captions(model, max_length, min_length=0):
    """Return every caption, truncated ones too, with log-probability and number of words."""
    captions = []
    prefixes = [((), 0.0)]
    for n in range(1, max_length + 1):
        longer = []
        for words, log_prob in prefixes:
            for word, probability in enumerate(model(words)):
                if probability == 0:
                    continue
                total = log_prob + math.log(probability)
                if word != END:
                    longer.append(((*words, word), total))
                elif n > min_length:
                    captions.append((words, total, n))
        prefixes = longer
    return captions + [(words, total, max_length) for words, total in prefixes]


def slow_beam_search(model, width, max_length, norm, alpha, reward, n_best, min_length=0):
    """Search to the maximum length with sorted lists, one caption at a time, no early stop."""
    live = [((), 0.0)]
    finished = []
    for n in range(1, max_length + 1):
        continuations = []
        for words, log_prob in live:
            for word, probability in enumerate(model(words)):
                if probability > 0 and not (word == END and n <= min_length):
                    continuations.append((log_prob + math.log(probability), words, word))
        continuations.sort(reverse=True)
        finished += [
            (words, total, n) for total, words, word in continuations[:width] if word == END
        ]
        if width == 1 and finished:
            return finished
        going_on = [(w, total, word) for total, w, word in continuations if word != END]
        live = [((*words, word), total) for words, total, word in going_on[:width]]
    finished += [(words, total, max_length) for words, total in live]
    return ranked(finished, norm, alpha, reward)[:n_best]


def ranked(captions, norm, alpha, reward):
    """Best score first."""
    return sorted(captions, key=lambda c: score(c[1], c[2], norm, alpha, reward), reverse=True)


def slow_diverse_search(model, width, groups, diversity, max_length, norm, alpha, reward, n_best):
    """Search to the maximum length in groups that penalise the words of earlier groups."""
    live = [[((), 0.0)] for _ in range(groups)]
    finished = [[] for _ in range(groups)]
    for n in range(1, max_length + 1):
        said = {}
        for group in range(groups):
            going_on, ends = [], []
            for words, log_prob in live[group]:
                for word, probability in enumerate(model(words)):
                    if probability > 0:
                        total = log_prob + math.log(probability)
                        if word == END:
                            ends.append((words, total, n))
                        else:
                            rank = total - diversity * said.get(word, 0)
                            going_on.append((rank, total, (*words, word)))
            going_on.sort(reverse=True)
            live[group] = [(words, total) for _, total, words in going_on[:width]]
            for words, _ in live[group]:
                said[words[-1]] = said.get(words[-1], 0) + 1
            totals = sorted([t for _, t in live[group]] + [t for _, t, _ in ends], reverse=True)
            ends = [end for end in ends if end[1] in totals[:width]]
            if width > 1 or not finished[group]:
                finished[group] += ends
    shares = []
    for group in range(groups):
        cut = [(words, total, max_length) for words, total in live[group]]
        if width > 1 or not finished[group]:
            finished[group] += cut
        shares += ranked(finished[group], norm, alpha, reward)[: -(-n_best // groups)]
    return ranked(shares, norm, alpha, reward)[:n_best]
