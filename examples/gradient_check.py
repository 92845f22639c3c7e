"""Check the gradients twice: those of the reference by finite differences, those of the kernels by the reference.

The reference, in float64, is compared with central differences (L(p + h) - L(p - h)) / 2h of every single parameter p,
h = 3e-5. Entry by entry, the relative difference is below 1e-6. Two things limit the comparison. The points used here
were drawn so that neither matters, and the example prints by what margin:

- ReLU has a kink. If the input z of a unit crosses zero between p - h and p + h, the difference quotient mixes two
  slopes and says nothing about either. Here no hidden z is closer to zero than 100 h. Biases are not zero, as they are
  at the start of training: a row that switches off a whole layer would put the z of the next layer exactly at zero. The
  logistic function has no kink and is checked as well.
- The loss is rounded at 1e-16, so its difference quotient is rounded at 1e-16 / h. A gradient below 1e-5 does not have
  6 correct digits then; the smallest one here is 8e-5. For that reason, a draw with a gradient of 7e-7 shows 1e-6.

The kernels compute in float32. A sum that nearly cancels has a large relative error there, whoever computes it. So the
differences are taken relative to the largest entry of each array; they stay below 1e-4.
"""

import numpy as np
from numpy.typing import NDArray

from fastmlp import MLP, datasets, reference

STEP = 3e-5
SMALL = (5, 7, 6, 3)  # few enough parameters to try each of them


def make_reference(layers: tuple[int, ...], activation: str) -> reference.MLP:
    """Return a float64 network with biases other than zero."""
    net = reference.MLP(layers, activation=activation, seed=0, dtype="float64")
    generator = np.random.default_rng(0)
    for bias in net.biases:
        bias[:] = generator.normal(0, 0.5, bias.shape)
    return net


def small_batch() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 8 random rows and labels for the small network."""
    generator = np.random.default_rng(4)
    return generator.normal(size=(8, SMALL[0])).astype(np.float32), generator.integers(0, SMALL[-1], 8)


def smallest_input(net: reference.MLP, x: NDArray[np.float32]) -> float:
    """Return the smallest distance of any hidden unit's input z from zero, ReLU's kink."""
    smallest, a = np.inf, x.astype(np.float64)
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        z = a @ weight + bias
        smallest, a = min(smallest, np.abs(z).min()), reference.relu(z)
    return float(smallest)


def numerical_gradients(net: reference.MLP, x: NDArray[np.float32], y: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return central differences of the loss, for all weights, then all biases."""
    gradients = []
    for parameter in net.weights + net.biases:
        gradient = np.empty_like(parameter)
        for i in np.ndindex(parameter.shape):
            kept = parameter[i]
            parameter[i] = kept + STEP
            above = net.evaluate(x, y)["loss"]
            parameter[i] = kept - STEP
            below = net.evaluate(x, y)["loss"]
            parameter[i] = kept
            gradient[i] = (above - below) / (2 * STEP)
        gradients.append(gradient)
    return gradients


def check_reference(activation: str) -> float:
    """Return the largest relative difference from finite differences; print the smallest gradient."""
    net, (x, y) = make_reference(SMALL, activation), small_batch()
    _, dw, db = net.gradients(x, y)
    smallest = min(np.abs(gradient[gradient != 0]).min() for gradient in dw + db)
    print(f"{activation}: smallest gradient {smallest:.0e}")
    largest = 0.0
    for gradient, numerical in zip(dw + db, numerical_gradients(net, x, y), strict=True):
        size = np.maximum(np.abs(gradient), np.abs(numerical))
        size[size == 0] = 1  # both are zero: a ReLU that is off for all rows
        largest = max(largest, float((np.abs(gradient - numerical) / size).max()))
    return largest


def check_kernels(layers: tuple[int, ...], activation: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Return the largest difference from the reference, relative to the largest entry of each array."""
    net, kernels = make_reference(layers, activation), MLP(layers, activation=activation)
    for mine, theirs in zip(net.weights + net.biases, kernels.weights + kernels.biases, strict=True):
        theirs[:] = mine
        mine[:] = theirs  # both have the same parameters, rounded to float32
    _, dw, db = net.gradients(x, y)
    _, kernel_dw, kernel_db = kernels.gradients(x, y)
    pairs = zip(dw + db, kernel_dw + kernel_db, strict=True)
    return max(float(np.abs(exact - fast).max() / np.abs(exact).max()) for exact, fast in pairs)


def main() -> dict[str, float]:
    """Check, print, and return the largest differences and the distance from the kink."""
    small = small_batch()
    images, labels, _, _ = datasets.load_mnist()
    margin = smallest_input(make_reference(SMALL, "relu"), small[0])
    figures = {"kink_margin": margin, "step": STEP}
    print(f"no input of a ReLU is closer to zero than {margin:.1e}; finite differences move by {STEP:.0e}")
    for activation in ("relu", "logistic"):
        figures[f"reference_{activation}"] = check_reference(activation)
        figures[f"kernels_{activation}"] = max(
            check_kernels(SMALL, activation, *small),
            check_kernels((784, 128, 10), activation, images[:64], labels[:64]),
        )
        print(f"{activation}: reference against finite differences {figures[f'reference_{activation}']:.1e}")
        print(f"{activation}: kernels against the reference {figures[f'kernels_{activation}']:.1e}")
    return figures


if __name__ == "__main__":
    main()
