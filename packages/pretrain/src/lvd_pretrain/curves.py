"""A run's loss terms as a small picture: SVG, drawn from metrics.jsonl alone."""

from __future__ import annotations

import json
from pathlib import Path

TERMS = {"dino_global": "#4269d0", "dino_local": "#efb118", "ibot": "#3ca951", "koleo": "#ff725c"}
WIDTH, HEIGHT, MARGIN = 720, 280, 48  # pixels
POINTS = 240  # drawn per curve at most


def read_curves(metrics: Path, until: int) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every loss term up to step `until`, thinned to POINTS; a torn line is left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= until:
            for term in TERMS.keys() & record.keys():
                curves.setdefault(term, []).append((record["step"], record[term]))
    return {term: curves[term][:: -(-len(curves[term]) // POINTS)] for term in TERMS if term in curves}


def draw_curves(curves: dict[str, list[tuple[int, float]]]) -> str:
    """An SVG document of all curves over the step, on one axis."""
    points = [point for curve in curves.values() for point in curve]
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(0.0, *values), max(*values, 1e-9)
    first, last = min(steps), max(steps)

    def place(step: int, value: float) -> str:
        x = MARGIN + (step - first) / max(1, last - first) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    lines = [
        f'<polyline fill="none" stroke="{TERMS[term]}" points="{" ".join(place(*point) for point in curve)}"/>'
        for term, curve in curves.items()
    ]
    legend = [
        f'<text x="{MARGIN + 130 * index}" y="24" fill="{TERMS[term]}">{term} {curve[-1][1]:.3f}</text>'
        for index, (term, curve) in enumerate(curves.items())
    ]
    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN
    frame = [
        f'<path fill="none" stroke="#888" d="M{MARGIN},{MARGIN}V{bottom}H{right}"/>',
        f'<text x="{MARGIN - 6}" y="{MARGIN + 4}" text-anchor="end">{high:.2f}</text>',
        f'<text x="{MARGIN - 6}" y="{bottom}" text-anchor="end">{low:.2f}</text>',
        f'<text x="{MARGIN}" y="{bottom + 20}">step {first:,}</text>',
        f'<text x="{right}" y="{bottom + 20}" text-anchor="end">{last:,}</text>',
    ]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
    return "\n".join([f'{opening}font-size="12">', *frame, *lines, *legend, "</svg>", ""])
