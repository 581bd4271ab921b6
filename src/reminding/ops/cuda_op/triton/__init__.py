"""Triton kernels: one row a program, or tiles of rows by slices of units; `tiling` chooses and launches.

All files but `tiling` are written in Triton's language and imported when a kernel is launched.
May import: `reminding.ops`, `ops.cuda_op`.
"""
