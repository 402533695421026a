// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ITokenSale} from "../src/interfaces/ITokenSale.sol";
import {FounderVault} from "../src/FounderVault.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {TestDollar} from "../src/local/TestDollar.sol";
import {TestFeed} from "../src/local/TestFeed.sol";
import {Market} from "./Market.sol";
import {Test} from "./Test.sol";

/// @dev Sells, opens, closes, decides, pauses and waits in any order; what is refused is refused.
contract SaleHandler is Test {
    address internal constant GUARDIAN = address(0xA2);
    address internal constant SALES = address(0xA4);
    address internal constant CASHIER = address(0xA5);
    address internal constant BUYER = address(0xC1);
    uint256 internal constant NTC = 10 ** 9;

    TokenSale internal immutable sale;
    FounderVault internal immutable vault;
    TestDollar internal immutable dollar;
    TestFeed internal immutable etherFeed;

    uint256 public soldForDollars;
    uint256 public soldForEther;
    uint256 public allocated;
    uint256 public owedNanoUsd; // list price of everything sold for dollars, times 10^9
    uint256 internal _references;

    constructor(TokenSale sale_, FounderVault vault_, TestDollar dollar_, TestFeed etherFeed_) {
        (sale, vault, dollar, etherFeed) = (sale_, vault_, dollar_, etherFeed_);
        vm.deal(BUYER, 10 ** 9 * 1 ether);
        dollar_.mint(BUYER, 10 ** 18);
        vm.prank(BUYER);
        dollar_.approve(address(sale_), type(uint256).max);
    }

    function openRound(uint256 price) external {
        vm.prank(SALES);
        // forge-lint: disable-next-line(unsafe-typecast)
        try sale.openRound(uint64(within(price, 0, 10 ** 9))) {} catch {}
    }

    function closeRound(uint256 luck) external {
        if (luck % 4 != 0) return;
        vm.prank(SALES);
        try sale.closeRound() {} catch {}
    }

    function decideUnsold(uint8 number, uint8 decision) external {
        vm.prank(SALES);
        try sale.decideUnsold(number % 5, decision % 4, "reason") {} catch {}
    }

    function buyWithStablecoin(uint256 amount, bool toAccount) external {
        amount = _amount(amount);
        vm.prank(BUYER);
        try sale.buyWithStablecoin(amount, type(uint256).max, bytes32(uint256(toAccount ? 1 : 0))) {
            soldForDollars += amount;
            owedNanoUsd += amount * sale.round(sale.currentRound()).priceNanoUsd;
        } catch {}
    }

    function buyWithEther(uint256 value, bool toAccount) external {
        value = within(value, 0, 2000 ether);
        uint256 before = _sold();
        vm.prank(BUYER);
        try sale.buyWithEther{value: value}(0, bytes32(uint256(toAccount ? 1 : 0))) {
            soldForEther += _sold() - before;
        } catch {}
    }

    function allocate(uint256 amount, uint256 luck) external {
        amount = _amount(amount);
        vm.prank(CASHIER);
        // forge-lint: disable-next-line(unsafe-typecast)
        try sale.allocate("account", amount, bytes32(within(luck, 0, 50))) {
            allocated += amount;
        } catch {}
    }

    function pause(bool on) external {
        vm.prank(GUARDIAN);
        if (on) try sale.pause() {} catch {} else try sale.unpause() {} catch {}
    }

    function changePrice(uint256 price) external {
        etherFeed.set(int256(within(price, 0, 5000 * 10 ** 8))); // forge-lint: disable-line(unsafe-typecast)
    }

    function observeAndRelease() external {
        try vault.observe() {} catch {}
        try vault.release() {} catch {}
    }

    function wait(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + within(time, 1, 5 days));
    }

    /// @dev Often exactly what is left, to reach the cap.
    function _amount(uint256 amount) private view returns (uint256) {
        return amount % 5 == 0 ? sale.left() : within(amount, 0, 1_000_000 * NTC);
    }

    function _sold() private view returns (uint256) {
        return sale.round(sale.currentRound()).sold;
    }
}

contract SaleInvariantsTest is Market {
    SaleHandler internal handler;

    function setUp() public override {
        super.setUp();
        open(TEN_CENTS);
        handler = new SaleHandler(sale, vault, dollar, etherFeed);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_NtcLeaveByPurchasesAloneWithinTheCaps() public view {
        uint256 sold;
        uint256 cap;
        uint24[3] memory targets = [10_000_000, 3_000_000, 7_000_000];
        for (uint8 number = 1; number <= 3; ++number) {
            ITokenSale.Round memory round = sale.round(number);
            vm.assertEq(round.target, targets[number - 1] * NTC);
            vm.assertLe(round.sold, uint256(round.target) + round.carried);
            vm.assertTrue(round.sold == 0 || round.openedAt != 0);
            if (number > 1) {
                ITokenSale.Round memory before = sale.round(number - 1);
                vm.assertTrue(round.carried == 0 || round.carried == before.target + before.carried - before.sold);
                vm.assertTrue(round.openedAt == 0 || before.closedAt != 0);
                vm.assertLe(round.priceNanoUsd, uint256(before.priceNanoUsd) * 3);
            }
            sold += round.sold;
            cap += targets[number - 1] * NTC;
            vm.assertLe(sold, cap);
        }
        vm.assertEq(sold, handler.soldForDollars() + handler.soldForEther() + handler.allocated());
        vm.assertEq(ntc.balanceOf(address(sale)), 20_000_000 * NTC - sold);
        vm.assertLe(sale.left(), ntc.balanceOf(address(sale)));
        vm.assertEq(ntc.balanceOf(BUYER) + settlement.totalDeposited(), sold);
        vm.assertEq(ntc.balanceOf(address(settlement)), settlement.totalDeposited());
        vm.assertEq(ntc.totalSupply(), 25_000_000 * NTC);
    }

    function invariant_NothingElseRestsHereAndTheTreasuryGetsAtLeastTheListPrice() public view {
        vm.assertEq(dollar.balanceOf(address(sale)), 0);
        vm.assertEq(address(sale).balance, 0);
        // dollars × 10^12 against NTC units × nano-dollars ÷ 10^9, both in 10^-18 dollars
        vm.assertGe(dollar.balanceOf(TREASURY) * 10 ** 12, handler.owedNanoUsd());
    }

    function invariant_TheFoundersNtcStay() public view {
        bool due = vault.unlocksAt() != 0 && vm.getBlockTimestamp() >= vault.unlocksAt();
        vm.assertTrue(due || ntc.balanceOf(address(vault)) == 5_000_000 * NTC);
    }
}
