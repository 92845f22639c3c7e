"""What a loop looks up by number: the columns of ``plan``, the places of ``control`` and ``settings``, the modes.

``plan`` is a thread's own table of the layers, one row of integers each. ``notes`` is its own table of the rows of the
chunk at hand: where their inputs to each layer start, where their deltas of each layer start, which rows of X they are,
and where they end. ``settings`` are numbers. ``work`` starts with zeros, as many as the longest row of a layer.
"""

N_IN, N_OUT, WIDTH, PITCH, W, B, H, D, T, KIND, D_PITCH, BY_COLUMNS, COLUMN, END_COLUMN, IN, END_IN = range(16)
MEET, MEET_BACK, OWN, OWN_PITCH, SLOPE, SLOT, G, G_PITCH, SUMS, WAITING, FIELDS = range(16, 27)
"""Columns of ``plan``. Sizes of the layer; vectors in one row of its weights and outputs; numbers from one such row to
the next. Where its weights (I, O) and biases (O,) start in ``params``, its outputs (chunk, O), deltas (chunk, O) and
transposed weights (O, I) in ``work``. Its activation. Numbers from one row of its deltas to the next. Whether its
forward pass is divided by columns; the columns and the rows of its weights that this thread owns; whether the threads
must meet after its forward pass, and after its deltas are computed. Where the thread's own copy of its columns of the
first weights would start in ``work`` if all columns were there, and numbers from one row of the copy to the next; 0
where there is no copy. Side by side with those of another thread, they would be dragged from core to core all the time:
processors fetch the lines beside those that are used. Where the slopes of its activation (chunk, O) are left in
``work``, or 0. Numbers from the thread's own copy to that of the first slot of the optimizer's memory, and so on. Where
the gradient of the weights would start in ``work`` if all rows and columns were there, and numbers from one row of it
to the next; 0 where there is only room for a block of it. Where the layer's sums of squares start in each half of
``sums``. Where sums of the first update wait in ``work`` for more rows than 128,
packed ones."""

STOP, AGREED, STEPS, RESULT, CONTROLS = range(5)
"""Places in ``control``: Python's wish to stop, what the team made of it, steps finished, and how training ended."""

FINISHED, STOPPED, NOT_FINITE = range(3)
"""What ``control[RESULT]`` says at the end."""

ACCUMULATE, COMMIT = 1, 2
"""Modes of :func:`train`: sum the gradient up in ``gradient`` first; then change the parameters by it."""

NUMBERS, LABELS, LOSSES = range(3)
"""Modes of :func:`infer`: what a head gives as numbers, such as probabilities, or as integers, or the losses."""

SMOOTHING, NOISE, SEED, EPOCH, DROPOUT = range(5)
"""Places in ``settings``: of a softmax's labels; of the inputs; what the random numbers are keyed by, of which the
second counts on; and from ``DROPOUT`` on, of the inputs of each layer, from which random word on a unit is kept and
what it is then multiplied by."""
