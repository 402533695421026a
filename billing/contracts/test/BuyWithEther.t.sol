// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {PriceFeed} from "../src/PriceFeed.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";
import {Reenterer, Refuser} from "./Tricksters.sol";

contract BuyWithEtherTest is Market {
    function setUp() public override {
        super.setUp();
        open(TEN_CENTS);
        vm.deal(BUYER, 10_000 ether);
    }

    function _buy(uint256 value, uint256 minNtc) private {
        vm.prank(BUYER);
        sale.buyWithEther{value: value}(minNtc, 0);
    }

    function test_OneEtherBuysItsDollarsWorth() public {
        vm.expectEmit(true, true, true, true, address(sale));
        emit TokenSale.Bought(BUYER, 0, 1, 1, 25_000 * NTC, 1 ether, 0);
        _buy(1 ether, 25_000 * NTC);
        vm.assertEq(ntc.balanceOf(BUYER), 25_000 * NTC);
        vm.assertEq(TREASURY.balance, 1 ether);
        vm.assertEq(address(sale).balance, 0);
        vm.assertEq(sale.quoteEther(25_000 * NTC), 1 ether);
    }

    function test_ForAnAccountOfThePortalItIsDeposited() public {
        vm.prank(BUYER);
        sale.buyWithEther{value: 1 ether}(0, ACCOUNT);
        vm.assertEq(settlement.deposited(ACCOUNT), 25_000 * NTC);
    }

    function testFuzz_RoundingIsInFavourOfTheSale(uint64 price, uint256 feed, uint256 value) public {
        price = uint64(within(price, TEN_CENTS / 100, TEN_CENTS * 3));
        feed = within(feed, 100 * 10 ** 8, 100_000 * 10 ** 8);
        value = within(value, 10 ** 9, 10 ether);
        close();
        open(price);
        // forge-lint: disable-next-line(unsafe-typecast)
        etherFeed.set(int256(feed));
        uint256 before = BUYER.balance;
        _buy(value, 1);
        uint256 bought = ntc.balanceOf(BUYER);
        uint256 spent = before - BUYER.balance;
        vm.assertEq(TREASURY.balance, spent);
        // spent × feed ÷ 10^26 dollars against bought × price ÷ 10^18 dollars
        vm.assertGe(spent * feed, bought * price * 10 ** 8);
        vm.assertLe(sale.quoteEther(bought), spent);
        if (bought != 3_000_000 * NTC) {
            vm.assertEq(spent, value);
            vm.assertTrue(spent * feed < (bought + 1) * price * 10 ** 8);
        }
    }

    function test_WhenTheRoundRunsOutTheRestIsReturned() public {
        buy(9_975_000 * NTC);
        _buy(3 ether, 1);
        vm.assertEq(TREASURY.balance, 1 ether);
        vm.assertEq(BUYER.balance, 9_999 ether);
        vm.assertEq(ntc.balanceOf(BUYER), 10_000_000 * NTC);
        vm.assertEq(sale.left(), 0);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNothingBought.selector));
        _buy(1 ether, 0);
    }

    function test_LessThanTheBuyerAllowedIsRefused() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleTooLittle.selector, 25_000 * NTC, 25_000 * NTC + 1));
        _buy(1 ether, 25_000 * NTC + 1);
        buy(9_999_999 * NTC);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleTooLittle.selector, NTC, 25_000 * NTC));
        _buy(1 ether, 25_000 * NTC);
    }

    function test_NothingIsRefused() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNothingBought.selector));
        _buy(0, 0);
    }

    function test_WithoutAnOpenRoundOrWhilePausedItIsRefused() public {
        vm.prank(GUARDIAN);
        sale.pause();
        refuses(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        _buy(1 ether, 0);
        close();
        vm.prank(GUARDIAN);
        sale.unpause();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        _buy(1 ether, 0);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        sale.quoteEther(1);
    }

    function test_AnOldPriceIsRefused() public {
        uint256 updatedAt = vm.getBlockTimestamp();
        etherFeed.answer(2, ETHER_PRICE, updatedAt, 2);
        pass(1 hours);
        _buy(1 ether, 0);
        pass(1);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedStale.selector, updatedAt, 1 hours));
        _buy(1 ether, 0);
    }

    function test_APriceOutOfBoundsIsRefused() public {
        int256[4] memory wrong = [int256(100 * 10 ** 8 - 1), 100_000 * 10 ** 8 + 1, 0, -ETHER_PRICE];
        for (uint256 i = 0; i < wrong.length; ++i) {
            etherFeed.set(wrong[i]);
            refuses(
                abi.encodeWithSelector(
                    PriceFeed.PriceFeedOutOfBounds.selector, wrong[i], 100 * 10 ** 8, 100_000 * 10 ** 8
                )
            );
            _buy(1 ether, 0);
        }
        etherFeed.set(100 * 10 ** 8);
        _buy(1 ether, 1000 * NTC);
        etherFeed.set(100_000 * 10 ** 8);
        _buy(1 ether, 1_000_000 * NTC);
    }

    function test_AnUnfinishedAnswerIsRefused() public {
        uint256 now_ = vm.getBlockTimestamp();
        etherFeed.answer(7, ETHER_PRICE, 0, 7);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedIncomplete.selector, 7, 0));
        _buy(1 ether, 0);
        etherFeed.answer(7, ETHER_PRICE, now_, 6);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedIncomplete.selector, 7, now_));
        _buy(1 ether, 0);
        etherFeed.answer(7, ETHER_PRICE, now_ + 1, 7);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedIncomplete.selector, 7, now_ + 1));
        _buy(1 ether, 0);
    }

    function test_AFeedThatChangesItsUnitsIsRefused() public {
        etherFeed.setDecimals(18);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedWrongDecimals.selector, 18, 8));
        _buy(1 ether, 0);
    }

    function test_ATreasuryThatRefusesEtherStopsThePurchase() public {
        vm.etch(TREASURY, type(Refuser).runtimeCode);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleEtherRefused.selector, TREASURY, 1 ether));
        _buy(1 ether, 0);
        vm.assertEq(sale.round(1).sold, 0);
    }

    function test_ABuyerWhoRefusesChangeBuysNothing() public {
        buy(9_975_000 * NTC);
        Refuser refuser = new Refuser();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleEtherRefused.selector, address(refuser), 1 ether));
        refuser.buy{value: 2 ether}(sale, 0);
        refuser.buy{value: 1 ether}(sale, 0);
        vm.assertEq(ntc.balanceOf(address(refuser)), 25_000 * NTC);
    }

    function test_ReenteringBuysNothingMore() public {
        buy(9_975_000 * NTC);
        Reenterer reenterer = new Reenterer();
        reenterer.buy{value: 2 ether}(sale, 0);
        vm.assertEq(
            keccak256(reenterer.answer()),
            keccak256(abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector))
        );
        vm.assertEq(ntc.balanceOf(address(reenterer)), 25_000 * NTC);
    }

    function test_EtherSentWithoutACallIsRefused() public {
        vm.prank(BUYER);
        (bool taken,) = address(sale).call{value: 1}("");
        vm.assertFalse(taken);
    }
}
