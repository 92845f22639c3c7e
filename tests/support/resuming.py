"""Fits that tests stop and resume: schedules, optimizers, settings."""

import numpy as np
from support.losses import data_for

from fastmlp import optimizers, schedules


class Falling(schedules.Schedule):
    """One of one's own, that remembers numbers of NumPy."""

    def start(self):
        self.factor = np.float32(1)

    def at(self, steps, course):
        return self.factor

    def on_epoch_end(self, history):
        self.factor *= np.float32(0.9)

    def state(self):
        return {"factor": self.factor}

    def load_state(self, state):
        self.factor = np.float32(state["factor"])


REGULARIZED = {"dropout": 0.3, "input_dropout": 0.1, "input_noise": 0.1, "l2": 0.01}
SCHEDULES = {
    "cosine": lambda: "cosine",
    "one_cycle": lambda: schedules.OneCycle(),
    "warmup": lambda: schedules.Warmup(2, schedule="cosine"),
    "step": lambda: schedules.Step(2),
    "multi_step": lambda: schedules.MultiStep([1, 3]),
    "exponential": lambda: schedules.Exponential(0.9),
    "inverse_scaling": lambda: "inverse_scaling",
    "plateau": lambda: schedules.ReduceOnPlateau(monitor="val_loss", patience=0, threshold=0.05),
    "adaptive": lambda: schedules.Adaptive(tol=0.1, n_iter_no_change=1),
    "warmup of one that watches": lambda: schedules.Warmup(1, schedule=schedules.Adaptive(tol=9, n_iter_no_change=1)),
    "own": lambda: Falling(),
    "function": lambda: lambda step: 1 / (1 + step),
    "none": lambda: None,
}
OPTIMIZERS = {
    "sgd": optimizers.SGD(learning_rate=0.05),
    "nesterov": optimizers.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "momentum": optimizers.SGD(learning_rate=0.05, momentum=0.9),
    "adam": optimizers.Adam(betas=(0.8, 0.99)),
    "adamw": optimizers.AdamW(learning_rate=0.01),
    "rmsprop": optimizers.RMSprop(momentum=0.5, centered=True),
    "adagrad": optimizers.Adagrad(lr_decay=0.1),
}


def fit(net, epochs, schedule="cosine", **arguments):
    X, y = data_for(net, 40)
    schedule = SCHEDULES[schedule]() if isinstance(schedule, str) else schedule
    settings = {"batch_size": 8, "schedule": schedule, "validation_fraction": 0.25}
    return net.fit(X, y, epochs=epochs, **(settings | arguments))
