"""`Contrastive`: likely tokens that do not say again what has been said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bloomery.generate.reading import Reading
from bloomery.generate.rules import Text
from bloomery.generate.search import Search, Steps, Terms


class Contrastive(Search):
    """Takes, of the `top_k` likeliest tokens v, the one with the highest

        (1 − alpha) · p(v) − alpha · max over earlier tokens j of cos(h_v, h_j)

    h being the features that the head reads at a token, of the prompt's tokens, too.

    Source: Su et al. (2022), arXiv 2202.06417, section 4.2.
    """

    top_k: Annotated[int, Ge(1)] = 5
    """Tokens that are tried; each is read."""
    alpha: Annotated[float, Ge(0), Le(1)] = 0.6
    """How much repetition counts; 0 is greedy."""

    @property
    def n_rows(self) -> int:
        return self.top_k

    def follow(self, reading: Reading, prompts: Sequence[Sequence[int]], terms: Terms) -> Steps:
        texts = [Text(prompt) for prompt in prompts]
        said = [directions(reading.features[row, :n]) for row, n in enumerate(reading.lengths.tolist())]  # (tokens, d_features) each
        scores, going, rows = [0.0] * len(prompts), list(range(len(prompts))), list(range(len(prompts)))
        while going:
            p = terms.scores(reading.logits[rows], [texts[i] for i in going]).softmax(dim=-1)
            likely, tokens = p.topk(min(self.top_k, p.shape[-1]), dim=-1)  # (going, k)
            k = tokens.shape[1]
            reading.select([row for row in rows for _ in range(k)])
            reading.read(tokens.flatten())
            tried = directions(reading.features[:, 0]).unflatten(0, (len(going), k))
            again = torch.stack([(said[i] @ tried[place].T).amax(dim=0) for place, i in enumerate(going)])
            worth = ((1 - self.alpha) * likely - self.alpha * again).masked_fill(likely == 0, -torch.inf)  # (going, k)
            best, taken = worth.max(dim=-1)
            rows, still = [], []
            for place, (i, at) in enumerate(zip(going, taken.tolist(), strict=True)):
                texts[i].new.append(int(tokens[place, at]))
                said[i] = torch.cat([said[i], tried[place, at : at + 1]])
                scores[i] += float(best[place])
                if not terms.ends(i, texts[i].new):
                    still.append(i)
                    rows.append(place * k + at)
            going = still
            yield
        return [[terms.found(text.new, score)] for text, score in zip(texts, scores, strict=True)]


def directions(features: Float[Tensor, "tokens d_features"]) -> Float[Tensor, "tokens d_features"]:
    """Vectors of length 1, whose products are cosines."""
    return F.normalize(features.float(), dim=-1)
