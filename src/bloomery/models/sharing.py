"""What a discriminator has of its generator's embeddings, as a value."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.models.transformer import Transformer
from bloomery.nn.init import Draw, Initialised
from bloomery.nn.part import Part


class EmbeddingSharing(Part):
    """What a discriminator has of its generator's embeddings."""

    alike: ClassVar[tuple[str, ...]]
    """Fields of both configs that must be the same beside the width of the embeddings, as far as they have them."""

    @abstractmethod
    def share(self, generator: Transformer, discriminator: Transformer) -> None:
        """Puts what is shared into the discriminator; called when the pair is built, before weights are drawn."""


class WholeSharing(EmbeddingSharing):
    """All of them: vectors of tokens, places and parts, and their norm. Both losses train them.

    Source: Clark et al. (2020), arXiv 2003.10555, section 3.2, and the published code.
    """

    alike: ClassVar[tuple[str, ...]] = ("vocab_size", "max_seq_len", "n_parts", "norm_eps")

    def share(self, generator: Transformer, discriminator: Transformer) -> None:
        discriminator.embedding, discriminator.places = generator.embedding, generator.places
        discriminator.parts, discriminator.embedding_norm = generator.parts, generator.embedding_norm


class GradientDisentangledSharing(EmbeddingSharing):
    """The vectors of tokens, but not the gradients: the discriminator's are the generator's and a difference of its own.

        E_D = stop_gradient(E_G) + Δ,   Δ = 0 at first

    so that each loss trains its own table, and what the generator learns of tokens the discriminator knows at once. See `DifferenceEmbedding`.

    Source: He et al. (2021), arXiv 2111.09543, section 3.3.
    """

    alike: ClassVar[tuple[str, ...]] = ("vocab_size",)

    def share(self, generator: Transformer, discriminator: Transformer) -> None:
        discriminator.embedding = DifferenceEmbedding(generator.embedding)


class DifferenceEmbedding(nn.Embedding, Initialised):
    """stop_gradient(table of another) + Δ; `weight` is Δ.

    Args:
        of: the other embedding; it is trained elsewhere.
    """

    def __init__(self, of: nn.Embedding) -> None:
        super().__init__(of.num_embeddings, of.embedding_dim)
        self.of = of

    def initialise(self, draw: Draw) -> None:
        """Δ starts at 0."""
        draw.fill(self.weight, 0.0)

    def forward(self, input: Int[Tensor, "*places"]) -> Float[Tensor, "*places d_embedding"]:
        return self.of(input).detach() + super().forward(input)


def table_of(embedding: nn.Embedding) -> Float[Tensor, "vocab d_embedding"]:
    """The vectors that an embedding gives: its weight, or the sum of both tables."""
    weight = embedding.weight.detach()
    return table_of(embedding.of) + weight if isinstance(embedding, DifferenceEmbedding) else weight
