// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract ClaimTest is Scene {
    function _claim(uint256 epoch, uint256 owner, uint256 other) private returns (uint256) {
        return settlement.claim(epoch, OWNER, owner, proofOf(leaf(OTHER_OWNER, other)));
    }

    function testFuzz_AnyoneMayClaimForTheAccount(address sender, uint256 owner, uint256 other) public {
        owner = within(owner, 1, ESCROW - 1);
        other = within(other, 1, ESCROW - owner);
        uint256 epoch = settlePair(owner, other);
        pass(DELAY);
        bytes32[] memory proof = proofOf(leaf(OTHER_OWNER, other));
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Claimed(OWNER, epoch, owner, owner);
        vm.prank(sender);
        settlement.claim(epoch, OWNER, owner, proof);
        vm.assertEq(token.balanceOf(OWNER), owner);
        vm.assertEq(settlement.paid(OWNER), owner);
        vm.assertEq(settlement.totalPaid(), owner);
    }

    function test_ALaterEpochPaysOnlyTheDifference() public {
        uint256 first = settlePair(10, 5);
        pass(DELAY);
        _claim(first, 10, 5);
        uint256 second = settlePair(25, 5);
        pass(DELAY);
        vm.assertEq(_claim(second, 25, 5), 15);
        vm.assertEq(token.balanceOf(OWNER), 25);
    }

    function test_AnOldEpochAfterANewerOnePaysNothing() public {
        uint256 first = settlePair(10, 5);
        uint256 second = settlePair(25, 5);
        pass(DELAY);
        _claim(second, 25, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, 10, 25));
        _claim(first, 10, 5);
    }

    function testFuzz_InWhateverOrderNobodyGetsMoreThanTheirCumulative(uint64[6] memory steps, uint256 order) public {
        uint256 cumulative;
        for (uint256 i = 0; i < steps.length; ++i) {
            cumulative += within(steps[i], 1, 10 ** 9);
            settlePair(cumulative, 5);
        }
        pass(DELAY);
        uint256 best;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 epoch = 1 + uint256(keccak256(abi.encode(order, i))) % steps.length;
            uint256 amount = _cumulativeOf(steps, epoch);
            if (amount > best) {
                best = amount;
                _claim(epoch, amount, 5);
            } else {
                refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, amount, best));
                _claim(epoch, amount, 5);
            }
            vm.assertEq(token.balanceOf(OWNER), best);
        }
    }

    function test_ClaimingTwiceIsRefused() public {
        uint256 epoch = settlePair(10, 5);
        pass(DELAY);
        _claim(epoch, 10, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNothingToClaim.selector, OWNER, 10, 10));
        _claim(epoch, 10, 5);
    }

    function test_ClaimingTooEarlyIsRefused() public {
        uint256 epoch = settlePair(10, 5);
        refuses(abi.encodeWithSelector(Settlement.SettlementNotClaimableYet.selector, epoch, block.timestamp + DELAY));
        _claim(epoch, 10, 5);
    }

    function test_ClaimingFromAnUnknownEpochIsRefused() public {
        refuses(abi.encodeWithSelector(Settlement.SettlementUnknownEpoch.selector, 1));
        _claim(1, 10, 5);
    }

    function test_ClaimingFromAVetoedEpochIsRefused() public {
        uint256 epoch = settlePair(10, 5);
        vm.prank(GUARDIAN);
        settlement.veto(epoch);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementVetoedEpoch.selector, epoch));
        _claim(epoch, 10, 5);
    }

    function testFuzz_AnotherAmountIsRefused(uint256 amount) public {
        vm.assume(amount != 10);
        uint256 epoch = settlePair(10, 5);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, OWNER, amount));
        _claim(epoch, amount, 5);
    }

    function testFuzz_AnotherAccountIsRefused(address account) public {
        vm.assume(account != OWNER);
        uint256 epoch = settlePair(10, 5);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, account, 10));
        settlement.claim(epoch, account, 10, proofOf(leaf(OTHER_OWNER, 5)));
    }

    function test_ARootOfZeroPaysNobody() public {
        uint256 epoch = settleRoot(bytes32(0), 0);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidProof.selector, OWNER, 1));
        settlement.claim(epoch, OWNER, 1, new bytes32[](0));
    }

    function test_PayingOutMoreThanWasDepositedIsRefused() public {
        // An operator who lies about the totals still cannot spend what others sent here by mistake.
        uint256 epoch = settleRoot(leaf(OWNER, ESCROW + 1), 1);
        vm.prank(SALE);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(address(settlement), 10);
        pass(DELAY);
        refuses(abi.encodeWithSelector(Settlement.SettlementUnderfunded.selector, ESCROW + 1, ESCROW));
        settlement.claim(epoch, OWNER, ESCROW + 1, new bytes32[](0));
    }

    function _cumulativeOf(uint64[6] memory steps, uint256 epoch) private pure returns (uint256 sum) {
        for (uint256 i = 0; i < epoch; ++i) {
            sum += within(steps[i], 1, 10 ** 9);
        }
    }
}
