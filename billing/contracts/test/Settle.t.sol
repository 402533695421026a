// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract SettleTest is Scene {
    bytes32 internal constant PAYOUT = keccak256("payout");

    function test_AnEpochIsKeptAndClaimableAfterTheDelay() public {
        vm.expectEmit(true, false, false, true, address(settlement));
        emit Settlement.Settled(1, PAYOUT, USAGE, block.timestamp + DELAY, totals(10));
        uint256 epoch = settleRoot(PAYOUT, 10);
        Settlement.Epoch memory kept = settlement.epochs(epoch);
        vm.assertEq(kept.payoutRoot, PAYOUT);
        vm.assertEq(kept.usageRoot, USAGE);
        vm.assertEq(kept.claimableAt, block.timestamp + DELAY);
        vm.assertEq(settlement.nextEpoch(), 2);
        vm.assertFalse(settlement.isClaimable(epoch));
        pass(DELAY - 1);
        vm.assertFalse(settlement.isClaimable(epoch));
        pass(1);
        vm.assertTrue(settlement.isClaimable(epoch));
    }

    function test_AnUnknownEpochIsAllZero() public view {
        vm.assertEq(settlement.epochs(1).claimableAt, 0);
        vm.assertFalse(settlement.isClaimable(1));
    }

    function testFuzz_OnlyTheNextNumberIsTaken(uint256 epoch) public {
        vm.assume(epoch != 1);
        refuses(abi.encodeWithSelector(Settlement.SettlementUnexpectedEpoch.selector, epoch, 1));
        vm.prank(OPERATOR);
        settlement.settle(epoch, PAYOUT, USAGE, totals(10));
    }

    function test_AnEpochIsSettledOnce() public {
        settleRoot(PAYOUT, 10);
        refuses(abi.encodeWithSelector(Settlement.SettlementUnexpectedEpoch.selector, 1, 2));
        vm.prank(OPERATOR);
        settlement.settle(1, PAYOUT, USAGE, totals(10));
    }

    function test_MoreThanWasDepositedIsRefused() public {
        settleRoot(PAYOUT, ESCROW);
        refuses(abi.encodeWithSelector(Settlement.SettlementUnderfunded.selector, ESCROW + 1, ESCROW));
        vm.prank(OPERATOR);
        settlement.settle(2, PAYOUT, USAGE, totals(ESCROW + 1));
    }

    function test_AVetoEndsAnEpochAndEveryLaterOne() public {
        uint256 good = settleRoot(PAYOUT, 10);
        pass(60);
        uint256 bad = settleRoot(PAYOUT, 20);
        pass(60);
        uint256 after_ = settleRoot(PAYOUT, 30);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Vetoed(bad, GUARDIAN);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Vetoed(after_, GUARDIAN);
        vm.prank(GUARDIAN);
        settlement.veto(bad);
        pass(DELAY);
        vm.assertTrue(settlement.isClaimable(good));
        vm.assertFalse(settlement.isClaimable(bad));
        vm.assertFalse(settlement.isClaimable(after_));
        vm.assertEq(settlement.nextEpoch(), after_ + 1);
    }

    function test_AnEarlierVetoSkipsWhatIsVetoedAlready() public {
        uint256 first = settleRoot(PAYOUT, 10);
        uint256 second = settleRoot(PAYOUT, 20);
        vm.startPrank(GUARDIAN);
        settlement.veto(second);
        settlement.veto(first);
        vm.stopPrank();
        vm.assertTrue(settlement.epochs(first).vetoed && settlement.epochs(second).vetoed);
    }

    function test_AVetoOfNothingIsRefused() public {
        refuses(abi.encodeWithSelector(Settlement.SettlementUnknownEpoch.selector, 1));
        vm.prank(GUARDIAN);
        settlement.veto(1);
    }

    function test_ASecondVetoIsRefused() public {
        uint256 epoch = settleRoot(PAYOUT, 10);
        vm.startPrank(GUARDIAN);
        settlement.veto(epoch);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoedEpoch.selector, epoch));
        settlement.veto(epoch);
        vm.stopPrank();
    }

    function test_ALateVetoIsRefused() public {
        uint256 epoch = settleRoot(PAYOUT, 10);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoTooLate.selector, epoch, block.timestamp));
        vm.prank(GUARDIAN);
        settlement.veto(epoch);
    }

    function test_ATooLongDelayIsRefused() public {
        uint64 longest = settlement.MAX_CLAIM_DELAY();
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDelay.selector, longest + 1));
        new Settlement(token, longest + 1, ADMIN, OPERATOR, GUARDIAN);
        vm.assertEq(new Settlement(token, longest, ADMIN, OPERATOR, GUARDIAN).claimDelay(), longest);
    }
}
