// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract SettleTest is Scene {
    bytes32 internal constant PAYOUT = keccak256("payout");

    function test_AnEpochIsSettledAndSaid() public {
        vm.expectEmit(true, false, false, true, address(settlement));
        emit Settlement.Settled(1, PAYOUT, USAGE, uint64(vm.getBlockTimestamp()) + DELAY, totals(10));
        Settlement.Epoch memory epoch = settleRoot(PAYOUT, 10);
        vm.assertEq(settlement.nextEpoch(), 2);
        (bytes32 value, uint64 claimableAt, bool vetoed) = settlement.commitment(1);
        vm.assertEq(value, settlement.commitmentOf(epoch));
        vm.assertEq(claimableAt, epoch.claimableAt);
        vm.assertFalse(vetoed);
    }

    function testFuzz_ACommitmentIsTheEpochsHashAndItsTime(Settlement.Epoch memory epoch) public view {
        uint256 hash = uint256(keccak256(abi.encode(epoch)));
        vm.assertEq(settlement.commitmentOf(epoch), bytes32(hash >> 40 << 40 | uint40(epoch.claimableAt)));
    }

    function test_NothingIsKeptOfAnEpochThatIsNotSettled() public {
        settleRoot(PAYOUT, 10);
        for (uint64 number = 0; number < 4; number += 2) {
            (bytes32 value, uint64 claimableAt, bool vetoed) = settlement.commitment(number);
            vm.assertTrue(value == 0 && claimableAt == 0 && !vetoed);
        }
    }

    function testFuzz_OnlyTheNextNumberIsTaken(uint64 epoch) public {
        vm.assume(epoch != 1);
        refuses(abi.encodeWithSelector(Settlement.SettlementUnexpectedEpoch.selector, epoch, 1));
        vm.prank(OPERATOR);
        settlement.settle(epoch, PAYOUT, USAGE, totals(10));
    }

    function test_TotalsThatDoNotFitTheirTypesAreRefused() public {
        bytes memory call_ = abi.encodeCall(settlement.settle, (1, PAYOUT, USAGE, totals(10)));
        uint8[8] memory bits = [96, 32, 32, 128, 128, 128, 128, 128];
        for (uint256 i = 0; i < bits.length; ++i) {
            bytes memory wide = bytes.concat(call_);
            uint256 place = 0x20 + 4 + 0x20 * (3 + i);
            assembly ("memory-safe") {
                let value := or(mload(add(wide, place)), shl(mload(add(bits, mul(i, 0x20))), 1))
                mstore(add(wide, place), value)
            }
            vm.prank(OPERATOR);
            (bool taken,) = address(settlement).call(wide);
            vm.assertFalse(taken);
        }
        vm.prank(OPERATOR);
        (bool plain,) = address(settlement).call(call_);
        vm.assertTrue(plain);
    }

    function testFuzz_TheEventSaysWhatWasSettled(uint64 cumulative, uint32 accounts, uint128[5] memory meters) public {
        uint96 sum = uint96(within(cumulative, 0, ESCROW));
        Settlement.Totals memory settled = Settlement.Totals(sum, accounts, ~accounts, meters);
        vm.expectEmit(true, true, true, true, address(settlement));
        emit Settlement.Settled(1, PAYOUT, USAGE, uint64(vm.getBlockTimestamp()) + DELAY, settled);
        vm.prank(OPERATOR);
        settlement.settle(1, PAYOUT, USAGE, settled);
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

    function test_ATooLongDelayIsRefused() public {
        uint64 longest = settlement.MAX_CLAIM_DELAY();
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDelay.selector, longest + 1));
        new Settlement(token, longest + 1, ADMIN, OPERATOR, GUARDIAN);
        vm.assertEq(new Settlement(token, longest, ADMIN, OPERATOR, GUARDIAN).claimDelay(), longest);
    }
}
