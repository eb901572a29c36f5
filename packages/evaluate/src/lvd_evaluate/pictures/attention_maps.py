"""Where the class token looks: attention of the last block, head by head, from any library's network."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lvd_evaluate.contracts import Encoder
from lvd_evaluate.errors import InputError


def attend(encoder: Encoder, images: Tensor) -> Tensor:
    """Share of the class token's attention that each patch gets in the last block: float32 [B, heads, h, w].

    Class token and registers have a share too, which is left out: the values of a head sum to at most 1.

    Args:
        encoder: a transformer with a class token.
        images: as `Encoder.encode` takes them.

    Raises:
        InputError: there is no class token, or no attention that torch computes.
    """
    with _LastAttention() as last:
        (tokens,) = encoder.encode(images, 1)
    if tokens.registers is None or tokens.patches is None:
        raise InputError(f"{encoder.spec}: has no class token whose attention could be shown")
    if last.shares is None:
        raise InputError(f"{encoder.spec}: computes no attention in a way that can be followed")
    num_prefix = 1 + tokens.registers.shape[1]
    return last.shares[:, :, num_prefix:].unflatten(2, tokens.patches.shape[1:3]).float().cpu()


class _LastAttention(TorchFunctionMode):
    """Sees every call of torch's attention and keeps the class token's row of the last: its kernels give no weights."""

    shares: Tensor | None = None  # [B, heads, 1 + R + h w]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key = args[0][:, :, :1], args[1]  # [B, heads, 1, d], [B, heads, N, d]
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            self.shares = (query @ key.transpose(-2, -1) * scale).float().softmax(dim=-1)[:, :, 0]
        elif func is functional.multi_head_attention_forward:  # nn.MultiheadAttention, which open_clip is built of
            output, weights = func(*args, **kwargs | {"need_weights": True, "average_attn_weights": False})
            assert weights is not None
            self.shares = weights[:, :, 0].float()  # of weights [B, heads, N, N]
            return output, None
        return func(*args, **kwargs)
