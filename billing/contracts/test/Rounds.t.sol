// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ITokenSale} from "../src/interfaces/ITokenSale.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";

/// @dev Rounds in order, their prices, and what becomes of what they did not sell.
contract RoundsTest is Market {
    function _decide(uint8 round, uint8 decision) private {
        vm.prank(SALES);
        sale.decideUnsold(round, decision, "as resolved by the board");
    }

    function test_ThreeRoundsOfTenThreeAndSevenMillionOneAfterTheOther() public {
        uint24[3] memory targets = [10_000_000, 3_000_000, 7_000_000];
        for (uint8 number = 1; number <= 3; ++number) {
            vm.expectEmit(true, false, false, true, address(sale));
            emit TokenSale.RoundOpened(number, TEN_CENTS, targets[number - 1] * NTC);
            open(TEN_CENTS);
            vm.assertEq(sale.currentRound(), number);
            vm.assertEq(sale.left(), targets[number - 1] * NTC);
            buy(5 * NTC);
            vm.expectEmit(true, false, false, true, address(sale));
            emit TokenSale.RoundClosed(number, 5 * NTC, targets[number - 1] * NTC - 5 * NTC);
            close();
            ITokenSale.Round memory round = sale.round(number);
            vm.assertEq(round.target, targets[number - 1] * NTC);
            vm.assertEq(round.sold, 5 * NTC);
            vm.assertTrue(round.openedAt == vm.getBlockTimestamp() && round.closedAt == round.openedAt);
            vm.assertEq(sale.left(), 0);
        }
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoFurtherRound.selector));
        open(TEN_CENTS);
    }

    function test_ARoundOpensWhenThePreviousIsClosed() public {
        open(TEN_CENTS);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleRoundStillOpen.selector, 1));
        open(TEN_CENTS);
    }

    function test_WithoutAnOpenRoundThereIsNothingToClose() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        close();
        open(TEN_CENTS);
        close();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        close();
    }

    function testFuzz_APriceIsAtMostThreeTimesThePreviousOne(uint64 first, uint64 second) public {
        vm.assume(first != 0);
        open(first);
        close();
        if (second == 0 || second > uint256(first) * 3) {
            uint256 highest = uint256(first) * 3 > type(uint64).max ? type(uint64).max : uint256(first) * 3;
            refuses(abi.encodeWithSelector(TokenSale.TokenSaleInvalidPrice.selector, second, highest));
        }
        open(second);
    }

    function test_AThirdRoundIsHeldToTheSecondsPrice() public {
        open(TEN_CENTS);
        close();
        open(TEN_CENTS / 2);
        close();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleInvalidPrice.selector, TEN_CENTS * 2, TEN_CENTS / 2 * 3));
        open(TEN_CENTS * 2);
        open(TEN_CENTS / 2 * 3);
    }

    function test_NothingIsNoPrice() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleInvalidPrice.selector, 0, type(uint64).max));
        open(0);
    }

    function test_UnsoldMovesOnOnlyByADecision() public {
        open(TEN_CENTS);
        buy(4_000_000 * NTC);
        close();
        open(TEN_CENTS);
        vm.assertEq(sale.left(), 3_000_000 * NTC);
        vm.expectEmit(true, true, false, true, address(sale));
        emit TokenSale.UnsoldDecided(1, 1, 6_000_000 * NTC, SALES, "as resolved by the board");
        _decide(1, 1);
        vm.assertEq(sale.left(), 9_000_000 * NTC);
        vm.assertEq(sale.decisionOf(1), 1);
        close();
        _decide(2, 1);
        vm.expectEmit(true, false, false, true, address(sale));
        emit TokenSale.RoundOpened(3, TEN_CENTS, 16_000_000 * NTC);
        open(TEN_CENTS);
        buy(16_000_000 * NTC);
        vm.assertEq(ntc.balanceOf(address(sale)), 0);
    }

    function test_LockedNtcAreNeverSold() public {
        open(TEN_CENTS);
        close();
        _decide(1, 2);
        open(TEN_CENTS);
        vm.assertEq(sale.left(), 3_000_000 * NTC);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleAlreadyDecided.selector, 1));
        _decide(1, 1);
    }

    function test_OnlyAClosedRoundIsDecided() public {
        open(TEN_CENTS);
        for (uint8 number = 0; number <= 4; ++number) {
            refuses(abi.encodeWithSelector(TokenSale.TokenSaleNotClosed.selector, number));
            _decide(number, 1);
        }
    }

    function test_ADecisionIsCarryOrLockAndHasAReason() public {
        open(TEN_CENTS);
        close();
        for (uint8 decision = 0; decision < 6; decision += 3) {
            refuses(abi.encodeWithSelector(TokenSale.TokenSaleUnknownDecision.selector, decision));
            _decide(1, decision);
        }
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoReason.selector));
        vm.prank(SALES);
        sale.decideUnsold(1, 1, "");
    }

    function test_NothingIsCarriedIntoAClosedRoundOrBeyondTheLast() public {
        for (uint256 i = 0; i < 3; ++i) {
            open(TEN_CENTS);
            close();
        }
        for (uint8 number = 1; number <= 3; ++number) {
            refuses(abi.encodeWithSelector(TokenSale.TokenSaleCannotCarry.selector, number));
            _decide(number, 1);
            _decide(number, 2);
        }
    }

    function test_WhatIsSoldOutNeedsNoDecision() public {
        open(1);
        buy(10_000_000 * NTC);
        close();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNothingUnsold.selector, 1));
        _decide(1, 1);
    }
}
