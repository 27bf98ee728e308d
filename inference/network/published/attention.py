"""Parts of the published form: embeddings of tokens, and layers of self- and cross-attention.

Whittle, Ziomek, Rawling and Osborne, "Distribution Transformers" (arXiv 2502.02463), section 3: a token a component of
the prior, a token a datum, and no positional encoding.
"""

from __future__ import annotations

from torch import nn


def embedding(numbers: int, width: int) -> nn.Sequential:
    """Return a network from the `numbers` of a token to `width` units."""
    return nn.Sequential(nn.Linear(numbers, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def attention(width: int, layers: int, heads: int, hidden: int) -> nn.TransformerDecoder:
    """Return layers in which tokens attend to each other and to the data, with `hidden` units after each."""
    layer = nn.TransformerDecoderLayer(width, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerDecoder(layer, layers, nn.LayerNorm(width))
