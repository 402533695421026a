// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

/// @dev Only {Settlement.RING} epochs are kept. Whatever the operator does, the newest claimable one can be claimed from.
contract RingTest is Scene {
    uint64 internal ring;

    function setUp() public override {
        super.setUp();
        ring = settlement.RING();
    }

    /// @dev Settles epochs that pay nobody, all in this second.
    function _flood(uint256 epochs) private {
        for (uint256 i = 0; i < epochs; ++i) {
            settleRoot(bytes32(i), 0);
        }
    }

    function _claim(Settlement.Epoch memory epoch, uint256 owner, uint256 other) private returns (uint256) {
        return settlement.claim(epoch, OWNER, owner, proofOf(leaf(OTHER_OWNER, other)));
    }

    function test_EveryKeptEpochCanBeClaimedFromAndTheOneBeforeIsForgotten() public {
        Settlement.Epoch[] memory epochs = new Settlement.Epoch[](ring);
        for (uint256 i = 0; i < ring; ++i) {
            epochs[i] = settlePair(10 * (i + 1), 5);
        }
        pass(DELAY);
        Settlement.Epoch memory last = settlePair(10 * (ring + 1), 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementForgottenEpoch.selector, 1));
        _claim(epochs[0], 10, 5);
        for (uint256 i = 1; i < ring; ++i) {
            vm.assertEq(_claim(epochs[i], 10 * (i + 1), 5), i == 1 ? 20 : 10);
        }
        pass(DELAY);
        vm.assertEq(_claim(last, 10 * (ring + 1), 5), 10);
    }

    function test_AFloodStopsWhenEverySlotWaits() public {
        _flood(ring);
        uint256 claimableAt = vm.getBlockTimestamp() + DELAY;
        refuses(abi.encodeWithSelector(Settlement.SettlementTooManyPending.selector, 1, claimableAt));
        vm.prank(OPERATOR);
        settlement.settle(ring + 1, 0, 0, totals(0));
        pass(DELAY);
        _flood(ring);
    }

    function test_AFloodDoesNotWashAwayTheNewestClaimableEpoch() public {
        Settlement.Epoch memory honest = settlePair(10, 5);
        pass(DELAY);
        _flood(ring);
        vm.assertEq(_claim(honest, 10, 5), 10);
    }

    function test_VetoedFloodsDoNotWashItAwayEither() public {
        Settlement.Epoch memory honest = settlePair(10, 5);
        pass(DELAY);
        for (uint256 i = 0; i < 3; ++i) {
            uint64 first = settlement.nextEpoch();
            _flood(ring - 1);
            veto(first);
        }
        vm.assertEq(_claim(honest, 10, 5), 10);
    }

    function test_AnEpochThatWaitsOutLaterVetoesIsKept() public {
        Settlement.Epoch memory honest = settlePair(10, 5);
        settleRoot(0, 0);
        veto(honest.number + 1);
        pass(DELAY);
        _flood(ring - 1);
        veto(honest.number + 2);
        _flood(ring);
        vm.assertEq(_claim(honest, 10, 5), 10);
    }

    function test_ANewerClaimableEpochTakesTheAnchor() public {
        Settlement.Epoch memory older = settlePair(10, 5);
        pass(DELAY);
        _flood(ring);
        veto(older.number + 1);
        bytes32 first = settlement.anchor();
        Settlement.Epoch memory newer = settlePair(25, 5);
        pass(DELAY);
        _flood(ring);
        vm.assertEq(first, settlement.commitmentOf(older));
        vm.assertEq(settlement.anchor(), settlement.commitmentOf(newer));
        vm.assertEq(_claim(newer, 25, 5), 25);
        refuses(abi.encodeWithSelector(Settlement.SettlementForgottenEpoch.selector, older.number));
        _claim(older, 10, 5);
    }

    function test_InEverydayLifeTheAnchorIsNeverUsed() public {
        bytes32 before = settlement.anchor();
        for (uint256 i = 0; i < 2 * ring; ++i) {
            settleRoot(bytes32(i), 0);
            pass(1 hours);
        }
        vm.assertEq(settlement.anchor(), before);
    }
}
