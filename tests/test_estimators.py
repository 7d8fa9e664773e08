"""What holds for every estimator."""

from __future__ import annotations

import dataclasses
import pickle
import warnings

import pytest

from rnncore import estimators
from rnncore.estimators import Estimator, NotFittedError

ALL = [
    one
    for one in (getattr(estimators, name) for name in estimators.__all__)
    if isinstance(one, type) and issubclass(one, Estimator) and one is not Estimator
]

#: scikit-learn's checks that need no data; the others give an estimator arrays (N, features), which
#: are no sentences, texts or series. Estimators that take numbers go through all of them.
WITHOUT_DATA = (
    "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    "check_no_attributes_set_in_init", "check_estimator_cloneable", "check_estimator_repr",
    "check_estimator_tags_renamed", "check_valid_tag_types",
)  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("check", WITHOUT_DATA)
def test_scikit_learns_checks(kind: type[Estimator], check: str) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(checks, check)(kind.__name__, kind())


@pytest.mark.parametrize("kind", ALL)
def test_habits(kind: type[Estimator]) -> None:
    made = kind()
    assert repr(made) == f"{kind.__name__}()" and repr(kind(seed=3)) == f"{kind.__name__}(seed=3)"
    assert {field.name for field in dataclasses.fields(kind)} == set(made.get_params())
    assert made.set_params(seed=5) is made and made.seed == 5
    with pytest.raises(ValueError, match=f"sead: expected a parameter of {kind.__name__}, one of"):
        made.set_params(sead=1)
    for ask in (lambda: made.save("nowhere"), lambda: made.plot_curves("nowhere")):
        with pytest.raises(NotFittedError, match="is not fitted yet; call fit with data"):
            ask()
    assert pickle.loads(pickle.dumps(made)).get_params() == made.get_params()
    with pytest.raises(TypeError):
        kind(7)  # type: ignore[call-arg]
    assert kind.__doc__ and "Examples" in kind.__doc__
    for name in made.get_params():  # each is described, here or in a base
        assert any(name in (base.__doc__ or "") for base in kind.__mro__), name
