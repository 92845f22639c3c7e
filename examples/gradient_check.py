"""Two checks of the gradients: the reference against finite differences, and the kernels against the reference.

The reference, in float64, is compared with central differences (L(p + h) - L(p - h)) / 2h for every parameter p, with
h = 3e-5. The relative difference of every entry is below 1e-6. Two effects limit it. The random data here avoids both,
and the program prints by how much:

- ReLU has a kink. If a unit's input z crosses zero between p - h and p + h, the difference quotient mixes two slopes.
  Here no hidden z is closer to zero than 100 h. The biases are not zero, as they would be at the start of training: a
  row that switches off a whole layer would put z of the next layer exactly at zero. The logistic function, which has no
  kink, is checked too.
- The loss has a rounding error of 1e-16, and its difference quotient one of 1e-16 / h. So entries of the gradient below
  1e-5 do not have six correct digits. The smallest entry here is 8e-5. With other data, whose smallest entry is 7e-7,
  the relative difference is 1e-6.

The kernels compute in float32, where a sum that nearly cancels has a large relative error. So these differences are
relative to the largest entry of each array. They are below 1e-4.
"""

import numpy as np
from numpy.typing import NDArray

from fastmlp import MLP, datasets, reference

STEP = 3e-5
SMALL = (5, 7, 6, 3)  # few enough parameters to vary each of them


def make_reference(layers: tuple[int, ...], activation: str) -> reference.MLP:
    """Return a float64 network with nonzero biases."""
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
    """Return the smallest absolute input z of a hidden unit: its distance from the kink of ReLU."""
    smallest, a = np.inf, x.astype(np.float64)
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        z = a @ weight + bias
        smallest, a = min(smallest, np.abs(z).min()), reference.relu(z)
    return float(smallest)


def numerical_gradients(net: reference.MLP, x: NDArray[np.float32], y: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return central differences of the loss for all weights, then all biases."""
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
        size[size == 0] = 1  # both are zero: the unit is off for all rows
        largest = max(largest, float((np.abs(gradient - numerical) / size).max()))
    return largest


def check_kernels(layers: tuple[int, ...], activation: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Return the largest difference from the reference, relative to the largest entry of each array."""
    net, kernels = make_reference(layers, activation), MLP(layers, activation=activation)
    for mine, theirs in zip(net.weights + net.biases, kernels.weights + kernels.biases, strict=True):
        theirs[:] = mine
        mine[:] = theirs  # both have the same numbers, rounded to float32
    _, dw, db = net.gradients(x, y)
    _, kernel_dw, kernel_db = kernels.gradients(x, y)
    pairs = zip(dw + db, kernel_dw + kernel_db, strict=True)
    return max(float(np.abs(exact - fast).max() / np.abs(exact).max()) for exact, fast in pairs)


def main() -> dict[str, float]:
    """Check, print and return the largest differences and the distance from the kink."""
    small = small_batch()
    images, labels, _, _ = datasets.load_mnist()
    margin = smallest_input(make_reference(SMALL, "relu"), small[0])
    figures = {"kink_margin": margin, "step": STEP}
    print(f"no input of a ReLU is closer to zero than {margin:.1e}; finite differences use h = {STEP:.0e}")
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
