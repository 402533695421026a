"""Our trees are OpenZeppelin's: known roots, every proof, and the contract itself agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.chain.contracts import SettledEpoch, Totals
from billing.chain.merkle import MerkleTree, payout_leaf, statement_leaf, verify
from billing.chain.types import ZERO_HASH
from billing.tests.settling import NTC, World, new_address

leaves = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


def test_the_example_of_openzeppelins_library():
    """https://github.com/OpenZeppelin/merkle-tree#building-a-tree"""
    tree = MerkleTree(
        [
            payout_leaf("0x" + "1" * 40, 5_000_000_000_000_000_000),
            payout_leaf("0x" + "2" * 40, 2_500_000_000_000_000_000),
        ]
    )
    assert tree.root == "0xd4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


def test_an_empty_tree_has_a_root_of_zeros():
    assert MerkleTree([]).root == ZERO_HASH


def test_a_tree_of_one_leaf_is_the_leaf_with_an_empty_proof():
    leaf = payout_leaf("0x" + "1" * 40, 1)
    tree = MerkleTree([leaf])
    assert (tree.root, tree.proof(leaf)) == ("0x" + leaf.hex(), [])


@given(leaves)
def test_every_leaf_proves_itself(given_leaves):
    tree = MerkleTree(given_leaves)
    assert all(verify(proof=tree.proof(leaf), root=tree.root, leaf=leaf) for leaf in given_leaves)


@given(leaves, st.binary(min_size=32, max_size=32), st.data())
def test_no_other_leaf_does(given_leaves, stranger, data):
    tree = MerkleTree(given_leaves)
    proof = tree.proof(data.draw(st.sampled_from(given_leaves)))
    assert stranger in given_leaves or not verify(proof=proof, root=tree.root, leaf=stranger)


@given(leaves, st.randoms())
def test_the_order_of_leaves_does_not_matter(given_leaves, random):
    shuffled = list(given_leaves)
    random.shuffle(shuffled)
    assert MerkleTree(shuffled).root == MerkleTree(given_leaves).root


def test_a_leaf_that_is_not_there_has_no_proof():
    with pytest.raises(KeyError):
        MerkleTree([payout_leaf("0x" + "1" * 40, 1)]).proof(payout_leaf("0x" + "1" * 40, 2))


@pytest.mark.parametrize("address", ["0x", "0x" + "1" * 39 + "g", "1" * 38])
def test_what_is_no_address_makes_no_leaf(address):
    with pytest.raises(ValueError, match=r"address|hexadecimal"):
        payout_leaf(address, 1)


def test_what_is_no_sha256_makes_no_leaf():
    with pytest.raises(ValueError, match="SHA-256"):
        statement_leaf("abcd")


@pytest.mark.anvil
@pytest.mark.parametrize("size", [1, 2, 3, 7, 33])
def test_the_contract_accepts_our_proofs_and_nothing_else(real: World, size):
    owners = {new_address(): (number + 1) * NTC for number in range(size)}
    tree = MerkleTree([payout_leaf(address, units) for address, units in owners.items()])
    contract = real.deployment.contract
    number, total = contract.next_epoch(real.chain), sum(owners.values())
    roots = {"payout_root": tree.root, "usage_root": ZERO_HASH}
    real.as_account(0, contract.settle(epoch=number, **roots, totals=Totals(total, size, 0)))
    real.node.mine()
    kept = contract.commitment(real.chain, number)
    epoch = SettledEpoch(number=number, claimable_at=kept.claimable_at, cumulative=total, **roots)
    for address, units in owners.items():
        proof = tree.proof(payout_leaf(address, units))
        call = contract.claim(epoch=epoch, account=address, cumulative=units, proof=proof)
        assert real.chain.estimate_gas(call, sender=address) > 0
        wrong = contract.claim(epoch=epoch, account=address, cumulative=units + 1, proof=proof)
        with pytest.raises(Exception, match="SettlementInvalidProof"):
            real.chain.estimate_gas(wrong, sender=address)
