"""What the instructions of ``models/program.py`` do, compiled: each is one pass over registers.

Register r of environment i is ``space[r * stride + i]``: neighbouring environments are neighbours
in memory, in blocks of whole pairs of vectors. With a stride of one there is a single environment,
and the vectors run over its registers instead; the last of them goes on into the room that is left
behind every range.

Only ``interpreter.py`` imports these, for they need numba (extra ``fast``).
"""
