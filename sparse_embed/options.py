"""The errors for options that are misspelled, unknown or of the wrong type, in the same words everywhere.

Decides the words. Leaves to each class which options it has.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc
from typing import Any

from pydantic_core import ValidationError

from sparse_embed.errors import ConfigurationError


def unknown_option(
    owner: str, option: str, taken: Iterable[str], *, elsewhere: str | None = None
) -> ConfigurationError:
    """The error for an option that its owner does not have.

    Args:
        owner: What was configured, such as the name of a class.
        option: The option that was given.
        taken: The options that the owner has.
        elsewhere: What has this option instead, if anything does.
    """
    from difflib import get_close_matches  # needed for an error only

    taken = sorted(taken)
    close = get_close_matches(option, taken, n=1, cutoff=0.5)  # so that "modle" finds "model_name"
    hint = f" (an option of {elsewhere})" if elsewhere else f" (did you mean {close[0]}?)" if close else ""
    return ConfigurationError(f"{owner} has no option {option!r}{hint}; it has {', '.join(taken)}")


def init_model(
    init: Callable[..., None],
    model: type[Any],
    fields: Mapping[str, Any],
    elsewhere: Callable[[str], str | None] = lambda option: None,
) -> None:
    """Call a pydantic model's ``__init__``; what it refuses becomes a `ConfigurationError`.

    Args:
        init: The ``__init__`` of the model's base class, bound to the object.
        model: The model, with ``model_fields``.
        fields: The arguments.
        elsewhere: As in `unknown_option`, by option.
    """
    try:
        return init(**fields)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Raised after `except`, not in it: pydantic's error holds the input, perhaps a key in the wrong field, and would be
    # kept as `__context__`.
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            option = str(problem["loc"][0])
            raise unknown_option(model.__name__, option, model.model_fields, elsewhere=elsewhere(option))
    said = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    raise ConfigurationError(f"{model.__name__}: {said}")


def document_fields(model: type[Any]) -> None:
    """Append the fields' descriptions to the docstring of a pydantic model, where `help` shows them."""
    if model.__doc__:
        lines = [f"    {name}: {field.description}" for name, field in model.model_fields.items() if field.description]
        model.__doc__ = "\n".join([cleandoc(model.__doc__), "", "Args:", *lines])


def check_count(name: str, value: object, *, at_least: int = 1) -> int:
    """The value, if it is a whole number that is large enough.

    Raises:
        ConfigurationError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        shown = repr(value) if isinstance(value, int | float) else type(value).__name__
        raise ConfigurationError(f"{name} must be a whole number of at least {at_least}, not {shown}")
    return value
