// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {FounderVault} from "../src/FounderVault.sol";
import {Intercoin} from "../src/Intercoin.sol";
import {FeedLimits} from "../src/PriceFeed.sol";
import {Settlement} from "../src/Settlement.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {TestDollar} from "../src/local/TestDollar.sol";
import {TestFeed} from "../src/local/TestFeed.sol";
import {Permits} from "./Permits.sol";

/// @dev Everything deployed in the order of real life, with the whole cast.
abstract contract Market is Permits {
    address internal constant PROPOSER = address(0xA0);
    address internal constant OPERATOR = address(0xA1);
    address internal constant GUARDIAN = address(0xA2);
    address internal constant STRANGER = address(0xA3);
    address internal constant SALES = address(0xA4);
    address internal constant CASHIER = address(0xA5);
    address internal constant TREASURY = address(0xA6);
    address internal constant FOUNDER = address(0xA7);
    address internal constant BUYER = address(0xC1);
    bytes32 internal constant ACCOUNT = keccak256("a publisher's account");
    bytes32 internal constant REFERENCE = keccak256("a card payment");
    uint64 internal constant DELAY = 1 days;
    uint256 internal constant NTC = 10 ** 9;
    uint256 internal constant DOLLAR = 10 ** 6;
    uint64 internal constant TEN_CENTS = 10 ** 8;
    uint256 internal constant CASHIER_LIMIT = 2_000_000 * NTC;
    int256 internal constant ETHER_PRICE = 2500 * 10 ** 8;

    TimelockController internal timelock;
    Intercoin internal ntc;
    Settlement internal settlement;
    TestDollar internal dollar;
    TestFeed internal etherFeed;
    TestFeed internal ntcFeed;
    TokenSale internal sale;
    FounderVault internal vault;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        dollar = new TestDollar();
        etherFeed = new TestFeed(8, ETHER_PRICE);
        ntcFeed = new TestFeed(8, 10 ** 7);
        timelock = _timelock();
        uint256 nonce = vm.getNonce(address(this));
        address saleAddress = vm.computeCreateAddress(address(this), nonce + 2);
        ntc = new Intercoin(saleAddress, vm.computeCreateAddress(address(this), nonce + 3));
        settlement = new Settlement(ntc, DELAY, address(timelock), OPERATOR, GUARDIAN);
        sale = new TokenSale(ntc, settlement, dollar, etherFeed, cast(), etherLimits(), CASHIER_LIMIT);
        vault = new FounderVault(ntc, FOUNDER, sale, ntcFeed, ntcLimits());
    }

    function cast() internal view returns (TokenSale.Cast memory) {
        return TokenSale.Cast(TREASURY, address(timelock), SALES, CASHIER, GUARDIAN);
    }

    function etherLimits() internal pure returns (FeedLimits memory) {
        return FeedLimits({maxAge: 1 hours, decimals: 8, lowest: 100 * 10 ** 8, highest: 100_000 * 10 ** 8});
    }

    function ntcLimits() internal pure returns (FeedLimits memory) {
        return FeedLimits({maxAge: 1 days, decimals: 8, lowest: 1, highest: 10_000 * 10 ** 8});
    }

    function open(uint64 priceNanoUsd) internal {
        vm.prank(SALES);
        sale.openRound(priceNanoUsd);
    }

    function close() internal {
        vm.prank(SALES);
        sale.closeRound();
    }

    /// @dev Gives the buyer dollars and lets the sale take them.
    function fund(address buyer, uint256 dollars) internal {
        dollar.mint(buyer, dollars);
        vm.prank(buyer);
        dollar.approve(address(sale), dollars);
    }

    function buy(uint256 ntcAmount) internal {
        uint256 cost = sale.quoteStablecoin(ntcAmount);
        fund(BUYER, cost);
        vm.prank(BUYER);
        sale.buyWithStablecoin(ntcAmount, cost, 0);
    }

    function allocate(uint256 ntcAmount, bytes32 paymentReference) internal {
        vm.prank(CASHIER);
        sale.allocate(ACCOUNT, ntcAmount, paymentReference);
    }

    function pass(uint256 secondsLater) internal {
        vm.warp(vm.getBlockTimestamp() + secondsLater);
    }

    function _timelock() private returns (TimelockController) {
        address[] memory proposers = new address[](1);
        proposers[0] = PROPOSER;
        return new TimelockController(2 days, proposers, proposers, address(0));
    }
}
