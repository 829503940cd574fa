"""The last block of a vision transformer whose feature is the class token: the other tokens' output has no use.

Axes: B images, N tokens, d width of a token, H heads, d/H width of a head.
"""

from typing import Any, cast

from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

_USED = {"qkv", "q_norm", "k_norm", "norm", "proj", "attn_drop", "proj_drop"}
"""What `_attend` knows of; dropout is refused. An attention with more, as a gate, is left alone."""


class _ClassTokenBlock(Block):
    """timm's block, which in training returns the class token alone, [B, 1, d]."""

    def forward(self, x: Tensor, *masks: Any, **named_masks: Any) -> Tensor:
        if not self.training or masks or named_masks:
            return super().forward(x, *masks, **named_masks)
        token = x[:, :1]
        token = token + self.drop_path1(self.ls1(_attend(cast(Attention, self.attn), self.norm1(x))))
        return token + self.drop_path2(self.ls2(self.mlp(self.norm2(token))))


def _attend(layer: Attention, tokens: Float[Tensor, "B N d"]) -> Float[Tensor, "B 1 d"]:
    """Return what the class token becomes: its query, the keys and values of all tokens."""
    images, width = len(tokens), layer.proj.in_features
    weights = layer.qkv.weight.split((width, 2 * width))
    biases = (None, None) if layer.qkv.bias is None else layer.qkv.bias.split((width, 2 * width))
    queries = linear(tokens[:, :1], weights[0], biases[0]).view(images, 1, 1, layer.num_heads, width // layer.num_heads)
    keys_values = linear(tokens, weights[1], biases[1]).view(images, -1, 2, layer.num_heads, width // layer.num_heads)
    (query,), (key, value) = (part.permute(2, 0, 3, 1, 4) for part in (queries, keys_values))  # [B, H, N, d/H] each
    query, key = layer.q_norm(query), layer.k_norm(key)
    if layer.fused_attn:
        token = scaled_dot_product_attention(query, key, value)
    else:
        token = ((query * layer.scale) @ key.transpose(-2, -1)).softmax(-1) @ value
    return layer.proj(layer.norm(token.transpose(1, 2).reshape(images, 1, width)))


def use_class_token_block(module: nn.Module) -> None:
    """Let vision transformers in `module` compute the class token alone in their last block in training, in place.

    Of DeiT-S that is 7 % of a step's products. Features and gradients are those of timm's block but for their last
    bits. Nothing changes where the feature is no class token (DeiT's distilled networks, means over tokens).
    """
    for network in module.modules():
        if type(network) is VisionTransformer and network.global_pool == "token" and network.attn_pool is None:
            block = network.blocks[-1]
            if type(block) is Block and type(block.attn) is Attention and block.attn._modules.keys() <= _USED:
                block.__class__ = _ClassTokenBlock


def use_whole_block(module: nn.Module) -> None:
    """Undo `use_class_token_block`, in place: a run from before it ends bit for bit as it began."""
    for block in module.modules():
        if type(block) is _ClassTokenBlock:
            block.__class__ = Block  # type: ignore[assignment]
