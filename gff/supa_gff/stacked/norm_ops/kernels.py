"""Triton kernels of the batch normalisation of several members; see `masked_batch_norm`.

A program processes some channels of one member. It reads the rows of the member twice, in tiles: first for the sums,
then for the results. Sums of one program have a fixed order, so results are reproducible.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of_rows(step, tiles, rows, member, members, c, CHANNELS: tl.constexpr, ROWS: tl.constexpr):
    """Return the rows of a tile of one copy of a member, and the places of their channels."""
    copy, tile = step // tiles, step % tiles
    row = tile * ROWS + tl.arange(0, ROWS)
    return row, ((copy * members + member).to(tl.int64) * rows + row)[:, None] * CHANNELS + c[None, :]


@triton.jit
def normalise_kernel(
    x_ptr,
    shares_ptr,
    counts_ptr,
    weight_ptr,
    bias_ptr,
    running_mean_ptr,
    running_var_ptr,
    y_ptr,
    mean_ptr,
    rate_ptr,
    copies,
    rows,
    CHANNELS: tl.constexpr,
    EPS: tl.constexpr,
    MOMENTUM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    member, members = tl.program_id(0), tl.num_programs(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < CHANNELS
    own = member * CHANNELS + c
    tiles = tl.cdiv(rows, ROWS)
    # Means and squared deviations of tiles are combined by the formula of Chan, Golub and LeVeque: a difference of
    # large sums would lose digits.
    weight = tl.load(weight_ptr + own, inside, 0.0)
    mean, squares, number = tl.zeros_like(weight), tl.zeros_like(weight), tl.zeros_like(weight)
    for step in range(copies * tiles):
        row, place = tile_of_rows(step, tiles, rows, member, members, c, CHANNELS, ROWS)
        real = tl.load(shares_ptr + member * rows + row, row < rows, 0.0) > 0
        live = real[:, None] & inside[None, :]
        x = tl.load(x_ptr + place, live, 0.0)
        count = tl.sum(real.to(x.dtype), 0)
        total = number + count
        of_tile = tl.sum(x, 0) / tl.maximum(count, 1.0)
        centred = tl.where(live, x - of_tile[None, :], 0.0)
        shift = of_tile - mean
        part = count / tl.maximum(total, 1.0)
        mean += shift * part
        squares += tl.sum(centred * centred, 0) + shift * shift * number * part
        number = total
    count = tl.load(counts_ptr + member) * copies
    var = squares / count
    rate = 1.0 / tl.sqrt(var + EPS)
    tl.store(mean_ptr + own, mean, inside)
    tl.store(rate_ptr + own, rate, inside)
    old_mean = tl.load(running_mean_ptr + own, inside, 0.0)
    old_var = tl.load(running_var_ptr + own, inside, 0.0)
    tl.store(running_mean_ptr + own, old_mean + MOMENTUM * (mean - old_mean), inside)
    tl.store(running_var_ptr + own, old_var + MOMENTUM * (squares / (count - 1.0) - old_var), inside)
    scale, bias = weight * rate, tl.load(bias_ptr + own, inside, 0.0)
    for step in range(copies * tiles):
        row, place = tile_of_rows(step, tiles, rows, member, members, c, CHANNELS, ROWS)
        live = (row < rows)[:, None] & inside[None, :]
        x = tl.load(x_ptr + place, live, 0.0)
        tl.store(y_ptr + place, (x - mean[None, :]) * scale[None, :] + bias[None, :], live)


@triton.jit
def normalise_backward_kernel(
    y_grad_ptr,
    x_ptr,
    shares_ptr,
    weight_ptr,
    mean_ptr,
    rate_ptr,
    x_grad_ptr,
    weight_grad_ptr,
    bias_grad_ptr,
    copies,
    rows,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    member, members = tl.program_id(0), tl.num_programs(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < CHANNELS
    own = member * CHANNELS + c
    tiles = tl.cdiv(rows, ROWS)
    mean, rate = tl.load(mean_ptr + own, inside, 0.0), tl.load(rate_ptr + own, inside, 0.0)
    of_bias, of_weight = tl.zeros_like(mean), tl.zeros_like(mean)
    for step in range(copies * tiles):
        row, place = tile_of_rows(step, tiles, rows, member, members, c, CHANNELS, ROWS)
        live = (row < rows)[:, None] & inside[None, :]
        y_grad = tl.load(y_grad_ptr + place, live, 0.0)
        x = tl.load(x_ptr + place, live, 0.0)
        of_bias += tl.sum(y_grad, 0)
        of_weight += tl.sum(tl.where(live, y_grad * (x - mean[None, :]), 0.0), 0)
    of_weight *= rate
    tl.store(bias_grad_ptr + own, of_bias, inside)
    tl.store(weight_grad_ptr + own, of_weight, inside)
    scale = tl.load(weight_ptr + own, inside, 0.0) * rate
    of_mean, of_var = scale * of_bias / copies, scale * rate * of_weight / copies
    for step in range(copies * tiles):
        row, place = tile_of_rows(step, tiles, rows, member, members, c, CHANNELS, ROWS)
        # Only real rows contribute to the mean and the variance: the share of padding is 0.
        share = tl.load(shares_ptr + member * rows + row, row < rows, 0.0)[:, None]
        live = (row < rows)[:, None] & inside[None, :]
        y_grad = tl.load(y_grad_ptr + place, live, 0.0)
        x = tl.load(x_ptr + place, live, 0.0)
        through = of_mean[None, :] + (x - mean[None, :]) * of_var[None, :]
        tl.store(x_grad_ptr + place, y_grad * scale[None, :] - share * through, live)
