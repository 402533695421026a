// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract ClaimManyTest is Scene {
    function _both(uint256 owner, uint256 other) private pure returns (Settlement.Claimant[] memory both) {
        both = new Settlement.Claimant[](2);
        both[0] = Settlement.Claimant(OWNER, owner, proofOf(leaf(OTHER_OWNER, other)));
        both[1] = Settlement.Claimant(OTHER_OWNER, other, proofOf(leaf(OWNER, owner)));
    }

    function testFuzz_EverybodyIsPaidTheirPart(uint256 owner, uint256 other) public {
        owner = within(owner, 1, ESCROW - 1);
        other = within(other, 1, ESCROW - owner);
        Settlement.Epoch memory epoch = settlePair(owner, other);
        pass(DELAY);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Claimed(OWNER, epoch.number, owner, owner);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Claimed(OTHER_OWNER, epoch.number, other, other);
        vm.prank(STRANGER);
        vm.assertEq(settlement.claimMany(epoch, _both(owner, other)), owner + other);
        vm.assertEq(token.balanceOf(OWNER), owner);
        vm.assertEq(token.balanceOf(OTHER_OWNER), other);
        vm.assertEq(settlement.totalPaid(), owner + other);
    }

    function test_WhoHasNothingToClaimIsSkipped() public {
        Settlement.Epoch memory first = settlePair(10, 5);
        Settlement.Epoch memory second = settlePair(10, 8);
        pass(DELAY);
        settlement.claimMany(first, _both(10, 5));
        vm.assertEq(settlement.claimMany(second, _both(10, 8)), 3);
        vm.assertEq(settlement.claimMany(second, _both(10, 8)), 0);
        vm.assertEq(token.balanceOf(OWNER), 10);
        vm.assertEq(token.balanceOf(OTHER_OWNER), 8);
    }

    function test_OneWhoIsNamedTwiceIsPaidOnce() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        Settlement.Claimant[] memory twice = _both(10, 5);
        twice[1] = twice[0];
        vm.assertEq(settlement.claimMany(epoch, twice), 10);
        vm.assertEq(token.balanceOf(OWNER), 10);
    }

    function test_OneWrongProofRefusesAll() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        Settlement.Claimant[] memory both = _both(10, 5);
        both[1].cumulative = 6;
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, OTHER_OWNER, 6));
        settlement.claimMany(epoch, both);
    }

    function test_TogetherTheyGetNoMoreThanWasAnnounced() public {
        Settlement.Epoch memory lie = settleRoot(pair(leaf(OWNER, 10), leaf(OTHER_OWNER, 5)), 14);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementOverdrawn.selector, 15, 14));
        settlement.claimMany(lie, _both(10, 5));
    }

    function test_TheEpochMustBeClaimable() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNotClaimableYet.selector, epoch.number, epoch.claimableAt));
        settlement.claimMany(epoch, _both(10, 5));
        veto(epoch.number);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoedEpoch.selector, epoch.number));
        settlement.claimMany(epoch, _both(10, 5));
    }

    function test_NobodyIsPaidNothing() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        vm.assertEq(settlement.claimMany(epoch, new Settlement.Claimant[](0)), 0);
    }
}
