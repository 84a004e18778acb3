"""What a search asks of this model: the stages that its options mean, or a refusal in words."""

from __future__ import annotations

from collections.abc import Collection

from threadmatch.model.chain import STAGE_ONE, Chain, asked_chain
from threadmatch.model.features import ATTRIBUTES, EMBEDDING, FeatureSpec, in_common
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.served_model import ServedModel


def stages_of(options: SearchOptions, model: ServedModel, kept: Collection[FeatureSpec]) -> Chain:
    """The chain of one search; empty where the first stage's order stays.

    Args:
        options: of the search.
        model: that is asked.
        kept: the features that the gallery keeps.

    Raises:
        InvalidFieldError: the matcher is unknown, or needs a feature that the gallery does not keep; explain where the
            last one cannot, or min_probability where its scores are not calibrated.
    """
    asked = options.last_matcher
    if asked is not None and asked != STAGE_ONE and asked not in model.matchers:
        known = ", ".join((*model.matchers, STAGE_ONE))
        raise InvalidFieldError(f"this model has no matcher {asked[:80]!r}; expected one of {known}")
    chain = asked_chain(model.chain, matcher=asked, depth=options.depth)
    if not chain:
        return chain
    usable = {spec.name for spec in in_common(kept, model.features)}
    for stage in chain:
        if lacking := sorted(model.matchers[stage.matcher].needs - usable):
            raise InvalidFieldError(_lacking(stage.matcher, lacking, kept))
    last = model.matchers[chain[-1].matcher]
    if options.explain and not last.explains:
        able = ", ".join(name for name, matcher in model.matchers.items() if matcher.explains) or "this model has none"
        raise InvalidFieldError(
            f"explain needs a matcher that can say what decided ({able}); matcher={last.name} cannot; leave one of "
            "them out"
        )
    if options.min_probability is not None and not last.calibrated:
        able = (
            ", ".join(name for name, matcher in model.matchers.items() if matcher.calibrated) or "this model has none"
        )
        raise InvalidFieldError(
            f"min_probability needs a matcher whose scores are calibrated ({able}); those of matcher={last.name} are "
            "not; leave one of them out"
        )
    return chain


def features_wanted(chain: Chain, model: ServedModel, *, remembered: bool) -> frozenset[str]:
    """The features of the photo that a search reads.

    Args:
        chain: of the search.
        model: that is asked.
        remembered: whether the search is kept, so that explanations come back to it.
    """
    named = {EMBEDDING}.union(*(model.matchers[stage.matcher].needs for stage in chain))
    if remembered:
        able = explaining(chain, model)
        named |= model.matchers[able].needs if able is not None else set()
        named |= {ATTRIBUTES} & {spec.name for spec in model.features}
    return frozenset(named)


def explaining(chain: Chain, model: ServedModel) -> str | None:
    """The last matcher of a search that can say what decided, of the model's own chain where none of its can."""
    named = [stage.matcher for stage in (*model.chain, *chain)]
    return next((name for name in reversed(named) if model.matchers[name].explains), None)


def _lacking(matcher: str, lacking: Collection[str], kept: Collection[FeatureSpec]) -> str:
    """Which features a gallery has not, and what adds them."""
    names = [spec.name for spec in kept]
    others = [name for name in lacking if name in names]
    but = f"keeps {', '.join(others)} as other weights made it" if others else f"keeps {', '.join(names)} alone"
    return (
        f"matcher={matcher} needs {', '.join(lacking)} of each item, and this gallery {but}; choose another matcher, "
        "or ingest its catalogue again with a model that makes it, which adds it: `threadmatch ingest CATALOGUE "
        "--gallery DIR --model MODEL`"
    )
