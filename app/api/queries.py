"""Read a query strictly: no parameter unknown, none twice."""

from collections import Counter
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from app.api.schemas import Sent
from app.domain.errors import Fault
from app.service.faults import LONGEST_PART, faults_of, query_pointer

Q = TypeVar("Q", bound=Sent)


def asked(model: type[Q], request: Request) -> tuple[Q, list[Fault]]:
    """The query as far as it is right, and everything that is wrong with it."""
    if not request.scope["query_string"]:
        return model(), []
    pairs = request.query_params.multi_items()
    counted = Counter(name for name, _ in pairs)
    faults = [Fault(f"query:{name[:LONGEST_PART]}", "is given more than once") for name in counted if counted[name] > 1]
    try:
        return model.model_validate(dict(pairs)), faults
    except ValidationError as error:
        return model(), faults + faults_of(error, query_pointer)
