"""Pick the providers that may create an invoice, in the order in which they are tried."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from app.domain.errors import Fault, InvalidRequest
from app.provider import Provider
from app.service.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which invoices go to which providers; what is None matches all. An amount is compared in major units."""

    providers: Sequence[str]
    currencies: frozenset[str] | None = None
    least: Decimal | None = None
    most: Decimal | None = None
    countries: frozenset[str] | None = None

    def matches(self, draft: Draft) -> bool:
        currency = draft.amount.currency if draft.amount else None
        country = draft.customer.country if draft.customer else None
        return (
            (self.currencies is None or currency in self.currencies)
            and (self.countries is None or country in self.countries)
            and self._spans(draft.amount.amount if draft.amount else None)
        )

    def _spans(self, amount: Decimal | None) -> bool:
        if amount is None:
            return self.least is None and self.most is None
        return (self.least is None or amount >= self.least) and (self.most is None or amount <= self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A provider, what it is asked for, and why it was chosen."""

    provider: Provider
    draft: Draft
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """`misses` finds what keeps a provider from creating a draft; `serves`, whether it takes creates just now."""

    providers: Mapping[str, Provider]
    rules: Sequence[Rule]
    serves: Callable[[Provider], bool]

    def choices(self, draft: Draft, misses: Callable[[Provider, Draft], list[Fault]]) -> list[Choice]:
        """At least one; InvalidRequest says what keeps the first of them from creating this."""
        choices = self._named(draft) if draft.provider is not None else self._routed(draft)
        able = [choice for choice in choices if not misses(choice.provider, choice.draft)]
        if not able:
            raise InvalidRequest(misses(choices[0].provider, choices[0].draft))
        return [choice for choice in able if self.serves(choice.provider)] or able

    def _named(self, draft: Draft) -> list[Choice]:
        provider = self.providers.get(draft.provider or "")
        if provider is None:
            raise InvalidRequest([Fault("/provider", "is not a configured provider")])
        provider.require("create")
        return [Choice(provider=provider, draft=draft, reason="requested")]

    def _routed(self, draft: Draft) -> list[Choice]:
        kinds = {provider.kind() for provider in self.providers.values()}
        if strange := [
            Fault(f"/provider_options/{kind}", "is not the kind of a configured provider")
            for kind in draft.options
            if kind not in kinds
        ]:
            raise InvalidRequest(strange)
        names, reason = self._names(draft)
        return [self._choice(self.providers[name], draft, reason) for name in names]

    def _names(self, draft: Draft) -> tuple[Sequence[str], str]:
        for number, rule in enumerate(self.rules, 1):
            if rule.matches(draft):
                able = [name for name in rule.providers if self.providers[name].can("create")]
                return able, f"rule {number}"
        if len(self.providers) == 1:
            return list(self.providers), "the only provider"
        why = "since no route matches" if self.rules else "since more than one provider is configured"
        raise InvalidRequest([Fault("/provider", f"is required, {why}")])

    def _choice(self, provider: Provider, draft: Draft, reason: str) -> Choice:
        """Where no provider is named, its options are keyed by kind."""
        options = draft.options.get(provider.kind(), {})
        return Choice(provider=provider, draft=replace(draft, options=options), reason=reason)
