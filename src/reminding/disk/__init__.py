"""Files that are whole or absent: writing, checksums, commits of several files, and the lock of a folder.

It knows neither tensors nor runs; `fields` makes JSON values of a dataclass, and `places` finds folders. Every
system call that changes a disk is in `operations`.
May import: nothing of the package.
"""
