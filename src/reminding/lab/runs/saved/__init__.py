"""What training changes, as the files of a checkpoint, and back; also from those of version 0.1. Where a run ends.

May import: `disk`, `reminding.nn`, `reminding.tasks`.
"""
