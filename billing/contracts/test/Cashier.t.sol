// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Settlement} from "../src/Settlement.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";

contract CashierTest is Market {
    function setUp() public override {
        super.setUp();
        open(TEN_CENTS);
    }

    function test_ACardPaymentIsAllocatedToAnAccount() public {
        vm.expectEmit(true, true, true, true, address(sale));
        emit TokenSale.Bought(address(0), ACCOUNT, 1, 2, 50 * NTC, 0, REFERENCE);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Deposited(ACCOUNT, address(sale), 50 * NTC);
        allocate(50 * NTC, REFERENCE);
        vm.assertTrue(sale.referenceUsed(REFERENCE));
        vm.assertEq(settlement.deposited(ACCOUNT), 50 * NTC);
    }

    function test_OrToAnAddress() public {
        vm.expectEmit(true, true, true, true, address(sale));
        emit TokenSale.Bought(BUYER, 0, 1, 2, 50 * NTC, 0, REFERENCE);
        vm.prank(CASHIER);
        sale.allocateTo(BUYER, 50 * NTC, REFERENCE);
        vm.assertEq(ntc.balanceOf(BUYER), 50 * NTC);
    }

    function test_EachReferenceIsUsedOnce() public {
        allocate(NTC, REFERENCE);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleReferenceUsed.selector, REFERENCE));
        allocate(NTC, REFERENCE);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleReferenceUsed.selector, REFERENCE));
        vm.prank(CASHIER);
        sale.allocateTo(BUYER, NTC, REFERENCE);
    }

    function test_NoReferenceNobodyOrNothingIsRefused() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoReference.selector));
        allocate(NTC, 0);
        vm.startPrank(CASHIER);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNobody.selector));
        sale.allocate(0, NTC, REFERENCE);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNobody.selector));
        sale.allocateTo(address(0), NTC, REFERENCE);
        vm.stopPrank();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNothingBought.selector));
        allocate(0, REFERENCE);
    }

    function test_CardsShareTheRoundsCap() public {
        buy(9_999_000 * NTC);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleSoldOut.selector, 1001 * NTC, 1000 * NTC));
        allocate(1001 * NTC, REFERENCE);
        allocate(1000 * NTC, REFERENCE);
        vm.assertEq(sale.left(), 0);
    }

    function test_WithoutAnOpenRoundOrWhilePausedNothingIsAllocated() public {
        vm.prank(GUARDIAN);
        sale.pause();
        refuses(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        allocate(NTC, REFERENCE);
        refuses(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        vm.prank(CASHIER);
        sale.allocateTo(BUYER, NTC, REFERENCE);
        vm.prank(GUARDIAN);
        sale.unpause();
        close();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        allocate(NTC, REFERENCE);
    }

    function test_ADaysLimitIsKeptAndRenewedTheNextDay() public {
        allocate(CASHIER_LIMIT - NTC, REFERENCE);
        vm.assertEq(sale.cashierLeft(), NTC);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleCashierLimit.selector, NTC + 1, NTC));
        allocate(NTC + 1, "second");
        allocate(NTC, "second");
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleCashierLimit.selector, 1, 0));
        allocate(1, "third");
        pass(1 days - vm.getBlockTimestamp() % 1 days);
        vm.assertEq(sale.cashierLeft(), CASHIER_LIMIT);
        allocate(1, "third");
    }

    function testFuzz_InADayTheCashierAllocatesNoMoreThanTheLimit(uint128[8] memory amounts, uint256 limit) public {
        limit = within(limit, 0, 10_000_000 * NTC);
        vm.prank(address(timelock));
        sale.setCashierLimit(limit);
        uint256 allocated;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint256 amount = within(amounts[i], 1, 10_000_000 * NTC);
            if (allocated + amount > limit) {
                refuses(abi.encodeWithSelector(TokenSale.TokenSaleCashierLimit.selector, amount, limit - allocated));
            } else {
                allocated += amount;
            }
            allocate(amount, bytes32(i + 1));
        }
        vm.assertEq(settlement.deposited(ACCOUNT), allocated);
    }

    function test_ALoweredLimitCountsWhatWasAllocatedToday() public {
        allocate(10 * NTC, REFERENCE);
        vm.expectEmit(false, false, false, true, address(sale));
        emit TokenSale.CashierLimitChanged(5 * NTC);
        vm.prank(address(timelock));
        sale.setCashierLimit(5 * NTC);
        vm.assertEq(sale.cashierLeft(), 0);
    }
}
