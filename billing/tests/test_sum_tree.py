"""The sum tree: every balance is in the root, and no cheating with sums survives the path."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interchain_verify import reserves as verifier

from billing.sum_tree import SumTree, leaf


def part(tree: SumTree, position: int, document: dict, salt: bytes) -> dict:
    path = [{"units": node.units, "hash": node.hash.hex()} for node in tree.path(position)]
    return {"document": document, "salt": salt.hex(), "position": position, "path": path}


def grown(amounts: list[int]) -> tuple[SumTree, list[dict]]:
    from interchain_site.core.canonical import canonical_json

    amounts = amounts + [0] * ((1 << (len(amounts) - 1).bit_length()) - len(amounts))
    salts = [os.urandom(32) for _ in amounts]
    documents = [{"person": str(place), "units": units} for place, units in enumerate(amounts)]
    leaves = [
        leaf(units=units, salt=salt, document=canonical_json(document))
        for units, salt, document in zip(amounts, salts, documents, strict=True)
    ]
    tree = SumTree(leaves)
    return tree, [part(tree, place, documents[place], salts[place]) for place in range(len(amounts))]


@given(st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=40))
def test_every_leaf_leads_to_the_root_and_the_sum(amounts):
    tree, parts = grown(amounts)
    assert tree.root.units == sum(amounts)
    for one in parts:
        assert verifier._fold(one) == (tree.root.hash, tree.root.units)


@given(st.data())
def test_a_changed_sum_beside_the_path_leads_elsewhere(data):
    """Maxwell's flaw: with a hash over the parent's sum only, a sibling's sum could be shifted between the children."""
    tree, parts = grown(data.draw(st.lists(st.integers(0, 1000), min_size=2, max_size=9)))
    one = data.draw(st.sampled_from(parts))
    sibling = data.draw(st.sampled_from(one["path"]))
    sibling["units"] += data.draw(st.integers(-sibling["units"], 1000).filter(bool))
    assert verifier._fold(one) != (tree.root.hash, tree.root.units)


def test_shifting_units_between_a_leaf_and_its_sibling_is_caught():
    tree, parts = grown([70, 30])
    parts[0]["document"]["units"], parts[0]["path"][0]["units"] = 60, 40
    root, total = verifier._fold(parts[0])
    assert total == tree.root.units
    assert root != tree.root.hash


def test_no_leaf_is_negative_or_too_large():
    with pytest.raises(OverflowError):
        leaf(units=-1, salt=b"", document=b"")
    with pytest.raises(OverflowError):
        leaf(units=1 << 128, salt=b"", document=b"")


def test_sums_above_the_supply_are_no_sums():
    _, parts = grown([verifier.SUPPLY, 1])
    assert verifier._fold(parts[1]) == (b"", -1)


def test_a_tree_wants_a_power_of_two():
    node = leaf(units=1, salt=b"", document=b"")
    with pytest.raises(ValueError, match="power of two"):
        SumTree([node] * 3)
    assert SumTree([node]).root == node
