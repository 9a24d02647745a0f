"""Triton kernels of sums over edges and over graphs.

All programs process a block of channels: of a tile of edges, of one graph, or of a tile of nodes.
"""

import triton
import triton.language as tl


@triton.jit
def edge_sum_kernel(
    x_ptr,
    source_ptr,
    goal_ptr,
    y_ptr,
    edges,
    nodes,
    CHANNELS: tl.constexpr,
    EDGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    edge = tl.program_id(0).to(tl.int64) * EDGES + tl.arange(0, EDGES)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    source = tl.load(source_ptr + edge, edge < edges, 0).to(tl.int64)
    goal = tl.load(goal_ptr + edge, edge < edges, 0).to(tl.int64)
    live = (edge < edges)[:, None] & (c < CHANNELS)[None, :]
    # A node that does not exist must be noticed, but the kernel cannot raise an error.
    exists = (source >= 0) & (source < nodes) & (goal >= 0) & (goal < nodes)
    goal = tl.where(exists, goal, 0)
    x = tl.load(x_ptr + source[:, None] * CHANNELS + c[None, :], live & exists[:, None], float("nan"))
    tl.atomic_add(y_ptr + goal[:, None] * CHANNELS + c[None, :], x, live, sem="relaxed")


@triton.jit
def moments_kernel(
    x_ptr,
    begin_ptr,
    sizes_ptr,
    pooled_ptr,
    ties_ptr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    graph = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < CHANNELS
    begin, size = tl.load(begin_ptr + graph), tl.load(sizes_ptr + graph)
    # The ties are the nodes with the largest value.
    total = tl.zeros([BLOCK], x_ptr.dtype.element_ty)
    ties, largest = tl.zeros_like(total), tl.full([BLOCK], float("-inf"), x_ptr.dtype.element_ty)
    for start in range(0, size, ROWS):
        row = start + tl.arange(0, ROWS)
        live = (row < size)[:, None] & inside[None, :]
        x = tl.load(x_ptr + (begin + row)[:, None] * CHANNELS + c[None, :], live, 0.0)
        total += tl.sum(x, 0)
        of_tile = tl.max(tl.where(live, x, float("-inf")), 0)
        ties = tl.where(of_tile > largest, 0.0, ties)
        largest = tl.maximum(largest, of_tile)
        ties += tl.sum((live & (x == largest[None, :])).to(x.dtype), 0)
    place = pooled_ptr + graph * 3 * CHANNELS + c
    tl.store(place, total, inside)
    tl.store(place + CHANNELS, total / tl.maximum(size, 1), inside)
    tl.store(place + 2 * CHANNELS, tl.where(size > 0, largest, 0.0), inside)
    tl.store(ties_ptr + graph * CHANNELS + c, ties, inside)


@triton.jit
def moments_backward_kernel(
    grad_ptr,
    x_ptr,
    graph_ptr,
    sizes_ptr,
    pooled_ptr,
    ties_ptr,
    x_grad_ptr,
    nodes,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    graph = tl.load(graph_ptr + row, row < nodes, 0)
    size = tl.load(sizes_ptr + graph, row < nodes, 0)
    live = (row < nodes)[:, None] & (c < CHANNELS)
    real = live & (size > 0)[:, None]
    x = tl.load(x_ptr + row[:, None] * CHANNELS + c, live, 0.0)
    place = graph[:, None] * 3 * CHANNELS + c
    of_sum = tl.load(grad_ptr + place, real, 0.0)
    of_mean = tl.load(grad_ptr + place + CHANNELS, real, 0.0)
    of_largest = tl.load(grad_ptr + place + 2 * CHANNELS, real, 0.0)
    largest = tl.load(pooled_ptr + place + 2 * CHANNELS, real, 0.0)
    ties = tl.load(ties_ptr + graph[:, None] * CHANNELS + c, real, 1.0)
    x_grad = of_sum + of_mean / tl.maximum(size, 1)[:, None] + tl.where(x == largest, of_largest / ties, 0.0)
    tl.store(x_grad_ptr + row[:, None] * CHANNELS + c, x_grad, live)
