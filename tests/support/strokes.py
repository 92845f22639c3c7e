"""Digits as a person might draw them: strokes of points from (0, 0), the upper left, to (1, 1)."""

import itertools
import math


def arc(x, y, rx, ry, start, end, n=14):
    """Points of an ellipse, from one angle to another in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / (n - 1)) for i in range(n)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def line(*corners, n=8):
    """Points along straight lines."""
    points = [corners[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        points += [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(1, n + 1)]
    return points


DIGITS = {
    0: [arc(0.5, 0.5, 0.32, 0.46, -80, 285, 30)],
    1: [line((0.55, 0.04), (0.47, 0.96))],
    2: [arc(0.5, 0.28, 0.3, 0.24, 190, 380, 16) + line((0.7, 0.5), (0.2, 0.94)) + line((0.3, 0.94), (0.86, 0.92))],
    3: [arc(0.45, 0.27, 0.28, 0.23, 205, 445, 16) + arc(0.45, 0.72, 0.33, 0.24, -85, 150, 16)],
    4: [line((0.3, 0.05), (0.18, 0.55), (0.85, 0.55)), line((0.72, 0.1), (0.66, 0.97))],
    5: [line((0.8, 0.06), (0.33, 0.07), (0.28, 0.45)) + arc(0.43, 0.68, 0.34, 0.27, -100, 150, 18)],
    6: [arc(0.72, 0.45, 0.5, 0.5, 250, 165, 12) + arc(0.48, 0.72, 0.26, 0.23, 180, 540, 22)],
    7: [line((0.16, 0.1), (0.82, 0.1), (0.42, 0.96))],
    8: [
        arc(0.5, 0.27, 0.24, 0.22, -60, -270, 14)
        + arc(0.5, 0.73, 0.29, 0.24, -90, 270, 24)
        + arc(0.5, 0.27, 0.24, 0.22, 90, -60, 14)
    ],
    9: [arc(0.5, 0.29, 0.25, 0.24, 0, -360, 22) + line((0.75, 0.29), (0.68, 0.96))],
}


def placed(digit, left, top, size, slant=0.0):
    """The strokes of a digit in a square of a pad whose own corners are (0, 0) and (1, 1)."""
    return [
        [(left + size * (0.12 + 0.76 * x + slant * (0.5 - y)), top + size * y) for x, y in stroke]
        for stroke in DIGITS[digit]
    ]


TWENTY = [
    (digit, placed(digit, *where))
    for digit in DIGITS
    for where in (
        (0.12 + 0.013 * digit, 0.1, 0.72, 0.12),
        (0.46 - 0.04 * digit, 0.42 - 0.03 * digit, 0.44 + 0.012 * digit, -0.02),
    )
]
"""(digit, strokes): each digit once large and slanted, and once small and elsewhere."""
