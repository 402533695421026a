// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ITokenSale} from "../src/interfaces/ITokenSale.sol";
import {FounderVault} from "../src/FounderVault.sol";
import {FeedLimits, PriceFeed} from "../src/PriceFeed.sol";
import {Market} from "./Market.sol";

contract FounderVaultTest is Market {
    uint256 internal constant FUNDS = 5_000_000 * 10 ** 9;
    int256 internal constant CENT = 10 ** 6; // of the NTC feed

    /// @dev Opens rounds up to the third at these prices.
    function _rounds(uint64 first, uint64 second, uint64 third) private {
        open(first);
        close();
        open(second);
        close();
        open(third);
    }

    function _observe(int256 price) private {
        ntcFeed.set(price);
        vault.observe();
    }

    /// @dev Observes the same price so often, at this distance.
    function _observeFor(int256 price, uint256 times, uint256 spacing) private {
        for (uint256 i = 0; i < times; ++i) {
            pass(spacing);
            _observe(price);
        }
    }

    function _refusesLocked() private {
        refuses(
            abi.encodeWithSelector(
                FounderVault.FounderVaultLocked.selector, vault.averagePrice(), vault.priceTarget(), vault.unlocksAt()
            )
        );
    }

    function test_ItHoldsTheFoundersNtcAndTellsItsConditions() public {
        vm.assertEq(ntc.balanceOf(address(vault)), FUNDS);
        vm.assertTrue(vault.priceTarget() == 0 && vault.unlocksAt() == 0 && vault.averagePrice() == 0);
        _rounds(TEN_CENTS, 2 * TEN_CENTS, 5 * TEN_CENTS);
        vm.assertEq(vault.priceTarget(), 50 * TEN_CENTS);
        vm.assertEq(vault.unlocksAt(), 0);
        close();
        vm.assertEq(vault.unlocksAt(), vm.getBlockTimestamp() + 1096 days);
    }

    function test_ThreeYearsAfterTheLastRoundAnyoneReleasesToTheFounder() public {
        _refusesLocked();
        vault.release();
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        pass(2000 days);
        _refusesLocked();
        vault.release();
        close();
        pass(1096 days - 1);
        vm.assertFalse(vault.isOpen());
        _refusesLocked();
        vault.release();
        pass(1);
        vm.assertTrue(vault.isOpen());
        vm.expectEmit(true, false, false, true, address(vault));
        emit FounderVault.Released(FOUNDER, FUNDS, false);
        vm.prank(STRANGER);
        vault.release();
        vm.assertEq(ntc.balanceOf(FOUNDER), FUNDS);
        vm.assertEq(vault.released(), FUNDS);
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultNothingToRelease.selector));
        vault.release();
    }

    function test_ThirtyDaysAtTenTimesThePriceOpenIt() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(100 * CENT);
        _observeFor(100 * CENT, 29, 1 days);
        vm.assertEq(vault.averagePrice(), 0);
        _refusesLocked();
        vault.release();
        _observeFor(100 * CENT, 1, 1 days);
        vm.assertEq(vault.averagePrice(), 10 * TEN_CENTS);
        vm.expectEmit(true, false, false, true, address(vault));
        emit FounderVault.Released(FOUNDER, FUNDS, true);
        vault.release();
    }

    function test_ALittleLessDoesNot() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(100 * CENT);
        _observeFor(100 * CENT, 29, 1 days);
        _observeFor(100 * CENT - 1, 1, 1 days);
        vm.assertTrue(vault.averagePrice() < 10 * TEN_CENTS && vault.averagePrice() > 9 * TEN_CENTS);
        _refusesLocked();
        vault.release();
    }

    function test_OneHighReadingCarriesNothing() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(50 * CENT);
        _observeFor(50 * CENT, 29, 1 days);
        _observeFor(10_000 * 100 * CENT, 1, 1 days);
        vm.assertEq(vault.averagePrice(), 5 * TEN_CENTS);
        _observeFor(50 * CENT, 30, 1 days);
        vm.assertEq(vault.averagePrice(), 5 * TEN_CENTS);
    }

    function test_AHighPriceBeforeTheWindowDoesNotCount() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(10_000 * 100 * CENT);
        _observeFor(10_000 * 100 * CENT, 20, 1 days);
        _observeFor(50 * CENT, 31, 1 days);
        vm.assertEq(vault.averagePrice(), 5 * TEN_CENTS);
    }

    function test_AGapBeginsTheWindowAnew() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(100 * CENT);
        _observeFor(100 * CENT, 14, 2 days);
        _observeFor(100 * CENT, 1, 2 days + 1);
        vm.assertEq(vault.averagePrice(), 0);
        vm.assertEq(vault.observedSince(), vm.getBlockTimestamp());
        _observeFor(100 * CENT, 15, 2 days);
        vm.assertEq(vault.averagePrice(), 10 * TEN_CENTS);
    }

    function test_AnAverageIsForgottenWhenNobodyObservesAnyMore() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(100 * CENT);
        _observeFor(100 * CENT, 15, 2 days);
        pass(2 days);
        vm.assertTrue(vault.isOpen());
        pass(1);
        vm.assertFalse(vault.isOpen());
        _refusesLocked();
        vault.release();
    }

    function test_ObservationsAreSpaced() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(CENT);
        uint256 from = vm.getBlockTimestamp() + 8 hours;
        pass(8 hours - 1);
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultTooSoon.selector, from));
        vault.observe();
        pass(1);
        vm.expectEmit(true, false, false, true, address(vault));
        emit FounderVault.Observed(uint64(vm.getBlockTimestamp()), TEN_CENTS / 10, 0);
        vault.observe();
        (uint64 observedAt, uint64 price) = vault.lastObservation();
        vm.assertTrue(observedAt == vm.getBlockTimestamp() && price == TEN_CENTS / 10);
    }

    function test_OneAnswerOfTheFeedIsOneObservation() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        uint256 updatedAt = vm.getBlockTimestamp();
        ntcFeed.answer(1, CENT, updatedAt, 1);
        vault.observe();
        pass(8 hours);
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultSameReading.selector, updatedAt));
        vault.observe();
        pass(1 days);
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedStale.selector, updatedAt, 1 days));
        vault.observe();
    }

    function test_ThereIsNothingToObserveBeforeTheLastRound() public {
        open(TEN_CENTS);
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultTooEarly.selector));
        vault.observe();
    }

    function test_ACheapLastRoundOpensNothing() public {
        _rounds(TEN_CENTS, 2 * TEN_CENTS, 1);
        vm.assertEq(vault.priceTarget(), 20 * TEN_CENTS);
    }

    /// forge-config: default.fuzz.runs = 24
    function testFuzz_TheAverageIsNeverAboveTheOneOfTheObservedPrices(uint256 seed) public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        uint256[] memory time = new uint256[](130);
        uint256[] memory price = new uint256[](130);
        for (uint256 i = 0; i < time.length; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            pass(within(random, 8 hours, i % 40 == 39 ? 60 hours : 2 days));
            time[i] = vm.getBlockTimestamp();
            price[i] = within(random >> 128, 1, 1000) * 10 ** 7;
            // forge-lint: disable-next-line(unsafe-typecast)
            _observe(int256(price[i] / 10));
            _checkAverage(time, price, i);
        }
    }

    /// @dev Against a plain reading of the rule: go back until 30 days are spanned, stop at a gap.
    function _checkAverage(uint256[] memory time, uint256[] memory price, uint256 newest) private view {
        uint256 sum;
        uint256 i = newest;
        while (time[newest] - time[i] < 30 days) {
            if (i == 0 || time[i] - time[i - 1] > 2 days) {
                vm.assertEq(vault.averagePrice(), 0);
                return;
            }
            sum += (time[i] - time[i - 1]) * (price[i] < price[i - 1] ? price[i] : price[i - 1]);
            --i;
        }
        vm.assertEq(vault.averagePrice(), sum / (time[newest] - time[i]));
    }

    function test_AtTheShortestSpacingThirtyDaysAreStillKept() public {
        _rounds(TEN_CENTS, TEN_CENTS, TEN_CENTS);
        _observe(100 * CENT);
        _observeFor(100 * CENT, 200, 8 hours);
        vm.assertEq(vault.averagePrice(), 10 * TEN_CENTS);
        vm.assertEq(vault.observedSince(), vm.getBlockTimestamp() - 95 * 8 hours);
    }

    function test_ItIsNotDeployedWithoutFundsFounderSaleOrSensibleLimits() public {
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultNotFunded.selector, 0));
        new FounderVault(ntc, FOUNDER, sale, ntcFeed, ntcLimits());
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.prank(address(vault));
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        ntc.transfer(next, FUNDS);
        vm.startPrank(address(this));
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultInvalidAddress.selector));
        this.deployAt(next, address(0), sale, ntcLimits());
        refuses(abi.encodeWithSelector(FounderVault.FounderVaultInvalidAddress.selector));
        this.deployAt(next, FOUNDER, ITokenSale(STRANGER), ntcLimits());
        FeedLimits memory limits = ntcLimits();
        limits.maxAge = 0;
        refuses(abi.encodeWithSelector(PriceFeed.PriceFeedInvalidLimits.selector));
        this.deployAt(next, FOUNDER, sale, limits);
        vm.stopPrank();
    }

    /// @dev Deploys at an address that holds the funds; a reverted call gives the nonce back.
    function deployAt(address place, address founder, ITokenSale sale_, FeedLimits memory limits) external {
        FounderVault deployed = new FounderVault(ntc, founder, sale_, ntcFeed, limits);
        vm.assertEq(address(deployed), place);
    }
}
