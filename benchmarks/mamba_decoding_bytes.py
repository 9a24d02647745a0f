"""Count of the bytes and operations of steps for generation with Mamba-2, with and without a buffer of inputs.

    python benchmarks/mamba_decoding_bytes.py [--rows 4096] [--inputs 1 4] [--bandwidth 4.27]

Mamba-2 has 8 heads of 64 channels in one group. ``selective_state_update`` and ``selective_state_replay`` read and
write the state in each call. ``buffered_state_update`` reads the state and the buffered inputs, and writes the new
inputs; it writes the state only when the buffer of L inputs is full. With K > 1 new inputs per call, ``--accepted`` of
them are kept. Each tensor is counted as if it is read or written once; times are bytes over the bandwidth. Operations
are multiply-adds; an H200 performs about 30,000 million per millisecond in float32.

The script needs no GPU.
"""

import argparse
from typing import NamedTuple

HEADS, WIDTH = 8, 64
CHANNELS = HEADS * WIDTH


class Work(NamedTuple):
    """Bytes and multiply-adds of one row and call."""

    bytes: float
    operations: float


def direct(states: int, inputs: int, accepted: float, of_state: int, of_input: int) -> Work:
    """Count one call that reads and writes the state: a step if ``inputs`` is 1, otherwise a replay.

    Args:
        states: States per channel, N.
        inputs: New inputs per call, K.
        accepted: Inputs of the previous call that are kept, on average.
        of_state: Bytes of a number of the state.
        of_input: Bytes of a number of the inputs.
    """
    cached = 0.0 if inputs == 1 else accepted + inputs  # read, and written
    moved = 2 * CHANNELS * states * of_state + (cached * stored(states) + inputs * passed(states)) * of_input
    advanced = inputs if inputs == 1 else inputs + accepted
    return Work(moved, CHANNELS * states * (2 * advanced + inputs))


def buffered(states: int, inputs: int, accepted: float, of_state: int, of_input: int, length: int) -> Work:
    """Count one call with a buffer of ``length`` inputs; the other arguments are those of `direct`."""
    calls = (length - inputs) // accepted + 1  # between two writes of the state
    read = accepted * (calls + 1) / 2  # buffered inputs, on average
    moved = CHANNELS * states * of_state * (1 + 1 / calls)
    moved += ((read + inputs) * stored(states) + inputs * passed(states)) * of_input
    pairs = inputs * (read + (inputs + 1) / 2)
    operations = CHANNELS * states * (inputs + (1 + accepted * calls) / calls) + pairs * (HEADS * states + CHANNELS)
    return Work(moved, operations)


def stored(states: int) -> int:
    """Return the number of values of one input in a cache or buffer: x, dt and B."""
    return CHANNELS + HEADS + states


def passed(states: int) -> int:
    """Return the number of values that a call reads and writes for one input: x, dt, B, C and y."""
    return stored(states) + states + CHANNELS


def main() -> None:
    """Print a table for each number of inputs and each pair of dtypes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=4096, help="number of showers that are generated together")
    parser.add_argument("--inputs", type=int, nargs="+", default=[1, 4], help="new inputs per call")
    parser.add_argument("--accepted", type=float, default=0.5, help="kept part of the inputs, if there are several")
    parser.add_argument("--states", type=int, nargs="+", default=[16, 32, 64, 128], help="states per channel")
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32], help="inputs in the buffer")
    parser.add_argument("--bandwidth", type=float, default=4.27, help="bandwidth of the memory in TB/s")
    given = parser.parse_args()
    if min(given.inputs) < 1 or max(given.inputs) > min(given.lengths):
        parser.error("--inputs must be at least 1, and at most the smallest of --lengths")
    if not 0 < given.accepted <= 1:
        parser.error("--accepted must be above 0 and at most 1")
    for inputs in given.inputs:
        accepted = 1.0 if inputs == 1 else given.accepted * inputs
        for of_state, of_input, dtypes in (
            (4, 4, "float32 states and inputs"),
            (4, 2, "float32 states, bfloat16 inputs"),
            (2, 2, "bfloat16 states and inputs"),
        ):
            print(f"\n{given.rows} rows, K = {inputs}, {dtypes}; microseconds (million multiply-adds)\n")
            print("| states | direct |", *(f"buffer of {n} | gain |" for n in given.lengths))
            print("|---|---|" + "---|---|" * len(given.lengths))
            for states in given.states:
                of_call = (states, inputs, accepted, of_state, of_input)
                plain = direct(*of_call)
                cells = [cell(plain, given.rows, given.bandwidth)]
                for length in given.lengths:
                    work = buffered(*of_call, length)
                    cells += [cell(work, given.rows, given.bandwidth), f"{plain.bytes / work.bytes:.2f}"]
                print("|", " | ".join([str(states), *cells]), "|")


def cell(work: Work, rows: int, bandwidth: float) -> str:
    """Return the time of the bytes of all rows and the number of their operations."""
    return f"{work.bytes * rows / bandwidth * 1e-6:.1f} ({work.operations * rows / 1e6:.0f})"


if __name__ == "__main__":
    main()
