"""Rules: how a group of tensors is pruned. Without rules of the user's, one rule matches all tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from prunelab.errors import ConfigError
from prunelab.pruning import custom
from prunelab.pruning.allocation.global_ import Global
from prunelab.pruning.criteria.base import Score, Scores
from prunelab.pruning.granularity.weight import Weight
from prunelab.pruning.masks import MaskedTensor, Masks
from prunelab.pruning.units import Allocation, Granularity

ROUND = -1.0  # the amount of a rule that takes the round's amount


@dataclass(frozen=True)
class Rule:
    """How the tensors that match are pruned."""

    match: str  # a type such as `Conv2d`, or a pattern over parameter names such as `fc*.weight`
    granularity: Granularity  # what is removed as one
    allocation: Allocation  # how many units are removed from each tensor
    amount: float | None = ROUND  # fraction in [0, 1) for these tensors; None: the allocation sets its own sparsity
    method: custom.Method | None = None  # a `BasePruningMethod` of torch that replaces criterion and allocation
    criterion: Score | None = None  # replaces the pruner's criterion for these tensors
    factor: float = 1.0  # of the amount that `prune` is given, in [0, 1]


@dataclass(frozen=True)
class Group:
    """Tensors that are pruned in the same way."""

    rule: Rule
    items: list[MaskedTensor]
    places: list[int]  # the tensors' indices in the list of all prunable ones
    label: str = ""  # the group's name in messages; empty if there is only one group

    def check(self) -> None:
        """Raise ConfigError where granularity, allocation and tensors do not go together."""
        granularity, allocation = self.rule.granularity, self.rule.allocation
        if allocation.needs_weights and not isinstance(granularity, Weight):
            unit, name = type(granularity).__name__.lower(), type(allocation).__name__.lower()
            raise ConfigError(f"granularity={unit}: allocation={name} prunes single weights; must be weight")
        for item in self.items:
            granularity.check(item)
            allocation.check(item.name, granularity.shape(item))

    def check_amount(self, amount: float | None) -> float | None:
        """Return the amount for this group; ConfigError for one that is not in [0, 1), or not null where it must be."""
        own, method = self.rule.amount, self.rule.method
        chosen = own if own != ROUND else None if amount is None else amount * self.rule.factor
        name = type(self.rule.allocation).__name__.lower()
        if method is None and self.rule.allocation.sets_amount and chosen is not None:
            raise ConfigError(f"amount={chosen}: allocation={name} sets its own sparsity; must be null")
        may_be_null = method is not None or self.rule.allocation.sets_amount
        if not (may_be_null if chosen is None else not isinstance(chosen, bool) and 0 <= chosen < 1):
            raise ConfigError(f"amount={'null' if chosen is None else chosen}: must be a fraction in [0, 1)")
        if method is not None:
            custom.check_method(method, chosen, together=isinstance(self.rule.allocation, Global))
        return chosen

    def decide(self, scores: Scores, amount: float | None) -> None:
        """Set the masks of the group's tensors, from scores ≥ 0 of their shapes and the amount of `check_amount`."""
        rule = self.rule
        if rule.method is not None:
            kept = custom.masks_of(rule.method, self.items, amount, together=isinstance(rule.allocation, Global))
            for item, mask in zip(self.items, kept, strict=True):
                item.set(mask)
            return
        units = [rule.granularity.units(score, item) for score, item in zip(scores, self.items, strict=True)]
        for item, gone in zip(self.items, rule.allocation.pruned(units, amount), strict=True):
            item.set(item.kept & ~rule.granularity.spread(gone, item))

    def prune_followers(self, masks: Masks, only_zeros: bool = False) -> None:
        """Prune the parameters that go along with pruned units; `only_zeros`: those that are zero already."""
        for item in self.items:
            for follower in masks.of(self.rule.granularity.followers(item)):
                stays = item.kept.flatten(1).any(1)
                follower.set(follower.kept & (stays | (follower.parameter != 0) if only_zeros else stays))


def grouped(items: Sequence[MaskedTensor], rules: Sequence[Rule]) -> list[Group]:
    """Return a group for each rule: a tensor belongs to the first rule that matches it, or to no group.

    Raises:
        ConfigError: for a rule that matches no tensor, or only tensors of earlier rules.
    """
    groups: list[Group] = []
    taken: set[int] = set()
    for i, rule in enumerate(rules):
        matches = [place for place, item in enumerate(items) if _matches(rule.match, item)]
        if not matches:
            there = ", ".join(f"{item.name} ({type(item.module).__name__})" for item in items)
            raise ConfigError(f"strategy.rules[{i}].match={rule.match}: matches no tensor; there are {there}")
        if taken.issuperset(matches):
            raise ConfigError(f"strategy.rules[{i}].match={rule.match}: earlier rules match all of its tensors")
        places = [place for place in matches if place not in taken]
        label = "" if len(rules) == 1 and rule.match == "*" else f"strategy.rules[{i}] ({rule.match})"
        groups.append(Group(rule, [items[place] for place in places], places, label))
        taken |= set(matches)
    return groups


def masked_groups(masks: Masks, items: Sequence[MaskedTensor], rules: Sequence[Rule]) -> list[Group]:
    """Return a checked group for each rule; add masks for parameters that are pruned with its tensors.

    Raises:
        ConfigError: if a tensor does not fit its rule; then the masks are detached.
    """
    try:
        groups = grouped(items, rules)
        for group in groups:
            group.check()
            masks.add([pair for item in group.items for pair in group.rule.granularity.followers(item)])
    except ConfigError:
        masks.detach()
        raise
    return groups


def _matches(match: str, item: MaskedTensor) -> bool:
    return match in {kind.__name__ for kind in type(item.module).__mro__} or fnmatchcase(item.name, match)
