// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract ClaimTest is Scene {
    function _claim(Settlement.Epoch memory epoch, uint256 owner, uint256 other) private returns (uint256) {
        return settlement.claim(epoch, OWNER, owner, proofOf(leaf(OTHER_OWNER, other)));
    }

    function testFuzz_AnyoneMayClaimForTheAccount(address sender, uint256 owner, uint256 other) public {
        owner = within(owner, 1, ESCROW - 1);
        other = within(other, 1, ESCROW - owner);
        Settlement.Epoch memory epoch = settlePair(owner, other);
        pass(DELAY);
        bytes32[] memory proof = proofOf(leaf(OTHER_OWNER, other));
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Claimed(OWNER, epoch.number, owner, owner);
        vm.prank(sender);
        settlement.claim(epoch, OWNER, owner, proof);
        vm.assertEq(token.balanceOf(OWNER), owner);
        vm.assertEq(settlement.paid(OWNER), owner);
        vm.assertEq(settlement.totalPaid(), owner);
        vm.assertEq(settlement.totalAnnounced(), owner + other);
    }

    function test_ALaterEpochPaysOnlyTheDifference() public {
        Settlement.Epoch memory first = settlePair(10, 5);
        pass(DELAY);
        _claim(first, 10, 5);
        Settlement.Epoch memory second = settlePair(25, 5);
        pass(DELAY);
        vm.assertEq(_claim(second, 25, 5), 15);
        vm.assertEq(token.balanceOf(OWNER), 25);
    }

    function test_AnOldEpochAfterANewerOnePaysNothing() public {
        Settlement.Epoch memory first = settlePair(10, 5);
        Settlement.Epoch memory second = settlePair(25, 5);
        pass(DELAY);
        _claim(second, 25, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, 10, 25));
        _claim(first, 10, 5);
    }

    function test_AnOldEpochStillPaysWhoHasNotClaimedWhenOthersTookMoreThanItAnnounced() public {
        Settlement.Epoch memory first = settlePair(10, 5);
        Settlement.Epoch memory second = settlePair(25, 5);
        pass(DELAY);
        _claim(second, 25, 5);
        vm.assertEq(settlement.claim(first, OTHER_OWNER, 5, proofOf(leaf(OWNER, 10))), 5);
    }

    function testFuzz_InWhateverOrderNobodyGetsMoreThanTheirCumulative(uint64[6] memory steps, uint256 order) public {
        Settlement.Epoch[] memory epochs = new Settlement.Epoch[](steps.length);
        uint256[] memory earned = new uint256[](steps.length);
        uint256 cumulative;
        for (uint256 i = 0; i < steps.length; ++i) {
            cumulative += within(steps[i], 1, 10 ** 9);
            earned[i] = cumulative;
            epochs[i] = settlePair(cumulative, 5);
        }
        pass(DELAY);
        uint256 best;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 pick = uint256(keccak256(abi.encode(order, i))) % steps.length;
            uint256 amount = earned[pick];
            if (amount > best) {
                best = amount;
            } else {
                refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, amount, best));
            }
            _claim(epochs[pick], amount, 5);
            vm.assertEq(token.balanceOf(OWNER), best);
        }
    }

    function test_ClaimingTwiceIsRefused() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        _claim(epoch, 10, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, 10, 10));
        _claim(epoch, 10, 5);
    }

    function test_ClaimingTooEarlyIsRefused() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY - 1);
        refuses(abi.encodeWithSelector(Settlement.SettlementNotClaimableYet.selector, epoch.number, epoch.claimableAt));
        _claim(epoch, 10, 5);
        pass(1);
        _claim(epoch, 10, 5);
    }

    function test_ClaimingFromAnUnknownEpochIsRefused() public {
        Settlement.Epoch memory epoch;
        for (; epoch.number < 2; ++epoch.number) {
            refuses(abi.encodeWithSelector(Settlement.SettlementUnknownEpoch.selector, epoch.number));
            _claim(epoch, 10, 5);
        }
    }

    function test_ShowingAnythingElseThanWhatWasSettledIsRefused() public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        bytes memory wrong = abi.encodeWithSelector(Settlement.SettlementWrongEpoch.selector, epoch.number);
        Settlement.Epoch memory shown = _copy(epoch);
        shown.payoutRoot = pair(leaf(OWNER, 11), leaf(OTHER_OWNER, 5));
        refuses(wrong);
        _claim(shown, 11, 5);
        shown = _copy(epoch);
        shown.usageRoot = 0;
        refuses(wrong);
        _claim(shown, 10, 5);
        shown = _copy(epoch);
        ++shown.cumulative;
        refuses(wrong);
        _claim(shown, 10, 5);
        shown = _copy(epoch);
        --shown.claimableAt;
        refuses(wrong);
        _claim(shown, 10, 5);
        for (uint256 bit = 40; bit < 64; ++bit) {
            shown = _copy(epoch);
            shown.claimableAt += uint64(1 << bit);
            refuses(wrong);
            _claim(shown, 10, 5);
        }
    }

    function testFuzz_NobodyCanShowAVetoedEpoch(uint64 claimableAt) public {
        Settlement.Epoch memory epoch = settlePair(10, 5);
        veto(epoch.number);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoedEpoch.selector, epoch.number));
        _claim(epoch, 10, 5);
        vm.assume(claimableAt != epoch.claimableAt);
        epoch.claimableAt = claimableAt;
        refuses(abi.encodeWithSelector(Settlement.SettlementWrongEpoch.selector, epoch.number));
        _claim(epoch, 10, 5);
    }

    function testFuzz_AnotherAmountIsRefused(uint256 amount) public {
        vm.assume(amount != 10);
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, OWNER, amount));
        _claim(epoch, amount, 5);
    }

    function testFuzz_AnotherAccountIsRefused(address account) public {
        vm.assume(account != OWNER);
        Settlement.Epoch memory epoch = settlePair(10, 5);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, account, 10));
        settlement.claim(epoch, account, 10, proofOf(leaf(OTHER_OWNER, 5)));
    }

    function test_ARootOfZeroPaysNobody() public {
        Settlement.Epoch memory epoch = settleRoot(bytes32(0), 0);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, OWNER, 1));
        settlement.claim(epoch, OWNER, 1, new bytes32[](0));
    }

    function test_AnEpochPaysNoMoreThanItAnnouncedNotEvenWhatWasSentHereByMistake() public {
        Settlement.Epoch memory lie = settleRoot(leaf(OWNER, ESCROW + 1), ESCROW);
        vm.prank(HOLDER);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(address(settlement), 10);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementOverdrawn.selector, ESCROW + 1, ESCROW));
        settlement.claim(lie, OWNER, ESCROW + 1, new bytes32[](0));
    }

    function test_SeveralLyingEpochsTogetherPayNoMoreThanTheHighestAnnounced() public {
        Settlement.Epoch memory first = settleRoot(leaf(OWNER, 60), 60);
        Settlement.Epoch memory second = settleRoot(leaf(OTHER_OWNER, 60), 100);
        pass(DELAY);
        settlement.claim(first, OWNER, 60, new bytes32[](0));
        refuses(abi.encodeWithSelector(Settlement.SettlementOverdrawn.selector, 120, 100));
        settlement.claim(second, OTHER_OWNER, 60, new bytes32[](0));
    }

    function _copy(Settlement.Epoch memory epoch) private pure returns (Settlement.Epoch memory) {
        return Settlement.Epoch(epoch.number, epoch.claimableAt, epoch.payoutRoot, epoch.usageRoot, epoch.cumulative);
    }
}
