"""`Ensemble`: networks that differ in their seeds, and whose predictions are averaged."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from fastmlp import checkpoint, summary
from fastmlp.activations import Floats
from fastmlp.fitting import check_arrays
from fastmlp.history import History
from fastmlp.many.fit import check_fits, fit_many
from fastmlp.many.mean import MeanEngine
from fastmlp.metrics import Metric, check_metrics, measure, r2
from fastmlp.model import read_file, saver
from fastmlp.network import Network
from fastmlp.random import bootstrap_rows, member_seeds
from fastmlp.validation.calls import advised_constructor, advised_methods
from fastmlp.validation.settings import check_bool, check_int, check_path, check_seed

__all__ = ["Ensemble"]


@advised_constructor
@advised_methods
class Ensemble:
    """Deep ensemble: networks that differ in their seeds, and whose predictions are averaged.

    The mean is usually more accurate than a single network, and the disagreement of the members measures its
    uncertainty [1]_.

    Parameters
    ----------
    net : MLP
        Network whose settings all members have, except for the seed. It is neither trained nor changed. Members start
        from new parameters even if it has been trained.
    n : int, default=5
        Number of members.
    bootstrap : bool, default=False
        Whether to train each member on n rows drawn with replacement (bagging). Without it, members differ only in
        their initial weights and the order of the rows, which is usually more accurate.
    seed : int or None, default=0
        Seed of the members' seeds. The first members of a larger ensemble are the same. With None each ensemble is
        different.

    Attributes
    ----------
    members : tuple of MLP
        The networks; also ``ensemble[i]``, ``len(ensemble)`` and ``for net in ensemble``.
    bootstrap, seed : bool, int or None
        The parameters above; read-only.
    histories : list of History
        Measurements of the last fit of each member.
    feature_names : list of str or None
        Column names of the table that trained the ensemble.
    classes : (C,) array or None
        Class names in the order of the outputs, if y had names.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty estimation using
       deep ensembles", NIPS 2017.

    Examples
    --------
    >>> from fastmlp import MLP, Ensemble, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_digits()
    >>> ensemble = Ensemble(MLP([64, 32, 10]), n=5)
    >>> histories = ensemble.fit(X_train, y_train, epochs=30, optimizer="adam")
    >>> ensemble.score(X_test, y_test) > sum(net.score(X_test, y_test) for net in ensemble) / 5
    True
    """

    def __init__(self, net: Network, n: int = 5, bootstrap: bool = False, seed: int | None = 0) -> None:
        _check_net(net)
        self._bootstrap, self._seed = check_bool("bootstrap", bootstrap), check_seed(seed)
        self._members = tuple(copy.copy(net) for _ in range(check_int("n", n, 1)))
        for member, own_seed in zip(self._members, member_seeds(self._seed, len(self)), strict=True):
            member.initialize(seed=own_seed)

    # --- members ------------------------------------------------------------------------------------------------------

    @property
    def members(self) -> tuple[Network, ...]:
        """The networks."""
        return self._members

    @property
    def bootstrap(self) -> bool:
        """Whether each member is trained on rows drawn with replacement."""
        return self._bootstrap

    @property
    def seed(self) -> int | None:
        """Seed of the members' seeds."""
        return self._seed

    @property
    def histories(self) -> list[History]:
        """Measurements of the last fit of each member."""
        return [member.history for member in self._members]

    @property
    def feature_names(self) -> list[str] | None:
        """Column names of the table that trained the ensemble, or None."""
        return self._named.feature_names

    @property
    def classes(self) -> npt.NDArray[Any] | None:
        """Class names in the order of the outputs, if y had names; else None."""
        return self._named.classes

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> Network: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Network, ...]: ...
    def __getitem__(self, index: int | slice) -> Network | tuple[Network, ...]:
        return self._members[index]

    def __iter__(self) -> Iterator[Network]:
        return iter(self._members)

    def __repr__(self) -> str:
        return f"Ensemble({self[0]!r}, n={len(self)}, bootstrap={self.bootstrap}, seed={self.seed})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return summary.as_html(summary.of_ensemble(self))

    def summary(self, write: Callable[[str], object] | None = None) -> None:
        """Print a table of the layers of a member, and the results of the last fit.

        Parameters
        ----------
        write : callable or None, default=None
            Function that is called with each line. None is `print`.
        """
        summary.write_text(summary.of_ensemble(self), write)

    def __copy__(self) -> Self:
        """Return an ensemble of copies of the members, which share nothing with them."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self), _members=tuple(map(copy.copy, self._members)))
        return twin

    # --- training -----------------------------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: npt.ArrayLike, *, fits: Iterable[Mapping[str, Any]] | None = None, **fit: Any
    ) -> list[History]:
        """Train all members at the same time, with `fastmlp.fit_many`.

        Like `MLP.fit`, a second call continues from the current parameters.

        Parameters
        ----------
        X, y : array_like
            Rows and targets, as for `MLP.fit`.
        fits : iterable of dict or None, default=None
            Arguments of `MLP.fit` that differ between members, one dict for each, as for `fit_many`.
        **fit
            Further arguments of `fit_many` and `MLP.fit`, such as `epochs`, `validation_data` and `progress`. Each
            member gets its own copy of fastmlp's callbacks, so early stopping ends one member and not the others. With
            ``resume=True``, bootstrap rows are the same as before.

        Returns
        -------
        list of History
            Measurements of each member, also in `histories`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or if `validation_fraction` is given with bootstrap, where copies of one row could
            be in both parts. No member is changed.
        ExceptionGroup
            If some members have failed. The others are trained.
        """
        if self.bootstrap:
            each = check_fits(fits, len(self))
            rows = [_bootstrap_rows(member, y, {**fit, **own}) for member, own in zip(self, each, strict=True)]
            fits = [{**own, "rows": own_rows} for own, own_rows in zip(each, rows, strict=True)]
        return fit_many(self._members, X, y, fits=fits, **fit)

    # --- prediction ---------------------------------------------------------------------------------------------------

    @property
    def _named(self) -> Network:
        """The first member that knows names of columns or classes, and so speaks for all."""
        named = [member for member in self if member._names.features or member._names.classes is not None]
        for member in named:
            if not np.array_equal(np.array(member.classes), np.array(named[0].classes)):
                raise ValueError(
                    f"members have learned different classes: {named[0].classes} and {member.classes}; "
                    "train them together, with Ensemble.fit"
                )
        return named[0] if named else self[0]

    @property
    def _engine(self) -> Any:
        return MeanEngine([member._engine for member in self])

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class or label: the mean over the members.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            Rows, as for `MLP.predict_proba`.

        Returns
        -------
        (n, C) array
            Probabilities, as from `MLP.predict_proba`.

        Raises
        ------
        TypeError
            If the members do regression.
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        named = self._named
        if not named._loss.classifies:
            raise TypeError(f"networks with output={named.output!r} have no probabilities; use predict")
        p: Floats = self._engine.predict_proba(named._check_X(X))
        return p

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the prediction for each row, in the form of y.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            Rows, as for `MLP.predict`.

        Returns
        -------
        (n,) or (n, C) array
            For classes, the one with the largest mean probability, or the first of equally probable ones. For labels, 1
            where the mean probability is above 0.5. For regression, the mean of the members' predictions.

        Raises
        ------
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        named = self._named
        return named._names.decoded(self._engine.predict(named._check_X(X)))

    def predict_std(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the standard deviation of the members' predictions, for regression.

        It measures how far the members are apart, not how noisy y is.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            Rows, as for `MLP.predict`.

        Returns
        -------
        (n,) or (n, C) float64 array
            ``sqrt(mean((f_m - mean(f))**2))`` for each row, where f_m is the prediction of member m. Multiply it by
            ``sqrt(n / (n - 1))``, with n members, to estimate the deviation over all seeds.

        Raises
        ------
        TypeError
            If the members do not do regression.
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        named = self._named
        if named._loss.classifies:
            raise TypeError(f"predict_std is for regression, not for output={named.output!r}; use spread")
        std: npt.NDArray[np.float64] = self._engine.std(named._check_X(X))
        return std

    def spread(self, X: Any) -> npt.NDArray[np.float64]:
        """Return how much the members disagree about each row.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            Rows, as for `MLP.predict`.

        Returns
        -------
        (n,) or (n, C) float64 array
            For classes (n,) and labels (n, C), the Jensen-Shannon divergence of the members' probabilities, in nats.
            For regression, `predict_std`.

        Raises
        ------
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.

        Notes
        -----
        The Jensen-Shannon divergence is ``mean(KL(p_m || mean(p)))``, the entropy of the mean minus the mean of the
        entropies. It is 0 where all members agree, and at most the logarithm of the number of members, and of C. It is
        the disagreement of Lakshminarayanan et al. [1]_ divided by the number of members, and the mutual information of
        class and member, known as BALD [2]_.

        References
        ----------
        .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty estimation
           using deep ensembles", NIPS 2017.
        .. [2] N. Houlsby, F. Huszár, Z. Ghahramani and M. Lengyel, "Bayesian active learning for classification and
           preference learning", arXiv:1112.5745, 2011.
        """
        spread: npt.NDArray[np.float64] = self._engine.spread(self._named._check_X(X))
        return spread

    def score(self, X: Any, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy of the mean predictions, or R² for regression.

        Parameters
        ----------
        X, y : array_like
            Rows and targets, as for `MLP.score`.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row.

        Returns
        -------
        float
            Accuracy or R², as from `MLP.score`.
        """
        named = self._named
        X_, y_, weights = check_arrays(named, X, y, sample_weight)
        if named._loss.classifies:
            return measure(self._engine, X_, y_, weights)["accuracy"]
        return r2(named._loss.decode(y_), self._engine.predict(X_), sample_weight=weights)

    def evaluate(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
        metrics: Iterable[str | Metric] = (),
    ) -> dict[str, float]:
        """Return the mean loss, the accuracy and further metrics of the mean predictions.

        Parameters
        ----------
        X, y : array_like
            Rows and targets, as for `MLP.evaluate`.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row.
        metrics : iterable of str or callables, default=()
            Further metrics; see `fastmlp.metrics`.

        Returns
        -------
        dict of str to float
            Values by name, as from `MLP.evaluate`.
        """
        named = self._named
        names = named._names.learned(X, y, named._loss)
        X_, y_, weights = check_arrays(named, X, y, sample_weight, names=names)
        chosen = check_metrics(metrics, named._loss, weights, names.classes)
        return measure(self._engine, X_, y_, weights, metrics=chosen)

    # --- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, training: bool = False) -> None:
        """Save all members to one file, which `load` reads.

        Parameters
        ----------
        path : str or path
            Name of the .npz or .safetensors file, as for `MLP.save`.
        training : bool, default=False
            Whether to save the training state too, so that ``fit(..., resume=True)`` can continue.

        Raises
        ------
        TypeError, ValueError, ImportError, OSError
            As in `MLP.save`.
        """
        save, training = saver(path), check_bool("training", training)
        state: dict[str, Any] = {
            "format": checkpoint.ENSEMBLE,
            "n": len(self),
            "bootstrap": self.bootstrap,
            "seed": "" if self.seed is None else str(self.seed),
        }
        for i, member in enumerate(self):
            state |= {f"members.{i}.{name}": value for name, value in member._savable(training).items()}
        save(path, **state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load an ensemble that `save` has written.

        Parameters
        ----------
        path : str or path
            Name of the .npz or .safetensors file.

        Returns
        -------
        Ensemble
            The ensemble. Its members are `fastmlp.MLP`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or does not hold an ensemble.
        ImportError
            If it is a .safetensors file and safetensors is not installed.
        """
        from fastmlp.mlp import MLP

        source, state = check_path(path), read_file(path)
        if str(state.get("format")) != checkpoint.ENSEMBLE:
            hint = "; MLP.load reads one network" if "layers" in state else ""
            raise ValueError(f"{source} holds no ensemble saved by fastmlp{hint}")
        try:
            n, bootstrap, seed = (np.asarray(state[name]).tolist() for name in ("n", "bootstrap", "seed"))
            ensemble = cls.__new__(cls)
            ensemble._bootstrap = check_bool("its bootstrap", bootstrap)
            ensemble._seed = check_seed(int(seed) if seed else None)
            check_int("its number of members", n, 1)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{source} is damaged: {error}") from error
        members: list[MLP] = []
        while len(members) < n:
            prefix = f"members.{len(members)}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            members.append(MLP._from_state(own, f"{source}, member {len(members)},"))
            if members[-1]._settings() | {"seed": 0} != members[0]._settings() | {"seed": 0}:
                raise ValueError(f"{source} is damaged: members 0 and {len(members) - 1} have different settings")
        ensemble._members = tuple(members)
        return ensemble


def _check_net(net: object) -> None:
    if not isinstance(net, Network):
        given = f"the class {net.__name__}" if isinstance(net, type) else type(net).__name__
        hint = "; estimators have n_networks instead" if hasattr(net, "get_params") else ""
        raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {given}{hint}")


def _bootstrap_rows(member: Network, y: Any, fit: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Return the rows of a member; their number depends on y, which has not been checked yet."""
    if "rows" in fit:
        raise ValueError("bootstrap=True draws the rows of each member; give no rows, or make it without bootstrap")
    if fit.get("validation_fraction") is not None:
        raise ValueError(
            "validation_fraction does not go with bootstrap=True: of a row that is drawn twice, one copy could train "
            "and the other validate; give validation_data"
        )
    shape = (len(y),) if isinstance(y, (list, tuple)) else getattr(y, "shape", ())
    return bootstrap_rows(member.seed, shape[0] if shape else 1)
