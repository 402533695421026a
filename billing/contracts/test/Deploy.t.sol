// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {Intercoin} from "../src/Intercoin.sol";
import {FeedLimits, PriceFeed} from "../src/PriceFeed.sol";
import {Settlement} from "../src/Settlement.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";
import {OddCoin} from "./Tricksters.sol";

/// @dev A token sale that is put together wrongly is not deployed.
contract DeployTest is Market {
    /// @dev A token whose sale share waits at the address that {this.deploy} creates, if it calls it next.
    function _funded() private returns (Intercoin) {
        uint256 nonce = vm.getNonce(address(this));
        return new Intercoin(vm.computeCreateAddress(address(this), nonce + 2), FOUNDER);
    }

    /// @dev Its settlement comes second and the sale third.
    function _deploy(TokenSale.Cast memory who, FeedLimits memory limits, IERC20Metadata coin, bytes memory refusal)
        private
    {
        Intercoin token = _funded();
        Settlement escrow = new Settlement(token, DELAY, PROPOSER, OPERATOR, GUARDIAN);
        if (refusal.length != 0) {
            refuses(refusal);
        }
        new TokenSale(token, escrow, coin, etherFeed, who, limits, 0);
    }

    function test_ItNeedsItsTwentyMillion() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNotFunded.selector, 0));
        new TokenSale(ntc, settlement, dollar, etherFeed, cast(), etherLimits(), 0);
    }

    function test_ItNeedsTheSettlementOfTheSameToken() public {
        Intercoin token = new Intercoin(vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1), FOUNDER);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleWrongSettlement.selector, address(ntc)));
        new TokenSale(token, settlement, dollar, etherFeed, cast(), etherLimits(), 0);
    }

    function test_ItNeedsACoinItCanCount() public {
        OddCoin coin = new OddCoin(19);
        _deploy(cast(), etherLimits(), coin, abi.encodeWithSelector(TokenSale.TokenSaleInvalidStablecoin.selector, 19));
    }

    function test_ItNeedsATreasury() public {
        TokenSale.Cast memory who = cast();
        who.treasury = address(0);
        _deploy(who, etherLimits(), dollar, abi.encodeWithSelector(TokenSale.TokenSaleInvalidAddress.selector));
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleInvalidAddress.selector));
        vm.prank(address(timelock));
        sale.setTreasury(address(sale));
    }

    function test_ItNeedsSensibleLimits() public {
        bytes memory refusal = abi.encodeWithSelector(PriceFeed.PriceFeedInvalidLimits.selector);
        FeedLimits memory limits = etherLimits();
        limits.maxAge = 0;
        _deploy(cast(), limits, dollar, refusal);
        limits = etherLimits();
        limits.lowest = 0;
        _deploy(cast(), limits, dollar, refusal);
        limits = etherLimits();
        limits.lowest = limits.highest + 1;
        _deploy(cast(), limits, dollar, refusal);
        limits = etherLimits();
        limits.decimals = 19;
        _deploy(cast(), limits, dollar, refusal);
        limits = etherLimits();
        limits.decimals = 18;
        _deploy(cast(), limits, dollar, abi.encodeWithSelector(PriceFeed.PriceFeedWrongDecimals.selector, 8, 18));
    }

    function test_WhatItTells() public {
        _deploy(cast(), etherLimits(), dollar, "");
        vm.assertEq(address(sale.ntc()), address(ntc));
        vm.assertEq(address(sale.settlement()), address(settlement));
        vm.assertEq(address(sale.stablecoin()), address(dollar));
        vm.assertEq(address(sale.etherFeed()), address(etherFeed));
        vm.assertEq(sale.treasury(), TREASURY);
        vm.assertEq(sale.cashierLimit(), CASHIER_LIMIT);
        vm.assertEq(
            keccak256(abi.encode(sale.feedLimits(), vault.feedLimits())),
            keccak256(abi.encode(etherLimits(), ntcLimits()))
        );
        vm.assertEq(vault.beneficiary(), FOUNDER);
    }
}
