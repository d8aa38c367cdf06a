"""L-BFGS: the minimum of a smooth function of many numbers, from its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MEMORY = 8  # steps remembered
SUFFICIENT = 1e-4  # share of the promised descent that a step must bring (Armijo)


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, *, max_iterations: int, tolerance: float = 1e-6,
    progress: Callable[[int, float], None] = lambda iteration, value: None,
) -> tuple[np.ndarray, int]:
    """Where a smooth, convex function is least.

    Args:
        function: gives the value and the gradient at a point.
        start: (n,) float64.
        max_iterations: steps at most.
        tolerance: stops where the gradient has become this much shorter than it was at the start.
        progress: told of each step.

    Returns:
        The point, and how many steps led to it.

    Source: Nocedal (1980); Liu & Nocedal (1989); departures: steps are halved until they bring enough descent, and a pair whose curvature is
    not positive is forgotten.
    """
    point = start
    value, gradient = function(point)
    goal = tolerance * _length(gradient)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for iteration in range(max_iterations):
        if _length(gradient) <= goal:
            return point, iteration
        direction = -_times_inverse_hessian(gradient, pairs)
        slope = _dot(gradient, direction)
        step = 1.0 if pairs else 1.0 / max(_length(gradient), 1.0)
        while True:
            candidate = point + step * direction
            new_value, new_gradient = function(candidate)
            if new_value <= value + SUFFICIENT * step * slope:
                break
            step /= 2
            if step < 1e-12:
                return point, iteration
        moved, turned = candidate - point, new_gradient - gradient
        if (curvature := _dot(moved, turned)) > 1e-12 * _dot(turned, turned):
            pairs = [*pairs[-MEMORY + 1 :], (moved, turned, curvature)]
        point, value, gradient = candidate, new_value, new_gradient
        progress(iteration + 1, value)
    return point, max_iterations


def _times_inverse_hessian(gradient: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """The two loops of L-BFGS."""
    out, shares = gradient.copy(), []
    for moved, turned, curvature in reversed(pairs):
        shares.append(_dot(moved, out) / curvature)
        out -= shares[-1] * turned
    if pairs:
        _, turned, curvature = pairs[-1]
        out *= curvature / _dot(turned, turned)
    for (moved, turned, curvature), share in zip(pairs, reversed(shares), strict=True):
        out += (share - _dot(turned, out) / curvature) * moved
    return out


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum())  # not BLAS, whose order of adding depends on the machine


def _length(a: np.ndarray) -> float:
    return _dot(a, a) ** 0.5
