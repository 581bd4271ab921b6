"""What training changes, as the files of a checkpoint, and back; also from the checkpoints of version 0.1.

May import: `reminding.nn`, `reminding.tasks`, `disk`, `lab.runs.model` by type alone.
"""
