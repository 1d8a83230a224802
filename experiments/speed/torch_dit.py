"""DiT in torch, as a peer: the network of jaxmoust/models/dit.py, written as torch's own networks are."""

import math

import torch
from torch import nn
from torch.nn.functional import gelu, mse_loss, scaled_dot_product_attention, silu


class Block(nn.Module):
    """Attention and two layers, each modulated and gated by the condition."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Makes the layers."""
        super().__init__()
        self.num_heads = num_heads
        self.modulation, self.qkv = nn.Linear(width, 6 * width), nn.Linear(width, 3 * width)
        self.proj, self.mlp0, self.mlp1 = (
            nn.Linear(width, width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )
        self.norm = nn.LayerNorm(width, 1e-6, elementwise_affine=False)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Maps [B, N, D] to itself; c is [B, D]."""
        shift0, scale0, gate0, shift1, scale1, gate1 = self.modulation(c)[:, None].chunk(6, -1)
        h = self.qkv(self.norm(x) * (1 + scale0) + shift0)
        q, k, v = h.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + gate0 * self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        h = self.mlp0(self.norm(x) * (1 + scale1) + shift1)
        return x + gate1 * self.mlp1(gelu(h, approximate="tanh"))


class DiT(nn.Module):
    """The raw network of images [B, C, H, W], times [B] and labels [B]."""

    def __init__(
        self, side: int, channels: int, num_classes: int, patch_size: int, width: int, depth: int, num_heads: int
    ) -> None:
        """Makes the layers, of which torch's own initialisation will do."""
        super().__init__()
        self.patch_embed = nn.Conv2d(channels, width, patch_size, patch_size)
        self.register_buffer("positions", torch.randn(1, (side // patch_size) ** 2, width), persistent=False)
        self.time0, self.time1 = nn.Linear(256, width), nn.Linear(width, width)
        self.label = nn.Embedding(num_classes + 1, width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.modulation, self.out = nn.Linear(width, 2 * width), nn.Linear(width, patch_size**2 * channels)
        self.unpatch = nn.Sequential(nn.Unflatten(1, (side // patch_size, -1)), _Last(), nn.PixelShuffle(patch_size))

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Answers [B, C, H, W]."""
        rates = torch.exp(-math.log(10_000) / 128 * torch.arange(128, device=x.device))
        waves = t[:, None] * rates
        c = self.time1(silu(self.time0(torch.cat([waves.cos(), waves.sin()], -1)))) + self.label(label)
        c, h = silu(c), self.patch_embed(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, -1)
        return self.unpatch(self.out(self.norm(h) * (1 + scale) + shift))

    def loss(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The rectified flow's, at even times."""
        s, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
        at = s[:, None, None, None]
        return mse_loss(self((1 - at) * x + at * noise, 1000 * s, label), noise - x)


class _Last(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels last to channels first."""
        return x.permute(0, 3, 1, 2)
