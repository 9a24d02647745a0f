"""Triton kernels of sparse attention.

Queries and keys are sorted by head, sequence and bucket, with ascending rows within a bucket and dropped rows after all
others of their sequence. The keys that a query attends then follow each other, and so do the queries that attend a
key. `order` computes these ranges once, so that the other kernels never compare buckets or rows.

A program processes a tile of sorted queries (or keys) of one head and one sequence, and loops over the blocks between
the first and the last key (query) of the tile. The rows themselves are not copied: programs read and write them at
their original places, through the sorted row numbers. Each result is the sum of a single program in a fixed order, so
there are no atomics.

Blocks that all rows of a tile attend need no mask; these have a loop of their own. Loops use ``range``, which Triton
prefetches, unlike ``while``.
"""
