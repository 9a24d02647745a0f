"""Reference implementation of the counter-based simulation in plain Python integers and float64."""

import math
from dataclasses import dataclass

import numpy as np

from supa import ShowerConfig

STOP, SPLIT, PASS, LEAK = range(4)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(seed: int, index: int, primary: int, path: int) -> tuple[int, int, int, int]:
    counter = (path % 2**32, path >> 32, index % 2**32, ((index >> 32) << 8) | primary)
    return philox(counter, (seed % 2**32, seed >> 32))


@dataclass
class Particle:
    primary: int
    path: int
    slice: int
    x: float
    y: float
    slope_x: float
    slope_y: float
    energy: float
    parent: int
    fate: int = -1


def rotation(slope_x: float, slope_y: float) -> np.ndarray:
    """Return the matrix M that rotates the parent's direction to the z axis."""
    v = np.array([slope_x, slope_y, 1.0])
    a, b, c = v / np.linalg.norm(v)
    s = math.sqrt(1 - a * a) if a * a < 0.5 else math.sqrt(b * b + c * c)
    return np.array([[-s, a * b / s, a * c / s], [0.0, -c / s, b / s], [a, b, c]])


def child_slopes(particle: Particle, angle: float, phi: float, frame: str) -> tuple[float, float]:
    direction = np.array([math.sin(angle) * math.cos(phi), math.sin(angle) * math.sin(phi), math.cos(angle)])
    m = rotation(particle.slope_x, particle.slope_y)
    w = (m.T if frame == "parent" else m) @ direction
    z = max(abs(w[2]), 1e-3)
    return w[0] / z, w[1] / z


def fate_of(word: int, energy: float, l: int, config: ShowerConfig) -> int:
    p_stop = 0.0
    p_split = config.split_early
    if l >= config.first_stop_slice:
        p_stop = min(1.0, config.stop_amplitude * (l / config.stop_scale) ** config.stop_exponent)
        if config.split_late_rule == "fixed":
            p_split = min(config.split_late, 1 - p_stop)
        else:
            p_split = max(0.0, config.split_late - p_stop)
    if energy < config.critical_energy or word < round(p_stop * 2**32):
        return STOP
    return SPLIT if word < round(min(1.0, p_stop + p_split) * 2**32) else PASS


def walk(config: ShowerConfig, seed: int, index: int, primaries: list[tuple[float, ...]]) -> list[Particle]:
    """Return all particles, ordered by slice and creation. Primaries are (energy, x, y, slope_x, slope_y)."""
    tree = [Particle(p, 1, 0, x, y, sx, sy, e, -1) for p, (e, x, y, sx, sy) in enumerate(primaries)]
    dz = config.slice_spacing
    for number, it in enumerate(tree):  # the list grows during the loop
        if it.slice == config.num_slices:
            it.fate = LEAK
            continue
        fate, theta_word, delta_word, phi_word = words(seed, index, it.primary, it.path)
        it.fate = fate_of(fate, it.energy, it.slice, config)
        if it.fate == PASS:
            slopes = [(it.slope_x, it.slope_y, it.energy)]
        elif it.fate == SPLIT:
            first, last = config.opening_angle
            theta = first + (last - first) * (theta_word / 2**32)
            share = (0.5 - config.deviation) + 2 * config.deviation * (delta_word / 2**32)
            phi = 2 * math.pi * phi_word / 2**32
            one = child_slopes(it, theta * (1 - share), phi, config.frame)
            two = child_slopes(it, -theta * share, phi, config.frame)
            if config.energy_sharing == "equal":
                share = 0.5
            slopes = [(*one, it.energy * share), (*two, it.energy * (1 - share))]
        else:
            slopes = []
        for k, (sx, sy, energy) in enumerate(slopes):
            tree.append(
                Particle(
                    it.primary, 2 * it.path + k, it.slice + 1, it.x + dz * sx, it.y + dz * sy, sx, sy, energy, number
                )
            )
    return tree
