"""Options of XLA's compiler, of which its next version may lack some."""

from collections.abc import Mapping
from typing import Any


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that this version of XLA has; all are hints, without which programs mean the same.

    To be called where devices have been chosen: it compiles an empty program with each.
    """
    import jax

    known = {}
    for name, value in options.items():
        try:
            jax.jit(lambda: 0).lower().compile({name: value})
        except jax.errors.JaxRuntimeError as error:
            if 'No such compile option' not in str(error):
                raise
        else:
            known[name] = value
    return known
