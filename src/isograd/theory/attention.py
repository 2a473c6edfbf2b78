"""Attention: at uniform weights, how tokens come to agree and what that does to gradients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.averages import number, whole
from isograd.theory.maps import correlation_map
from isograd.theory.moments import moments_at

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankCollapse:
    """Tokens of a residual stream by attention layer; index 0 is the input. Arrays [depth + 1]."""

    q: Array
    """Mean square of a token, averaged over tokens; relative where it passes 1e100."""
    rho: Array
    """Mean correlation of two tokens; 1 is rank collapse."""


@dataclass(frozen=True, slots=True)
class PostNorm:
    """A post-norm transformer of attention and feed-forward sublayers, by block."""

    rho: Array
    """Correlation of two tokens at each block's input, and at the output, [depth + 1]."""
    similarity: Array
    """Correlation of two tokens' gradients there, [depth + 1]."""
    gradient: Array
    """Gradient energy there, relative to the output, [depth + 1]."""


def uniform_attention(tokens: int, *, rho: float, rho_g: float) -> tuple[float, float]:
    """(v, chi) of attention that takes the mean over all tokens, by value weights of gain 1.

    v = (1 + (T - 1) rho)/T is the output's energy relative to a token's, chi the same of gradients.

    Args:
        tokens: T.
        rho: correlation of two tokens.
        rho_g: correlation of two tokens' gradients.

    Raises:
        InputError: an argument out of its range.
    """
    tokens = whole("tokens", tokens)
    for name, value in (("rho", rho), ("rho_g", rho_g)):
        if not -1 <= value <= 1:
            raise InputError(f"{name} is from -1 to 1; got {value!r}")
    v, chi = (max(0.0, 1 + (tokens - 1) * value) / tokens for value in (rho, rho_g))
    return v, chi


def post_norm_factor(v: float, chi: float) -> float:
    """Factor (1 + chi)/(1 + v) on the gradient energy back through a post-norm sublayer.

    The norm after the sum divides by 1 + v; where tokens agree (v = 1) and gradients do not
    (chi = 1/T) each attention halves it, the (1/2)^(L - l) of Xiong et al. (On layer normalization
    in the transformer architecture, 2020, section 3).
    """
    return (1 + number("chi", chi)) / (1 + number("v", v))


def rank_collapse(
    tokens: int,
    depth: int,
    *,
    branch_scale: float = 1.0,
    value_var: float = 1.0,
    rho: float = 0.0,
    causal: bool = False,
) -> RankCollapse:
    """Length and agreement of tokens over residual attention layers of uniform weights.

    p <- p + a^2 k, q <- q + a^2 k with k = (q + (T - 1) p)/T, rho = p/q (Noci et al., Signal
    propagation in transformers: theoretical perspectives and the role of rank collapse, 2022,
    section 3). Causal attention takes the mean over a token and those before it, and the whole
    T x T matrix of covariances is followed: the first token never changes direction.

    Args:
        tokens: T; causal at most 2,048.
        depth: number of layers, at most 100,000, causal at most 1,000.
        branch_scale: a.
        value_var: gain of value and output weights together.
        rho: correlation of two tokens at the input, from -1/(T - 1) to 1.
        causal: whether a token sees only itself and those before it.

    Raises:
        InputError: an argument out of its range.
    """
    tokens = whole("tokens", tokens, 1, 2048 if causal else 1_000_000_000)
    depth = whole("depth", depth, 0, 1000 if causal else 100_000)
    scale = number("branch_scale", branch_scale)
    gain = scale * scale * number("value_var", value_var)
    least = -1 / (tokens - 1) if tokens > 1 else -1.0
    if not least - 1e-12 <= rho <= 1:
        raise InputError(f"rho is from {least:g} to 1 at {tokens} tokens; got {rho!r}")
    if gain > 1e100:
        raise InputError(f"branch_scale^2 value_var is {gain:g}; it has to be below 1e100")
    return _causal(tokens, depth, gain, rho) if causal else _full(tokens, depth, gain, rho)


def _full(tokens: int, depth: int, gain: float, rho: float) -> RankCollapse:
    q, p = 1.0, rho
    states = [(q, rho)]
    for _ in range(depth):
        shared = gain * max(0.0, q + (tokens - 1) * p) / tokens
        q, p = q + shared, p + shared
        states.append((q, p / q))
        if q > 1e100:
            q, p = 1.0, p / q
    lengths, angles = np.array(states).T
    return RankCollapse(lengths, angles)


def _causal(tokens: int, depth: int, gain: float, rho: float) -> RankCollapse:
    covariance = np.full((tokens, tokens), rho) + (1 - rho) * np.eye(tokens)
    counts = np.arange(1, tokens + 1)
    states = []
    for layer in range(depth + 1):
        root = np.sqrt(covariance.diagonal())
        angles = covariance / np.outer(root, root)
        pairs = tokens * (tokens - 1)
        rho = float((angles.sum() - tokens) / pairs) if pairs else 1.0
        states.append((float(covariance.diagonal().mean()), rho))
        if layer < depth:
            mixed = np.cumsum(covariance, axis=0) / counts[:, None]
            mixed = np.cumsum(mixed, axis=1) / counts
            covariance = covariance + gain * mixed
            if covariance.max() > 1e100:
                covariance = covariance / covariance.max()
    lengths, angles = np.array(states).T
    return RankCollapse(lengths, angles)


def post_norm(
    tokens: int, depth: int, *, act: object = "relu", rho: float = 0.0, rho_g: float = 0.0
) -> PostNorm:
    """Post-norm blocks of uniform attention and feed-forward, both branches of gain 1.

    Forward, attention takes rho to (rho + v)/(1 + v) and the feed-forward net to (rho + C(rho))/2,
    C(rho) = E phi phi / E phi^2. Backward, attention multiplies the gradient energy by
    (1 + chi)/(1 + v) and takes its correlation to (rho_g + chi)/(1 + chi), the feed-forward net by
    (1 + x)/2 and to rho_g (1 + C'(rho))/(1 + x), x = E phi'^2 / E phi^2 (1 for ReLU). The halving
    per attention thus holds near the output only: gradients come to agree going back, and near the
    input tokens do not agree yet.

    Args:
        tokens: T.
        depth: number of blocks, at most 100,000.
        act: of the feed-forward nets, whatever `activation` takes.
        rho: correlation of two tokens at the input, 0 to 1.
        rho_g: correlation of two tokens' gradients at the output, 0 to 1.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    tokens = whole("tokens", tokens)
    depth = whole("depth", depth, 0, 100_000)
    if not (0 <= rho <= 1 and 0 <= rho_g <= 1):
        raise InputError(f"rho and rho_g are from 0 to 1; got {rho!r} and {rho_g!r}")
    square, slope_square = moments_at(phi, 1.0)
    if not 1e-300 < square < np.inf:
        raise InputError(f"{phi.name} passes nothing at unit variance")
    gain = slope_square / square
    forward = [(rho, 0.0, 0.0)]
    for _ in range(depth):
        v, _ = uniform_attention(tokens, rho=min(1.0, rho), rho_g=0.0)
        rho = min(1.0, (rho + v) / (1 + v))
        both = correlation_map(phi, rho, 1.0, weight_var=1 / square)
        rho = min(1.0, (rho + both.covariance) / 2)
        forward.append((rho, v, both.gradient))
    back = [(1.0, rho_g)]
    for _, v, slope in reversed(forward[1:]):
        energy, rho_g = back[-1]
        energy, rho_g = energy * (1 + gain) / 2, rho_g * (1 + slope) / (1 + gain)
        _, chi = uniform_attention(tokens, rho=0.0, rho_g=min(1.0, rho_g))
        back.append((energy * post_norm_factor(v, chi), min(1.0, (rho_g + chi) / (1 + chi))))
    gradient, similarity = np.array(back[::-1]).T
    return PostNorm(np.array([row[0] for row in forward]), similarity, gradient)
