// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract VetoTest is Scene {
    bytes32 internal constant PAYOUT = keccak256("payout");

    function _vetoed(uint64 epoch) private view returns (bool vetoed) {
        (,, vetoed) = settlement.commitment(epoch);
    }

    function test_AVetoEndsAnEpochAndEveryLaterOne() public {
        uint64 good = settleRoot(PAYOUT, 10).number;
        pass(60);
        uint64 bad = settleRoot(PAYOUT, 20).number;
        pass(60);
        uint64 later = settleRoot(PAYOUT, 30).number;
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Vetoed(bad, GUARDIAN);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Vetoed(later, GUARDIAN);
        veto(bad);
        vm.assertFalse(_vetoed(good));
        vm.assertTrue(_vetoed(bad) && _vetoed(later));
        vm.assertEq(settlement.nextEpoch(), later + 1);
    }

    function test_AVetoedEpochIsStillKnownByItsHash() public {
        Settlement.Epoch memory epoch = settleRoot(PAYOUT, 10);
        bytes32 before = settlement.commitmentOf(epoch);
        veto(epoch.number);
        (bytes32 value, uint64 claimableAt,) = settlement.commitment(epoch.number);
        vm.assertEq(value, before >> 40 << 40);
        vm.assertEq(claimableAt, 0);
    }

    function test_AnEarlierVetoSkipsWhatIsVetoedAlready() public {
        uint64 first = settleRoot(PAYOUT, 10).number;
        uint64 second = settleRoot(PAYOUT, 20).number;
        veto(second);
        veto(first);
        vm.assertTrue(_vetoed(first) && _vetoed(second));
    }

    function test_AVetoOfNothingIsRefused() public {
        for (uint64 epoch = 0; epoch < 2; ++epoch) {
            refuses(abi.encodeWithSelector(Settlement.SettlementUnknownEpoch.selector, epoch));
            veto(epoch);
        }
    }

    function test_ASecondVetoIsRefused() public {
        uint64 epoch = settleRoot(PAYOUT, 10).number;
        veto(epoch);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoedEpoch.selector, epoch));
        veto(epoch);
    }

    function testFuzz_AVetoIsTakenUntilTheEpochIsClaimable(uint256 after_) public {
        Settlement.Epoch memory epoch = settleRoot(PAYOUT, 10);
        after_ = within(after_, 0, 2 * DELAY);
        pass(after_);
        if (after_ >= DELAY) {
            refuses(abi.encodeWithSelector(Settlement.SettlementVetoTooLate.selector, epoch.number, epoch.claimableAt));
        }
        veto(epoch.number);
        vm.assertEq(uint256(_vetoed(epoch.number) ? 1 : 0), after_ < DELAY ? 1 : 0);
    }

    function test_AVetoOfAForgottenEpochIsRefused() public {
        for (uint256 i = 0; i <= settlement.RING(); ++i) {
            settleRoot(PAYOUT, 10);
            pass(DELAY);
        }
        refuses(abi.encodeWithSelector(Settlement.SettlementForgottenEpoch.selector, 1));
        veto(1);
    }
}
